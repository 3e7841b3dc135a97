"""`python -m mindmusicgen.exercises FOLDER`: mark the notebooks in a folder."""

import argparse
import sys

from ..errors import InputError
from ..runtime.telling import patient_streams, tell
from .marking import SECONDS, mark_notebook, notebooks, summary, write_marks


def main(argv=None):
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mindmusicgen.exercises",
        description="Mark students' notebooks. This runs their code, as you, on this computer. It is kept from the "
        "network and from other programs as far as Python can, which stops mistakes, not malice: it may read and write "
        "your files. Mark notebooks of strangers in a container without network.",
    )
    parser.add_argument("folder", help="a folder with a notebook, or a folder of notebooks, for each student")
    parser.add_argument("--output", default="marks.csv", help="table to write, a row for each exercise (marks.csv)")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the messages (en)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"that a notebook may run ({SECONDS:g})")
    arguments = parser.parse_args(argv)
    with patient_streams():
        return _mark(arguments)


def _mark(arguments):
    try:
        marks = []
        for path in notebooks(arguments.folder):
            for mark in mark_notebook(path, arguments.folder, arguments.language, arguments.seconds):
                marks.append(mark)
                tell(f"{'✓' if mark.passed else '✗'} {mark.notebook} {mark.exercise}")
        write_marks(marks, arguments.output)
    except InputError as error:
        tell(f"mindmusicgen.exercises: error: {error}", error=True)
        return 2
    for line in summary(marks).split("\n"):
        tell(line)
    tell(f"{arguments.output}: {len(marks)} marks with what to tell the students")
    return 0


if __name__ == "__main__":
    sys.exit(main())
