"""Speed and memory of mindmusicgen beside transformers on torch, float32, on this machine's CPU.

    python scripts/benchmark/benchmark.py [--model FOLDER] [--rounds 3] [--quick] [--json FILE]

Needs `pip install -e ".[parity]"`. Every measurement runs in a process of its own, ours and torch's in turn, so that
memory, thread pools and compiled graphs of one do not touch the other. How to read the table: README.md in this folder.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sides import CPUS, LONG, SHORT, STEPS, Clock, Ours, Torch, timed

THIS = str(Path(__file__).resolve())
SIDES = {"ours": Ours, "torch": Torch}
# task: (position, prompts, columns the buffers are made for); torch's cache is as long as what it holds
STEP_TASKS = {
    "step_100_short": (100, 1, SHORT),
    "step_100_long": (100, 1, LONG),
    "step_1400": (1400, 1, LONG),
    "step_100_batch4": (100, 4, SHORT),
}
TASKS = (*STEP_TASKS, "codec", "clip", "start")
ROWS = (  # (measurement, text, unit)
    ("step_100_short", "decode step at 100, buffers of a 5 s clip", "ms"),
    ("step_100_long", "decode step at 100, buffers of a 30 s clip", "ms"),
    ("step_1400", "decode step at 1400, buffers of a 30 s clip", "ms"),
    ("step_100_batch4", "decode step at 100, 4 prompts (8 rows)", "ms"),
    ("codec", "EnCodec decode of 10 s", "s"),
    ("clip_warm", "5 s clip, generate() again", "s"),
    ("clip_cold", "5 s clip, from process start", "s"),
    ("clip_peak", "peak memory of the 5 s clip", "GB"),
    ("start", "process start to first token", "s"),
)
TARGETS = (  # (what, side and measurement, divided by, at most)
    ("step at 100 / torch's, 5 s buffers", ("ours", "step_100_short"), ("torch", "step_100_short"), 1.15),
    ("step at 100 / torch's, 30 s buffers", ("ours", "step_100_long"), ("torch", "step_100_long"), 1.15),
    ("EnCodec 10 s / torch's", ("ours", "codec"), ("torch", "codec"), 1.2),
    ("our step at 1400 / at 100, 5 s buffers", ("ours", "step_1400"), ("ours", "step_100_short"), 1.3),
    ("our step at 1400 / at 100, 30 s buffers", ("ours", "step_1400"), ("ours", "step_100_long"), 1.3),
    ("peak memory of the 5 s clip, GB", ("ours", "clip_peak"), None, 4.0),
    ("process start to first token, s", ("ours", "start"), None, 25.0),
)


def work(side, task, folder, quick):
    """The child process: one measurement, its samples as one line of JSON."""
    if task == "kernels":
        return print("RESULT", json.dumps({"kernels": kernels()}), flush=True)
    clock = Clock()
    measured = SIDES[side](folder, clock)
    if task in STEP_TASKS:
        block, before = measured.block(*STEP_TASKS[task])
        found = {task: timed(block, 2 if quick else 4, per=STEPS / 1000, before=before)}
    elif task == "codec":
        found = {"codec": timed(measured.codec(), 2 if quick else 5)}
    elif task == "clip":
        measured.clip(SHORT)
        found = {"clip_cold": [clock.mark("clip")]}
        found["clip_warm"] = timed(lambda: measured.clip(SHORT), 1 if quick else 2, warm=True)
        clock.mark("again")
        found["clip_peak"] = [clock.parts["again_peak"]]
    else:
        found = {"start": [measured.first_token(clock.mark)]}
    return print("RESULT", json.dumps({"samples": found, "parts": clock.parts}), flush=True)


def kernels():
    """The C kernels' file or why they are not used, for a child: asking starts MindSpore."""
    try:
        from mindmusicgen.ops import native
    except ImportError:
        return "none in this version"
    return native.library_path() or f"off: {native.why_not()}"


