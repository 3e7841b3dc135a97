"""Speed of a training step beside transformers on torch, on this machine's CPU.

    python scripts/benchmark/training.py [--rows 8] [--columns 256] [--rounds 9] [--plain] [--json FILE]

Needs `pip install -e ".[parity]"`. Both sides train text encoder and decoder of the demo model in float32 from the same
weights on the same batch, with AdamW and gradients clipped to a norm of 1. They stay in one process and take turns,
and another side goes first in every round; printed are medians of the whole step, of the forward pass, and of forward
and backward pass, with their ratios to torch, and the losses before training. With --plain there is a third side,
MindSpore's own operations. Random codes cost what music costs.

With --operators the kernels are called alone instead, on random arrays of the step's sizes; shown is the best of some
rounds, times the number of calls in a step. The text encoder is left out.
"""

import argparse
import ctypes
import json
import os
import statistics
import time
from unittest import mock

import mindspore as ms
import numpy as np
import torch
from mindspore import Tensor
from sides import CPUS
from transformers import MusicgenForConditionalGeneration as Peer

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.musicgen.checkpoint.folder import load_config
from mindmusicgen.musicgen.training.language_model import LanguageModelLoss
from mindmusicgen.ops import gradients, native
from mindmusicgen.training.adamw import adamw
from mindmusicgen.training.loop import TrainingStep, WarmupCosine

TEXT, TOKENS = 48, 30  # of a caption, with and without padding
RATE, DECAY, BETAS, NORM = 3e-4, 0.01, (0.9, 0.98), 1.0
TASKS = ("step", "forward", "backward")  # backward: with the forward pass before it


def batch(rows, columns):
    """A batch of `LanguageModelLoss`; one caption is dropped."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 300, (rows, TEXT)).astype(np.int32)
    mask = np.ones((rows, TEXT), np.int32)
    mask[:, TOKENS:] = 0
    heard = np.ones(rows, np.float32)
    heard[-1] = 0
    codes = rng.integers(0, 1024, (rows, 4, columns + 1)).astype(np.int32)
    codes[:, :, 0] = 1024
    return ids, mask, heard, codes


class Ours:
    """The package's trainer."""

    def __init__(self, arrays, kernels=True):
        with mock.patch.dict(os.environ, {} if kernels else {"MINDMUSICGEN_KERNELS": "0"}):
            network = LanguageModelLoss(MusicgenForConditionalGeneration.from_pretrained(str(DEMO), dtype="float32"))
            parameters = network.set_train(True).trainable_params()
            groups = [{"params": [p for p in parameters if (p.ndim > 1) == wide], "weight_decay": DECAY * wide}
                      for wide in (True, False)]  # fmt: skip
            self.whole = TrainingStep(network, adamw(groups, WarmupCosine(RATE, 1, 10**6), *BETAS), NORM)
        self.batch = [Tensor(array) for array in arrays]
        self.network = network
        self.gradient = ms.jit(self._gradient, fullgraph=True)
        self.loss = ms.jit(self._loss, fullgraph=True)

    def _gradient(self, *batch):
        (loss, _), gradients = self.whole.gradients(*batch)
        return loss, gradients

    def _loss(self, *batch):
        return self.network(*batch)[0]

    def step(self):
        return float(self.whole.run(*self.batch)[0].asnumpy())

    def backward(self):
        return float(self.gradient(*self.batch)[0].asnumpy())

    def forward(self):
        return float(self.loss(*self.batch).asnumpy())


