"""The script behind docs/reliability.md: it runs each part that is there and prints its rows as one table."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parent.parent / "scripts" / "fuzz"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(FUZZ))
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("fuzz_run", FUZZ / "run.py")  # other scripts are called run as well
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_long_use_of_a_process_at_a_tiny_scale(run, quad, tmp_path, monkeypatch, capsys):
    """The codec's part with one call after the warm-up, of a tiny model, in a process of its own."""
    soak = importlib.import_module("soak")
    monkeypatch.setenv("SOAK_MODEL", str(quad.write(tmp_path / "quad")))
    monkeypatch.setenv("MINDMUSICGEN_CACHE", "0")
    monkeypatch.setattr(soak, "COUNTS", {"codec": 200})
    run.main(["--scale", "0.005", "--only", "soak"])
    first, _, head, line, row = capsys.readouterr().out.strip().split("\n")
    assert "mindspore" in first and "cores" in first and first.endswith("scale 0.005")
    assert head.count("|") == line.count("|") == row.count("|") == 5
    assert "encode and decode" in row and "| 1 |" in row and "MB: at most" in row
    assert row.endswith("`python scripts/fuzz/soak.py codec 1 0` |")


def test_every_part_has_rows(run):
    parts = run.available()
    assert {"soak", "audio_files", "kills"} <= set(parts) <= set(run.PARTS)
    for name in parts:
        module = importlib.import_module(name)
        assert callable(module.rows) and "scale" in module.rows.__doc__


def test_rows_become_cells(run):
    lines = list(run.table([("a | b", 3, "two\nlines", "python x.py")]))
    assert lines[2] == "| a \\| b | 3 | two lines | `python x.py` |"


@pytest.mark.parametrize("words", [["--scale", "0"], ["--scale", "2"], ["--only", "weather"]])
def test_what_makes_no_sense_is_refused(run, words, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(words)
    assert ended.value.code == 2 and words[1] in capsys.readouterr().err
