"""Runs one student's notebook, in the process that `marking` starts for it, and writes down what was found.

The functions are checked after all cells have run, with the checker of this package: what the notebook's own check
cells say, and whether they are still there, does not matter.
"""

import json
import linecache
import os
import re
import sys

from ..runtime.files import whole_file
from .catalogue import EXERCISES
from .checker import examine
from .guard import keep_inside
from .running import Failure, guarded

CELL_SECONDS = 60.0  # for one cell
MEMORY = 6 << 30  # bytes that a notebook may ask for
FILE = 1 << 28  # bytes that a file it writes may have
ASKED = re.compile(r"""check\(\s*["'](\w+)["']""")


def code_cells(notebook):
    """The source of the code cells of a notebook file.

    Raises:
        ValueError: if it is none.
    """
    with open(notebook, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    return ["".join(source) if isinstance(source, list) else source for source in sources]


def plain_python(source):
    """A cell without what only IPython knows: %magics and !commands are left out."""
    if source.startswith("%%"):
        name, _, rest = source.partition("\n")
        return rest if name.split()[0] in ("%%time", "%%timeit", "%%capture") else ""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def run_cells(sources):
    """Run all cells, whatever each does, and return the names they defined."""
    names = {"__name__": "__main__", "display": lambda *_, **__: None}
    for number, source in enumerate(sources, 1):
        source, path = plain_python(source), f"<cell {number}>"
        linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
        try:
            with guarded(CELL_SECONDS):
                exec(compile(source, path, "exec"), names)
        except Failure:
            continue
    return names


def limit_memory():
    """Refuse memory and files far beyond what an exercise needs, where the system can."""
    try:
        import resource
    except ImportError:
        return
    for kind, size in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_FSIZE, FILE)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def main(notebook, result, language):
    """Write [exercise, passed, message] of every exercise of a notebook into a JSON file."""
    sources = code_cells(notebook)
    names = run_cells(sources)
    asked = set(ASKED.findall("\n".join(sources)))
    found = []
    for name in EXERCISES:
        if name in asked or callable(names.get(name)):
            outcome = examine(name, names.get(name), language)
            found.append([name, outcome.passed, outcome.message])
    with whole_file(result) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    keep_inside()
    limit_memory()
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # threads that a notebook left behind are not waited for
