"""Bark from the command line: generate, long texts and dialogues, voices, batch, info, encode, decode, convert."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mindmusicgen import AutoModelForTextToWaveform, AutoProcessor, BarkConfig, BarkModel, BarkProcessor, cli
from mindmusicgen.audio import read_audio, read_comment, write_audio
from mindmusicgen.bark import settings
from mindmusicgen.bark.checkpoint import info
from mindmusicgen.bark.checkpoint.folder import default_generation_config
from mindmusicgen.bark.presets import open_preset
from mindmusicgen.bark.stages import Windows
from mindmusicgen.checkpoint.source import open_weights
from mindmusicgen.commands.job import Job
from mindmusicgen.commands.like import make_like


def heard(path):
    return read_audio(path, 1200, 1)[0]


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    """The golden model with a codec whose audio a file can hold, at 1,200 Hz, and a voice by name."""
    made = tmp_path_factory.mktemp("bark") / "speaker"
    values = json.loads(Path(golden.folder, "config.json").read_text(encoding="utf-8"))
    values["codec_config"] |= {"sampling_rate": 1200, "upsampling_ratios": [4, 4]}
    model = BarkModel(BarkConfig.from_dict(values))
    model.initialise(1, 0.3)
    model.generation_config = BarkModel.from_pretrained(golden.folder).generation_config
    model.generation_config.semantic_config["max_new_tokens"] = 40
    model.save_pretrained(made)
    processor = BarkProcessor.from_pretrained(golden.folder)
    paths = {}
    for name, values in golden.voice("short").items():
        paths[name] = f"voices/{name}.npy"
        (made / "voices").mkdir(exist_ok=True)
        np.save(made / paths[name], values)
    processor.save_pretrained(made)
    (made / "speaker_embeddings_path.json").write_text(json.dumps({"repo_or_path": ".", "ann": paths}))
    return str(made)


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capfd):
    """A function that gives a command, with FOLDER in place of the model, and returns the exit code and what was
    said."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = cli.main([folder if word == "FOLDER" else word for word in words])
        told = capfd.readouterr()
        return code, told.out + told.err

    return call


def test_a_text_becomes_a_file_that_can_be_made_again(run, tmp_path):
    words = ["generate", "hello world", "-m", "FOLDER", "-s", "3", "--temperature", "0.8", "--voice", "ann"]
    code, said = run(*words, "-o", "a.wav", "--codes", "a.npz", "--plot", "a.png", "--save-voice", "v.npz")
    assert code == 0 and "seed 3" in said and "v.npz: the voice, for --voice" in said
    recipe = json.loads(read_comment("a.wav"))
    assert recipe["prompt"] == "hello world" and recipe["voice"] == ["ann"] and recipe["temperature"] == 0.8
    assert recipe["model"] == "speaker" and recipe["seed"] == 3
    assert run("generate", "--like", "a.wav", "-m", "FOLDER", "-o", "b.wav")[0] == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert run("decode", "a.npz", "-m", "FOLDER", "-o", "c.wav")[0] == 0
    decoded, spoken = heard("c.wav"), heard("a.wav")
    assert np.abs(decoded[: len(spoken)] - spoken).max() < 1e-3
    assert sorted(open_preset("v.npz")) == ["coarse_prompt", "fine_prompt", "semantic_prompt"]
    assert Path("a.png").stat().st_size > 10_000 and "speaker" in run("info", "a.wav")[1]


def test_copies_and_several_texts_equal_each_alone(run):
    assert run("generate", "hello", "world", "-m", "FOLDER", "--copies", "2", "-s", "5", "-o", "a.wav")[0] == 0
    assert run("generate", "world", "-m", "FOLDER", "-s", "8", "-o", "one.wav")[0] == 0
    assert np.array_equal(heard("a-4.wav"), heard("one.wav"))
    assert len({Path(f"a-{number}.wav").read_bytes() for number in (1, 2, 3, 4)}) == 4


