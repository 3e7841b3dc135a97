"""What can be known before a model is opened is said before, in every command; where it comes from is heeded."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from random_checkpoint import build  # noqa: E402

from mindmusicgen import InputError, cli  # noqa: E402
from mindmusicgen.codes_file import save_codes  # noqa: E402
from mindmusicgen.musicgen.checkpoint import audiocraft, folder  # noqa: E402
from mindmusicgen.musicgen.training import finetune  # noqa: E402
from mindmusicgen.runtime import files  # noqa: E402
from mindmusicgen.runtime.files import check_folder  # noqa: E402
from mindmusicgen.submodels import opening  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    where = tmp_path_factory.mktemp("model")
    build("tiny", str(where))
    return str(where)


@pytest.fixture
def unopened(monkeypatch):
    """No model may be opened: building one, and reading a tensor, fails."""

    def refuse(*_, **__):
        raise AssertionError("the model was opened")

    monkeypatch.setattr(folder, "build", refuse)
    for name in ("RANK_ID", "RANK_SIZE", "MS_WORKER_NUM", "MS_ROLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a recording, codes, prompts and training data."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(32000), 32000)
    soundfile.write("silent.wav", np.zeros(32000), 32000)
    save_codes("a.npz", np.ones((1, 4, 9), int), 32000, 50)
    save_codes("stereo.npz", np.ones((1, 8, 9), int), 32000, 50)
    Path("p.jsonl").write_text('{"text": "a"}\n')
    os.mkdir("empty")
    return tmp_path


LONG = "x" * 300
SETTINGS = [
    (["--temperature", "0"], "temperature is 0.0"),
    (["--temperature", "-1"], "temperature is -1.0"),
    (["--top-p", "1.5"], "top_p is 1.5"),
    (["--top-k", "-1"], "top_k is -1"),
    (["--guidance-scale", "nan"], "guidance_scale is nan"),
    (["--duration", "0"], "duration is 0.0"),
    (["--extend-stride", "31"], "extend_stride is 31.0"),
]
EARLY = {
    "generate": [
        *SETTINGS,
        *((["--output", "-", *more], words) for more, words in SETTINGS),
        (["--max-new-tokens", "9999"], "at most 1503"),
        (["--seed", "-1"], "seed is -1"),
        (["--melody", "a.wav"], "--melody for a text model"),
        (["--output", f"{LONG}.wav"], "File name too long"),
        (["--output", "empty/a.wav/b.wav"], "does not exist"),
        (["--output", "a.wav", "--codes", f"{LONG}.npz"], "File name too long"),
        (["--output", "a.wav", "--plot", f"{LONG}.png"], "File name too long"),
        (["--audio", "none.wav"], "none.wav"),
        (["--audio", "p.jsonl"], "p.jsonl"),
        (["--audio", "stereo.npz"], "8 codebooks"),
        (["--dtype", "float8"], "dtype is 'float8'"),
    ],
    "batch": [
        *SETTINGS,
        (["--output", LONG], "File name too long"),
        (["--output", "p.jsonl"], "is a file"),
        (["--output", "p.jsonl/a"], "is a file"),
        (["--bit-depth", "8"], "bit depth 8"),
        (["--dtype", "float8"], "dtype is 'float8'"),
    ],
    "train": [
        (["--output", LONG], "File name too long"),
        (["--output", "p.jsonl"], "is a file"),
        (["--data", "empty"], "holds nothing to train on"),
        (["--data", "none"], "is not a folder"),
        (["--seconds", "31"], "at most"),
        (["--learning-rate", "nan"], "learning rate is nan"),
    ],
    "convert": [
        (["--output", LONG], "File name too long"),
        (["--output", f"new/{LONG}"], "File name too long"),
        (["--output", "p.jsonl"], "is a file"),
        (["--dtype", "float8"], "dtype is 'float8'"),
        (["--quantize", "int3"], "int4"),
    ],
    "encode": [
        (["--output", f"{LONG}.npz"], "File name too long"),
        (["--output", "a.txt"], "must end in .npz"),
        (["none.wav"], "none.wav"),
    ],
    "decode": [
        (["--output", f"{LONG}.wav"], "File name too long"),
        (["stereo.npz"], "8 codebooks"),
        (["none.npz"], "none.npz"),
    ],
    "export": [
        (["--output", LONG], "File name too long"),
        (["--output", "p.jsonl"], "exists already"),
        (["--duration", "31"], "duration is 31.0"),
        (["--batch", "0"], "batch is 0"),
        (["--pieces", "all"], "pieces holds 'all'"),
        (["--dtype", "bfloat16"], "bfloat16"),
    ],
    "doctor": [
        (["--report", f"{LONG}.json"], "File name too long"),
        (["--report", "empty"], "it is a folder"),
        (["--report", "none/a.json"], "does not exist"),
        (["--dtype", "float8"], "dtype is 'float8'"),
    ],
    "info": [(["--duration", "nan"], "cannot plan"), (["--batch", "0"], "cannot plan")],
}
GOOD = {  # words of a command, and what it takes besides if nothing else is said
    "generate": (["a"], ["--output", "out.wav"]),
    "batch": (["p.jsonl"], ["--output", "out"]),
    "train": ([], ["--data", "empty", "--output", "out"]),
    "convert": ([], ["--output", "out"]),
    "encode": (["a.wav"], ["--output", "out.npz"]),
    "decode": (["a.npz"], ["--output", "out.wav"]),
    "export": ([], ["--output", "out"]),
    "doctor": ([], []),
    "info": ([], []),
}


def words_of(command, model, more):
    """The words of a command, in which `more` takes the place of what it says as well."""
    positional, options = GOOD[command]
    if more and not more[0].startswith("--"):
        positional, more = more, []
    for name, value in zip(options[::2], options[1::2], strict=True):
        more = more if name in more else [*more, name, value]
    named = {"convert": [model], "info": [model], "doctor": []}.get(command, ["--model", model])
    return [command, *positional, *named, *more]


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [(command, more, words) for command, cases in EARLY.items() for more, words in cases],
)
def test_it_is_said_before_the_model_is_opened(unopened, place, model, capsys, command, more, words):
    before = sorted(os.listdir(place))
    assert cli.main(words_of(command, model, more)) == 2
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("mindmusicgen: error: ")]
    assert words in line and len(line) <= 330, line
    if command != "train" or "empty" not in more:  # a run whose data was looked at lists what was skipped
        assert sorted(os.listdir(place)) == before


@pytest.mark.parametrize("command", sorted(set(EARLY) - {"info", "doctor"}))
def test_a_full_disk_is_said_before_the_model_is_opened(unopened, place, model, capsys, monkeypatch, command):
    os.mkdir("data")
    soundfile.write("data/a.wav", 0.1 * np.random.default_rng(0).standard_normal(32000), 32000)
    Path("data/a.txt").write_text("noise")
    more = {"train": ["--data", "data"], "generate": ["--duration", "20"]}.get(command, [])
    if command in ("generate", "train", "convert", "export"):  # which know how much they will write
        usage = files.shutil.disk_usage(place)
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        assert cli.main(words_of(command, model, more)) == 2
        assert "has 1 left; make room" in capsys.readouterr().err
        monkeypatch.undo()
    monkeypatch.setattr(folder, "build", None)
    monkeypatch.chdir(place)
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        assert cli.main(words_of(command, model, more)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in capsys.readouterr().err


def test_folders_that_can_become_some(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("a", "a/b/c", "a" * 255, "no text \udcff", "."):
        check_folder(str(tmp_path / name), "output")
    for name in ("file", "file/a", "a/" + "b" * 256, "a\0b"):
        with pytest.raises(InputError, match="output"):
            check_folder(str(tmp_path / name), "output")
    assert os.listdir(tmp_path) == ["file"]


CACHE = "somewhere/else"
SOURCES = {  # what each command is given besides --cache-dir and --local-files-only
    "generate": ["a", "--max-new-tokens", "4"],
    "encode": ["a.wav", "--output", "out.npz"],
    "decode": ["a.npz"],
    "batch": ["p.jsonl", "--output", "out", "--duration", "0.2"],
    "train": ["--data", "data", "--output", "out", "--steps", "1"],
    "convert": ["--output", "out"],
    "export": ["--output", "out"],
    "info": [],
}


@pytest.fixture
def named(quad, tmp_path, monkeypatch):
    """A folder of audiocraft's files, which only name their text encoder; it is found where the options say, or not."""
    import audiocraft_files
    from random_checkpoint import build_tokenizer
    from safetensors.numpy import save_file

    where, text = tmp_path / "model", tmp_path / "t5"
    where.mkdir()
    text.mkdir()
    for name, content in audiocraft_files.packages(quad.weights, quad.config).items():
        audiocraft_files.write(where / name, content)
    (text / "config.json").write_text(json.dumps(quad.config["text_encoder"]))
    prefix = "text_encoder."
    weights = {name: values for name, values in quad.weights.items() if name.startswith(prefix)}
    save_file({name.removeprefix(prefix): values for name, values in weights.items()}, text / "model.safetensors")
    build_tokenizer().save_pretrained(text)
    asked = []

    def resolve(name, revision=None, cache_dir=None, local_files_only=False, **_):
        assert (name, cache_dir, local_files_only) == ("google-t5/t5-base", CACHE, True)
        asked.append(name)
        return str(text)

    monkeypatch.setattr(audiocraft, "resolve", resolve)
    for name in ("RANK_ID", "RANK_SIZE", "MS_WORKER_NUM", "MS_ROLE"):
        monkeypatch.delenv(name, raising=False)
    return str(where), asked


class NoTraining:
    """In the place of the trainer: everything before and after it is looked at."""

    def __init__(self, *_, **__):
        pass

    def resume(self):
        return 0

    def fit(self, batch, every):
        pass


@pytest.mark.parametrize("command", SOURCES)
def test_where_downloads_are_is_heeded(named, place, monkeypatch, command):
    model, asked = named
    if command == "train":
        os.mkdir("data")
        Path("data/a.txt").write_text("noise")
        os.link("a.wav", "data/a.wav")
        monkeypatch.setattr(finetune, "Trainer", NoTraining)
        monkeypatch.setattr(finetune, "captioned_codes", lambda *_: SimpleNamespace(batch=None))
    elif command not in ("convert", "info"):  # the others look for nothing once the model is open

        def opened(*_, **__):
            raise InputError("opened")

        monkeypatch.setattr(folder, "build", opened)
        monkeypatch.setattr(opening, "config_errors", opened)  # as the codec alone is built
    words = [command, *SOURCES[command], "--cache-dir", CACHE, "--local-files-only"]
    words += [model] if command in ("convert", "info") else ["--model", model]
    assert cli.main(words) == (0 if command in ("train", "convert", "info") else 2)
    assert asked
