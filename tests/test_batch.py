"""A file of prompts: what is refused, what goes together, what is skipped, what a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from random_checkpoint import build  # noqa: E402

from mindmusicgen import InputError, cli  # noqa: E402
from mindmusicgen.audio import write_audio  # noqa: E402
from mindmusicgen.batch.pieces import batches, fingerprint, plan  # noqa: E402
from mindmusicgen.batch.prompts import read_prompts  # noqa: E402
from mindmusicgen.batch.ranks import rank_and_size  # noqa: E402
from mindmusicgen.musicgen import batching  # noqa: E402
from mindmusicgen.sound.recipe import recipe_comment  # noqa: E402

TEXTS = ("calm piano", "80s pop track with bassy drums", "techno")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build("tiny", str(folder))
    return str(folder)


@pytest.fixture
def alone(monkeypatch):
    """No rank in the environment, whoever runs the tests."""
    for name in ("RANK_ID", "RANK_SIZE", "MS_WORKER_NUM", "MS_ROLE"):
        monkeypatch.delenv(name, raising=False)


def write_lines(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def make(model, prompts, output, *more):
    """Run the command here; 0.2 s of music if nothing else is asked."""
    return cli.main(["batch", prompts, "--model", model, "--output", str(output), "--duration", "0.2", *more])


def test_lines_become_prompts(tmp_path):
    path = write_lines(
        tmp_path / "p.jsonl",
        {"text": "a"},
        "",
        {"text": "b", "id": "b-ü", "seed": 3, "duration": 2, "guidance_scale": [4, 2], "negative_text": "c"},
        {"text": "d", "id": 7, "top_k": None},
    )
    first, second, third = read_prompts(path, {"duration": 10.0, "top_k": 5, "negative_text": None}, seed=100)
    assert (first.id, first.line, first.seed, first.settings) == ("00001", 1, 100, {"duration": 10.0, "top_k": 5})
    assert (second.id, second.line, second.seed, second.negative_text) == ("b-ü", 3, 3, "c")
    assert second.settings == {"duration": 2, "guidance_scale": [4, 2], "top_k": 5}
    assert (third.id, third.seed, third.settings["top_k"]) == ("7", 103, 5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a"', "line 2: not JSON (Expecting"),
        ("calm piano", "line 2: not JSON"),
        ('"calm piano"', "line 2: a JSON string; expected an object"),
        ("[" * 100000, "line 2: not a JSON object"),
        ({"id": "a"}, "line 2: text is missing"),
        ({"text": " "}, "line 2: text is ' '"),
        ({"text": 5}, "line 2: text is 5"),
        ('{"text": "\\ud800"}', "line 2: text holds half a character"),
        ('{"text": "a", "negative_text": "\\udfff"}', "line 2: negative_text holds half a character"),
        ({"text": "a", "lenght": 3}, "line 2: unknown field 'lenght'; expected text, id"),
        ({"text": "a", "id": "../a"}, "line 2: id is '../a'"),
        ({"text": "a", "id": ".a"}, "line 2: id is '.a'"),
        ({"text": "a", "id": "a" * 101}, "is too long"),
        ({"text": "a", "id": "first"}, "line 2: the id 'first' is taken by line 1"),
        ({"text": "a", "do_sample": 1}, "line 2: do_sample is 1"),
    ],
)
def test_broken_lines_are_named(tmp_path, line, words):
    path = write_lines(tmp_path / "p.jsonl", {"text": "a", "id": "first"}, line)
    with pytest.raises(InputError) as refused:
        read_prompts(path, {})
    assert words in str(refused.value) and "p.jsonl, line 2" in str(refused.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"text": "a", "duration": -1}, "line 2: duration is -1"),
        ('{"text": "a", "duration": NaN}', "line 2: duration is nan"),
        ({"text": "a", "duration": "long"}, "line 2: duration is 'long'"),
        ({"text": "a", "seed": 1.5}, "line 2: seed is 1.5"),
        ({"text": "a", "guidance_scale": "3"}, "line 2: guidance_scale is '3'"),
        ({"text": "a", "guidance_scale": 1, "negative_text": "b"}, "line 2: a negative text works through guidance"),
        ({"text": "a", "top_p": 2}, "line 2: top_p is 2"),
    ],
)
def test_settings_are_checked_before_anything_is_made(alone, model, tmp_path, capsys, line, words):
    path = write_lines(tmp_path / "p.jsonl", {"text": "a"}, line)
    assert make(model, path, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and not os.path.exists(tmp_path / "out")


def test_the_command_refuses_in_one_sentence(alone, model, tmp_path, capsys, monkeypatch):
    good = write_lines(tmp_path / "p.jsonl", {"text": "a"})
    (tmp_path / "taken").write_text("")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}\n')
    for prompts, output, more, words in (
        (str(tmp_path / "none.jsonl"), "out", [], "cannot be read"),
        (write_lines(tmp_path / "empty.jsonl", ""), "out", [], "hold no line"),
        (str(tmp_path / "latin.jsonl"), "out", [], "not UTF-8"),
        (good, "taken", [], "cannot be a folder"),
        (good, "out", ["--format", "aac"], "format is 'aac'"),
        (good, "out", ["--format", "flac", "--bit-depth", "32"], "bit depth 32"),
        (good, "out", ["--batch-size", "0"], "batch size is 0"),
        (good, "out", ["--seed", "-1"], "seed is -1"),
        (good, "out", ["--workers", "0"], "workers is 0"),
        (good, "out", ["--ray-address", "auto"], "belongs to --workers"),
    ):
        assert make(model, prompts, tmp_path / output, *more) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    monkeypatch.setitem(sys.modules, "ray", None)
    assert make(model, good, tmp_path / "out", "--workers", "2") == 2
    assert "pip install 'ray>=2.9'" in capsys.readouterr().err


def plan_of(model, path, output, ending="wav"):
    from mindmusicgen import AutoProcessor

    prompts = read_prompts(path, {"duration": 0.2})
    return plan(prompts, path, model, AutoProcessor.from_pretrained(model).tokenizer, str(output), ending)


def test_batches_hold_what_fits_together(model, tmp_path):
    long = "bright strings " * 12
    lines = [{"text": text, "duration": d} for d in (0.2, 0.4) for text in ("a", "b", long, "c")]
    lines += [{"text": "a", "negative_text": "b", "duration": 0.2}, {"text": "a", "top_k": 3, "duration": 0.2}]
    pieces = plan_of(model, write_lines(tmp_path / "p.jsonl", *lines), tmp_path)
    made = [[piece.prompt.line for piece in batch] for batch in batches(pieces, 2)]
    assert sorted(line for batch in made for line in batch) == list(range(1, 11))
    assert [1, 2] in made and [5, 6] in made and all([n] in made for n in (3, 4, 7, 8, 9, 10))
    assert len(batches(pieces, 100)) == 6


def test_finished_pieces_are_skipped_and_changed_ones_redone(alone, model, tmp_path, capsys):
    lines = [{"text": text} for text in TEXTS]
    path, output = write_lines(tmp_path / "p.jsonl", *lines), tmp_path / "out"
    assert make(model, path, output) == 0
    assert "3 pieces: 3 made, 0 were there already, 0 failed" in capsys.readouterr().err
    files = [output / f"0000{n}.wav" for n in (1, 2, 3)]
    assert [soundfile.info(file).frames for file in files] == [6400] * 3
    before = [file.read_bytes() for file in files]

    half = before[1][: len(before[1]) // 2]
    files[1].write_bytes(half)  # such as a copy that was cut off
    (output / "00003.wav.partial").write_bytes(half)
    lines[0]["text"] = "something else"
    assert make(model, write_lines(tmp_path / "p.jsonl", *lines, {"text": "one more"}), output) == 0
    assert "4 pieces: 3 made, 1 were there already" in capsys.readouterr().err
    after = [file.read_bytes() for file in files]
    assert after[0] != before[0] and after[1:] == before[1:]

    assert make(model, path, output, "--seed", "5") == 0
    assert "4 made, 0 were there already" in capsys.readouterr().err


def test_a_piece_is_the_same_in_every_batch_and_in_generate(alone, model, tmp_path):
    path = write_lines(tmp_path / "p.jsonl", *({"text": text, "seed": 7, "id": text} for text in TEXTS))
    for size in ("1", "3"):
        assert make(model, path, tmp_path / size, "--batch-size", size) == 0
    for text in TEXTS:
        assert (tmp_path / "1" / f"{text}.wav").read_bytes() == (tmp_path / "3" / f"{text}.wav").read_bytes()
    single = str(tmp_path / "single.wav")
    words = ["generate", TEXTS[0], "--model", model, "--seed", "7", "--duration", "0.2", "--output", single]
    assert cli.main(words) == 0
    (found, _), (expected, _) = soundfile.read(tmp_path / "1" / f"{TEXTS[0]}.wav"), soundfile.read(single)
    assert found.shape == expected.shape and abs(found - expected).max() < 1e-4


def test_a_changed_model_is_noticed(model, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(os.urandom(1 << 20))
    first = fingerprint(tmp_path)
    assert first == fingerprint(tmp_path) != fingerprint(model)
    with open(weights, "r+b") as file:  # any training changes all that it trains
        file.seek(1 << 19)
        file.write(os.urandom(1 << 17))
    assert fingerprint(tmp_path) != first


def test_failures_are_listed_and_not_fatal(alone, model, tmp_path, capsys, monkeypatch):
    path, output = write_lines(tmp_path / "p.jsonl", *({"text": text} for text in TEXTS)), tmp_path / "out"
    clips = batching.Maker.clips

    def failing(maker, prompts):
        if any(prompt.text == TEXTS[1] for prompt in prompts):
            raise RuntimeError("out of memory\nand much more")
        return clips(maker, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(batching.Maker, "clips", failing)
        assert make(model, path, output) == 1
    assert sorted(os.listdir(output)) == ["00001.wav", "00003.wav", "failures.jsonl"]
    (failure,) = map(json.loads, (output / "failures.jsonl").read_text().splitlines())
    assert failure == {"id": "00002", "line": 2, "error": "RuntimeError: out of memory"}
    assert "2 made, 0 were there already, 1 failed, see" in capsys.readouterr().err
    assert make(model, path, output) == 0
    assert sorted(os.listdir(output)) == ["00001.wav", "00002.wav", "00003.wav"]


def test_a_file_that_cannot_be_written_is_a_failure(alone, model, tmp_path):
    path, output = write_lines(tmp_path / "p.jsonl", *({"text": text} for text in TEXTS)), tmp_path / "out"
    (output / "00002.wav").mkdir(parents=True)
    assert make(model, path, output) == 1
    assert "cannot be written" in json.loads((output / "failures.jsonl").read_text())["error"]
    assert {"00001.wav", "00003.wav"} < set(os.listdir(output))


def test_ranks_share_the_work(alone, model, tmp_path, capsys, monkeypatch):
    texts = [{"text": text, "duration": d} for text in TEXTS for d in (0.2, 0.4)] + [{"text": "a"}]
    path, output = write_lines(tmp_path / "p.jsonl", *texts), tmp_path / "out"
    monkeypatch.setenv("RANK_SIZE", "2")
    monkeypatch.setenv("RANK_ID", "1")
    assert make(model, path, output) == 0
    assert "rank 1 of 2: 3 pieces: 3 made" in capsys.readouterr().err
    others = set(os.listdir(output))
    monkeypatch.setenv("RANK_ID", "0")
    assert make(model, path, output) == 0
    assert "rank 0 of 2: 4 pieces: 4 made, 0 were there" in capsys.readouterr().err
    assert len(others) == 3 and len(os.listdir(output)) == 7
    (output / sorted(others)[0]).unlink()
    (output / sorted(others)[0]).mkdir()
    monkeypatch.setenv("RANK_ID", "1")
    assert make(model, path, output) == 0  # msrun would end the other processes if this one reported an error
    assert "cannot be written" in (output / "failures-1.jsonl").read_text()
    (output / sorted(others)[0]).rmdir()
    monkeypatch.delenv("RANK_SIZE")
    assert make(model, path, output) == 0
    assert "7 pieces: 1 made, 6 were there already" in capsys.readouterr().err
    assert len(os.listdir(output)) == 7


def test_ranks_come_from_the_environment(alone, monkeypatch):
    assert rank_and_size() == (0, 1)
    monkeypatch.setenv("RANK_ID", "3")
    assert rank_and_size() == (0, 1)
    monkeypatch.setenv("MS_WORKER_NUM", "8")
    assert rank_and_size() == (3, 8)
    monkeypatch.setenv("RANK_SIZE", "4")
    assert rank_and_size() == (3, 4)
    for rank, words in (("4", "RANK_ID=4 of RANK_SIZE=4"), ("one", "RANK_ID=one"), (None, "RANK_ID=None")):
        monkeypatch.setenv("RANK_ID", rank) if rank else monkeypatch.delenv("RANK_ID")
        with pytest.raises(InputError, match=words):
            rank_and_size()


def test_the_scheduler_of_msrun_makes_nothing(alone, tmp_path, monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    assert cli.main(["batch", "none.jsonl", "--output", str(tmp_path / "out")]) == 0
    assert os.listdir(tmp_path) == []


def test_two_runs_do_not_share_a_folder(alone, model, tmp_path, capsys, another_run_in):
    path = write_lines(tmp_path / "p.jsonl", {"text": "a"})
    with another_run_in(tmp_path / "out"):
        assert make(model, path, tmp_path / "out") == 2
    assert "another run works on" in capsys.readouterr().err
    assert make(model, path, tmp_path / "out") == 0


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_long_prompts_are_finished_in_every_format(model, tmp_path, ending):
    texts = ("水 " * 4000, "水 " * 4000 + "火", 'quotes " and \n\x00 ' * 500)
    lines = [{"text": text, "negative_text": text[:700], "duration": 0.2} for text in texts]
    pieces = plan_of(model, write_lines(tmp_path / "p.jsonl", *lines), tmp_path, ending)
    assert len({json.dumps(piece.recipe | {"seed": 0}) for piece in pieces}) == 3
    for piece in pieces:
        assert not piece.finished()
        write_audio(piece.path, np.zeros(6400), 32000, comment=recipe_comment(piece.recipe))
        assert piece.finished()


def test_kill_and_go_on(alone, model, tmp_path):
    path, output = write_lines(tmp_path / "p.jsonl", *({"text": f"song {n}"} for n in range(12))), tmp_path / "out"
    words = [sys.executable, "-m", "mindmusicgen", "batch", path, "--model", model, "--output", str(output)]
    words += ["--duration", "1", "--batch-size", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not output.is_dir() or len(list(output.glob("*.wav"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    before = {file: file.stat().st_mtime_ns for file in output.glob("*.wav")}
    assert 3 <= len(before) < 12
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{12 - len(before)} made, {len(before)} were there already, 0 failed" in done.stderr
    assert sorted(os.listdir(output)) == [f"{n:05d}.wav" for n in range(1, 13)]
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert {soundfile.info(file).frames for file in output.glob("*.wav")} == {32000}
