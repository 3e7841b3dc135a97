"""Speed and memory of one Jukebox prior beside transformers on torch, on this machine's CPU: float32, int8, torch's.

    python scripts/benchmark/jukebox.py [--prior upsampler] [--rounds 2] [--quick] [--json FILE]

Needs `pip install -e ".[parity]"`. The prior is full-size with random weights, made in memory: 4 GB in float32. Every
side runs in a process of its own, in turn. How to read the table: README.md in this folder.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmark import child, machine, measure, summarise
from sides import CPUS, Clock, timed

THIS = str(Path(__file__).resolve())
SAMPLES = 8  # of the larger batch
PREFILL = 256
UPSAMPLER = {  # the published files' sizes
    "hidden_size": 1920,
    "num_layers": 72,
    "n_heads": 1,
    "n_ctx": 8192,
    "blocks": 128,
    "attention_pattern": "raw_column_previous_row_attention",
    "nb_relevant_lyric_tokens": 0,
    "is_encoder_decoder": False,
    "merged_decoder": False,
    "mask": True,
    "metadata_dims": [120, 4111],
    "max_nb_genres": 5,
    "res_conv_width": 1024,
    "res_conv_depth": 16,
    "res_dilation_growth_rate": 3,
    "res_dilation_cycle": 8,
}
TOP = {"mask": True, "merged_decoder": False, "lyric_vocab_size": 79, "min_duration": 17.84}
PRIORS = {"upsampler": (2, UPSAMPLER), "top": (0, TOP)}

ROWS = (  # (measurement, text, unit)
    ("step", "step, near the window's beginning", "ms"),
    ("late", "step, near its end", "ms"),
    ("batch", f"step of {SAMPLES} samples at once", "ms"),
    ("prefill", f"{PREFILL} known codes", "s"),
    ("begin", f"a window begun, with {PREFILL} codes", "s"),
    ("weights", "weights and buffers of one sample", "GB"),
    ("peak", "peak memory of the process", "GB"),
)


class Ours:
    """The measured operations, on mindmusicgen."""

    quantization = None

    def __init__(self, kind, clock):
        import mindspore
        import numpy

        from mindmusicgen.jukebox.config import JukeboxPriorConfig
        from mindmusicgen.jukebox.decode_loop import PriorGraphs
        from mindmusicgen.jukebox.prior import JukeboxPrior

        clock.mark("import")
        self.ms, self.np, self.graphs_of = mindspore, numpy, PriorGraphs
        level, sizes = PRIORS[kind]
        self.prior = JukeboxPrior(JukeboxPriorConfig(**sizes), level, quantization=self.quantization)
        self.fill()
        clock.mark("load")

    def fill(self):
        """Random weights: one block of numbers again and again, which costs as much to multiply with."""
        from mindmusicgen.checkpoint.rounding import rounding

        np = self.np
        block = np.random.default_rng(0).standard_normal(1 << 22, np.float32) * np.float32(0.02)
        stores = rounding(self.prior, {"": self.prior}, ("fc_proj_out", "lm_head")) if self.quantization else {}
        for name, parameter in self.prior.parameters_and_names():
            if name not in stores:
                values = parameter.asnumpy()
                values[...] = np.resize(block, values.shape) if values.ndim > 1 else "layer_norm" in name
        for shape, store in filter(None, stores.values()):
            store(np.resize(block, shape))

    def begin(self, graphs):
        """Take up a window that is about nothing."""
        from mindmusicgen.jukebox.labels import Window

        np, prior = self.np, self.prior
        zeros = np.zeros((1, 1), np.int32)
        many, lyrics = np.zeros((1, prior.n_ctx), np.int32), np.zeros((1, prior.lyrics), np.int32)
        timed_by = (None,) * 3 if prior.level else (zeros, many, many)
        window = Window(zeros[:, 0], zeros, lyrics, lyrics, *timed_by, 1, 0, 1)
        upper = np.zeros((1, prior.n_ctx // prior.cond_downsample), np.int32) if prior.level else None
        graphs.begin(window, upper, np.zeros((1, PREFILL), np.int32))

    def steps(self, graphs, position, times):
        from mindmusicgen.jukebox.decode_loop import CHUNK

        np, tensor = self.np, self.ms.Tensor
        filters = tuple(tensor(np.array([n], t)) for n, t in ((0.99, np.float32), (2000, np.int32), (2, np.float32)))
        ids, drawn = np.zeros(graphs.samples, np.int32), np.full((CHUNK, graphs.samples), 0.5, np.float32)
        position += self.prior.before

        def run():
            list(graphs.steps(ids, position, CHUNK, drawn, filters))

        return timed(run, times, CHUNK / 1000)

    def measure(self, times):
        graphs = self.graphs_of(self.prior, 1)
        found = {"step": self.steps(graphs, 0, times), "late": self.steps(graphs, self.prior.n_ctx - 64, times)}
        if self.quantization:
            found["batch"] = self.steps(self.graphs_of(self.prior, SAMPLES), 0, times)
        known = self.ms.Tensor(self.np.zeros((1, graphs.buckets[-1] * graphs.row), self.np.int32))
        length = self.ms.Tensor(self.np.array([self.prior.before + PREFILL], self.np.int32))
        found["prefill"] = timed(lambda: graphs.prefill(known, length).asnumpy(), max(times // 4, 1))
        return found

    def room(self):
        """Memory: what stays, and the peak of a window's beginning and some steps."""
        graphs = self.graphs_of(self.prior, 1)
        begin = time.perf_counter()
        self.begin(graphs)
        found = {"begin": [time.perf_counter() - begin]}
        self.steps(graphs, PREFILL, 1)
        held = (*self.prior.get_parameters(), *graphs.buffers, graphs.conditions)
        return found | {"weights": [sum(one.asnumpy().nbytes for one in held) / 1e9], "peak": [self.peak()]}

    @staticmethod
    def peak():
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


