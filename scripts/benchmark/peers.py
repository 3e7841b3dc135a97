"""mindmusicgen beside the other ways to run MusicGen on this machine's CPU, on the same folder, turn by turn.

    python scripts/benchmark/peers.py --model FOLDER [--rounds 3] [--tasks TASK ...] [--sides SIDE ...]
                                      [--json FILE] [--plot FILE.png] [--files FOLDER] [--venvs FOLDER]
    python scripts/benchmark/peers.py --model FOLDER --together [--tasks step_250] [--rounds 9] ...

FOLDER: Hugging Face layout, mono. Every measurement runs in a process of its own; which side goes first changes every
round. With --together, for the tasks step_*, all sides are kept ready and take turns block by block, seconds apart: on
a machine whose speed changes from minute to minute only such ratios can be trusted. The peers get virtual environments
of their own, made with pip when they are missing. How to read the table: docs/performance.md.
"""

import argparse
import contextlib
import fnmatch
import functools
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import benchmark
from openvino_side import HUGE_PAGES, OpenVINO, OpenVINO128, OpenVINO512, OpenVINOFloat32
from sides import CPUS, LONG, STEPS, TEN_SECONDS, Clock, Ours, Stopwatch, Torch, TorchInt8, timed

THIS = str(Path(__file__).resolve())
ORACLE = ("torch==2.13.0", "transformers==4.57.6")
ENVIRONMENTS = {"torch": ORACLE, "openvino": ("openvino>=2026.4", "nncf", *ORACLE)}
SIDES = {  # name: (class, virtual environment or None for this one, more environment variables)
    "float32": (Ours, None, {"USE_TORCH": "0"}),  # torch is no requirement of ours, and takes memory when imported
    "int8": (Ours, None, {"USE_TORCH": "0"}),
    "int4": (Ours, None, {"USE_TORCH": "0"}),
    "torch": (Torch, "torch", {}),
    "torch int8": (TorchInt8, "torch", {}),
    "openvino": (OpenVINO, "openvino", {}),
    "openvino f32": (OpenVINOFloat32, "openvino", {}),
    "openvino 128": (OpenVINO128, "openvino", HUGE_PAGES),
    "openvino 512": (OpenVINO512, "openvino", HUGE_PAGES),
}
OPENVINO = [side for side in SIDES if side.startswith("openvino")]
QUANTIZED = ("int8", "int4")  # ours, from folders that `convert` makes
BASE = "int8"  # what the ratios are to
STEP_TASKS = {  # position, prompts, columns the buffers are made for
    "step_50": (50, 1, TEN_SECONDS),
    "step_250": (250, 1, TEN_SECONDS),
    "step_500": (475, 1, TEN_SECONDS),  # the last of a 10 s clip
    "step_1450": (1450, 1, LONG),
    "step_50_batch4": (50, 4, TEN_SECONDS),
    "step_50_batch8": (50, 8, TEN_SECONDS),
}
CLIPS = {"clip": TEN_SECONDS, "clip_30": LONG}
TASKS = {**dict.fromkeys(STEP_TASKS, "block"), "codec": "codec", **dict.fromkeys(CLIPS, "clip"), "stream": "stream"}
TASKS |= {"start": "first_token", "start_cached": "first_token", "error": "error"}  # task: the method it needs
WITHOUT_CACHE = ("torch", "torch int8")  # nothing is compiled there
ROWS = {  # measurement: (text, unit)
    "step_50": ("decode step at 50 to 74", "ms"),
    "step_250": ("decode step at 250 to 274", "ms"),
    "step_500": ("decode step at 475 to 499", "ms"),
    "loop": ("decode step, mean over a 10 s clip", "ms"),
    "step_1450": ("decode step at 1450 to 1474", "ms"),
    "loop_30": ("decode step, mean over a 30 s clip", "ms"),
    "step_50_batch4": ("decode step at 50, 4 prompts", "ms"),
    "step_50_batch8": ("decode step at 50, 8 prompts", "ms"),
    "codec": ("EnCodec decode of 10 s", "s"),
    "clip": ("10 s clip, text to audio", "s"),
    "clip_30": ("30 s clip, text to audio", "s"),
    "stream": ("text to the first second of audio, streamed", "s"),
    "start": ("process start to first token", "s"),
    "start_cached": ("the same, compiled before", "s"),
    "clip_peak": ("peak memory, 10 s clip", "GB"),
    "clip_30_peak": ("peak memory, 30 s clip", "GB"),
    "error": ("largest error of logits, its weights", ""),
    "error_float32": ("the same with float32 weights and cache", ""),
}
TARGETS = (  # (what, side and measurement, divided by what or a number, at most); "openvino*": the best of these
    ("int8 step over 10 s, ms", ("int8", "loop"), 1, 20.0),
    ("int8, seconds of work for a second of a 10 s clip", ("int8", "clip"), 10, 1.0),
    ("int4 step at 250 / int8's", ("int4", "step_250"), ("int8", "step_250"), 11 / 17),
    ("int8 step with 8 prompts / with 1", ("int8", "step_50_batch8"), ("int8", "step_50"), 2.2),
    ("int8 step over 10 s / torch's", ("int8", "loop"), ("torch", "loop"), 1 / 3.5),
    ("int8 step over 10 s / torch int8's", ("int8", "loop"), ("torch int8", "loop"), 1 / 1.8),
    ("int8 step over 10 s / OpenVINO's best", ("int8", "loop"), ("openvino*", "loop"), 0.9),
    ("float32 step over 10 s / torch's", ("float32", "loop"), ("torch", "loop"), 0.95),
    ("EnCodec 10 s / torch's", ("int8", "codec"), ("torch", "codec"), 0.9),
    ("int8 step with 4 prompts / with 1", ("int8", "step_50_batch4"), ("int8", "step_50"), 1.8),
    ("int8 step at 1450 / at 50", ("int8", "step_1450"), ("int8", "step_50"), 1.3),
    ("int8 peak memory of 10 s, GB", ("int8", "clip_peak"), 1, 1.6),
    ("int8 process start to first token, compiled before, s", ("int8", "start_cached"), 1, 6.0),
)


