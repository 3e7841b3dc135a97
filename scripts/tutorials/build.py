"""Make the notebooks of tutorials/en and tutorials/zh from the lessons beside this file, which hold both languages.

    python scripts/tutorials/build.py [LESSON ...]      executes them too, and keeps their outputs
    python scripts/tutorials/build.py --check           says which notebooks are not what their lesson says

A lesson is Markdown with a line before each cell: `<!-- en -->`, `<!-- zh -->` or `<!-- code -->`. In code a string or
comment of the form `English ‖ 中文` becomes one or the other; everything else is the same in both languages.
`<!-- test -->` stands before code that runs behind the cell above and is kept out of the notebook: it holds what the
text says of the outputs.
"""

import argparse
import base64
import io
import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from run import complaints, execute

ROOT = Path(__file__).resolve().parents[2]
LESSONS = Path(__file__).resolve().parent / "lessons"
LANGUAGES = ("en", "zh")
MARK = re.compile(r"^<!-- (en|zh|code|test) -->\n", re.MULTILINE)
TEXT = re.compile(r"""("[^"\n]*"|'[^'\n]*'|# [^\n]*)""")  # strings and comments; no string of a lesson holds a quote
MACHINE_PATH = re.compile(r"(/root/|/work/|/tmp/|/home/|/Users/|site-packages|ipykernel_\d)")
CHINESE = "\u3000-\u9fff\uff00-\uffef"
SOFT_BREAK = re.compile(f"(?<=[{CHINESE}*])\\n *(?=[{CHINESE}*])")
LARGEST = 600_000  # bytes of a notebook


def parts_of(lesson, language):
    """(kind, source) of each cell of a lesson and of each hidden test: "code", "markdown" or "test".

    Args:
        lesson (Path): the Markdown file.
        language (str): "en" or "zh".
    """
    parts = MARK.split(lesson.read_text(encoding="utf-8"))[1:]
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        text = text.strip()
        if mark in ("code", "test"):
            code = text.removeprefix("```python\n").removesuffix("\n```")
            yield mark, TEXT.sub(lambda match: spoken(match[0], language), code)
        elif mark == language:  # a line break would show as a space between Chinese characters
            yield "markdown", SOFT_BREAK.sub("", text)


def cells_of(lesson, language):
    """(kind, source) of each cell of a lesson in one language; kind is "code" or "markdown"."""
    return [part for part in parts_of(lesson, language) if part[0] != "test"]


def tests_of(lesson, language):
    """The hidden tests of a lesson: the number of the cell that each runs behind, counted from 0, to its code."""
    tests, cells = {}, 0
    for kind, text in parts_of(lesson, language):
        if kind == "test":
            tests[cells - 1] = text
        cells += kind != "test"
    return tests


def spoken(text, language):
    """A string or comment in one language."""
    if " ‖ " not in text:
        return text
    first, last = ("# ", "") if text.startswith("#") else (text[0], text[0])
    return first + text.removeprefix(first).removesuffix(last).split(" ‖ ")[LANGUAGES.index(language)] + last


def path_of(lesson, language):
    """Where the notebook of a lesson lies."""
    return ROOT / "tutorials" / language / f"{lesson.stem}.ipynb"


def notebook_of(lesson, language):
    """A notebook without outputs."""
    makers = {"code": new_code_cell, "markdown": new_markdown_cell}
    cells = [
        makers[kind](source, id=f"cell-{number:02}")
        for number, (kind, source) in enumerate(cells_of(lesson, language), 1)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def clean(notebook):
    """Leave of the outputs what is worth keeping: no progress bars, small pictures."""
    notebook.metadata = {name: notebook.metadata[name] for name in ("kernelspec", "language_info")}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                continue
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
            kept.append(output)
        cell.outputs = kept


def smaller(png):
    """A PNG in base64 with at most 256 colours."""
    from PIL import Image

    made = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(made, format="PNG", optimize=True)
    return base64.b64encode(made.getvalue()).decode()


def problems(lesson):
    """What is wrong with the stored notebooks of a lesson, a sentence each."""
    for language in LANGUAGES:
        path = path_of(lesson, language)
        name = f"tutorials/{language}/{path.name}"
        if not path.is_file():
            yield f"{name} does not exist; run scripts/tutorials/build.py {lesson.stem}"
            continue
        text = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(text, as_version=4)
        stored = [(cell.cell_type, cell.source) for cell in notebook.cells]
        if stored != cells_of(lesson, language):
            yield f"{name} is not what its lesson says; run scripts/tutorials/build.py {lesson.stem}"
        found = MACHINE_PATH.search(text)
        if found:
            yield f"{name} holds a path of some machine: {text[found.start() : found.start() + 60]!r}"
        if len(text.encode()) > LARGEST:
            yield f"{name} has {len(text.encode()):,} bytes; at most {LARGEST:,} are meant"
        if any(cell.cell_type == "code" and cell.execution_count is None for cell in notebook.cells):
            yield f"{name} was not executed"
        yield from (f"{name} prints to standard error: {line!r}" for line in complaints(notebook).values())


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 01_unconditional (all)")
    parser.add_argument("--check", action="store_true", help="change nothing, say what is out of date")
    parser.add_argument("--seconds", type=float, default=600, help="how long each may take (600)")
    parser.add_argument("--language", choices=LANGUAGES, help="one alone (both)")
    chosen = parser.parse_args(arguments)
    lessons = sorted(LESSONS.glob("*.md"))
    lessons = [lesson for lesson in lessons if not chosen.lessons or lesson.stem in chosen.lessons]
    if chosen.check:
        wrong = [sentence for lesson in lessons for sentence in problems(lesson)]
        print("\n".join(wrong) or f"{len(lessons)} lessons are up to date")
        return 1 if wrong else 0
    for lesson in lessons:
        for language in [chosen.language] if chosen.language else LANGUAGES:
            path, notebook = path_of(lesson, language), notebook_of(lesson, language)
            try:
                tests = tests_of(lesson, language)
                taken = execute(notebook, f"{language}/{path.name}", chosen.seconds, tests, silent=True)
            except RuntimeError as error:
                print(f"FAILED {error}", file=sys.stderr)
                return 1
            clean(notebook)
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, path)
            print(f"{language}/{path.name}: {taken:.1f} s, {path.stat().st_size:,} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
