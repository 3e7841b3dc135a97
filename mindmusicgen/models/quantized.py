"""Linear layers with weights of 8 bits: a quarter of the memory that every step of decoding reads.

Matrices are `QuantizedLinear`. Heads are a fortieth of the weights, but half of what rounding would change of the
choices: they are `FineQuantizedLinear`, of 16 bits. All arithmetic on activations stays float32 (in the kernels the
activations are rounded to 16 bits, see ops/csrc/quantized.c).
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import InputError
from ..ops import packing
from ..ops import quantized as quantized_ops
from ..ops.memory import Arena, zeros

NAMES = ("int8",)  # of the ways to store weights in fewer bits
LARGEST_HEAD = 256  # of the kernels


class QuantizedLinear(nn.Cell):
    """y = x W^T with W in 8 bits: codes and scales as in `ops.packing`, in `weight` and `scale`.

    A kernel on CPU if there is one when the cell is made, else MindSpore's operations, which expand W every time.

    Args:
        in_features (int): size of the last axis of the input.
        out_features (int): size of the last axis of the output.
        dtype (mindspore.dtype): must be float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, in_features, out_features, dtype=ms.float32):
        super().__init__()
        if dtype != ms.float32:
            raise InputError(f"int8 weights go with dtype float32, not {dtype}")
        self.in_features, self.out_features, self.dtype = in_features, out_features, dtype
        codes, scale = packing.packed_shapes(out_features, in_features)
        self.weight = Parameter(Tensor.from_numpy(zeros(codes, np.uint8)), requires_grad=False)
        self.scale = Parameter(Tensor.from_numpy(zeros(scale, np.float32)), requires_grad=False)
        self.kernel = quantized_ops.linear_op(out_features)

    def construct(self, x):
        """[..., in] -> [..., out]"""
        if x.ndim == 2:
            return self.product(x)
        return self.product(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)

    def product(self, x):
        """[rows, in] -> [rows, out]"""
        if self.kernel is not None:
            return self.kernel(x, self.weight, self.scale)
        return self.plain(x)

    def plain(self, x):
        """The same with MindSpore's operations."""
        weight = quantized_ops.dequantised(self.weight, self.scale, self.out_features, self.in_features)
        return ops.MatMul(transpose_b=True)(x, weight)


class FineQuantizedLinear(nn.Cell):
    """y = x W^T with W in 16 bits: as the sum of two matrices of 8, the second of which is what the first leaves over.

    Args and platforms as of `QuantizedLinear`.
    """

    def __init__(self, in_features, out_features, dtype=ms.float32):
        super().__init__()
        self.coarse = QuantizedLinear(in_features, out_features, dtype)
        self.rest = QuantizedLinear(in_features, out_features, dtype)

    def construct(self, x):
        """[..., in] -> [..., out]"""
        return self.coarse(x) + self.rest(x)


def quantised_parameters(network):
    """Codes and scales of every `QuantizedLinear` in a network: dict of Parameter by name."""
    return {
        f"{name}.{own}": parameter
        for name, cell in network.cells_and_names()
        if isinstance(cell, QuantizedLinear)
        for own, parameter in cell.parameters_and_names(expand=False)
    }


def arena_for(network):
    """Memory for the codes and scales of a network."""
    return Arena(Arena.room((p.shape, p.asnumpy().dtype) for p in quantised_parameters(network).values()))