def work(side, task, folder, samples):
    """The child process: one measurement, its samples as one line of JSON."""
    clock = Clock()
    measured = SIDES[side][0](folder, clock)
    if task in STEP_TASKS:
        block, before = measured.block(*STEP_TASKS[task])
        found = {task: timed(block, samples, per=STEPS / 1000, before=before)}
    elif task == "codec":
        found = {task: timed(measured.codec(), samples)}
    elif task == "stream":
        found = {task: timed(lambda: measured.stream(TEN_SECONDS), samples)}
    elif task == "error":
        found = {task: [measured.error("int8")], "error_float32": [measured.error("float32")]}
    elif task in CLIPS:
        found = clip(measured, task, clock)
    else:
        found = {task: [measured.first_token(clock.mark)]}
    found = {"samples": found, "parts": clock.parts, "versions": versions()}
    print("RESULT", json.dumps(found), flush=True)


def hold(side, task, folder):
    """The child process of --together: a block of steps for every line of standard input."""
    block, before = SIDES[side][0](folder, Clock()).block(*STEP_TASKS[task])

    def sample():
        return timed(block, 1, per=STEPS / 1000, warm=True, before=before)[0]

    sample()
    print("READY", flush=True)
    for _ in sys.stdin:
        print("SAMPLE", sample(), flush=True)


