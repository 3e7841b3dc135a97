"""Speed and memory of mindmusicgen beside transformers on torch, float32, on this machine's CPU.

    python scripts/benchmark/benchmark.py [--model FOLDER] [--rounds 3] [--quick] [--json FILE]

Needs mindmusicgen[parity]. Every measurement runs in a process of its own, ours and torch's in turn, so that memory,
thread pools and compiled graphs of one do not touch the other. How to read the table: README.md in this folder.
"""

import argparse
import contextlib
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

THIS = str(Path(__file__).resolve())
PROMPT = "happy 80s pop track with bassy drums"
STEPS = 25  # decode steps in a block, which is one sample; ours runs them in one call, as generate does
SHORT, LONG = 254, 1504  # columns of a 5 s and of a 30 s clip, the start column included
CODEC_FRAMES = 500
SAMPLING = {"do_sample": True, "guidance_scale": 3.0, "top_k": 50}
SIDES = ("ours", "torch")
CPUS = len(os.sched_getaffinity(0))
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


class Clock:
    """Seconds and highest resident memory (1e9 bytes) since the process was started, split at marks."""

    def __init__(self):
        self.start = self.last = float(os.environ["BENCHMARK_STARTED"])  # CLOCK_MONOTONIC: one clock for all processes
        self.parts = {}

    def mark(self, name):
        now, status = time.monotonic(), Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9  # ru_maxrss would count the parent's memory
        self.parts |= {f"{name}_seconds": now - self.last, f"{name}_peak": peak}
        self.last = now
        return now - self.start


def timed(function, times, per=1.0, warm=False):
    """Seconds (divided by `per`) of each of `times` calls, after one that does not count unless `warm`."""
    marks = [time.perf_counter()]
    for _ in range(times if warm else times + 1):
        function()
        marks.append(time.perf_counter())
    return [(after - before) / per for before, after in itertools.pairwise(marks)][-times:]


class Ours:
    """The measured operations, on mindmusicgen."""

    def __init__(self, folder, clock):
        import mindspore
        import numpy

        from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor

        clock.mark("import")
        self.ms, self.np = mindspore, numpy
        self.model = MusicgenForConditionalGeneration.from_pretrained(folder)
        self.processor = MusicgenProcessor.from_pretrained(folder)
        clock.mark("load")
        self.config = self.model.config

    def clip(self):
        return self.model.generate(**self.processor(PROMPT), max_new_tokens=SHORT - 1, **SAMPLING).asnumpy()

    def codec(self):
        codes = self.np.random.default_rng(0).integers(0, self.config.decoder.vocab_size, (1, 4, CODEC_FRAMES))
        return lambda: self.model.decode(codes).asnumpy()

    def graphs(self, prompts, columns, mark=lambda name: None):
        """The graphs `generate` would use for guided prompts, conditioned on them."""
        inputs = self.processor([PROMPT] * prompts)
        request, _, _ = self.model._request(*inputs.values(), {"max_new_tokens": columns - 1, **SAMPLING})
        request.states.asnumpy()
        mark("text")
        graphs, _ = self.model._generator.conditioned(request, columns, 0)
        graphs.state.cross_mask.asnumpy()
        mark("condition")
        return graphs

    def chunk(self, graphs, position, steps):
        """Run `steps` sampled decode steps in one call, as the decode loop does."""
        from mindmusicgen.generation.decode_loop import CHUNK
        from mindmusicgen.generation.delay_pattern import FREE

        np, tensor = self.np, self.ms.Tensor
        shape = (CHUNK, graphs.prompts, self.config.decoder.num_codebooks)
        knobs = [np.array([1], np.float32), np.array([SAMPLING["top_k"]], np.int32), np.array([2], np.float32)]
        scales = np.full(CHUNK, SAMPLING["guidance_scale"], np.float32)
        column, place = np.full(shape[1:], self.model.pad_code, np.int32), np.array([position], np.int32)
        forced, uniforms = np.full(shape, FREE, np.int32), np.random.default_rng(0).random(shape, np.float32)
        knobs = self.ms.mutable(tuple(tensor(knob) for knob in knobs))  # a plain tuple would be compiled in
        numbers = (tensor(forced), tensor(uniforms), tensor(scales), knobs)
        made = graphs.chunk(tensor(column), tensor(place), tensor(steps, self.ms.int32), *numbers)
        return [part.asnumpy() for part in made]

    def block(self, position, prompts, columns):
        graphs = self.graphs(prompts, columns)
        rng = self.np.random.default_rng(0)
        for buffer in map(self.ms.Parameter.asnumpy, graphs.state.cache):
            if buffer.dtype == self.np.uint8:
                buffer[...] = rng.integers(1, 256, buffer.shape, self.np.uint8)
            elif buffer.ndim == 3:  # the scales of a cache of 8 bits
                buffer[...] = 1 / 64
            else:
                buffer[...] = rng.standard_normal(buffer.shape, self.np.float32)
        return lambda: self.chunk(graphs, position, STEPS)

    def first_token(self, mark):
        self.chunk(self.graphs(1, SHORT, mark), 0, 1)
        return mark("chunk")


