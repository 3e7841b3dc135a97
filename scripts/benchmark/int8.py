"""Decode steps with int8 weights beside float32, on mindmusicgen and on transformers with torch, on this machine's CPU.

    python scripts/benchmark/int8.py --model FOLDER [--converted FOLDER] [--rounds 2] [--tasks step_50 clip ...]

FOLDER: Hugging Face layout, musicgen-small's sizes. --converted: what `mindmusicgen convert --quantize int8` made of
it; without it one is made in a temporary folder. Four sides: float32 and int8 of mindmusicgen, float32 and
`quantize_dynamic` int8 of torch. Every measurement runs in a process of its own, in turn; see README.md.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import benchmark
from benchmark import CPUS, LONG, PROMPT, SAMPLING, STEPS, Clock, Ours, Torch, child, timed

THIS = str(Path(__file__).resolve())
TEN_SECONDS = 504  # columns of a 10 s clip, the start column included
STEP_TASKS = {  # position, prompts, columns the buffers are made for
    "step_50": (50, 1, TEN_SECONDS),
    "step_250": (250, 1, TEN_SECONDS),
    "step_100_long": (100, 1, LONG),
    "step_50_long": (50, 1, LONG),
    "step_1400": (1400, 1, LONG),
    "step_1450": (1450, 1, LONG),
    "step_100_batch4": (100, 4, TEN_SECONDS),
}
TASKS = (*STEP_TASKS, "clip")
ROWS = {
    "step_50": "step at 50, 10 s clip, ms",
    "step_250": "step at 250, 10 s clip, ms",
    "loop": "whole decode loop of 10 s, per step, ms",
    "step_50_long": "step at 50, 30 s clip, ms",
    "step_100_long": "step at 100, 30 s clip, ms",
    "step_1400": "step at 1400, 30 s clip, ms",
    "step_1450": "step at 1450, 30 s clip, ms",
    "step_100_batch4": "step at 100, 4 prompts, ms",
    "clip_seconds": "generate() of 10 s, second time, s",
    "clip_peak": "peak memory of the 10 s clip, GB",
}


class Int8(Ours):
    """Ours; the folder is a converted one."""

    def loop(self):
        """Seconds of the decode loop of 10 s without text encoder and codec, per step."""
        inputs = self.processor([PROMPT])
        request, _, _ = self.model._request(
            *inputs.values(), {"max_new_tokens": TEN_SECONDS - 1, "seed": 0, **SAMPLING}
        )
        begin = time.perf_counter()
        for _ in self.model._generate_codes(request, None, False):
            pass
        return (time.perf_counter() - begin) / (TEN_SECONDS - 1)

    def whole(self):
        begin = time.perf_counter()
        self.model.generate(**self.processor(PROMPT), max_new_tokens=TEN_SECONDS - 1, seed=0, **SAMPLING).asnumpy()
        return time.perf_counter() - begin


class TorchInt8(Torch):
    """torch with the decoder's linear layers in int8, activations quantised as they come."""

    def __init__(self, folder, clock):
        super().__init__(folder, clock)
        import torch

        self.model.decoder = torch.ao.quantization.quantize_dynamic(self.model.decoder, {torch.nn.Linear}, torch.qint8)


SIDES = {"float32": Int8, "int8": Int8, "torch": Torch, "torch int8": TorchInt8}


def work(side, task, folder, samples):
    """The child process: one measurement, as one line of JSON."""
    clock = Clock()
    measured = SIDES[side](folder, clock)
    if task in STEP_TASKS:
        found = {task: [1000 * t for t in timed(measured.block(*STEP_TASKS[task]), samples, per=STEPS)]}
    else:
        measured.whole()
        clock.mark("clip")
        found = {"clip_peak": [clock.parts["clip_peak"]], "clip_seconds": [measured.whole()]}
        found["loop"] = [1000 * measured.loop() for _ in range(2)]
    print("RESULT", json.dumps(found), flush=True)


def measure(arguments, converted, folder):
    """All rounds: dict of (side, measurement) to the medians of the rounds."""
    found = {}
    for turn in range(arguments.rounds):
        order = list(arguments.sides) if turn % 2 == 0 else list(arguments.sides)[::-1]
        for task, side in itertools.product(arguments.tasks, order):
            if task == "clip" and side.startswith("torch"):
                continue
            model = converted if side == "int8" else arguments.model
            call = [THIS, "--work", side, task, "--model", model, "--samples", str(arguments.samples)]
            for name, values in child(call, folder).items():
                found.setdefault((side, name), []).append(statistics.median(values))
                print(f"round {turn + 1}: {side}, {name}: {values}", file=sys.stderr, flush=True)
    return {key: statistics.median(values) for key, values in found.items()}


def report(arguments, folder):
    arguments.model = os.path.abspath(arguments.model)
    converted = os.path.abspath(arguments.converted or os.path.join(folder, "int8"))
    if arguments.converted is None:
        child(["-m", "mindmusicgen", "convert", arguments.model, "--quantize", "int8", "--output", converted], folder)
    load, found = os.getloadavg()[0], measure(arguments, converted, folder)
    print(f"{benchmark.machine()['cpu']}, {CPUS} CPUs, load average {load:.1f} at the start; {arguments.model}")
    print(f"{'':42}" + "".join(f"{side:>12}" for side in arguments.sides))
    for name, text in ROWS.items():
        values = [found.get((side, name)) for side in arguments.sides]
        if any(value is not None for value in values):
            print(f"{text:42}" + "".join(f"{'-' if v is None else format(v, '.3g'):>12}" for v in values))
    if arguments.json:
        numbers = [{"side": side, "name": name, "value": value} for (side, name), value in found.items()]
        Path(arguments.json).write_text(json.dumps(numbers, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--converted", help="int8 folder made of it by mindmusicgen convert")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4, help="blocks of 25 steps in each process (4)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", metavar="FILE", help="also write the medians to a file")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, arguments.model, arguments.samples)
    with tempfile.TemporaryDirectory(prefix="mindmusicgen-int8-") as folder:
        report(arguments, folder)


if __name__ == "__main__":
    sys.exit(main())
