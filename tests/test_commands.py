"""The command line as a newcomer meets it: its words, what it says of wrong ones, and files that nobody loses."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from mindspore import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from random_checkpoint import build  # noqa: E402

from mindmusicgen import InputError, cli  # noqa: E402
from mindmusicgen.audio import read_comment, write_audio  # noqa: E402
from mindmusicgen.batch.prompts import read_prompts  # noqa: E402
from mindmusicgen.checkpoint import source  # noqa: E402
from mindmusicgen.commands.outputs import free_paths, output_paths  # noqa: E402
from mindmusicgen.runtime import compiled, progress  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    where = tmp_path_factory.mktemp("model")
    build("tiny", str(where))
    return str(where)


def said_of(capsys, *words):
    """What the command line says of words that are wrong."""
    with pytest.raises(SystemExit) as ended:
        cli.parse(list(words))
    captured = capsys.readouterr()
    assert ended.value.code == 2 and not captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("usage: mindmusicgen "), captured.err
    return lines[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["generate", "a", "--duratoin", "5"],
            "generate has no option --duratoin; did you mean --duration?",
        ),
        (["generate", "a", "-duration", "5"], "generate has no option -duration; did you mean --duration?"),
        (["generate", "a", "-x"], "generate has no option -x; mindmusicgen generate --help says more"),
        (["batch", "p.jsonl", "--outptu=x"], "batch has no option --outptu; did you mean --output?"),
        (["train", "--stepps", "3"], "train has no option --stepps; did you mean --steps?"),
        (["convert", "a", "-o", "b", "--quantisation", "int8"], "did you mean --quantization?"),
        (["generate", "a", "--duration", "x"], "invalid float value: 'x'"),
        (["batch", "p.jsonl"], "required: -o/--output"),
        (["info", "a", "b"], "'b' is one word too many"),
        (["generat", "a"], "there is no command 'generat'; did you mean generate?"),
        (["calm piano"], "there is no command 'calm piano'; did you mean generate 'calm piano'?"),
        (["--durations"], "mindmusicgen has no option --durations"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(capsys, words, said):
    assert said in said_of(capsys, *words)


def test_without_words_there_is_help(capsys):
    for words in ([], ["--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.parse(words)
        said = capsys.readouterr().out
        assert ended.value.code == 0 and all(f"  {name} " in said for name in cli.NAMES) and "examples:" in said
    assert all(f"\n{group}:\n" in said for group in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.NAMES)
def test_every_command_has_help_with_examples_that_parse(command, capsys):
    import shlex

    with pytest.raises(SystemExit):
        cli.parse([command, "--help"])
    said = capsys.readouterr().out
    lines = said.split("examples:\n")[1].strip().splitlines()
    for line in lines:
        words = shlex.split(line.split(" | ")[0], comments=True)
        assert words[0] == "mindmusicgen" and cli.parse(words[1:]).command in cli.NAMES
    assert "-v, --verbose" in said and "-V, --version" in said


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("generate a -m x -d 3 -s 4 -o b.mp3", "duration", 3.0),
        ("generate a --negative-prompt x", "negative_prompt", "x"),
        ("generate a --negative-prompt=x", "negative_prompt", "x"),
        ("generate a --negative x", "negative_prompt", "x"),
        ("generate a --neg x", "negative_prompt", "x"),
        ("batch a -o b --negative-prompt x", "negative_text", "x"),
        ("convert a -o b --quantize int8", "quantization", "int8"),
        ("convert a -o b --quant int8", "quantization", "int8"),
        ("export -m a -o b --batch 3", "batch", 3),
        ("export -m a -o b --batch-size 3", "batch", 3),
        ("info a --batch 3 -d 4", "batch", 3),
        ("train --data a -m b -o c --seconds 3", "seconds", 3.0),
        ("train --data a -m b -o c -d 3", "seconds", 3.0),
        ("train --data a -m b -o c --batch=3", "batch", 3),
        ("doctor -v", "verbose", True),
    ],
)
def test_each_thing_has_one_name_and_old_ones_work(words, name, value):
    assert getattr(cli.parse(words.split()), name) == value


def test_help_and_the_recipe_of_a_piece_need_no_mindspore(tmp_path):
    write_audio(str(tmp_path / "a.flac"), np.zeros(32000), 32000, comment='{"prompt": "calm piano", "seed": 7}')
    code = (
        "import sys, time; from mindmusicgen import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(time.process_time(), 'mindspore' in sys.modules, 'transformers' in sys.modules)"
    )
    for words, most in ((["--help"], 0.5), (["info", "a.flac"], 1.0)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        *said, last = done.stdout.splitlines()
        assert float(last.split()[0]) < most and last.split()[1:] == ["False", "False"], last
    assert said == ["a.flac: 1.00 s, mono, 32000 Hz", "  prompt  calm piano", "  seed    7"]


def test_info_of_a_piece_with_another_comment_or_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = {"model": "demo", "guidance_scale": [4.0, 2.0], "do_sample": True, "top_p": 0.5, "prompt": "a\x1b[2J"}
    for name, comment in (("a.mp3", json.dumps(recipe)), ("b.ogg", "[1, 2]"), ("c.wav", None)):
        write_audio(name, np.zeros((2, 3200)), 32000, comment=comment)
        assert cli.main(["info", name]) == 0
    said = capsys.readouterr().out
    assert "guidance scale  4.0, 2.0\n" in said and "sampling        yes" in said and "  top p           0.5" in said
    assert said.index("  prompt ") < said.index("  model ") and "\x1b" not in said
    assert "b.ogg: 0.10 s, stereo, 32000 Hz\n  [1, 2]\nc.wav" in said and "does not say how it was made" in said


def test_paths_are_of_files_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.png", "c-1.wav", "c-3.wav"):
        Path(name).touch()
    os.symlink("nowhere", "d.wav")
    assert free_paths([("new.wav", 1)]) == [["new.wav"]]
    assert free_paths([("a.wav", 1)]) == [["a-2.wav"]] and free_paths([("d.wav", 1)]) == [["d-2.wav"]]
    assert free_paths([("a.wav", 1)], force=True) == [["a.wav"]]
    assert free_paths([("b.wav", 1), ("b.npz", 1), ("b.png", 1)]) == [["b-2.wav"], ["b-2.npz"], ["b-2.png"]]
    assert free_paths([("c.wav", 2)]) == [["c-4.wav", "c-5.wav"]]
    assert output_paths("c.wav", 2) == ["c-1.wav", "c-2.wav"]


def test_a_file_of_prompts_like_again_and_nothing_lost(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("\ufeffcalm piano\n\n  80s pop \n", encoding="utf-8")
    words = ["generate", "prompts.txt", "-m", model, "--max-new-tokens", "8", "-s", "3", "-o", "a.mp3"]
    assert cli.main([*words, "--temperature", "0.9", "--guidance-scale", "4:2", "--negative", "noise"]) == 0
    assert sorted(os.listdir()) == ["a-1.mp3", "a-2.mp3", "prompts.txt"]
    first = json.loads(read_comment("a-2.mp3"))
    assert (first["prompt"], first["seed"], first["temperature"], first["top_k"]) == ("80s pop", 4, 0.9, 50)
    assert first["do_sample"] and first["top_p"] == 1.0 and len(first["weights"]) == 12
    assert first["negative_prompt"] == "noise" and first["guidance_scale"] == [4.0, 2.0]
    before = Path("a-2.mp3").read_bytes()
    like = ["generate", "--like", "a-2.mp3", "-m", model]
    assert cli.main([*like, "-o", "a-2.mp3"]) == 0
    assert Path("a-2.mp3").read_bytes() == before == Path("a-2-2.mp3").read_bytes()
    assert cli.main([*like, "-o", "a-2.mp3", "--seed", "9", "--greedy", "--force", "a waltz"]) == 0
    other = json.loads(read_comment("a-2.mp3"))
    assert Path("a-2.mp3").read_bytes() != before and (other["seed"], other["prompt"]) == (9, "a waltz")
    assert other["do_sample"] is False and "temperature" not in other and other["negative_prompt"] == "noise"
    assert cli.main(["generate", "--like", "a-1.mp3"]) == 2
    assert "made by a model in a folder" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a-1.mp3", "a-2-2.mp3", "a-2.mp3", "prompts.txt"]


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        (None, "does not say how it was made"),
        ("not JSON", "does not say how it was made"),
        ('{"prompt": "a"}', "does not say how it was made"),
        ({"prompt": ["a"]}, "damaged: prompt is a list"),
        ({"seed": "7"}, "damaged: seed is a str"),
        ({"top_k": 2.5}, "damaged: top_k is a float"),
        ({"audio": ["riff.wav"]}, "made from the file 'riff.wav', which is not here; give it with --audio"),
        ({"model": "mine"}, "made by a model in a folder 'mine'"),
        ({"prompt": f"slow ... (4000 characters, SHA-256 {'a' * 64})"}, "holds the beginning of its prompt alone"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_what_cannot_be_made_again_is_said_before_a_model_is_opened(tmp_path, monkeypatch, capsys, comment, words):
    monkeypatch.chdir(tmp_path)
    if isinstance(comment, dict):
        comment = json.dumps({"model": "demo", "seed": 7} | comment)
    write_audio("a.wav", np.zeros(3200), 32000, comment=comment)
    monkeypatch.setattr("mindmusicgen.musicgen.checkpoint.folder.build", None)
    assert cli.main(["generate", "--like", "a.wav", "-o", "b.wav"]) == 2
    assert words in capsys.readouterr().err and os.listdir() == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "cannot be read: No such file"),
        ("empty.txt", b"\n \n", "hold no line"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
    ],
)
def test_a_file_of_prompts_that_is_none(tmp_path, monkeypatch, capsys, name, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    assert cli.main(["generate", name]) == 2 and words in capsys.readouterr().err


def test_a_line_of_a_batch_says_prompt_or_text(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "negative": "x"}\n{"text": "b", "negative_prompt": "y"}\n{"prompt": "c"}\n')
    found = read_prompts(str(path), {"negative_text": "z"})
    assert [(one.text, one.negative_text) for one in found] == [("a", "x"), ("b", "y"), ("c", "z")]
    path.write_text('{"prompt": "a", "text": "b"}\n')
    with pytest.raises(InputError, match="line 1: prompt and text are two names of one thing"):
        read_prompts(str(path), {})


def player(folder, name, code=0):
    """A player that notes what it was given."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nfor last; do :; done\necho "{name} $last" >> {folder}/played\nexit {code}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_music_is_played_by_what_is_there(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    soundfile.write("a.flac", np.zeros(320), 32000)
    assert cli.main(["play", "none.wav"]) == 2 and "no such file" in capsys.readouterr().err
    assert cli.main(["play", "a.flac"]) == 2 and "there is no player" in capsys.readouterr().err
    player(tools, "aplay")  # plays .wav alone
    assert cli.main(["generate", "x", "-m", model, "-o", "b.flac", "--play"]) == 2
    assert "there is no player for 'b.flac'" in capsys.readouterr().err and not Path("b.flac").exists()
    player(tools, "pw-play", 1)
    assert cli.main(["play", "a.flac"]) == 2 and "pw-play found no sound device" in capsys.readouterr().err
    player(tools, "paplay")
    assert cli.main(["play", "a.flac"]) == 0
    said = [f"{name} {tmp_path}/a.flac" for name in ("pw-play", "pw-play", "paplay")]
    assert (tools / "played").read_text().splitlines() == said
    assert cli.main(["generate", "x", "-m", model, "--max-new-tokens", "8", "-o", "b.wav", "--play"]) == 0
    assert (tools / "played").read_text().splitlines()[-1] == f"paplay {tmp_path}/b.wav"


