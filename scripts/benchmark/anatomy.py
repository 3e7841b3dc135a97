"""Where the time of an 8-bit decode step goes, and how it grows with length, batch and model size.

    python scripts/benchmark/anatomy.py [--sizes small medium large] [--plot FILE.png] [--json FILE]

Calls the C kernels on random arrays of the published models' sizes: no checkpoint is needed. The products are timed
one by one, in the order of a step; attention over the cache is what a step takes longer than at
position 0; the rest is what is left: norms, rounding of activations, attention to the text, the heads' choice, and
waiting of the threads for each other. The smallest of several times, measured in turn,
because other work only ever adds to them.
"""

import argparse
import ctypes
import functools
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mindmusicgen.ops import native, packing
from mindmusicgen.ops.memory import Arena
from mindmusicgen.ops.quantized import cache_shapes, why_not

SIZES = {"small": (24, 1024), "medium": (48, 1536), "large": (48, 2048)}  # layers, width; heads have 64
HEAD, BOOKS, CODES, TEXT, STEPS, LENGTH = 64, 4, 2048, 16, 25, 1536
POSITIONS = (0, 250, 500, 1000, 1450)
PARTS = {"q, k, v": (3, 1), "attention's output": (1, 1), "cross: q": (1, 1), "cross: output": (1, 1)}
PARTS |= {"feed-forward 1": (4, 1), "feed-forward 2": (1, 4)}  # outputs and inputs, in widths


class Prepared:
    """A kernel with its arguments ready, so that a call costs nothing but the kernel."""

    def __init__(self, kernel, arrays):
        count = len(arrays)
        self.kernel, self.arrays = kernel, arrays
        sizes = [(ctypes.c_int64 * max(array.ndim, 1))(*array.shape) for array in arrays]
        pointer = ctypes.POINTER(ctypes.c_int64)
        self.arguments = (
            count,
            (ctypes.c_void_p * count)(*(array.ctypes.data for array in arrays)),
            (ctypes.c_int * count)(*(array.ndim for array in arrays)),
            (pointer * count)(*(ctypes.cast(size, pointer) for size in sizes)),
            (ctypes.c_char_p * count)(*(str(array.dtype).encode() for array in arrays)),
            None,
            None,
        )

    def __call__(self):
        if self.kernel(*self.arguments):
            raise SystemExit("a kernel refused its arguments: this script and the kernels do not belong together")