class Torch:
    """transformers' model and torch's optimizer."""

    def __init__(self, arrays):
        self.model = Peer.from_pretrained(str(DEMO)).eval()  # without dropout
        self.model.audio_encoder.requires_grad_(False)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, betas=BETAS, weight_decay=DECAY)
        self.ids, self.mask, self.heard, self.codes = (
            torch.from_numpy(a if a.dtype == np.float32 else a.astype(np.int64)) for a in arrays
        )

    def loss(self):
        states = self.model.text_encoder(input_ids=self.ids, attention_mask=self.mask).last_hidden_state
        mask = self.mask * self.heard[:, None]
        states = self.model.enc_to_dec_proj(states) * mask.unsqueeze(-1)
        rows, codebooks, columns = self.codes.shape
        logits = self.model.decoder(
            input_ids=self.codes[:, :, :-1].reshape(rows * codebooks, columns - 1),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        ).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.codes[:, :, 1:].flatten())

    def step(self):
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, NORM)
        self.optimizer.step()
        return float(loss.detach())

    def backward(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return float(loss.detach())

    def forward(self):
        with torch.no_grad():
            return float(self.loss())


def measure(sides, tasks, rounds):
    """Seconds by task and side."""
    samples = {task: {name: [] for name in sides} for task in tasks}
    for task in tasks:
        for number in range(rounds):
            order = list(sides)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                start = time.perf_counter()
                getattr(sides[name], task)()
                samples[task][name].append(time.perf_counter() - start)
    return samples


def operators(rows, columns, rounds):
    """Milliseconds of a step by kind of operator: best of some rounds, times the number of calls."""
    config, library = load_config(str(DEMO)).decoder, ctypes.CDLL(gradients.library_path())
    count, dim, wide, books = rows * columns, config.hidden_size, config.ffn_dim, config.num_codebooks
    layers, codes, rng = config.num_hidden_layers, config.vocab_size, np.random.default_rng(0)
    found = {}

    def took(kind, times, name, *arguments):
        """Arguments are arrays, or shapes of random ones."""
        arrays = [rng.standard_normal(a, np.float32) if isinstance(a, tuple) else a for a in arguments]
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            if native.call(getattr(library, name), *arrays) != 0:
                raise RuntimeError(f"{name} does not take these shapes")
            seconds.append(time.perf_counter() - start)
        found[kind] = found.get(kind, 0) + 1e3 * times * min(seconds)

    square, text = (dim, dim), rows * TEXT
    products = ((layers, count, dim, 3 * dim), (3 * layers, count, dim, dim), (layers, text, dim, 2 * dim),
                (layers, count, dim, wide), (layers, count, wide, dim), (1, count, dim, books * codes))  # fmt: skip
    for times, n, into, out in products:
        took("products, forward", times, "ProductForward", (n, into), (out, into), (n, out))
        took("products, to their inputs", times, "ProductInput", (n, out), (out, into), (n, into))
        took("products, to their weights", times, "ProductWeight", (n, out), (n, into), (out, into))
    heads, y = np.array([config.num_attention_heads], np.int32), (rows, columns, dim)
    stats, qkv = (rows, int(heads[0]), columns, 2), (rows, columns, 3 * dim)
    kv, mask = (rows, TEXT, 2 * dim), np.zeros((rows, TEXT), np.float32)
    took("attention, forward", layers, "SelfAttend", qkv, heads, y, stats)
    took("attention, backward", layers, "SelfAttendGradient", qkv, heads, y, stats, y, qkv)
    took("attention to the text, forward", layers, "CrossAttend", y, kv, mask, heads, y, stats)
    took("attention to the text, backward", layers, "CrossAttendGradient", y, kv, mask, heads, y, stats, y, y, kv)
    flat, eps = (count, dim), np.array([1e-5], np.float32)
    took("layer norms, forward", 3 * layers + 1, "LayerNorm", flat, square[:1], square[:1], eps, flat, (count, 2))
    took("layer norms, backward", 3 * layers + 1, "LayerNormGradient", flat, square[:1], (count, 2), flat, flat,
         square[:1], square[:1])  # fmt: skip
    logits, labels = (rows, columns, books * codes), rng.integers(0, codes, (rows, books, columns)).astype(np.int32)
    took("cross-entropy, forward", 1, "CodeLosses", logits, labels, (books,), labels.shape)
    took("cross-entropy, backward", 1, "CodeLossesGradient", logits, labels, labels.shape, (books,), logits)
    table = (books * (codes + 1), dim)
    took("embedding, forward", 1, "EmbedCodes", table, labels, (columns, dim), y)
    took("embedding, backward", 1, "EmbedCodesGradient", table, labels, y, table)
    each = (8 * dim * dim + 2 * dim * wide,)  # a layer's
    numbers = [np.array([n], np.float32) for n in (1e-4, 0.01, 1, 0.9, 0.98, 1e-8)]
    for times, size in ((layers, each), (1, table), (1, (books * codes, dim))):
        took("gradients' norm", times, "SumOfSquares", size, (1,))
        took("AdamW", times, "AdamW", size, size, np.ones(size, np.float32), size, *numbers, (1,))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=TASKS)
    parser.add_argument("--plain", action="store_true", help="MindSpore's own operations too")
    parser.add_argument("--operators", action="store_true", help="the kernels alone")
    parser.add_argument("--json", help="write the samples here")
    arguments = parser.parse_args()
    if arguments.operators:
        found = operators(arguments.rows, arguments.columns, arguments.rounds)
        for kind, milliseconds in (found | {"all of them": sum(found.values())}).items():
            print(f"{kind:34}{milliseconds:8.1f} ms")
        return
    torch.set_num_threads(CPUS)
    arrays = batch(arguments.rows, arguments.columns)
    sides = {"mindmusicgen": Ours(arrays), "torch": Torch(arrays)}
    if arguments.plain:
        sides["plain MindSpore"] = Ours(arrays, kernels=False)
    tasks = [arguments.only] if arguments.only else list(TASKS)
    losses = {name: [getattr(side, task)() for task in sorted(tasks)][0] for name, side in sides.items()}
    print("losses before training:", ", ".join(f"{name} {loss:.6f}" for name, loss in losses.items()), flush=True)
    samples = measure(sides, tasks, arguments.rounds)
    for task, found in samples.items():
        peer = statistics.median(found["torch"])
        parts = (f"{name} {1e3 * statistics.median(t):.0f} ms ({statistics.median(t) / peer:.2f})" for name, t in
                 found.items())  # fmt: skip
        print(f"{task}: {', '.join(parts)}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"rows": arguments.rows, "columns": arguments.columns, "cpus": CPUS, "seconds": samples}, file)


if __name__ == "__main__":
    main()
