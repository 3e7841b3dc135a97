"""Hugging Face's tensors into parameters and back, by a plan that says of which tensors each parameter is made.

A family hands in the plan (`Piece`): loading and saving both follow that one description.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, clip
from ..runtime.progress import loading_bar

WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))

READERS = 2  # threads that read weights: while one waits for the disk the other copies


def same(values):
    """The layout is the checkpoint's own."""
    return values


@dataclass(frozen=True)
class Piece:
    """One checkpoint tensor and its place in a parameter.

    Attributes:
        names: its names in checkpoints; the first is written, any is read.
        place: index or slice of the parameter's first axis; `...` for all of it.
        pack: from the checkpoint's layout to the cell's.
        unpack: the inverse.
        weight_norm: whether it may be stored as magnitude and direction.
        beside: from its values to what is stored beside it without being read: dict of last name to values.
    """

    names: tuple
    place: slice | int = ...
    pack: Callable = same
    unpack: Callable = same
    weight_norm: bool = False
    beside: Callable = None

    def renamed(self, rename):
        """This piece with other names in checkpoints."""
        return replace(self, names=tuple(rename(name) for name in self.names))


def fold_weight_norm(magnitude, direction):
    """magnitude * direction / |direction|, the norm over every axis but the first; zeros where both are."""
    direction = direction.astype(np.float32)
    norm = np.sqrt((direction * direction).sum(axis=tuple(range(1, direction.ndim)), keepdims=True))
    with np.errstate(all="ignore"):  # what comes of it is looked at
        return magnitude.astype(np.float32) * direction / np.where((norm == 0) & (magnitude == 0), 1, norm)


def check_finite(values, name, source):
    """Refuse NaN and infinity among weights.

    Raises:
        InputError: naming the tensor.
    """
    with np.errstate(all="ignore"):
        total = values.sum(dtype=None if values.itemsize >= 4 else np.float32)  # twice as fast as to ask each
    if not np.isfinite(total) and not np.isfinite(values).all():
        raise InputError(f"{source} holds NaN or infinite weights, in {clip(name)}; it is damaged, or training failed")


class Loader:
    """Fills parameters from the tensors of a checkpoint, and keeps the books on what was used.

    Args:
        tensors (dict[str, LazyTensor]): the checkpoint's tensors.
        source (str): what to call the checkpoint in errors.
    """

    def __init__(self, tensors, source):
        self.tensors, self.source = tensors, source
        self.used, self.missing = set(), []

    def find(self, piece):
        """The values of a piece in the checkpoint's layout, or None; and what they are called."""
        found = [name for name in piece.names if name in self.tensors]
        self.used.update(found)
        if found:
            return self.read(found[0]), found[0]
        if piece.weight_norm:
            stem = piece.names[0][: -len("weight")]
            for pair in WEIGHT_NORM:
                names = [stem + part for part in pair]
                if all(name in self.tensors for name in names):
                    self.used.update(names)
                    magnitude, direction = map(self.read, names)
                    self.check_shape(names[0], magnitude, direction.shape[:1] + (1,) * (direction.ndim - 1))
                    return fold_weight_norm(magnitude, direction), names[1]
        self.missing.append(piece.names[0])
        return None, None

    def read(self, name):
        """The values of a tensor, which must be floating-point numbers."""
        values = self.tensors[name].read()
        if not np.issubdtype(values.dtype, np.floating):
            raise InputError(f"{self.source} holds {clip(name)} as {values.dtype}; expected floating-point weights")
        return values

    def check_shape(self, name, found, expected):
        if found.shape != expected:
            raise InputError(
                f"{self.source} does not fit its config: {clip(name)} has shape {found.shape}, expected {expected}"
            )

    def fill(self, values, parts):
        """Write the pieces of one parameter into its array."""
        for piece in parts:
            found, name = self.find(piece)
            if found is None:
                continue
            target = values[piece.place]
            self.check_shape(name, found, tuple(piece.unpack(target).shape))
            check_finite(found, name, self.source)
            target[...] = piece.pack(found)

    def finish(self, left_out):
        """Report what is missing or left over.

        Args:
            left_out (callable): whether a tensor (name, LazyTensor) that nobody asked for may be there.

        Raises:
            InputError: naming the first few tensors.
        """
        if self.missing:
            raise InputError(
                f"{self.source} lacks {_some(self.missing)}; it is incomplete or not the model config.json describes"
            )
        extra = [name for name in sorted(set(self.tensors) - self.used) if not left_out(name, self.tensors[name])]
        if extra:
            raise InputError(f"{self.source} holds {_some(extra)}, which the model config.json describes does not have")


def _some(names):
    names = sorted(names)  # threads find them in any order
    return clip(", ".join(names[:3]), 200) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load(network, tensors, source, plan, left_out, stores=None):
    """Fill a network's parameters from a Hugging Face checkpoint, a tensor at a time in each of two threads.

    Args:
        network (nn.Cell): the network.
        tensors (dict[str, LazyTensor]): the checkpoint's tensors.
        source (str): what to call the checkpoint in errors.
        plan (dict[str, list[Piece]]): of which tensors each parameter is made.
        left_out (callable): whether a tensor (name, LazyTensor) that the plan does not name may be there.
        stores (dict): by name a shape and a function that takes the values, in the place of a parameter that keeps them
            in another form, called in either thread; None for a parameter that no tensor fills.

    Raises:
        InputError: for a missing, left-over or misshapen tensor, by name.
    """
    loader, stores = Loader(tensors, source), stores or {}

    def fill(entry):
        name, shape, parameter = entry
        if parameter is None:
            values = np.empty(shape, np.float32)
            loader.fill(values, plan[name])
            if not loader.missing:
                stores[name][1](values)
        else:
            loader.fill(parameter.asnumpy(), plan[name])  # asnumpy shares the parameter's memory
        return math.prod(shape)

    entries = [(name, p.shape, p) for name, p in network.parameters_and_names() if name not in stores]
    entries += [(name, store[0], None) for name, store in stores.items() if store]
    bar = loading_bar(sum(math.prod(shape) for _, shape, _ in entries))  # `size` is a method under MindNLP
    with ThreadPoolExecutor(READERS) as pool, bar:
        for size in pool.map(fill, entries):  # raises what a thread raised
            bar.update(size)
    loader.finish(left_out)


def stored_tensors(network, plan):
    """The tensors that transformers expects for a network, in the form `write_safetensors` takes.

    Args:
        network (nn.Cell): the network.
        plan (dict[str, list[Piece]]): of which tensors each parameter is made.

    Returns:
        list of (name, shape, dtype, function that returns the array).
    """
    entries = []

    def add(name, values, convert=same):
        like = convert(values)
        entries.append((name, like.shape, like.dtype, lambda: convert(values)))

    for name, parameter in network.parameters_and_names():
        values = parameter.asnumpy()
        for piece in plan[name]:
            part = values[piece.place]
            if piece.weight_norm:
                stem = piece.names[0][: -len("weight")]
                add(stem + WEIGHT_NORM[1][0], part, _magnitude_of(piece.unpack))
                add(stem + WEIGHT_NORM[1][1], part, piece.unpack)
            else:
                add(piece.names[0], part, piece.unpack)
            for leaf, stored in (piece.beside(part) if piece.beside else {}).items():
                add(f"{piece.names[0].rpartition('.')[0]}.{leaf}", stored)
    return entries


def _magnitude_of(unpack):
    def magnitude(values):
        values = unpack(values)
        return np.sqrt((values * values).sum(axis=tuple(range(1, values.ndim)), keepdims=True))

    return magnitude