class Torch:
    """The measured operations, on transformers and torch."""

    def __init__(self, folder, clock):
        import torch
        from transformers import AutoTokenizer, MusicgenForConditionalGeneration
        from transformers.utils import logging

        torch.set_num_threads(CPUS)
        logging.set_verbosity_error()
        clock.mark("import")
        self.torch = torch
        self.model = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        clock.mark("load")
        self.config = self.model.config
        torch.set_grad_enabled(False)

    def inputs(self, prompts=1):
        return self.tokenizer([PROMPT] * prompts, return_tensors="pt", return_token_type_ids=False)

    def clip(self):
        return self.model.generate(**self.inputs(), max_new_tokens=SHORT - 1, **SAMPLING).numpy()

    def codec(self):
        codes = self.torch.randint(0, self.config.decoder.vocab_size, (1, 1, 4, CODEC_FRAMES))
        return lambda: self.model.audio_encoder.decode(codes, [None]).audio_values

    def block(self, position, prompts, columns):
        """Cached forwards of the whole model after `position` columns, and the choice generate() makes."""
        from transformers import ClassifierFreeGuidanceLogitsProcessor, EncoderDecoderCache, TopKLogitsWarper
        from transformers.cache_utils import DynamicCache

        torch, decoder, inputs = self.torch, self.config.decoder, self.inputs(prompts)
        guide = ClassifierFreeGuidanceLogitsProcessor(SAMPLING["guidance_scale"])
        keep = TopKLogitsWarper(SAMPLING["top_k"])
        states, mask = self.model.text_encoder(**inputs).last_hidden_state, inputs["attention_mask"]
        shared = {
            "encoder_outputs": (torch.cat((states, torch.zeros_like(states))),),
            "attention_mask": torch.cat((mask, torch.zeros_like(mask))),
            "past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache()),
            "use_cache": True,
        }
        ids = torch.randint(0, decoder.vocab_size, (2 * prompts * decoder.num_codebooks, position))
        self.model(decoder_input_ids=ids, **shared)

        def run():
            shared["past_key_values"].crop(position)
            column = ids[:, -1:]
            for _ in range(STEPS):
                logits = self.model(decoder_input_ids=column, **shared).logits[:, -1]
                scores = keep(None, guide(ids[: len(ids) // 2], logits))
                column = torch.multinomial(torch.softmax(scores, -1), 1).repeat(2, 1)

        return run

    def first_token(self, mark):
        def stop(*_, **__):
            raise StopIteration

        with contextlib.suppress(StopIteration):  # the criteria are asked after every token
            self.model.generate(**self.inputs(), max_new_tokens=SHORT - 1, stopping_criteria=[stop], **SAMPLING)
        return mark("generate")


def work(side, task, folder, quick):
    """The child process: one measurement, its samples as one line of JSON."""
    if task == "kernels":
        return print("RESULT", json.dumps({"kernels": kernels()}), flush=True)
    clock = Clock()
    measured = {"ours": Ours, "torch": Torch}[side](folder, clock)
    if task in STEP_TASKS:
        found = {task: timed(measured.block(*STEP_TASKS[task]), 2 if quick else 4, per=STEPS / 1000)}
    elif task == "codec":
        found = {"codec": timed(measured.codec(), 2 if quick else 5)}
    elif task == "clip":
        measured.clip()
        found = {"clip_cold": [clock.mark("clip")], "clip_warm": timed(measured.clip, 1 if quick else 2, warm=True)}
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


def child(arguments, folder):
    """Run this file again with arguments; returns what it found."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths))  # the child's working folder is another
    environment |= {"MINDMUSICGEN_THREADS": str(CPUS), "MINDMUSICGEN_CACHE": "0", "MS_COMPILER_CACHE_ENABLE": "0"}
    environment["HF_HUB_OFFLINE"] = "1"
    environment["BENCHMARK_STARTED"] = str(time.monotonic())
    command = [sys.executable, *arguments]  # run() kills it when Ctrl-C interrupts the wait
    process = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{process.stderr[-3000:]}")
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(lines[-1][7:]) if lines else {}


def machine():
    """What the numbers depend on."""
    cpu = "".join(Path("/proc/cpuinfo").read_text().split("model name")[1:2]).split("\n")[0].strip("\t: ")
    versions = {name: importlib.metadata.version(name) for name in ("mindspore", "torch", "transformers", "numpy")}
    return {"cpu": cpu or "unknown CPU", "cpus": CPUS, "load": os.getloadavg()[0], "versions": versions}


def measure(model, rounds, quick, folder):
    """All rounds: a list of {side, task, round, samples, parts}; the side that goes first alternates."""
    results = []
    for turn in range(rounds):
        for task, side in itertools.product(TASKS, SIDES if turn % 2 == 0 else SIDES[::-1]):
            print(f"round {turn + 1} of {rounds}: {task}, {side} ...", end=" ", file=sys.stderr, flush=True)
            begin = time.monotonic()
            found = child([THIS, "--work", side, task, "--model", model, *(["--quick"] if quick else [])], folder)
            results.append({"side": side, "task": task, "round": turn, **found})
            medians = ", ".join(f"{name} {statistics.median(values):.4g}" for name, values in found["samples"].items())
            print(f"{medians} (took {time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
    return results


def summarise(results, side, name):
    """Median of the rounds' medians, smallest sample, largest sample of a measurement."""
    rounds = [r["samples"][name] for r in results if r["side"] == side and name in r["samples"]]
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
        facts = machine()
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed; pip install 'mindmusicgen[parity]'") from error
    facts |= child([THIS, "--work", "ours", "kernels"], folder)
    model = os.path.abspath(arguments.model or os.path.join(folder, "model"))
    if arguments.model is None:
        print("building a full-size musicgen-small with random weights ...", file=sys.stderr, flush=True)
        child([str(Path(THIS).parents[1] / "random_checkpoint.py"), "--size", "small", "--output", model], folder)
    results = measure(model, arguments.rounds, arguments.quick, folder)
    summary = {side: {name: summarise(results, side, name) for name, _, _ in ROWS} for side in SIDES}
    print(f"{facts['cpu']}, {CPUS} CPUs, load average {facts['load']:.1f} at the start")
    print(
        *(f"{name} {version}" for name, version in facts["versions"].items()), f"kernels {facts['kernels']}", sep=", "
    )
    print(f"model: {arguments.model or 'random weights'}, float32; rounds: {arguments.rounds}\n")
    print("\n".join((*table(summary), "", *details(results))))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": facts, "results": results}, indent=1))


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
    folder = tempfile.mkdtemp(prefix="mindmusicgen-benchmark-")
    try:
        report(arguments, folder)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
