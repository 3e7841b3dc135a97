"""The checker of the exercises: right answers pass, wrong ones are explained, and nothing makes it crash."""

import contextlib
import csv
import itertools
import json
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mindmusicgen.exercises import EXERCISES, check, examine
from mindmusicgen.exercises.__main__ import main
from mindmusicgen.exercises.marking import Mark, mark_notebook, write_marks
from mindmusicgen.exercises.worker import ASKED, code_cells, plain_python

ROOT = Path(__file__).resolve().parent.parent


def delay_pattern(codes, pad):
    books, frames = codes.shape
    columns = np.full((books, frames + books), pad)
    for k in range(books):
        columns[k, 1 + k : 1 + k + frames] = codes[k]
    return columns


def undelay(columns):
    books, length = columns.shape
    return np.array([columns[k, 1 + k : 1 + k + length - books] for k in range(books)])


def guidance(conditional, null, scale):
    return null + (conditional - null) * scale


def top_k(logits, k):
    threshold = np.sort(logits, axis=-1)[:, -k][:, None]
    return np.where(logits >= threshold, logits, -np.inf)


def sample(logits, temperature, uniforms):
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares = np.cumsum(weights / weights.sum(axis=-1, keepdims=True), axis=-1)
    return (shares <= uniforms[:, None]).sum(axis=-1)


def sinusoidal_positions(num_positions, dim):
    half = dim // 2
    angles = np.arange(num_positions)[:, None] * 10000.0 ** (-np.arange(half) / (half - 1))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def rvq_encode(x, codebooks):
    residual, codes = x.copy(), []
    for table in codebooks:
        codes.append(((residual[:, None] - table) ** 2).sum(axis=-1).argmin(axis=1))
        residual -= table[codes[-1]]
    return np.stack(codes)


def rvq_decode(codes, codebooks):
    return sum(table[row] for table, row in zip(codebooks, codes, strict=True))


def batch_decode(audio, padding_mask):
    clips = []
    for clip, row in zip(audio, padding_mask, strict=True):
        keep = np.concatenate([row, np.ones(clip.shape[1] - len(row), int)]) == 1
        clips.append(clip[:, keep])
    return clips


SOLUTIONS = [
    delay_pattern,
    undelay,
    guidance,
    top_k,
    sample,
    sinusoidal_positions,
    rvq_encode,
    rvq_decode,
    batch_decode,
]
NAMES = [solution.__name__ for solution in SOLUTIONS]
by_name = pytest.mark.parametrize("name", NAMES)


def test_every_exercise_is_tested():
    assert list(EXERCISES) == NAMES


@pytest.mark.parametrize("solution", SOLUTIONS, ids=NAMES)
def test_solutions_of_a_student_pass(solution, capsys):
    """They are written without the package, as a student would."""
    assert check(solution.__name__, solution, "en") is True
    assert check(solution.__name__, solution, "zh") is True
    english, chinese = capsys.readouterr().out.splitlines()
    assert english.startswith("✓ ") and "right" in english and "正确" in chinese


@by_name
def test_every_known_mistake_is_told_from_the_others(name):
    exercise = EXERCISES[name]
    for mistake in exercise.mistakes:
        for language in ("en", "zh"):
            outcome = examine(name, mistake.answer, language)
            assert not outcome.passed
            assert mistake.text.say(language) in outcome.message


def taught(n, d):
    """The table as tutorials about transformers have it: sine and cosine in turns, 2i / d in the exponent."""
    angles = np.arange(n)[:, None] / 10000 ** (np.arange(0, d, 2) / d)
    table = np.zeros((n, d))
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


def coded(x, books, choose):
    """A residual encoder with another choice of entries."""
    residual, codes = x.copy(), []
    for table in books:
        codes.append(choose(residual, table))
        residual = residual - table[codes[-1]]
    return np.array(codes)


def norms(table):
    return np.linalg.norm(table, axis=1, keepdims=True)


