"""Telling must not end the doing: with a terminal, pipe or log that is gone, every piece is made and written."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mindspore import Parameter, Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from random_checkpoint import build  # noqa: E402

from mindmusicgen import cli  # noqa: E402
from mindmusicgen.audio import PcmStream  # noqa: E402
from mindmusicgen.commands import generate, info  # noqa: E402
from mindmusicgen.errors import InputError  # noqa: E402
from mindmusicgen.runtime.progress import Progress, progress_bar  # noqa: E402
from mindmusicgen.runtime.telling import Patient, patient_streams, printable, quoted, tell  # noqa: E402
from mindmusicgen.training.loop import STATE, Trainer  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build("tiny", str(folder))
    return str(folder)


@contextlib.contextmanager
def closed_pipe():
    """EPIPE: whoever read has gone."""
    reads, writes = os.pipe()
    os.close(reads)
    with _stream(writes) as stream:
        yield stream


@contextlib.contextmanager
def lost_terminal():
    """EIO: the terminal's window was closed."""
    master, slave = os.openpty()
    os.close(master)
    with _stream(slave) as stream:
        yield stream


@contextlib.contextmanager
def full_disk():
    """ENOSPC: the log's disk is full."""
    with _stream(os.open("/dev/full", os.O_WRONLY)) as stream:
        yield stream


@contextlib.contextmanager
def closed_file():
    """ValueError: something closed the stream."""
    stream = open(os.devnull, "w")  # noqa: SIM115
    stream.close()
    yield stream


@contextlib.contextmanager
def nothing():
    """No stream at all, as under pythonw."""
    yield None


@contextlib.contextmanager
def _stream(handle):
    stream = os.fdopen(handle, "w")
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()


GONE = [closed_pipe, lost_terminal, full_disk, closed_file, nothing]


@pytest.fixture(params=GONE, ids=lambda made: made.__name__)
def gone(request, monkeypatch):
    """Standard output and standard error that take nothing."""
    with request.param() as out, request.param() as error:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", error)
        yield
        monkeypatch.undo()


@pytest.mark.parametrize("gone", [closed_pipe, lost_terminal, nothing], indirect=True)
def test_generate_writes_everything(gone, model, tmp_path):
    words = ["generate", "calm piano", "techno", "--model", model, "--max-new-tokens", "8"]
    words += ["--output", str(tmp_path / "a.wav"), "--codes", str(tmp_path / "a.npz")]
    assert cli.main(words) == 0
    assert sorted(os.listdir(tmp_path)) == ["a-1.wav", "a-2.wav", "a.npz"]


@pytest.mark.parametrize("gone", [full_disk, lost_terminal], indirect=True)
def test_batch_writes_everything(gone, model, tmp_path):
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "abc"))
    words = ["batch", str(tmp_path / "p.jsonl"), "--model", model, "--duration", "0.2", "--batch-size", "1"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["00001.wav", "00002.wav", "00003.wav"]


class Line(nn.Cell):
    """The smallest network that can be trained."""

    metric_names = ("loss", "twice")

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.ones((2, 2), np.float32)), name="w")

    def construct(self, x):
        loss = (self.w * x).sum()
        return loss, (loss * 2,)


@pytest.mark.parametrize("gone", [closed_pipe, full_disk], indirect=True)
@pytest.mark.parametrize("show", [True, False])
def test_training_goes_on(gone, show, tmp_path):
    trainer = Trainer(Line(), str(tmp_path), 5, warmup=1)
    trainer.fit(lambda step: (np.ones((2, 2), np.float32),), every=1, show=show)
    assert trainer.step == 5 and sorted(os.listdir(tmp_path)) == ["curves.png", "history.jsonl", STATE]


def test_the_bar_goes_on(gone):
    with Progress(100, 50, show=True) as bar:
        for done in range(0, 100, 10):
            bar.update(done)
    with progress_bar(total=3) as bar:
        bar.update(3)
    tell("a line")
    tell("a line", error=True)
    with patient_streams():
        print("whoever prints")
        print("whoever prints", file=sys.stderr, flush=True)


def test_what_a_stream_that_is_gone_still_holds_does_not_end_the_process(model, tmp_path):
    """Python would exit with 120."""
    words = [sys.executable, "-m", "mindmusicgen", "info", model]
    with open("/dev/full", "w") as full:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, stdout=full, stderr=full, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0


def test_what_cannot_be_written_does_not_keep_the_rest_from_being_written(model, tmp_path, capsys, monkeypatch):
    words = ["generate", "calm piano", "techno", "jazz", "--model", model, "--max-new-tokens", "8"]
    words += [
        "--output",
        str(tmp_path / "a.wav"),
        "--codes",
        str(tmp_path / "a.npz"),
        "--plot",
        str(tmp_path / "a.png"),
    ]
    make = generate.write_clip

    def failing(arguments, path, *more):
        if path.endswith("-2.wav"):
            raise InputError("the disk is full")
        make(arguments, path, *more)

    monkeypatch.setattr(generate, "write_clip", failing)
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("error: the disk is full") == 1
    assert sorted(os.listdir(tmp_path)) == ["a-1.png", "a-1.wav", "a-2.png", "a-3.png", "a-3.wav", "a.npz"]


class Half:
    """A pipe that takes some bytes at a time and then fails, as a disk that fills up does."""

    def __init__(self, most, error):
        self.taken, self.most, self.error = b"", most, error

    def write(self, content):
        if len(self.taken) >= self.most:
            raise self.error
        part = bytes(content[:7])
        self.taken += part
        return len(part)

    def flush(self):
        pass


