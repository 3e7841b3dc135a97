"""Measure MindNLP's own `generate` against this package's, on the same weights in the same process.

    pip install -e ".[mindnlp]"
    python scripts/benchmark/against_mindnlp.py --sizes tiny small

Random weights, greedy choice, guidance 3, one prompt. Counted are decode steps: of MindNLP from one call of the model
to the next, of ours from one chunk of 25 columns to the next. The median is taken, which other programs disturb least.
"""

import argparse
import functools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mindmusicgen

mindmusicgen.patch_mindnlp()  # its delay mask too: without that its own generate fails on a CPU
import torch  # noqa: E402, MindNLP's
from mindnlp.transformers import MusicgenForConditionalGeneration  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[1]))
from random_checkpoint import build  # noqa: E402

COLUMNS = {"tiny": (150, 40), "small": (150, 10)}  # of ours, of MindNLP


def own_steps(model, columns, **arguments):
    """Seconds of each decode step of MindNLP's own `generate`."""
    called, forward = [], model.forward

    @functools.wraps(forward)  # its signature is looked at
    def timed(*positional, **named):
        called.append(time.perf_counter())
        return forward(*positional, **named)

    model.forward = timed
    try:
        type(model).generate.__wrapped__(model, max_new_tokens=columns, **arguments)
    finally:
        del model.forward
    return np.diff(called)


def our_steps(model, columns, **arguments):
    """Seconds of a decode step in each chunk of the patched `generate`."""
    done, at = [], []

    def note(frames, _):
        done.append(frames)
        at.append(time.perf_counter())

    model.generate(max_new_tokens=columns, callback=note, **arguments)
    return np.diff(at) / np.diff(done)


def measure(size, rounds):
    """The median step of MindNLP and of ours, and the first call of ours, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        build(size, folder)
        model = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.ones((1, 8), dtype=torch.long)  # eight tokens, whatever they mean
    arguments = {"input_ids": ids, "attention_mask": ids, "do_sample": False, "guidance_scale": 3.0}
    ours, theirs = COLUMNS[size]
    started = time.perf_counter()
    our_steps(model, ours, **arguments)
    first = time.perf_counter() - started
    found = [(own_steps(model, theirs, **arguments), our_steps(model, ours, **arguments)) for _ in range(rounds)]
    return *(np.median(np.concatenate(steps)) for steps in zip(*found, strict=True)), first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=COLUMNS, default=["tiny"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| sizes | a step of MindNLP | a step of ours | ratio | ours, first call with conversion and compiling |")
    print("|---|---|---|---|---|")
    for size in arguments.sizes:
        theirs, ours, first = measure(size, arguments.rounds)
        print(
            f"| {size} | {theirs * 1e3:.1f} ms | {ours * 1e3:.2f} ms | {theirs / ours:.0f} | {first:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
