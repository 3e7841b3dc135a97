"""How long mindmusicgen takes from the start of a process to its first codes and its first clip, and with what memory.

    python scripts/benchmark/start.py --model FOLDER [--rounds 3] [--json FILE]

FOLDER is a Hugging Face folder of musicgen-small (`scripts/random_checkpoint.py --size small` makes one), or one that
`mindmusicgen convert --quantization int8` wrote. Every start is a process of its own, in turn: with an empty cache of
compiled graphs, and with the one that the process before it has filled. `--quantization int8` rounds while reading.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmark import child, in_folder, machine
from sides import TEN_SECONDS, Clock, Ours

THIS = str(Path(__file__).resolve())
PARTS = {"first": ("import", "load", "text", "condition", "chunk"), "clip": ("import", "load", "clip", "again")}
CACHES = ("empty", "filled")


def work(task, folder, quantization):
    """The child: seconds and highest memory at each mark, as a line of JSON."""
    clock = Clock()
    ours = Ours(folder, clock, quantization)
    if task == "first":
        ours.first_token(clock.mark)
    for mark in ("clip", "again") if task == "clip" else ():
        ours.clip(TEN_SECONDS)
        clock.mark(mark)
    print("RESULT", json.dumps(clock.parts), flush=True)


def samples(task, parts):
    """What is kept of a start: {measurement: [value]}."""
    seconds = {name: parts[f"{name}_seconds"] for name in PARTS[task]}
    if task == "first":
        return {"first_codes": [sum(seconds.values())], "first_codes_peak": [parts["chunk_peak"]]}
    found = {"first_clip": [sum(seconds.values()) - seconds["again"]], "load_peak": [parts["load_peak"]]}
    return found | {"first_clip_peak": [parts["clip_peak"]], "second_clip_peak": [parts["again_peak"]]}


def table(results):
    """Medians of the rounds, as lines of text."""
    yield f"{'':32}" + "".join(f"{f'{cache} cache':>16}" for cache in CACHES)
    for task, parts in PARTS.items():
        found = {cache: [r for r in results if (r["side"], r["task"]) == (cache, task)] for cache in CACHES}
        if not all(found.values()):
            continue
        rows = [(f"{task}: {name}", "s", lambda r, name=name: r["parts"][f"{name}_seconds"]) for name in parts]
        for name in found[CACHES[0]][0]["samples"]:
            unit = "GB" if name.endswith("peak") else "s"
            rows.append((name.replace("_", " "), unit, lambda r, name=name: r["samples"][name][0]))
        for what, unit, value in rows:
            values = [statistics.median(map(value, found[cache])) for cache in CACHES]
            yield f"{what}, {unit}".ljust(32) + "".join(f"{value:>16.2f}" for value in values)


def report(arguments, folder):
    """Start in turn, print the table, write the JSON."""
    facts, results = machine(("mindspore", "transformers", "numpy")), []
    options = ["--model", os.path.abspath(arguments.model)]
    options += ["--quantization", arguments.quantization] if arguments.quantization else []
    for turn, task in itertools.product(range(arguments.rounds), arguments.tasks):
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            for side in CACHES:
                # An installed torch, which transformers would import, is left out, as the command line does.
                parts = child([THIS, "--work", task, *options], folder, MINDMUSICGEN_CACHE=cache, USE_TORCH="0")
                found = samples(task, parts)
                results.append({"side": side, "task": task, "round": turn, "samples": found, "parts": parts})
                said = ", ".join(f"{name} {values[0]:.2f}" for name, values in found.items())
                print(f"round {turn + 1}, {side} cache: {said}", file=sys.stderr, flush=True)
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, load average {facts['load']:.1f} at the start")
    print("\n".join(table(results)))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": facts, "results": results}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--quantization", choices=("int8",), help="round the weights of a float folder while reading")
    parser.add_argument("--rounds", type=int, default=3, help="starts with each cache (3)")
    parser.add_argument("--json", metavar="FILE", help="also write machine and all samples to a file")
    parser.add_argument("--tasks", nargs="+", choices=PARTS, default=list(PARTS), help="what to start for (all)")
    parser.add_argument("--work", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work, arguments.model, arguments.quantization)
    arguments.rounds = max(arguments.rounds, 1)
    return in_folder(lambda folder: report(arguments, folder))


if __name__ == "__main__":
    sys.exit(main())
