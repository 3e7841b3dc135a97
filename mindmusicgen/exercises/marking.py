"""Marks a folder of students' notebooks.

Every notebook runs in a process of its own, with a time limit, in an empty folder, and without network and other
programs as far as Python can keep it from them (see `guard`). That protects the marker from mistakes, not from malice:
it runs the students' code as the user who calls it, and that code may read and write files. Notebooks of strangers
belong into a container or virtual machine without network.
"""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass
from json import load
from pathlib import Path

from ..errors import InputError
from ..runtime.files import whole_file

COLUMNS = ("student", "notebook", "exercise", "passed", "message")
SECONDS = 300.0  # for a notebook
FORMULA = re.compile(r"((?:^|[;\t\r\n])[\s\0]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "MPLBACKEND": "Agg", "GLOG_v": "4"}


@dataclass(frozen=True)
class Mark:
    """One exercise in one notebook; `exercise` is empty where the notebook could not be marked at all."""

    student: str
    notebook: str
    exercise: str
    passed: bool
    message: str


def notebooks(folder):
    """The notebooks below a folder, without what Jupyter keeps for itself.

    Raises:
        InputError: if there are none.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is not a folder; give one that holds the students' notebooks")
    found = sorted(
        path
        for path in Path(folder).rglob("*.ipynb")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise InputError(f"{folder} holds no notebooks; expected files ending in .ipynb, also in folders below")
    return found


def student_of(path, folder):
    """Whose notebook it is: the first folder below, or else the file's name."""
    parts = Path(path).relative_to(folder).parts
    return parts[0] if len(parts) > 1 else Path(path).stem


def mark_notebook(path, folder, language="en", seconds=SECONDS):
    """The marks of one notebook.

    Args:
        path (Path): the notebook.
        folder (str): the folder of all.
        language (str): of the messages, "en" or "zh".
        seconds (float): how long it may run.

    Returns:
        list[Mark]: at least one.
    """
    student, name = student_of(path, folder), str(Path(path).relative_to(folder))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        result, empty = os.path.join(place, "result.json"), os.path.join(place, "work")
        os.mkdir(empty)
        problem = _run(os.path.abspath(path), result, empty, language, seconds)
        if problem is None:
            try:
                with open(result, encoding="utf-8") as file:
                    entries = [(str(entry[0]), entry[1] is True, str(entry[2])) for entry in load(file)]
            except (OSError, ValueError, TypeError, LookupError, RecursionError):
                entries, problem = [], "it wrote over its result"
            if entries:
                return [Mark(student, name, *entry) for entry in entries]
            problem = problem or "it holds no exercise of this course"
    return [Mark(student, name, "", False, problem)]


def _run(path, result, folder, language, seconds):
    """Run the worker; what went wrong, or None."""
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", path, result, language],
            cwd=folder,
            env=os.environ | OFFLINE | {"PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = worker.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"it was still running after {seconds:g} s and was stopped"
        finally:
            _end(worker)
        if os.path.exists(result):
            return None
        errors.seek(0, os.SEEK_END)
        errors.seek(max(errors.tell() - 2000, 0))
        lines = errors.read().decode(errors="replace").strip().splitlines()
    if code < 0:
        return f"it made Python crash ({signal.Signals(-code).name})"
    return f"it ended with exit code {code}" + (f": {lines[-1][:300]}" if code and lines else "")


def _end(worker):
    """End a worker and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _cell(value):
    """A value as a cell of a table. What a spreadsheet would compute (=...) is marked as text by an apostrophe.

    Also behind what some spreadsheets take for the end of a cell, in spite of its quotation marks.
    """
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def write_marks(marks, path):
    """Write a table with a row for each exercise of each notebook.

    The mark at its start makes Excel read Chinese; a text that would be a formula there begins with an apostrophe.

    Args:
        marks (Sequence[Mark]): from `mark_notebook`.
        path (str): a .csv file.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with whole_file(path) as partial, open(partial, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([_cell(value) for value in astuple(mark)] for mark in marks)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose a file you may write to") from error


def summary(marks):
    """A line for each student: how many exercises passed, and which did not."""
    lines = []
    for student in dict.fromkeys(mark.student for mark in marks):
        own = [mark for mark in marks if mark.student == student]
        passed = {mark.exercise for mark in own if mark.passed}
        failed = dict.fromkeys(mark.exercise or mark.notebook for mark in own if not mark.passed)
        failed = [name for name in failed if name not in passed]
        missing = f"; not yet: {', '.join(failed)}" if failed else ""
        lines.append(f"{student}: {len(passed)} of {len(passed) + len(failed)}{missing}")
    return "\n".join(lines)
