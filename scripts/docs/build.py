"""The API reference as HTML pages, made by pdoc from the docstrings.

    pip install -e ".[docs]"
    python scripts/docs/build.py --output api      # then open api/index.html

A page for `mindmusicgen`, whose public names are all on it, for each module that programs import besides, and for the
modules of base classes, so that what a class inherits is a link and not a gap.
"""

import argparse
import inspect
import os
from pathlib import Path

MODULES = (
    "mindmusicgen.bark.mindir.runtime",
    "mindmusicgen.display",
    "mindmusicgen.errors",
    "mindmusicgen.exercises",
    "mindmusicgen.musicgen.mindir.runtime",
    "mindmusicgen.notebook",
    "mindmusicgen.musicgen.training.finetune",
)


def public():
    """{name: object} of `mindmusicgen.__all__`, set as attributes, where pdoc looks: they are imported on first use."""
    import mindmusicgen

    names = {name: getattr(mindmusicgen, name) for name in mindmusicgen.__all__}
    vars(mindmusicgen).update(names)
    return names


def pages(names):
    """Names of the modules that get a page."""
    classes = [value for value in names.values() if inspect.isclass(value)]
    bases = {base.__module__ for one in classes for base in one.__mro__}
    return ["mindmusicgen", *sorted({*MODULES, *(module for module in bases if module.startswith("mindmusicgen."))})]


def build(output):
    """Write the pages into the folder `output`."""
    import pdoc

    modules = pages(public())
    pdoc.render.configure(docformat="google", show_source=False, search=False)
    # The name of a package alone would bring a page for everything in it.
    pdoc.pdoc("mindmusicgen", r"!mindmusicgen\..+", *modules[1:], output_directory=Path(output))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder to write")
    output = parser.parse_args().output
    os.environ.setdefault("USE_TORCH", "0")  # transformers would import an installed torch for nothing
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    build(output)
    print(f"{output}/index.html")


if __name__ == "__main__":
    main()
