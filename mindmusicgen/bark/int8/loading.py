"""Weights of a checkpoint to 8 bits, a tensor at a time: the float ones are never there together."""

import numpy as np
from mindspore import Tensor

from ...errors import InputError
from ...models.layers import Linear
from ...models.quantized import (
    FineQuantizedLinear,
    QuantizedLinear,
    arena_for,
    expanded,
    quantised_parameters,
    round_into,
    say_expanded,
)
from ...ops import quantized as quantized_ops
from ..config import STAGES


def empty_model(kind, config, generation_config, quantization):
    """A model whose weights are to be rounded; where the kernels cannot run, one that computes in float32 with them.

    Args:
        kind (type): BarkModel.
        config, generation_config: as it takes them.
        quantization (str): "int8".

    Returns:
        BarkModel, and what `huggingface.load` takes as `stores`.
    """
    reason = quantized_ops.why_not()
    if reason:
        say_expanded(reason)
    made = kind(config, generation_config=generation_config, empty=True, quantization=None if reason else quantization)
    return made, rounding(made)


def rounding(model):
    """Where the matrices of a model's stages go.

    Args:
        model (BarkModel): with quantised stages; or with float ones, which get what the rounded weights stand for.

    Returns:
        dict by name of a tensor: its shape, and a function that takes its values. None for what no tensor fills.
    """
    arena, made, packed = arena_for(model), {}, quantised_parameters(model)
    for parameter in packed.values():  # threads fill them later, each in its place
        parameter.assign_value(Tensor.from_numpy(arena.take(parameter.shape, parameter.asnumpy().dtype)))
    for stage in STAGES:
        for name, cell in getattr(model, stage).cells_and_names():
            fine = name == "lm_head"
            shape = (getattr(cell, "out_features", 0), getattr(cell, "in_features", 0))
            if isinstance(cell, FineQuantizedLinear):
                shape = (cell.coarse.out_features, cell.coarse.in_features)
            elif isinstance(cell, QuantizedLinear):
                if name.endswith(("lm_head.coarse", "lm_head.rest")):
                    continue
            elif not isinstance(cell, Linear):
                continue
            made[f"{stage}.{name}.weight"] = shape, _store(cell, fine, f"{stage}.{name}")
    return made | {name: None for name in packed if name not in made}


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
