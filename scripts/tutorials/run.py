"""Execute notebooks, each in a kernel of its own and in an empty folder, without network.

    python scripts/tutorials/run.py [NOTEBOOK ...] [--seconds 90] [--kernels 1]

Without names: every lesson and every solution of an exercise. Exits with 1 if a cell fails, or with --silent
prints to standard error, or a notebook takes longer than its seconds, and says which. Needs
`pip install -e ".[tutorials]"`.
"""

import argparse
import functools
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]


def notebooks():
    """All that have to run: gaps for students (exercises/ without solutions) are left out."""
    found = sorted((ROOT / "tutorials").rglob("*.ipynb"))
    kept = [path for path in found if "exercises" not in path.parts or "solution" in str(path.relative_to(ROOT))]
    return [path for path in kept if ".ipynb_checkpoints" not in path.parts]


def hidden_tests(path):
    """The hidden tests of a stored notebook, from the lesson or exercise that it was made of."""
    from build import tests_of  # which executes with this module

    language = path.relative_to(ROOT / "tutorials").parts[0]
    sources = (ROOT / "scripts" / folder / f"{path.stem}.md" for folder in ("tutorials/lessons", "exercises"))
    return next((tests_of(source, language) for source in sources if source.is_file()), {})


def execute(notebook, name, seconds, tests=None, silent=False):
    """Run all cells of a notebook in place.

    Args:
        notebook (nbformat.NotebookNode): what to run; its outputs are replaced.
        name (str): for messages.
        seconds (float): how long it may take in all.
        tests (dict): number of a cell, counted from 0, to code that runs behind it and leaves nothing in the notebook.
        silent (bool): whether what prints to standard error fails.

    Returns:
        float: the seconds it took.

    Raises:
        RuntimeError: naming the notebook and the cell that failed, printed to standard error, or was running when time
            was up.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started = time.monotonic()
    running = None

    def note(cell, cell_index):
        nonlocal running
        running = cell_index

    def left(cell):
        return max(seconds - (time.monotonic() - started), 0.1)

    whole, tests = notebook, tests or {}
    notebook = nbformat.from_dict({**whole, "cells": []})
    for index, cell in enumerate(whole.cells):
        notebook.cells.append(cell)
        if index in tests:
            notebook.cells.append(new_code_cell(tests[index], metadata={"hidden": index}))

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout_func=left,
            on_cell_start=note,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=environment())
        except CellExecutionError as error:
            reason = f"{error.ename}: {error.evalue}".splitlines()[0]
            raise RuntimeError(f"{place(name, notebook, running)} failed: {reason}") from error
        except (CellTimeoutError, DeadKernelError) as error:
            what = f"was still running after {seconds} s" if isinstance(error, CellTimeoutError) else "ended the kernel"
            raise RuntimeError(f"{place(name, notebook, running)} {what}") from error
    for number, cell in enumerate((cell for cell in whole.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number  # as if no test had run between
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = number
    for index, line in complaints(notebook).items() if silent else ():
        raise RuntimeError(f"{place(name, notebook, index)} prints to standard error: {line!r}")
    return time.monotonic() - started


def complaints(notebook):
    """The first line that each cell of an executed notebook printed to standard error, by the cell's index."""
    found = {}
    for index, cell in enumerate(notebook.cells):
        said = "".join(output["text"] for output in cell.get("outputs", ()) if output.get("name") == "stderr").strip()
        if said:
            found[index] = said.splitlines()[0][:200]
    return found


def environment():
    """The kernel's environment: this checkout first, and no hub."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HF_HUB_OFFLINE": "1",
    }


def place(name, notebook, index):
    """The name of a cell: its notebook, its number and its first line."""
    if index is None:
        return f"{name}: the kernel"
    cell = notebook.cells[index]
    hidden = cell.metadata.get("hidden")
    if hidden is not None:
        return f"{name}: the test behind cell {hidden + 1}"
    number = index + 1 - sum("hidden" in earlier.metadata for earlier in notebook.cells[:index])
    return f"{name}: cell {number} ({cell.source.strip().splitlines()[0]!r})"


def verdict(path, seconds, silent):
    """Run the notebook of a file, which stays as it is; whether it passed. Prints how long it took or what failed."""
    name = os.path.relpath(path, ROOT)
    try:
        tests = hidden_tests(path) if path.is_relative_to(ROOT / "tutorials") else {}
        taken = execute(nbformat.read(path, as_version=4), name, seconds, tests, silent)
    except RuntimeError as error:
        print(f"FAILED {error}", flush=True)
        return False
    print(f"{name}: {taken:.1f} s", flush=True)
    return True


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="what to run (all)")
    parser.add_argument("--seconds", type=float, default=90, help="how long each may take (90)")
    parser.add_argument("--silent", action="store_true", help="nothing may print to standard error")
    parser.add_argument("--kernels", type=int, default=1, help="notebooks that run at the same time (1)")
    chosen = parser.parse_args(arguments)
    paths = [path.resolve() for path in chosen.notebooks] or notebooks()
    with ThreadPoolExecutor(max(chosen.kernels, 1)) as pool:
        passed = list(pool.map(functools.partial(verdict, seconds=chosen.seconds, silent=chosen.silent), paths))
    print(f"{sum(passed)} passed, {len(paths) - sum(passed)} failed")
    return 0 if passed and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