def test_an_unreachable_hub_is_said_in_time(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: time.sleep(60))
    monkeypatch.setattr(source, "PATIENCE", 0.2)
    started = time.perf_counter()
    with pytest.raises(InputError, match="not in the local cache and the hub cannot be reached: TimeoutError"):
        source.resolve("facebook/none", cache_dir=str(tmp_path))
    assert time.perf_counter() - started < 5


def test_a_shell_is_answered_where_the_extra_is_installed(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "argcomplete", SimpleNamespace(autocomplete=asked.append))
    cli.parse(["info", "demo"])
    assert not asked
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    cli.parse(["info", "demo"])
    assert len(asked) == 1 and asked[0].prog == "mindmusicgen"


def test_who_watches_is_told_what_the_seconds_are_for(monkeypatch, capsys):
    monkeypatch.setattr(progress, "someone_watches", lambda: True)
    assert cli.main(["generate", "a", "--device", "GPU"]) == 2
    assert capsys.readouterr().err.startswith("opening demo\nmindmusicgen: error: device is 'GPU'")
    monkeypatch.setattr(progress, "MOMENT", 0)
    with progress.loading_bar(8) as bar:
        bar.update(4)
        bar.refresh()
    said = capsys.readouterr().err
    assert "loading  50%" in said and "left" in said
    with progress.Progress(100, 50) as bar:
        bar.bar.refresh()
        bar.update(50)
        bar.bar.refresh()
    said = capsys.readouterr().err
    assert "preparing:   0%" in said and "making:  50%" in said and "1.0/2.0 s of audio" in said


def test_graphs_are_counted_while_they_are_compiled(monkeypatch, capsys):
    run = compiled.compiled(nn.ReLU().construct)
    with progress.Progress(100, 50, show=True):
        for length in (2, 3, 3):
            run(Tensor(np.zeros(length, np.float32)))
    said = capsys.readouterr().err
    assert "compiling graph 1 of 2:   0%" in said and "compiling graph 2 of 2:   0%" in said and "graph 3" not in said
    with progress.Progress(100, 50, show=True) as bar:
        for kept in (True, True, False):
            bar.graph(kept)
    said = capsys.readouterr().err
    assert "opening graph 2 of 2" in said and "compiling graph 3 of 3" in said
    assert not compiled.watchers


def test_nobody_watches_and_nothing_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(progress, "someone_watches", lambda: False)
    monkeypatch.setattr(progress, "MOMENT", 0)
    progress.announce("opening demo")
    with progress.loading_bar(8) as bar:
        bar.update(4)
    assert capsys.readouterr().err == ""
