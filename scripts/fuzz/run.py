"""All that docs/reliability.md tells of, again: the table, from what this machine does now.

python scripts/fuzz/run.py                           # the long form, hours
python scripts/fuzz/run.py --scale 0.01              # a hundredth of each, minutes
python scripts/fuzz/run.py --only kills --only soak  # some of it
"""

import argparse
import importlib
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
PARTS = ("checkpoints", "audio_files", "kills", "threads", "soak")


def available():
    """The parts that are there."""
    return [name for name in PARTS if (Path(__file__).parent / f"{name}.py").exists()]


def circumstances():
    """Date, versions and machine in words."""
    versions = [f"{name} {metadata.version(name)}" for name in ("mindspore", "transformers", "numpy")]
    python = f"Python {platform.python_version()}"
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    return f"{time.strftime('%Y-%m-%d')}; {python}, {', '.join(versions)}; {machine}"


def table(rows):
    """Lines of a Markdown table."""
    yield "| tried | times | came out | again with |"
    yield "|---|---|---|---|"
    for what, count, came, command in rows:
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in (what, count, came)]
        yield f"| {' | '.join(cells)} | `{command}` |"


def main(arguments=None):
    """The command: prints the table, row by row as they are made."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="part of the long form, above 0 to 1 (default 1)")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be given several times")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.scale <= 1:
        parser.error(f"--scale is {chosen.scale:g}; expected above 0, at most 1")
    os.environ.setdefault("GLOG_v", "4")
    print(f"{circumstances()}; scale {chosen.scale:g}\n")
    header = True
    for name in chosen.only or available():
        lines = list(table(importlib.import_module(name).rows(chosen.scale)))
        print("\n".join(lines if header else lines[2:]), flush=True)
        header = False


if __name__ == "__main__":
    main()
