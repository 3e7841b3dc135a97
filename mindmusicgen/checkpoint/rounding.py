"""Weights of a checkpoint to 8 bits, a tensor at a time: the float ones are never there together."""

import numpy as np
from mindspore import Tensor

from ..errors import InputError
from ..models.layers import Linear
from ..models.quantized import (
    FineQuantizedLinear,
    QuantizedLinear,
    arena_for,
    expanded,
    quantised_parameters,
    round_into,
)


def rounding(whole, networks, exact=()):
    """Where the matrices of quantised networks go.

    Args:
        whole (nn.Cell): holds the networks.
        networks (dict[str, nn.Cell]): by what their parameters' names begin with; or float ones, which get what the
            rounded weights stand for.
        exact (tuple[str]): linear layers, by the end of their names, that are not rounded.

    Returns:
        dict by name of a tensor: its shape, and a function that takes its values, as `huggingface.load` takes them.
        None for what no tensor fills.
    """
    arena, made, packed = arena_for(whole), {}, quantised_parameters(whole)
    for parameter in packed.values():  # threads fill them later, each in its place
        parameter.assign_value(Tensor.from_numpy(arena.take(parameter.shape, parameter.asnumpy().dtype)))
    for prefix, network in networks.items():
        parts = {id(part) for _, cell in network.cells_and_names() for part in _parts(cell)}
        for name, cell in network.cells_and_names():
            fine = name == "lm_head"
            shape = (getattr(cell, "out_features", 0), getattr(cell, "in_features", 0))
            if isinstance(cell, FineQuantizedLinear):
                shape = (cell.coarse.out_features, cell.coarse.in_features)
            elif isinstance(cell, QuantizedLinear):
                if id(cell) in parts:
                    continue
            elif not isinstance(cell, Linear) or name.endswith(exact):
                continue
            made[f"{prefix}{name}.weight"] = shape, _store(cell, fine, f"{prefix}{name}")
    return made | {name: None for name in packed if name not in made}


def _parts(cell):
    """The cells that a cell's matrix is the sum of."""
    return (cell.coarse, cell.rest) if isinstance(cell, FineQuantizedLinear) else ()


class _Places:
    """An arena that gives out arrays that are there already."""

    def __init__(self, cell):
        self.arrays = [cell.weight.asnumpy(), cell.scale.asnumpy()]

    def take(self, shape, dtype):
        return self.arrays.pop(0)


def _store(cell, fine, name):
    """The function that rounds a matrix into a cell."""

    def fill(into, weight, arena=None):
        try:
            round_into(into, weight, arena or _Places(into))
        except ValueError as error:
            raise InputError(f"{name} cannot be quantised: {error}") from error

    def store(weight):
        if isinstance(cell, QuantizedLinear):
            return fill(cell, weight)
        if isinstance(cell, FineQuantizedLinear):
            fill(cell.coarse, weight)
            return fill(cell.rest, weight - expanded(cell.coarse))
        made = (FineQuantizedLinear if fine else QuantizedLinear)(cell.in_features, cell.out_features)
        fill(made, weight, _Fresh)
        cell.weight.asnumpy()[...] = expanded(made)

    return store


class _Fresh:
    """An arena of arrays of their own."""

    take = staticmethod(np.empty)