def sample_of(weights, axis, uniforms):
    """A draw whose softmax adds up to 1 along some axis."""
    shares = np.cumsum(weights / weights.sum(axis, keepdims=True), axis=-1)
    return np.minimum((shares <= uniforms[:, None]).sum(-1), weights.shape[1] - 1)


WRONG = [
    # Written as students write them, to see that the mistakes are recognised in the wild.
    ("delay_pattern", lambda codes, pad: delay_pattern(codes, pad)[:, 1:], "start column is missing"),
    ("delay_pattern", lambda codes, pad: delay_pattern(codes, pad).T, "rows and columns are exchanged"),
    ("delay_pattern", lambda codes, pad: delay_pattern(codes, 0), "hold 0"),
    (
        "delay_pattern",
        lambda codes, pad: np.concatenate([delay_pattern(codes, pad), np.full((len(codes), 1), pad)], axis=1),
        "one column too many",
    ),
    (
        "delay_pattern",
        lambda codes, pad: np.concatenate([delay_pattern(codes, pad), np.full((len(codes), 3), pad)], axis=1),
        "“column” there are 3 too many",
    ),
    ("delay_pattern", lambda codes, pad: codes, "axis “column” there are 4 too few"),
    ("delay_pattern", lambda codes, pad: delay_pattern(codes[::-1], pad), "first at codebook 0, column 1"),
    ("undelay", lambda columns: columns[:, 1 : columns.shape[1] - len(columns) + 1], "delay is still there"),
    ("undelay", lambda columns: columns[:, 1:], "only the start column is gone"),
    ("guidance", lambda c, n, s: s * (c - n) + c, "start at conditional"),
    ("guidance", lambda c, n, s: c * (1 - s) + n * s, "turned round"),
    ("guidance", lambda c, n, s: guidance(c, n, s)[:1], "axis “codebook” there are 3 too few"),
    ("guidance", lambda c, n, s: guidance(c, n, s) + 0.01, "24 of 24 numbers are wrong"),
    ("top_k", lambda logits, k: top_k(logits, k + 1 if k < logits.shape[1] else k), "one code too many"),
    ("top_k", lambda logits, k: np.where(np.isfinite(top_k(logits, k)), logits, 0), "minus infinity"),
    (
        "top_k",
        lambda logits, k: np.where(np.argsort(np.argsort(-logits)) < k, logits, -np.inf),
        "as large as the k-th has to stay",
    ),
    ("sample", lambda logits, t, u: logits.argmax(-1), "greedy"),
    ("sample", lambda logits, t, u: sample(logits * t, 1, u), "multiplied by the temperature"),
    (
        "sample",
        lambda logits, t, u: (
            np.cumsum(np.exp(logits / t) / np.exp(logits / t).sum(-1, keepdims=True), -1) <= u[:, None]
        ).sum(-1),
        "Subtract the largest logit",
    ),
    ("sample", lambda logits, t, u: sample(logits, t, np.random.random(len(u))), "random numbers of its own"),
    ("sinusoidal_positions", lambda n, d: np.roll(sinusoidal_positions(n, d), d // 2, 1), "sine and cosine are exc"),
    ("sinusoidal_positions", lambda n, d: sinusoidal_positions(n + 1, d)[1:], "counted from 1"),
    ("sinusoidal_positions", lambda n, d: sinusoidal_positions(n, d)[:, : d // 2], "the sines are missing"),
    (
        "rvq_encode",
        lambda x, books: np.stack([rvq_encode(x, books[i : i + 1])[0] for i in range(len(books))]),
        "codes x",
    ),
    ("rvq_encode", lambda x, books: rvq_encode(x, books)[::-1], "order is not"),
    ("sinusoidal_positions", lambda n, d: taught(n, d), "Attention is all you need"),
    ("sinusoidal_positions", lambda n, d: taught(n, d)[:, np.arange(d) ^ 1], "cosine and sine take turns"),
    ("sinusoidal_positions", lambda n, d: taught(n, d)[:, [*range(0, d, 2), *range(1, d, 2)]], "two things"),
    (
        "rvq_encode",
        lambda x, books: coded(x, books, lambda r, t: ((r[:, None] - t) ** 2).sum(-1).argmax(1)),
        "farthest",
    ),
    ("rvq_encode", lambda x, books: coded(x, books, lambda r, t: (r @ t.T).argmax(1)), "largest dot product"),
    ("rvq_encode", lambda x, books: coded(x, books, lambda r, t: (r @ t.T).argmin(1)), "smallest dot product"),
    (
        "rvq_encode",
        lambda x, books: coded(x, books, lambda r, t: (r @ (t / norms(t)).T).argmax(1)),
        "cosine similarity",
    ),
    ("guidance", lambda c, n, s: n + c * s, "whole of conditional is scaled"),
    ("guidance", lambda c, n, s: n + c - n * s, "brackets"),
    ("sample", lambda logits, t, u: sample_of(np.exp(logits / t - (logits / t).max(0)), 0, u), "down the columns"),
    ("sample", lambda logits, t, u: sample_of(np.exp(logits / t - (logits / t).max()), None, u), "whole array"),
    ("top_k", lambda logits, k: np.where(np.isfinite(top_k(logits, k)), logits, -1e4), "not never"),
    ("top_k", lambda logits, k: np.where(np.isfinite(top_k(logits, k)), logits, -100), "not never"),
    ("rvq_decode", lambda codes, books: books[0][codes[0]], "only the first codebook"),
    ("rvq_decode", lambda codes, books: rvq_decode(codes, books) / len(books), "averaged"),
    ("batch_decode", lambda audio, mask: list(audio), "padding is still there"),
    ("batch_decode", lambda audio, mask: batch_decode(audio, 1 - mask), "wrong way round"),
    ("batch_decode", lambda audio, mask: [c[0] for c in batch_decode(audio, mask)], "axis of channels is lost"),
    ("batch_decode", lambda audio, mask: batch_decode(audio, mask)[:1], "1 clips come out; there are 2"),
    ("batch_decode", lambda audio, mask: batch_decode(audio, mask)[::-1], "clip 0:"),
    ("batch_decode", lambda audio, mask: [c[:, c[0] > 0.01] for c in audio], "0 were removed"),
]


@pytest.mark.parametrize("name, function, said", WRONG, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(WRONG)])
def test_typical_mistakes(name, function, said):
    outcome = examine(name, function, "en")
    assert not outcome.passed
    assert said in outcome.message


@pytest.mark.parametrize("low", [-1e9, -1e30, np.finfo(np.float32).min])
def test_a_very_low_number_passes_and_is_told(low):
    for language, said in (("en", "-np.inf says never"), ("zh", "-np.inf 才是")):
        outcome = examine("top_k", lambda logits, k: np.where(np.isfinite(top_k(logits, k)), logits, low), language)
        assert outcome.passed and said in outcome.message
    assert "never" not in examine("top_k", top_k, "en").message


class Unreadable:
    """Raises wherever it is asked."""

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")


STRANGE = {
    "None": (None, "None"),
    "ellipsis": (..., "gap"),
    "text": ("four", "str"),
    "dictionary": ({}, "dict"),
    "ragged": ([[1, 2], [3]], ""),
    "text in an array": (np.array([["a", "b"]]), ""),
    "complex": (np.ones((2, 2), complex), ""),
    "objects": (np.array([[None, 1]]), ""),
    "empty": (np.zeros((0,)), ""),
    "no axes": (3, ""),
    "many axes": (np.zeros((1,) * 9), ""),
    "not finite": (np.full((4, 6), np.nan), ""),
    "huge": (np.broadcast_to(1.0, (10**9, 10**9)), ""),
    "endless": (itertools.count(), ""),
    "unreadable": (Unreadable, ""),
    "class": (int, ""),
}


@by_name
@pytest.mark.parametrize("kind", STRANGE)
def test_strange_answers_are_refused(name, kind):
    answer, said = STRANGE[kind]
    answer = answer() if answer is Unreadable else answer  # pytest would ask it
    for language in ("en", "zh"):
        outcome = examine(name, lambda *_: answer, language)
        assert not outcome.passed and outcome.message.startswith(name)
    assert said in examine(name, lambda *_: answer, "en").message


def generator(*_):
    while True:
        yield 1


def raises(error):
    def function(*_):
        raise error

    return function


def exits(*_):
    sys.exit(3)


def recurses(*arguments):
    return recurses(*arguments)


def wrong_index(a, b):
    return a[99999]


@by_name
@pytest.mark.parametrize(
    "function, said",
    [
        (generator, "generator"),
        (raises(ValueError("bad luck")), "ValueError: bad luck"),
        (raises(Unreadable), "TypeError"),
        (raises(NotImplementedError()), "gap"),
        (exits, "exit()"),
        (recurses, "RecursionError"),
        (lambda *_: None, "None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_answer_is_explained(name, function, said):
    outcome = examine(name, function, "en")
    assert not outcome.passed and said in outcome.message


def test_the_line_of_an_error_is_shown():
    message = examine("top_k", wrong_index, "en").message
    assert "IndexError" in message and "return a[99999]" in message


@pytest.mark.parametrize(
    "function, said",
    [
        (None, "no function"),
        (3, "a int was given"),
        (np.zeros(3), "a ndarray was given"),
        (lambda codes: codes, "2 arguments"),
        (lambda a, b, c: a, "2 arguments"),
        (lambda *, codes, pad: codes, "2 arguments"),
    ],
)
def test_what_is_no_fitting_function(function, said):
    outcome = examine("delay_pattern", function, "en")
    assert not outcome.passed and said in outcome.message


@pytest.mark.parametrize("name", ["delay", None, 3, [], Unreadable])
def test_unknown_exercises(name):
    outcome = examine(name() if name is Unreadable else name, delay_pattern, "en")
    assert not outcome.passed and "delay_pattern" in outcome.message


def test_an_endless_loop_is_stopped(monkeypatch):
    monkeypatch.setattr("mindmusicgen.exercises.running.SECONDS", 0.3)

    def endless(codes, pad):
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    started = time.monotonic()
    outcome = examine("delay_pattern", endless, "en")
    assert not outcome.passed and "still running" in outcome.message
    assert time.monotonic() - started < 5


def test_endless_output_is_cut(capsys):
    def chatty(codes, pad):
        for _ in range(10000):
            print("still here")
        return delay_pattern(codes, pad)

    assert check("delay_pattern", chatty, "en")
    assert len(capsys.readouterr().out) < 3000


def test_arguments_are_copies_and_writing_into_them_is_mentioned():
    def careless(x, codebooks):
        codes = []
        for table in codebooks:
            codes.append(((x[:, None] - table) ** 2).sum(axis=-1).argmin(axis=1))
            x -= table[codes[-1]]
        return np.stack(codes)

    outcome = examine("rvq_encode", careless, "en")
    assert outcome.passed and "writes into its arguments" in outcome.message


def test_codes_as_floats_are_mentioned():
    outcome = examine("delay_pattern", lambda codes, pad: delay_pattern(codes, pad).astype(float), "en")
    assert outcome.passed and "dtype=int" in outcome.message


def test_tensors_and_lists_are_answers_too():
    from mindspore import Tensor

    assert examine("guidance", lambda c, n, s: Tensor(guidance(c, n, s)), "en").passed
    assert examine("delay_pattern", lambda codes, pad: delay_pattern(codes, pad).tolist(), "en").passed


def test_small_answers_are_shown_beside_the_right_ones():
    message = examine("delay_pattern", lambda codes, pad: delay_pattern(codes[::-1], pad), "zh").message
    assert "[99  1  2  3  4  5  6 99 99 99]" in message and "正确结果" in message


STORED = sorted((ROOT / "tutorials").glob("*/*/0*.ipynb"))


def test_every_exercise_has_its_notebooks():
    for kind in ("exercises", "solutions"):
        for language in ("en", "zh"):
            folder = [path for path in STORED if path.parts[-3:-1] == (language, kind)]
            asked = [name for path in folder for name in ASKED.findall("\n".join(code_cells(path)))]
            assert asked == NAMES


@pytest.mark.parametrize("path", STORED, ids=lambda path: "-".join((*path.parts[-3:-1], path.stem)))
def test_solutions_pass_and_open_gaps_do_not(path):
    for cell in code_cells(path):
        assert "SOLUTION" not in cell
        for name in re.findall(r"^def (\w+)", cell, re.MULTILINE):
            if name in EXERCISES:
                names = {"np": np}
                exec(cell, names)
                outcome = examine(name, names[name], path.parts[-3])
                assert outcome.passed == (path.parts[-2] == "solutions"), outcome.message


def notebook(path, *cells):
    """Write a notebook with these code cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# text"}, *made]}))
    return path


RIGHT = """def guidance(conditional, null, scale):
    return null + (conditional - null) * scale"""
TURNED = RIGHT.replace("null + (conditional - null)", "conditional + (null - conditional)")
CHECK = 'from mindmusicgen.exercises import check\ncheck("guidance", guidance)'


def test_marking_a_folder(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "class"
    notebook(folder / "ann" / "guidance.ipynb", "%matplotlib inline\nimport numpy as np", RIGHT, CHECK)
    notebook(folder / "bob.ipynb", "1 / 0", TURNED, "open('left behind', 'w')", CHECK)
    notebook(folder / "eve.ipynb", CHECK, "check = lambda *_: True")
    notebook(folder / "ann" / ".ipynb_checkpoints" / "guidance.ipynb", TURNED)
    (folder / "zoe.ipynb").write_text("not a notebook")
    monkeypatch.chdir(tmp_path)
    assert main([str(folder), "--output", "marks.csv"]) == 0
    with open("marks.csv", encoding="utf-8-sig") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["ann", "bob", "eve", "zoe"]
    assert [row["passed"] for row in rows.values()] == ["True", "False", "False", "False"]
    assert [row["exercise"] for row in rows.values()] == ["guidance"] * 3 + [""]
    assert "turned round" in rows["bob"]["message"]
    assert "no function" in rows["eve"]["message"]
    assert "exit code 1: json.decoder.JSONDecodeError" in rows["zoe"]["message"]
    assert sorted(os.listdir(tmp_path)) == ["class", "marks.csv"], "a notebook writes nowhere else"
    printed = capsys.readouterr().out
    assert "ann: 1 of 1" in printed and "bob: 0 of 1; not yet: guidance" in printed


@pytest.mark.parametrize(
    "cell, said",
    [
        ("while True: pass", "still running after 3 s"),
        ("import os; os._exit(7)", "exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("x = 1", "no exercise"),
    ],
)
def test_what_a_notebook_may_do_to_the_marker(tmp_path, cell, said):
    path = notebook(tmp_path / "ann.ipynb", cell)
    (mark,) = mark_notebook(path, tmp_path, seconds=3)
    assert not mark.passed and said in mark.message


def test_notebooks_have_no_network_and_limited_memory(tmp_path):
    cell = """import socket
def guidance(conditional, null, scale):
    try:
        socket.create_connection(("127.0.0.1", 9))
    except OSError as error:
        reached = str(error)
    try:
        bytearray(8 << 30)
    except MemoryError:
        reached += ", no memory"
    raise ValueError(reached)"""
    (mark,) = mark_notebook(notebook(tmp_path / "ann.ipynb", cell), tmp_path)
    assert "exercises run without network, no memory" in mark.message


WAYS_OUT = """
import asyncio, ctypes, importlib, multiprocessing, os, socket, subprocess, sys, urllib.request
import _posixsubprocess, _socket
here = ("127.0.0.1", 9)
udp = lambda module=socket: module.socket(socket.AF_INET, socket.SOCK_DGRAM)
def fresh():
    del sys.modules["socket"]
    return importlib.import_module("socket")
def own_library():
    open("own.so", "wb").write(b"x")
    ctypes.CDLL("./own.so")
WAYS = {
    "udp": lambda: udp().sendto(b"x", here),
    "udp message": lambda: udp().sendmsg([b"x"], [], 0, here),
    "udp connection": lambda: udp().connect(here),
    "tcp": lambda: socket.create_connection(here),
    "tcp quietly": lambda: socket.socket().connect_ex(here),
    "server": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "local": lambda: socket.socket(socket.AF_UNIX).connect("/run/x"),
    "names": lambda: socket.getaddrinfo("localhost", 80),
    "old names": lambda: socket.gethostbyname("localhost"),
    "c module": lambda: udp(_socket).sendto(b"x", here),
    "imported again": lambda: udp(fresh()).sendto(b"x", here),
    "web": lambda: urllib.request.urlopen("http://127.0.0.1:9"),
    "asyncio": lambda: asyncio.run(asyncio.open_connection(*here)),
    "program": lambda: subprocess.run(["true"]),
    "shell": lambda: os.system("true"),
    "pipe": lambda: os.popen("true"),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "replaced": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "worker": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
    "below subprocess": lambda: _posixsubprocess.fork_exec(),
    "c function": lambda: ctypes.CDLL(None).sendto,
    "c shell": lambda: ctypes.PyDLL(None)["system"],
    "own library": own_library,
    "parent": lambda: os.kill(os.getppid(), 0),
}
def guidance(conditional, null, scale):
    open_ways = []
    for name, way in WAYS.items():
        try:
            way()
        except OSError as error:
            if "exercises run without" not in str(error):
                open_ways.append(name + repr(error))
        else:
            open_ways.append(name)
    import numpy.fft, sqlite3, matplotlib.pyplot
    asyncio.run(asyncio.sleep(0))
    raise ValueError("open: " + str(open_ways))
"""


def test_no_way_leads_out_of_a_notebook(tmp_path):
    (mark,) = mark_notebook(notebook(tmp_path / "ann.ipynb", WAYS_OUT), tmp_path)
    assert "open: []" in mark.message, mark.message


def test_a_result_that_a_notebook_wrote_over_ends_nothing(tmp_path):
    for text in ("{", "7", "[[1]]", "[" * 100_000):
        cell = f"import os; open('../result.json', 'w').write({text!r}); os._exit(0)"
        (mark,) = mark_notebook(notebook(tmp_path / "ann.ipynb", cell), tmp_path)
        assert not mark.passed and mark.message == "it wrote over its result"


def test_marks_hold_no_formulas(tmp_path):
    texts = ["=1+1", "+1", "-1", "@A1", "\t=1", " =1", "\uff1d1", "a;=1", "a\n=1", "\r-1"]
    harmless = ["guidance: expected -1, not +1", "a=b", "x@y", "3 - 2", ""]
    write_marks([Mark(text, text, text, True, text) for text in texts + harmless], str(tmp_path / "marks.csv"))
    with open(tmp_path / "marks.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))[1:]
    for row, text in zip(rows, texts + harmless, strict=True):
        for cell in row[:3] + row[4:]:
            assert cell.replace("'", "", 1) == text and ("'" in cell) == (text in texts)
            for part in re.split(r"[;\t\r\n]", cell):
                assert not part.strip().startswith(("=", "+", "-", "@", "\uff1d"))


@pytest.mark.parametrize("make", [lambda p: str(p / "nowhere"), lambda p: str(p)])
def test_nothing_to_mark(tmp_path, capsys, make):
    assert main([make(tmp_path)]) == 2
    assert "error:" in capsys.readouterr().err


def test_magics_are_left_out():
    assert plain_python("%matplotlib inline\nx = 1\n    !ls\ny = x % 2") == "pass\nx = 1\n    pass\ny = x % 2"
    assert plain_python("%%time\nx = 1") == "x = 1"
    assert plain_python("%%bash\nrm x") == ""
