"""Make the exercise notebooks and their solutions, in English and in Chinese, from the Markdown beside this file.

    python scripts/exercises/make.py [EXERCISE ...]     executes the solutions too, and keeps their outputs
    python scripts/exercises/make.py --check            says which notebooks are not what their source says

A source is written as a lesson is (scripts/tutorials/build.py). What stands in a code cell between `### BEGIN SOLUTION`
and `### END SOLUTION` is the solution; the exercise has a gap there. In a text cell it is the answer to a question,
which the exercise leaves out.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "scripts" / "tutorials"))
from build import LANGUAGES, LARGEST, MACHINE_PATH, cells_of, clean, tests_of  # noqa: E402

SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION(?:\n|\Z)", re.MULTILINE | re.DOTALL)
GAP = {"en": "...  # your code", "zh": "...  # 在这里写你的代码"}
KINDS = ("exercises", "solutions")


def cells(source, language, kind):
    """(kind, source) of each cell of an exercise, or of its solution."""
    gaps = {"code": rf"\1{GAP[language]}\n", "markdown": ""}
    return [
        (cell, SOLUTION.sub(r"\2" if kind == "solutions" else gaps[cell], text).rstrip())
        for cell, text in cells_of(source, language)
    ]


def path_of(source, language, kind):
    """Where a notebook lies."""
    return ROOT / "tutorials" / language / kind / f"{source.stem}.ipynb"


def notebook_of(source, language, kind):
    """A notebook without outputs."""
    makers = {"code": new_code_cell, "markdown": new_markdown_cell}
    made = [
        makers[cell](text, id=f"cell-{number:02}")
        for number, (cell, text) in enumerate(cells(source, language, kind), 1)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=made, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def problems(source):
    """What is wrong with the stored notebooks of an exercise, a sentence each."""
    for language in LANGUAGES:
        for kind in KINDS:
            path = path_of(source, language, kind)
            name = path.relative_to(ROOT)
            if not path.is_file():
                yield f"{name} does not exist; run scripts/exercises/make.py {source.stem}"
                continue
            text = path.read_text(encoding="utf-8")
            notebook = nbformat.reads(text, as_version=4)
            if [(cell.cell_type, cell.source) for cell in notebook.cells] != cells(source, language, kind):
                yield f"{name} is not what its source says; run scripts/exercises/make.py {source.stem}"
            if MACHINE_PATH.search(text):
                yield f"{name} holds a path of some machine"
            if len(text.encode()) > LARGEST:
                yield f"{name} has {len(text.encode()):,} bytes; at most {LARGEST:,} are meant"
            run = [cell.execution_count is not None for cell in notebook.cells if cell.cell_type == "code"]
            if kind == "solutions" and not all(run):
                yield f"{name} was not executed"


def make(source, language, kind, seconds):
    """Write one notebook; a solution is executed."""
    path, notebook = path_of(source, language, kind), notebook_of(source, language, kind)
    taken = ""
    if kind == "solutions":
        from run import execute

        tests = tests_of(source, language)
        taken = f"{execute(notebook, str(path.relative_to(ROOT)), seconds, tests):.1f} s, "
    clean(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    print(f"{path.relative_to(ROOT)}: {taken}{path.stat().st_size:,} bytes", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help="such as 01_delay_pattern (all)")
    parser.add_argument("--check", action="store_true", help="change nothing, say what is out of date")
    parser.add_argument("--seconds", type=float, default=300, help="how long each solution may take (300)")
    parser.add_argument("--language", choices=LANGUAGES, help="one alone (both)")
    chosen = parser.parse_args(arguments)
    sources = sorted(HERE.glob("[0-9]*.md"))
    sources = [source for source in sources if not chosen.exercises or source.stem in chosen.exercises]
    if chosen.check:
        wrong = [sentence for source in sources for sentence in problems(source)]
        print("\n".join(wrong) or f"{len(sources)} exercises are up to date")
        return 1 if wrong else 0
    for source in sources:
        for language in [chosen.language] if chosen.language else LANGUAGES:
            for kind in KINDS:
                make(source, language, kind, chosen.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
