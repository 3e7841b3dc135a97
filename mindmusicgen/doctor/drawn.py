"""Networks whose weights are drawn by NumPy from a seed: the same on every machine, and in no file."""

import math
from dataclasses import dataclass

import numpy as np

from ..checkpoint import huggingface


@dataclass(frozen=True)
class Drawn:
    """A tensor of a checkpoint that is in no file; `read` gives its values."""

    values: np.ndarray

    @property
    def shape(self):
        return self.values.shape

    def read(self):
        return self.values


def filled(network, plan, seed, biases=1.0):
    """A network with weights that a seed decides, whatever layout its parameters have here.

    Args:
        network (nn.Cell): the network.
        plan (dict): of which stored tensors each of its parameters is made.
        seed (int): of the numbers.
        biases (float): their standard deviation.
    """
    tensors, rng = {}, np.random.default_rng(seed)
    for name, shape, *_ in sorted(huggingface.stored_tensors(network, plan), key=lambda entry: entry[0]):
        drawn = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            drawn /= np.float32(math.sqrt(math.prod(shape[1:])))
        elif name.endswith("weight"):  # of a norm
            drawn = 1 + drawn / 8
        else:
            drawn *= np.float32(biases)
        tensors[name] = Drawn(drawn)
    huggingface.load(network, tensors, "the doctor's model", plan, lambda name, tensor: False)
    return network.set_train(False)