def test_a_stream_writes_all_where_only_parts_are_taken():
    pipe = Half(1 << 30, OSError())
    stream = PcmStream(pipe, 100, 2, 500)
    samples = np.linspace(-1, 1, 1000).reshape(2, 500)
    stream.write(samples)
    assert stream.seconds == 5.0 and len(pipe.taken) == 44 + 2000
    assert pipe.taken[44:] == (samples.T * 32767).round().astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), 0, "whoever listened has stopped; 1.0 s were written"),
        (OSError(28, "No space left on device"), 2, "cannot be written (No space left on device); 1.0 s were written"),
        (OSError(5, "Input/output error"), 2, "cannot be written (Input/output error); 1.0 s were written"),
        (KeyboardInterrupt(), 130, "interrupted, 1.0 s were written to standard output"),
    ],
)
def test_an_ended_stream_says_what_was_written(model, capsys, monkeypatch, error, code, words):
    pipe = Half(44 + 64000 + 1000, error)
    monkeypatch.setattr(generate, "_standard_output", lambda: contextlib.nullcontext(pipe))
    assert cli.main(["generate", "a", "--model", model, "--duration", "3", "--output", "-"]) == code
    assert words in capsys.readouterr().err


def test_an_interruption_after_the_end_is_none(model, tmp_path, capsys, monkeypatch):
    def late(arguments, interrupts):
        interrupts.received.set()

    monkeypatch.setattr(info, "run_info", late)
    assert cli.main(["info", model]) == 0 and "interrupted" not in capsys.readouterr().err


def test_a_working_folder_that_is_gone_is_one_sentence(model, tmp_path, capsys, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["info", model], ["generate", "a", "--model", model], ["convert", model, "--output", "b"]):
        assert cli.main(words) == 2
        assert capsys.readouterr().err == (
            "mindmusicgen: error: the working folder does not exist any more; change to one that does\n"
        )


def test_another_programs_rank_0_stays(tmp_path, monkeypatch):
    """It may appear while we run; what MindSpore writes about failed graphs goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.FAILED_GRAPHS, raising=False)
    code = (
        "import mindspore as ms\n@ms.jit(fullgraph=True)\ndef f(x):\n    return x.reshape(7)\n\nf(ms.Tensor([1.0]))\n"
    )
    (tmp_path / "fails.py").write_text(code)
    with cli.quiet(False):
        aside = os.environ[cli.FAILED_GRAPHS]
        (tmp_path / "rank_0").mkdir()
        (tmp_path / "rank_0" / "theirs").write_text("")
        done = subprocess.run([sys.executable, "fails.py"], capture_output=True)
        assert done.returncode == 1 and os.path.isdir(aside)
    assert sorted(os.listdir(tmp_path)) == ["fails.py", "rank_0"] and os.listdir("rank_0") == ["theirs"]
    assert not os.path.exists(aside) and cli.FAILED_GRAPHS not in os.environ


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("80s pop, 钢琴　ü 🎹", "80s pop, 钢琴　ü 🎹"),
        ("a\x1b[2Jb", "a\\u001b[2Jb"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("a\x9b2Jb", "a\\u009b2Jb"),  # the same of a terminal of 8 bits
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),  # writes backwards; breaks the line
        ("a\udcffb", "a\\udcffb"),
        (ValueError("a\x07"), "a\\u0007"),
    ],
)
def test_texts_of_files_reach_the_terminal_tame(text, shown, capsys):
    assert printable(text) == shown
    tell(text)
    assert capsys.readouterr().out == shown + "\n"


EVIL = "\x1b]0;owned\x07\x9b2J\nmindmusicgen: fine"


def test_a_recipe_reaches_the_terminal_tame(tmp_path, capsys):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", samplerate=8000, channels=1) as file:
        file.comment = EVIL
        file.write(np.zeros(9))
    assert cli.main(["info", str(tmp_path / "a.flac")]) == 0
    lines = capsys.readouterr().out[:-1].split("\n")
    assert len(lines) == 2 and all(printable(line) == line for line in lines) and "owned" in lines[1]


def test_names_and_ids_reach_the_terminal_tame(model, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text(json.dumps({"text": EVIL, "id": "a\x9b2J\u2028b"}) + "\n")
    words = ["batch", str(tmp_path / "p.jsonl"), "--model", model, "--duration", "0.2"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    os.symlink(model, tmp_path / EVIL.replace("/", ""))
    assert cli.main(["info", str(tmp_path / EVIL.replace("/", ""))]) == 0
    assert cli.main(["info", str(tmp_path / f"{EVIL}none")]) == 2
    captured = capsys.readouterr()
    for line in (captured.out + captured.err).replace("\r", "\n").split("\n"):  # a bar draws itself again with \r
        assert printable(line) == line and not line.startswith("mindmusicgen: fine")


def test_long_names_are_quoted_in_short():
    assert quoted("a\nb") == "'a\\nb'" and len(quoted("a" * 5000)) < 90


def test_a_terminal_of_few_characters(tmp_path, monkeypatch):
    with open(tmp_path / "log", "w", encoding="ascii") as log:
        print("钢琴", file=Patient(log))
    assert (tmp_path / "log").read_text() == "\\u94a2\\u7434\n"