def versions():
    """Of the packages that this process could use."""
    found = {}
    for name in ("mindspore", "torch", "transformers", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def clip(measured, task, clock):
    """Seconds of a whole clip, milliseconds of its steps, peak memory; graphs are compiled before."""
    measured.clip(CLIPS[task], Stopwatch(stop_at=1))
    measured.codec()()
    watch = Stopwatch()
    seconds = timed(lambda: measured.clip(CLIPS[task], watch), 1, warm=True)
    clock.mark("clip")
    loop, peak = task.replace("clip", "loop"), clock.parts["clip_peak"]
    return {task: seconds, loop: [watch.milliseconds()], f"{task}_peak": [peak]}


def environment(name, folder):
    """The Python of a peer's virtual environment; made if it is missing or was not finished."""
    python, finished = Path(folder, name, "bin", "python"), Path(folder, name, "installed.txt")
    wanted = "\n".join(ENVIRONMENTS[name])
    if not finished.exists() or finished.read_text() != wanted:
        print(f"making {finished.parent} with {', '.join(ENVIRONMENTS[name])} ...", file=sys.stderr, flush=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", finished.parent],
            [python, "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]],
        ):
            if subprocess.run(command).returncode:
                raise SystemExit(f"{' '.join(map(str, command))} failed; --sides leaves out sides")
        finished.write_text(wanted)
    return str(python)


def prepare(sides, model, files, pythons, folder):
    """The folder each side reads; what is made of the model is made in `files`, or found there."""
    made_of = Path(files, "model.json")
    facts = json.dumps([model, sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in Path(model).iterdir())])
    if made_of.exists() and made_of.read_text() != facts:
        raise SystemExit(f"{files} holds files of another model than {model}; name a new folder with --files")
    Path(files).mkdir(parents=True, exist_ok=True)
    made_of.write_text(facts)
    convert = ["-m", "mindmusicgen", "convert", model, "--quantization"]
    steps = {bits: ([bits], [*convert, bits, "--output"], sys.executable) for bits in QUANTIZED}
    steps["openvino"] = (OPENVINO, [THIS, "--model", model, "--export"], pythons.get("openvino"))
    for name, (users, command, python) in steps.items():
        target = Path(files, name)
        if set(users) & set(sides) and not target.exists():
            print(f"making {target} ...", file=sys.stderr, flush=True)
            unfinished = Path(files, f"unfinished-{name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            benchmark.child([*command, str(unfinished)], folder, python)
            unfinished.rename(target)
    return {side: str(Path(files, side)) if side in QUANTIZED else model for side in sides}


def measure(arguments, files, folder):
    """All rounds, as a list of results."""
    sides = arguments.sides
    names = {SIDES[side][1] for side in sides} - {None}
    pythons = {name: environment(name, arguments.venvs) for name in sorted(names)}
    folders = prepare(sides, arguments.model, files, pythons, folder)
    cached = set()

    def run(side, task):
        kind, name, variables = SIDES[side]
        if not hasattr(kind, TASKS[task]) or (task == "start_cached" and side in WITHOUT_CACHE):
            return {"samples": {}}
        command = [THIS, "--work", side, task, "--model", folders[side], "--samples", str(arguments.samples)]
        variables = variables | {"BENCHMARK_OPENVINO": str(Path(files, "openvino"))}
        if task == "start_cached":
            cache = str(Path(folder, "cache", side))
            variables |= {"MINDMUSICGEN_CACHE": cache, "BENCHMARK_CACHE": cache}
        ask = functools.partial(benchmark.child, command, folder, pythons.get(name, sys.executable), **variables)
        if task == "start_cached" and side not in cached:
            ask()
            cached.add(side)
        return ask()

    return list(benchmark.measure(sides, arguments.tasks, arguments.rounds, run))


class Held:
    """A side that is ready for blocks of steps, and stopped while it is not its turn."""

    def __init__(self, command, folder, variables):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.process = subprocess.Popen(command, env=benchmark.environment(**variables), cwd=folder, **pipes)
        self.answer("READY")

    def answer(self, word):
        """What follows a word on a line of its output; afterwards the process is stopped."""
        for line in self.process.stdout:
            if line.startswith(word):
                self.process.send_signal(signal.SIGSTOP)
                return line[len(word) :]
        raise SystemExit(f"{' '.join(self.process.args)} ended without an answer; run it by hand to see why")

    def sample(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer("SAMPLE"))


def measure_together(arguments, files, folder):
    """All rounds of the step tasks, one sample a round and side, as a list of results."""
    sides, results = arguments.sides, []
    names = {SIDES[side][1] for side in sides} - {None}
    pythons = {name: environment(name, arguments.venvs) for name in sorted(names)}
    folders = prepare(sides, arguments.model, files, pythons, folder)
    for task in arguments.tasks:
        held = {}
        try:
            for side in sides:
                print(f"{task}: {side} gets ready ...", file=sys.stderr, flush=True)
                command = [pythons.get(SIDES[side][1], sys.executable), THIS, "--hold", side, task]
                variables = SIDES[side][2] | {"BENCHMARK_OPENVINO": str(Path(files, "openvino"))}
                held[side] = Held([*command, "--model", folders[side]], folder, variables)

            def run(side, task, held=held):
                return {"samples": {task: [held[side].sample()]}}

            results += benchmark.measure(sides, [task], arguments.rounds, run)
        finally:
            for side in held.values():
                side.process.kill()
                side.process.wait()
    return results


def bandwidth(size=1 << 26, times=5):
    """Bytes a second that CPUS threads read from memory together; numpy's maximum does little else."""
    import numpy

    parts = [numpy.ones(size, numpy.int64) for _ in range(CPUS)]

    def read():
        threads = [threading.Thread(target=part.max) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return 8 * size * CPUS / min(timed(read, times))


def step_weights(model):
    """How many weights a decode step reads; a layer's cross-attention has its keys and values from the text."""
    decoder = json.loads(Path(model, "config.json").read_text())["decoder"]
    width, vocabulary = decoder["hidden_size"], decoder["num_codebooks"] * decoder["vocab_size"]
    return decoder["num_hidden_layers"] * width * (6 * width + 2 * decoder["ffn_dim"]) + vocabulary * width


def medians(results):
    """{(side, measurement): median of the rounds' medians}"""
    pairs = [(side, name) for side in SIDES for name in ROWS]
    found = {pair: benchmark.summarise(results, *pair) for pair in pairs}
    return {pair: summary[0] for pair, summary in found.items() if summary}


def table(found):
    """Lines of Markdown: a row for each measurement; in brackets how many times the base's."""
    sides = [side for side in SIDES if any(side == s for s, _ in found)]

    def cell(side, name):
        value, base = found.get((side, name)), found.get((BASE, name))
        if value is None:
            return "-"
        return f"{value:.3g}" + (f" ({value / base:.2f})" if base and side != BASE else "")

    names = [name for name in ROWS if any(name == n for _, n in found)]
    rows = [["", "unit", *sides], *([*ROWS[name], *(cell(side, name) for side in sides)] for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)])
    for row in rows:
        padded = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        yield f"| {' | '.join(padded)} |"


def targets(found):
    """Lines of text: the targets of which all that is needed was measured."""

    def value(side, name):
        return min((v for (s, n), v in found.items() if n == name and fnmatch.fnmatch(s, side)), default=None)

    for text, measured, divisor, limit in TARGETS:
        parts = value(*measured), value(*divisor) if isinstance(divisor, tuple) else divisor
        if None not in parts:
            ratio = parts[0] / parts[1]
            yield f"{text:56}{limit:>8.3g}{ratio:>8.3g}  {'met' if ratio <= limit else 'MISSED'}"


def plot(found, facts, target):
    """Bars, a panel for each measurement."""
    from matplotlib.figure import Figure

    names = [name for name in ROWS if not name.startswith("error") and sum(n == name for _, n in found) > 1]
    figure = Figure(figsize=(11, 0.6 + 2.1 * -(-len(names) // 2)), layout="constrained")
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(-(-len(names) // 2), 2, place)
        sides = [side for side in SIDES if (side, name) in found][::-1]
        colours = ["tab:blue" if SIDES[side][0] is Ours else "tab:gray" for side in sides]
        axes.bar_label(axes.barh(sides, [found[side, name] for side in sides], color=colours), fmt="%.3g", padding=2)
        axes.set_title(f"{ROWS[name][0]}, {ROWS[name][1]}", fontsize=10)
        axes.margins(x=0.12)
        if name.startswith("loop"):
            axes.axvline(20, color="tab:red", linewidth=1)  # real time: 50 steps a second
    figure.suptitle(f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['date']}; less is better", fontsize=10)
    figure.savefig(target, format="png", dpi=100)


def report(arguments, folder):
    """Measure, print, write."""
    earlier = [json.loads(Path(file).read_text()) for file in arguments.earlier]
    results = [result for file in earlier for result in file["results"]]
    if arguments.rounds or not earlier:
        facts = benchmark.machine(()) | {"date": time.strftime("%Y-%m-%d"), "bandwidth": bandwidth()}
        facts["weights"] = step_weights(arguments.model)
        run = measure_together if arguments.together else measure
        results += run(arguments, arguments.files or str(Path(folder, "files")), folder)
    else:
        facts = earlier[0]["machine"]
    found = medians(results)
    if not found:
        return print("nothing was measured", file=sys.stderr)
    packages = {f"{name} {version}" for r in results for name, version in r.get("versions", {}).items()}
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, load average {facts['load']:.1f} at the start, {facts['date']}")
    print(", ".join(sorted(packages)))
    floors = [f"{bits} bits {facts['weights'] * bits / 8 / facts['bandwidth'] * 1e3:.1f} ms" for bits in (32, 16, 8)]
    read = f"{facts['weights'] / 1e6:.1f} M weights a step, read at {facts['bandwidth'] / 1e9:.1f} GB/s"
    print(f"floor: {read}: {', '.join(floors)}\n")
    print("\n".join(table(found)))
    if lines := list(targets(found)):
        print("\n".join(("", f"{'target':56}{'at most':>8}{'found':>8}", *lines)))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": facts, "results": results}, indent=1))
    if arguments.plot:
        plot(found, facts, arguments.plot)


def parse(words=None):
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mindmusicgen-peers")
    parser.add_argument("--model", required=True, help="a Hugging Face folder of a mono MusicGen")
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of every measurement (3; 0: prepare, or show --earlier)"
    )
    parser.add_argument("--samples", type=int, default=4, help="blocks of 25 steps in each process (4)")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)} (all but clip_30)"
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, metavar="SIDE", help=f"of {', '.join(SIDES)} (all)")
    parser.add_argument("--json", metavar="FILE", help="also write machine and all samples")
    parser.add_argument("--plot", metavar="FILE", help="also draw the medians, as .png")
    parser.add_argument(
        "--earlier", nargs="+", default=[], metavar="FILE", help="add the samples of earlier --json files"
    )
    parser.add_argument("--files", metavar="FOLDER", help="keep what is made of the model here, for the next run")
    parser.add_argument("--venvs", metavar="FOLDER", default=home, help=f"the peers' virtual environments ({home})")
    parser.add_argument("--together", action="store_true", help="step tasks only: the sides take turns block by block")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--hold", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--export", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    usual = ["step_250"] if arguments.together else [task for task in TASKS if task != "clip_30"]
    arguments.tasks = arguments.tasks or usual
    arguments.sides = arguments.sides or list(SIDES)
    for name in ("model", "files", "venvs"):
        if getattr(arguments, name):
            setattr(arguments, name, os.path.abspath(getattr(arguments, name)))
    if not Path(arguments.model, "config.json").is_file():
        parser.error(f"--model {arguments.model} has no config.json; give a Hugging Face folder of MusicGen")
    if arguments.together and not set(arguments.tasks) <= set(STEP_TASKS):
        parser.error(f"--together measures {', '.join(STEP_TASKS)}")
    if arguments.rounds < 0 or arguments.samples < 1:
        parser.error("--rounds is 0 or more, --samples 1 or more")
    return arguments


def main():
    arguments = parse()
    if arguments.work:
        return work(*arguments.work, arguments.model, arguments.samples)
    if arguments.hold:
        return hold(*arguments.hold, arguments.model)
    if arguments.export:
        import openvino_export

        return openvino_export.export(arguments.model, arguments.export)
    return benchmark.in_folder(lambda folder: report(arguments, folder))


if __name__ == "__main__":
    sys.exit(main())