def test_long_texts_and_dialogues(run):
    Path("text.txt").write_text("Hello world. Hello.\nMore of it!\n", encoding="utf-8")
    assert run("generate", "text.txt", "-m", "FOLDER", "--long", "-s", "2", "-o", "a.wav")[0] == 0
    assert json.loads(read_comment("a.wav"))["long"] is True
    assert make_like(Job([], like="a.wav", model="m")).long
    talk = ["generate", "Ann: Hello.\nBob: World.", "-m", "FOLDER", "--long", "-o", "c.wav", "-s", "1"]
    assert run(*talk, "--voice", "Ann=ann", "--voice", "Bob=")[0] == 0
    code, said = run(*talk, "--voice", "Ann=ann")
    assert code == 2 and "no voice for 'Bob'" in said


REFUSED = {
    "-m FOLDER": "Bark needs a text",
    "a -m FOLDER --guidance-scale 3": "--guidance-scale is for models of music",
    "a -m FOLDER --negative b": "--negative is for models of music",
    "a -m FOLDER --audio b.wav": "--audio is for models of music",
    "a -m FOLDER --extend-stride 3": "--extend-stride is for models of music",
    "a -m FOLDER -o -": "use --output FILE",
    "a -m FOLDER -d 20": "duration is 20.0; expected at most 15 s",
    "a -m FOLDER -d -1": "duration is -1.0; expected at most 15 s",
    "a -m FOLDER -d 1 --long": "--duration is of one piece",
    "a b -m FOLDER --codes c.npz": "--codes is of one piece",
    "a b -m FOLDER --save-voice v.npz": "--save-voice is of one piece",
    "a -m FOLDER --save-voice v.wav": "must end in .npz",
    "a -m FOLDER --save-voice nowhere/v.npz": "nowhere",
    "a -m FOLDER --voice bob": "voice preset 'bob' is not known; this model has 1, such as ann",
    "a -m FOLDER --voice nowhere.npz": "is no file",
    "a b c -m FOLDER --voice ann --voice ann": "there are 2 voices for 3 prompts",
    "a -m FOLDER --temperature 0": "temperature is 0",
    "a -m demo --voice ann": "--voice is for models that speak",
    "a -m demo --long": "--long is for models that speak",
    "a -m demo --save-voice v.npz": "--save-voice is for models that speak",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_generate_refuses(run, words):
    code, said = run("generate", *words.split())
    assert code == 2 and REFUSED[words] in said and "Traceback" not in said
    assert list(Path().iterdir()) == []


def test_a_command_that_bark_has_not(run, folder):
    code, said = run("train", "--data", ".", "--model", "FOLDER", "-o", "out")
    assert code == 2 and "holds a 'bark' model; this is for models of musicgen" in said


def test_voices(run):
    assert run("voices", "FOLDER") == (0, "ann\n")
    code, said = run("voices", "demo")
    assert code == 2 and "'demo' makes music" in said


def test_batch(run):
    lines = [
        {"prompt": "hello", "voice": "ann"},
        {"prompt": "hello world", "seed": 9},
        {"prompt": "a", "duration": 0.3},
    ]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    words = ["batch", "p.jsonl", "-m", "FOLDER", "-o", "out", "-s", "3"]
    code, said = run(*words)
    assert code == 0 and "3 made" in said
    whole = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert sorted(whole) == ["00001.wav", "00002.wav", "00003.wav"]
    Path("out/00002.wav").unlink()
    assert "1 made, 2 were there already" in run(*words)[1]
    assert whole == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert run("generate", "hello", "-m", "FOLDER", "-s", "3", "--voice", "ann", "-o", "one.wav")[0] == 0
    assert np.array_equal(heard("one.wav"), heard("out/00001.wav"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"prompt": "a", "voice": "bob"}, "line 1: voice preset 'bob' is not known"),
        ({"prompt": "a", "voice": 3}, "line 1: voice_preset is 3"),
        ({"prompt": "a", "guidance_scale": 3}, "line 1: guidance_scale is for models of music"),
        ({"prompt": "a", "negative": "b"}, "line 1: negative_text is for models of music"),
        ({"prompt": "a", "duration": 99}, "line 1: duration is 99; expected at most 15 s"),
        ({"prompt": "hello " * 300}, "line 1: the text has"),
    ],
)
def test_what_batch_refuses(run, line, said):
    Path("p.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    code, told = run("batch", "p.jsonl", "-m", "FOLDER", "-o", "out")
    assert code == 2 and said in told


def test_a_voice_is_not_for_music(run):
    Path("p.jsonl").write_text('{"prompt": "a", "voice": "ann"}\n', encoding="utf-8")
    code, said = run("batch", "p.jsonl", "-o", "out")
    assert code == 2 and "line 1: voice is for models that speak" in said


def test_info_counts_what_there_is(run, folder, bark):
    code, said = run("info", "FOLDER", "--table")
    assert code == 0 and "Bark, speech, Hugging Face layout" in said and "1200 Hz" in said
    for stage, name in info.NAMES.items():
        network = getattr(bark, stage)
        assert info.parameter_counts(bark.config)[name] == sum(one.size for one in network.get_parameters())
    assert "suno/bark: Bark, speech, as published" in run("info", "suno/bark")[1]
    # bark.md's table of the published sizes, in millions
    counted = {
        name: round(count / 1e6) for name, count in info.parameter_counts(info.published_config("suno/bark")).items()
    }
    assert counted == {"semantic": 446, "coarse": 328, "fine": 312, "codec": 19}


@pytest.mark.parametrize("seconds", [1, 4, 4.5, 10, 15])
def test_info_counts_the_prefills_that_there_will_be(seconds):
    """Those of the coarse stage: a window whose beginning has moved is read anew."""
    config = info.published_config("suno/bark-small")
    defaults = default_generation_config(config)
    chosen = settings.resolve(config, defaults, {}, 1, 0)
    _, coarse, prefills, _ = info.work(config, defaults, seconds)
    windows, step = Windows(chosen, 0, 0), chosen.coarse.sliding_window_len
    assert prefills == 1 + sum(windows.moves(done) for done in range(step, coarse, step))


def test_convert_and_encode(run, folder):
    assert run("convert", "FOLDER", "-o", "half", "--dtype", "float16")[0] == 0
    assert run("convert", "FOLDER", "-o", "whole")[0] == 0
    found = {name: open_weights(name) for name in ("half", "whole", folder)}
    for name, tensor in found[folder].items():
        assert np.allclose(found["whole"][name].read(), tensor.read(), rtol=1e-6, atol=1e-7)
        assert np.allclose(found["half"][name].read(), tensor.read(), atol=1e-3)
    assert {str(one.dtype) for one in found["half"].values()} == {"F16", "BOOL"}
    assert AutoProcessor.from_pretrained("whole").available_voice_presets == ["ann"]
    write_audio("a.wav", np.zeros((1, 1200), np.float32), 1200)
    assert run("encode", "a.wav", "-m", "FOLDER", "-o", "codes.npz")[0] == 0
    assert np.load("codes.npz")["codes"].shape[1] == 8
    code, said = run("convert", "FOLDER", "-o", "small", "--quantization", "int8")
    assert code == 2 and "not stored in 8 bits" in said and not Path("small").exists()


def test_loaders_find_the_family(folder, tmp_path):
    assert isinstance(AutoModelForTextToWaveform.from_pretrained(folder), BarkModel)
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, BarkProcessor) and processor.available_voice_presets == ["ann"]
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert AutoProcessor.from_pretrained(str(moved)).preset("ann")["coarse_prompt"].shape[0] == 2


def test_a_job_names_the_words_of_others():
    with pytest.raises(ValueError, match="--top-k is for them; leave it out"):
        Job(["a"], top_k=3).refuse({"them": ("top_k", "top_p")})
    Job(["a"], top_k=3).refuse({"them": ("top_p", "long")})