class OursInt8(Ours):
    """The same, with weights of 8 bits."""

    quantization = "int8"


class Torch:
    """The measured operations, on transformers and torch."""

    def __init__(self, kind, clock):
        os.environ["TQDM_DISABLE"] = "1"  # a bar for every call
        import torch
        from transformers.models.deprecated.jukebox.configuration_jukebox import JukeboxPriorConfig
        from transformers.models.deprecated.jukebox.modeling_jukebox import JukeboxPrior

        torch.set_num_threads(CPUS)
        torch.set_grad_enabled(False)
        clock.mark("import")
        self.torch = torch
        level, sizes = PRIORS[kind]
        with torch.device("meta"):
            prior = JukeboxPrior(JukeboxPriorConfig(**sizes), level=level)
        self.prior = prior.to_empty(device="cpu").eval()
        block = torch.randn(1 << 22) * 0.02
        for values in (*self.prior.parameters(), *self.prior.buffers()):
            if values.is_floating_point():
                values.copy_(block.repeat(values.numel() // block.numel() + 1)[: values.numel()].reshape(values.shape))
        clock.mark("load")

    def measure(self, times):
        torch, net, first, count = self.torch, self.prior.prior, 8, 16
        condition = torch.zeros(1, net.n_ctx, net.width)
        start = torch.zeros(1, 1, net.width)

        def run(steps):
            begin = time.perf_counter()
            net.sample(1, condition, start, sample_tokens=steps)
            return time.perf_counter() - begin

        run(first)
        found = {"step": [1000 * (run(first + count) - run(first)) / count for _ in range(max(times // 2, 1))]}
        known = torch.zeros(1, PREFILL, dtype=torch.long)

        def prefill():
            x, _ = net.get_emb(0, 1, None, condition, start)
            x = torch.cat([x, net.embed_tokens(known[:, 1:])], 1) + condition[:, :PREFILL]
            net.transformer(x, sample=True)
            net.transformer.del_cache()

        found["prefill"] = timed(prefill, max(times // 4, 1))
        return found


SIDES = {"float32": Ours, "int8": OursInt8, "torch": Torch}


def work(side, task, kind, times):
    """The child process: its samples as one line of JSON."""
    clock = Clock()
    measured = SIDES[side](kind, clock)
    print("loaded", file=sys.stderr, flush=True)
    found = measured.room() if task == "room" else measured.measure(times)
    print("RESULT", json.dumps({"samples": found, "parts": clock.parts}), flush=True)


def table(summary, sides):
    """The measurements and the targets, as lines of text."""
    yield f"{'':36}{'unit':>5}" + "".join(f"{side:>10}" for side in sides) + "   ratios to torch"
    for name, text, unit in ROWS:
        values = [summary[side][name] for side in sides]
        if any(values):
            line = f"{text:36}{unit:>5}" + "".join(f"{one[0]:>10.4g}" if one else f"{'-':>10}" for one in values)
            peer = summary.get("torch", {}).get(name)
            pairs = ((side, one) for side, one in zip(sides, values, strict=True) if one and peer and side != "torch")
            yield f"{line}   {', '.join(f'{side} {one[0] / peer[0]:.2f}' for side, one in pairs)}"
    ours, exact, peer = (summary.get(side, {}) for side in ("int8", "float32", "torch"))
    checks = (
        ("float32 step, of torch's", exact.get("step"), peer.get("step"), 0.7),
        ("float32 step at the end, of the first", exact.get("late"), exact.get("step"), 1.1),
        ("int8 step at the end, of the first", ours.get("late"), ours.get("step"), 1.1),
        ("int8 step, of 45 ms", ours.get("step"), (45,), 1.0),
        (f"int8 step of {SAMPLES} samples, of one's", ours.get("batch"), ours.get("step"), 2.5),
        ("int8 weights and buffers, of 1.6 GB", ours.get("weights"), (1.6,), 1.0),
    )
    for text, mine, against, most in checks:
        if mine and against:
            found = mine[0] / against[0]
            yield f"{text:42} at most {most:<4} found {found:.2f}  {'met' if found <= most else 'MISSED'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", choices=PRIORS, default="upsampler")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=2, help="turns of every measurement")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--json", metavar="FILE", help="also write machine and all samples to a file")
    parser.add_argument("--work", nargs=2, metavar=("SIDE", "TASK"), help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=8, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, arguments.prior, arguments.times)
    facts = machine(("mindspore", "torch", "transformers", "numpy"))
    with tempfile.TemporaryDirectory() as folder:

        def run(side, task):
            times = "4" if arguments.quick else "8"
            return child([THIS, "--work", side, task, "--prior", arguments.prior, "--times", times], folder)

        results = list(measure(arguments.sides, ["speed"], arguments.rounds, run))
        results += measure([side for side in arguments.sides if side != "torch"], ["room"], 1, run)
    summary = {side: {name: summarise(results, side, name) for name, _, _ in ROWS} for side in arguments.sides}
    print(f"{facts['cpu']}, {CPUS} CPUs, load average {facts['load']:.1f} at the start")
    print(*(f"{name} {version}" for name, version in facts["versions"].items()), sep=", ")
    print(f"prior: {arguments.prior}, random weights; rounds: {arguments.rounds}\n")
    print("\n".join(table(summary, arguments.sides)))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