def environment(**variables):
    """The environment of a child: all CPUs, no caches, no network."""
    made = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    made["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths))  # the child's working folder is another
    made |= {"MINDMUSICGEN_THREADS": str(CPUS), "MINDMUSICGEN_CACHE": "0", "MS_COMPILER_CACHE_ENABLE": "0"}
    return made | {"HF_HUB_OFFLINE": "1", "BENCHMARK_STARTED": str(time.monotonic())} | variables


def child(arguments, folder, python=sys.executable, **variables):
    """Run a script in a process of its own; returns the JSON of its line RESULT, {} without one."""
    command = [python, *arguments]  # run() kills it when Ctrl-C interrupts the wait
    process = subprocess.run(command, env=environment(**variables), cwd=folder, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{process.stderr[-3000:]}")
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(lines[-1][7:]) if lines else {}


def machine(packages):
    """What the numbers depend on."""
    cpu = "".join(Path("/proc/cpuinfo").read_text().split("model name")[1:2]).split("\n")[0].strip("\t: ")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"cpu": cpu or "unknown CPU", "cpus": CPUS, "load": os.getloadavg()[0], "versions": versions}


def measure(sides, tasks, rounds, run):
    """Yield {side, task, round, samples, ...} of each run(side, task); the side that goes first changes every round."""
    sides = list(sides)
    for turn in range(rounds):
        first = turn % len(sides)
        for task, side in itertools.product(tasks, sides[first:] + sides[:first]):
            print(f"round {turn + 1} of {rounds}: {task}, {side} ...", end=" ", file=sys.stderr, flush=True)
            begin = time.monotonic()
            found = run(side, task)
            medians = ", ".join(f"{name} {statistics.median(values):.4g}" for name, values in found["samples"].items())
            print(f"{medians} (took {time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
            yield {"side": side, "task": task, "round": turn, **found}


def summarise(results, side, name):
    """Median of the rounds' medians, smallest sample, largest sample of a measurement; None if there is none."""
    rounds = [r["samples"][name] for r in results if r["side"] == side and name in r["samples"]]
    if not rounds:
        return None
    return statistics.median(map(statistics.median, rounds)), min(map(min, rounds)), max(map(max, rounds))


def table(summary):
    """The measurements and the targets, as lines of text."""
    yield f"{'':44}{'unit':>5}{'ours':>9}{'torch':>9}{'ratio':>7}  {'ours min..max':>17}  {'torch min..max':>17}"
    for name, text, unit in ROWS:
        (ours, *ours_range), (torch, *torch_range) = summary["ours"][name], summary["torch"][name]
        spans = [f"{low:.4g}..{high:.4g}" for low, high in (ours_range, torch_range)]
        yield f"{text:44}{unit:>5}{ours:>9.4g}{torch:>9.4g}{ours / torch:>7.2f}  {spans[0]:>17}  {spans[1]:>17}"
    yield ""
    yield f"{'target':44}{'at most':>9}{'found':>9}"
    for text, (side, name), divisor, limit in TARGETS:
        found = summary[side][name][0] / (summary[divisor[0]][divisor[1]][0] if divisor else 1)
        yield f"{text:44}{limit:>9.4g}{found:>9.3g}  {'met' if found <= limit else 'MISSED'}"


def details(results):
    """Where start-up time and memory go: medians over the rounds."""
    kinds = (("start", "process start to first token, s", "_seconds"), ("clip", "peak memory so far, GB", "_peak"))
    for (task, what, suffix), side in itertools.product(kinds, SIDES):
        parts = [r["parts"] for r in results if r["side"] == side and r["task"] == task]
        medians = {n.removesuffix(suffix): statistics.median([p[n] for p in parts]) for n in parts[0] if suffix in n}
        yield f"{what}, {side}: " + ", ".join(f"{name} {value:.1f}" for name, value in medians.items())


def report(arguments, folder):
    """Measure everything, print the table, write the JSON."""
    try:
        facts = machine(("mindspore", "torch", "transformers", "numpy"))
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed; pip install -e '.[parity]'") from error
    facts |= child([THIS, "--work", "ours", "kernels"], folder)
    model = os.path.abspath(arguments.model or os.path.join(folder, "model"))
    if arguments.model is None:
        print("building a full-size musicgen-small with random weights ...", file=sys.stderr, flush=True)
        child([str(Path(THIS).parents[1] / "random_checkpoint.py"), "--size", "small", "--output", model], folder)

    def run(side, task):
        return child([THIS, "--work", side, task, "--model", model, *(["--quick"] if arguments.quick else [])], folder)

    results = list(measure(SIDES, TASKS, arguments.rounds, run))
    summary = {side: {name: summarise(results, side, name) for name, _, _ in ROWS} for side in SIDES}
    print(f"{facts['cpu']}, {CPUS} CPUs, load average {facts['load']:.1f} at the start")
    print(
        *(f"{name} {version}" for name, version in facts["versions"].items()), f"kernels {facts['kernels']}", sep=", "
    )
    print(f"model: {arguments.model or 'random weights'}, float32; rounds: {arguments.rounds}\n")
    print("\n".join((*table(summary), "", *details(results))))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": facts, "results": results}, indent=1))


def in_folder(function):
    """Call function(folder) with a folder for the time of the call; the exit status, 130 after Ctrl-C."""
    folder = tempfile.mkdtemp(prefix="mindmusicgen-benchmark-")
    try:
        return function(folder)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder with musicgen-small (default: a full-size one with random weights)")
    parser.add_argument("--rounds", type=int, help="turns of every measurement (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one round with fewer samples, to see that it works")
    parser.add_argument("--json", metavar="FILE", help="also write machine, summary and all samples to a file")
    parser.add_argument("--work", nargs=2, metavar=("SIDE", "TASK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, arguments.model, arguments.quick)
    arguments.rounds = max(arguments.rounds or (1 if arguments.quick else 3), 1)
    return in_folder(lambda folder: report(arguments, folder))


if __name__ == "__main__":
    sys.exit(main())
