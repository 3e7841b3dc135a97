"""Keep what benchmarks found, so that a slowdown shows.

    python scripts/benchmark/history.py add NAME FILE.json   # NAME: of the benchmark; FILE.json: what its --json wrote
    python scripts/benchmark/history.py show [NAME ...]      # the newest run beside the best one before it

A run is kept in docs/performance/history.json as its date, commit, machine and the median of each side's measurements.
Machines differ and their speed changes, so runs are compared by the ratio of a side to torch in the same run, or by the
plain value where torch did not take part, and only with runs on the same CPU. `show` exits with 1 if something got
slower.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import benchmark

HISTORY = Path(__file__).resolve().parents[2] / "docs" / "performance" / "history.json"
PEER = "torch"
TOLERANCE = 1.15  # ratios of one run move by a tenth from day to day


def read(path=HISTORY):
    """The runs that were kept, oldest first."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def medians(results):
    """{side: {measurement: median of the rounds' medians}} of a benchmark's results."""
    names = {(result["side"], name) for result in results for name in result["samples"]}
    found = {}
    for side, name in sorted(names):
        found.setdefault(side, {})[name] = float(f"{benchmark.summarise(results, side, name)[0]:.4g}")
    return found


def run_of(name, measured, commit, date):
    """One run as it is kept.

    Args:
        name (str): which benchmark.
        measured (dict): `machine` and `results`, as the benchmarks' --json writes them.
        commit, date (str): of the code, and of the day.

    Returns:
        dict: name, date, commit, machine and medians.
    """
    machine = {key: measured["machine"].get(key) for key in ("cpu", "cpus", "versions", "bandwidth")}
    kept = {key: value for key, value in machine.items() if value}
    return {"name": name, "date": date, "commit": commit, "machine": kept, "medians": medians(measured["results"])}


def compared(run):
    """{(side, measurement): (value, whether it is a ratio to torch's)}; less is better."""
    peer = run["medians"].get(PEER, {})
    return {
        (side, name): (value / peer[name], True) if peer.get(name) else (value, False)
        for side, values in run["medians"].items()
        if side != PEER
        for name, value in values.items()
    }


def changes(runs):
    """Compare the last of the runs of one benchmark with those before it.

    Returns:
        list[tuple]: side, measurement, whether it is a ratio, value, best value before and its run, or None twice.
    """
    last = runs[-1]
    before = [(run, compared(run)) for run in runs[:-1] if run["machine"].get("cpu") == last["machine"].get("cpu")]
    rows = []
    for (side, name), (value, ratio) in compared(last).items():
        known = [(found[side, name][0], run) for run, found in before if found.get((side, name), (0, None))[1] is ratio]
        best, where = min(known, key=lambda pair: pair[0]) if known else (None, None)
        rows.append((side, name, ratio, value, best, where))
    return rows


def show(runs, names):
    """Print each benchmark's last run beside the best before it; whether nothing got slower."""
    good = True
    for name in names or sorted({run["name"] for run in runs}):
        own = [run for run in runs if run["name"] == name]
        if not own:
            raise SystemExit(f"no run of {name!r} is kept; there are {sorted({run['name'] for run in runs})}")
        print(f"{name}: {own[-1]['date']}, {own[-1]['commit']}, {own[-1]['machine'].get('cpu')}")
        for side, what, ratio, value, best, where in changes(own):
            line = f"  {side:10} {what:20} {value:9.4g}{' of torch' if ratio else '':9}"
            if best is not None:
                slower = value > best * TOLERANCE
                good = good and not slower
                line += f"  best before {best:.4g} ({where['date']}, {where['commit']}){'  SLOWER' if slower else ''}"
            print(line)
    return good


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--history", type=Path, default=HISTORY, help="the file that runs are kept in")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="keep a run")
    adding.add_argument("name")
    adding.add_argument("file", type=Path)
    showing = commands.add_parser("show", help="the newest runs beside the best before them")
    showing.add_argument("names", nargs="*")
    arguments = parser.parse_args(words)
    runs = read(arguments.history)
    if arguments.command == "show":
        return 0 if show(runs, arguments.names) else 1
    measured = json.loads(arguments.file.read_text(encoding="utf-8"))
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "not a checkout of git"
    runs.append(run_of(arguments.name, measured, commit, measured["machine"].get("date") or time.strftime("%Y-%m-%d")))
    arguments.history.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