class Decoder:
    """Random weights and buffers of a decoder for some prompts, each with a null row."""

    def __init__(self, library, size, prompts):
        self.library, self.prompts, self.rows = library, prompts, 2 * prompts
        self.layers, self.dim = SIZES[size]
        self.rng = np.random.default_rng(0)
        matrices = [(self.dim * out, self.dim * into) for out, into in PARTS.values()]
        heads = [(BOOKS * CODES, self.dim)] * 2
        shapes = [shape for size in matrices * self.layers + heads for shape in self.packed(size)]
        caches = cache_shapes(self.rows, self.dim // HEAD, LENGTH, HEAD) * self.layers
        arenas = Arena(Arena.room(shapes)), Arena(Arena.room(caches))
        arrays = [self.fill(arenas[0].take(*shape)) for shape in shapes]
        self.weights = [tuple(arrays[i : i + 2]) for i in range(0, len(arrays), 2)]
        self.caches = [self.fill(arenas[1].take(*shape)) for shape in caches]
        self.outputs = [out for out, _ in matrices]

    @staticmethod
    def packed(size):
        return tuple(zip(packing.packed_shapes(*size), (np.uint8, np.float32), strict=True))

    def fill(self, array):
        array[...] = self.rng.integers(1, 256, array.shape, np.uint8) if array.dtype == np.uint8 else 1e-4
        return array

    def numbers(self, *shape):
        return self.rng.standard_normal(shape, np.float32)

    def step(self, position):
        """A call that makes STEPS steps from a position on."""
        dim, rows, books = self.dim, self.rows, (self.prompts, BOOKS)
        norm = [np.ones(dim, np.float32), np.zeros(dim, np.float32)]
        filters = [np.array([n], kind) for n, kind in ((1, "f"), (250, "i"), (2, "f"))]
        arguments = [np.full(books, CODES, np.int32), np.array([position], np.int32), np.array([STEPS], np.int32)]
        arguments += [np.full((STEPS, *books), -1, np.int32), self.rng.random((STEPS, *books), np.float32)]
        arguments += [np.full(STEPS, 3, np.float32), *filters, self.numbers(BOOKS * (CODES + 1), dim)]
        arguments += [self.numbers(LENGTH + STEPS, dim), *norm, *self.weights[-2], *self.weights[-1]]
        arguments.append(np.zeros((rows, 1, 1, TEXT), np.float32))
        text = [self.numbers(rows, dim // HEAD, TEXT, HEAD) for _ in "kv"]
        for layer in range(self.layers):
            own = self.weights[layer * len(PARTS) : (layer + 1) * len(PARTS)]
            for first in range(0, len(PARTS), 2):
                arguments += [*norm, *own[first], *own[first + 1]]
            arguments += [*self.caches[4 * layer : 4 * layer + 4], *text]
        arguments += [np.zeros((STEPS, *books), np.int32), np.zeros((rows, BOOKS, CODES), np.float32)]
        return Prepared(self.library.QuantizedDecode, arguments)

    def products(self):
        """Every product of a step in its order: (name of the part, call)."""
        names = [*PARTS] * self.layers + ["heads"] * 2
        outputs = self.outputs * self.layers + [BOOKS * CODES] * 2
        return [
            (
                name,
                Prepared(self.library.QuantizedLinear, [self.numbers(self.rows, codes.shape[1] * 4), codes, scale, y]),
            )
            for name, (codes, scale), y in zip(
                names, self.weights, (np.empty((self.rows, out), np.float32) for out in outputs), strict=True
            )
        ]


def milliseconds(call, per=1):
    """Time of one call."""
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) / per * 1000


def best(measure, repeats):
    """The smallest of what `measure` returns, number by number; the first time does not count."""
    rounds = [measure() for _ in range(repeats + 1)][1:]
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def sweep(calls):
    """Milliseconds of each part, all parts in turn: one part's weights alone would stay in the processor's cache."""
    found = dict.fromkeys((name for name, _ in calls), 0.0)
    for name, call in calls:
        found[name] += milliseconds(call)
    return found


def bandwidth(repeats, size=2**29):
    """Bytes a millisecond that all cores read together: the C library looks for a byte that is not there."""
    cores, find = os.cpu_count(), ctypes.CDLL(None).memchr
    arena = Arena(cores * size)
    arrays = [arena.take((size,), np.uint8) for _ in range(cores)]
    for array in arrays:
        array[...] = 1

    def read(array):
        find(ctypes.c_void_p(array.ctypes.data), 2, ctypes.c_size_t(size))

    with ThreadPoolExecutor(cores) as pool:
        fastest = best(lambda: {0: milliseconds(lambda: list(pool.map(read, arrays)))}, repeats)[0]
    return cores * size / fastest


def anatomy(library, size, repeats):
    """Milliseconds of the parts of a step at position 500, one prompt."""
    decoder = Decoder(library, size, 1)
    steps, products = {position: decoder.step(position) for position in POSITIONS}, decoder.products()

    def measure():
        return {position: milliseconds(step, STEPS) for position, step in steps.items()} | sweep(products)

    parts = best(measure, repeats)
    steps = {position: parts.pop(position) for position in POSITIONS}
    rest = max(steps[0] - sum(parts.values()), 0)
    parts |= {"attention to 500 columns": steps[500] - steps[0], "everything else": rest}
    return {"steps": steps, "parts": parts, "bytes": sum(a.nbytes for pair in decoder.weights for a in pair)}


def growth(library, size, repeats):
    """Milliseconds of a step at position 250 for 1, 2, 4 and 8 prompts."""
    steps = {prompts: Decoder(library, size, prompts).step(250) for prompts in (1, 2, 4, 8)}
    return best(lambda: {prompts: milliseconds(step, STEPS) for prompts, step in steps.items()}, repeats)


def report(found):
    rate = found["bandwidth"]
    print(f"weights are read at {rate / 1e6:.1f} GB/s by all cores together; milliseconds a step\n")
    print(f"{'':26}" + "".join(f"{size:>10}" for size in found["sizes"]))
    sizes = found["sizes"].values()

    def line(name, numbers):
        print(f"{name:26}" + "".join(f"{number:10.2f}" for number in numbers))

    line("weights, GB", [one["bytes"] / 1e9 for one in sizes])
    line("floor: weights / rate", [one["bytes"] / rate for one in sizes])
    for name in next(iter(sizes))["parts"]:
        line(name, [one["parts"][name] for one in sizes])
    for position in POSITIONS:
        line(f"step at {position}", [one["steps"][position] for one in sizes])
    print("\nsmall, at 250, by prompts: " + ", ".join(f"{n}: {ms:.1f}" for n, ms in found["prompts"].items()))


def plot(found, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    bar, lines = figure.subplots(1, 2, width_ratios=(1, 1.3))
    name, one = next(iter(found["sizes"].items()))
    left = 0
    for place, (part, time_of) in enumerate(one["parts"].items()):
        bar.bar(0, time_of, bottom=left, width=0.5, color=f"C{place}", label=f"{part}  {time_of:.1f}")
        left += time_of
    bar.axhline(one["bytes"] / found["bandwidth"], color="black", linestyle="--", label="floor: weights / bandwidth")
    bar.axhline(20, color="red", linestyle=":", label="real time")
    handles, labels = bar.get_legend_handles_labels()
    bar.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    bar.set(xlim=(-0.4, 0.4), xticks=[], ylabel="milliseconds", title=f"musicgen-{name}: a step at position 500")
    for name, one in found["sizes"].items():
        lines.plot([p / 50 for p in one["steps"]], list(one["steps"].values()), marker="o", label=name)
    lines.axhline(20, color="red", linestyle=":", label="real time")
    lines.set(
        xlabel="seconds of music so far", ylabel="milliseconds a step", ylim=(0, None), title="growth with length"
    )
    lines.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--plot", metavar="FILE.png")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    if why_not():
        raise SystemExit(f"no 8-bit kernels: {why_not()}")
    library = ctypes.CDLL(native.library_path())
    run = functools.partial(anatomy, library, repeats=arguments.repeats)
    found = {"bandwidth": bandwidth(arguments.repeats), "sizes": {size: run(size) for size in arguments.sizes}}
    found["prompts"] = growth(library, "small", arguments.repeats)
    report(found)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
