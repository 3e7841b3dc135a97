"""Linear layers with weights of 8 or 4 bits: a quarter or a seventh of the memory that every step of decoding reads.

Matrices are `QuantizedLinear` or `FourBitLinear`. Heads are a fortieth of the weights, but half of what rounding to 8
bits would change of the choices: they are `FineQuantizedLinear`, of 16 bits. All arithmetic on activations stays
float32 (in the kernels the activations are rounded to 16 bits, see ops/csrc/quantized.c).
"""

import warnings

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

from ..errors import InputError, shown
from ..ops import packing, packing4
from ..ops import quantized as quantized_ops
from ..ops.memory import Arena, zeros
from .layers import empty_parameter, shared_parameter

VERSIONS = {"int8": packing.VERSION, "int4": packing4.VERSION}  # of the ways to store weights in fewer bits
NAMES = ("int8",)  # of those that every family has
LARGEST_HEAD = 256  # of the kernels


class QuantizedLinear(nn.Cell):
    """y = x W^T (+ b) with W in 8 bits: codes and scales as in `ops.packing`, in `weight` and `scale`.

    A kernel on CPU if there is one when the cell is made, else MindSpore's operations, which expand W every time.

    Args:
        in_features (int): size of the last axis of the input.
        out_features (int): size of the last axis of the output.
        dtype (mindspore.dtype): must be float32.
        bias (bool): whether a float `bias` is added.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    quantization, layout, pack = "int8", packing, staticmethod(packing.pack)
    dequantised = staticmethod(quantized_ops.dequantised)

    def __init__(self, in_features, out_features, dtype=ms.float32, bias=False):
        super().__init__()
        if dtype != ms.float32:
            raise InputError(f"{self.quantization} weights go with dtype float32, not {dtype}")
        self.in_features, self.out_features, self.dtype = in_features, out_features, dtype
        shapes = self.layout.packed_shapes(out_features, in_features)
        codes, scale = (zeros(shape, kind) for shape, kind in zip(shapes, self.layout.DTYPES, strict=True))
        self.weight = shared_parameter(codes)
        self.scale = shared_parameter(scale)
        self.has_bias, self.bias = bias, empty_parameter(out_features) if bias else None
        self.kernel = quantized_ops.linear_op(out_features)

    def construct(self, x):
        """[..., in] -> [..., out]"""
        if x.ndim == 2:
            return self.product(x)
        return self.product(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)

    def product(self, x):
        """[rows, in] -> [rows, out]"""
        y = self.multiply(x, self.weight, self.scale)
        return y + self.bias if self.has_bias else y

    def multiply(self, x, weight, scale):
        """x W^T, [rows, in] -> [rows, out], with this matrix or with that of another cell of the same sizes."""
        return self.kernel(x, weight, scale) if self.kernel is not None else self.plain(x, weight, scale)

    def parts(self):
        """What a kernel that runs the layer needs of it, the bias last."""
        return self.weight, self.scale, self.bias

    def plain(self, x, weight, scale):
        """x W^T with MindSpore's operations."""
        weight = self.dequantised(weight, scale, self.out_features, self.in_features)
        return ops.MatMul(transpose_b=True)(x, weight)


class FourBitLinear(QuantizedLinear):
    """`QuantizedLinear` with W in 4 bits: codes and scales as in `ops.packing4`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    quantization, layout, pack = "int4", packing4, staticmethod(quantized_ops.pack4)
    dequantised = staticmethod(quantized_ops.dequantised4)


class QuantizedConvWeight(QuantizedLinear):
    """`models.convolutions.ConvWeight` with its matrix in 8 bits, where the taps are gathered before they multiply."""

    def __init__(self, rows, columns, out_channels):
        super().__init__(columns, rows)
        self.bias = empty_parameter(out_channels)  # added to what the taps' product is made into
        self.bias_add = ops.BiasAdd()

    def add_bias(self, x):
        """[N, O] + bias"""
        return self.bias_add(x, self.bias)


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
        if own != "bias"
    }


def arena_for(network):
    """Memory for the codes and scales of a network."""
    return Arena(Arena.room((p.shape, p.asnumpy().dtype) for p in quantised_parameters(network).values()))


def round_into(cell, weight, arena):
    """Fill a `QuantizedLinear` or a `FineQuantizedLinear` with a matrix.

    Args:
        cell (nn.Cell): what to fill.
        weight (numpy.ndarray): [out, in] floats.
        arena (Arena): where codes and scales are to lie.

    Raises:
        ValueError: if a weight is not finite.
    """
    if isinstance(cell, FineQuantizedLinear):
        round_into(cell.coarse, weight, arena)
        return round_into(cell.rest, weight - expanded(cell.coarse), arena)
    for parameter, array in zip((cell.weight, cell.scale), cell.pack(weight, arena.take), strict=True):
        parameter.assign_value(Tensor.from_numpy(array))


def expanded(cell):
    """The matrix that a quantised cell multiplies with, float32."""
    if isinstance(cell, FineQuantizedLinear):
        return expanded(cell.coarse) + expanded(cell.rest)
    return cell.layout.unpack(cell.weight.asnumpy(), cell.scale.asnumpy(), cell.out_features, cell.in_features)


def quantized_cache(layers, rows, heads, length, size):
    """A cache of keys and values in 8 bits.

    Args:
        layers (int): how many layers.
        rows, heads, length, size (int): see `ops.quantized.cache_shapes`.

    Returns:
        ParameterTuple: for every layer keys, their scales, values and their scales.
    """
    shapes = quantized_ops.cache_shapes(rows, heads, length, size)
    arena = Arena(layers * Arena.room(shapes))  # every step reads what is filled of it
    return ParameterTuple(
        shared_parameter(arena.take(*shape), f"cache.{layer}.{i}")
        for layer in range(layers)
        for i, shape in enumerate(shapes)
    )


def check_quantization(quantization, dtype=ms.float32, other=None, names=NAMES):
    """Refuse a quantization that there is not, or that does not go with a model.

    Args:
        quantization (str): one of `names`, or None.
        dtype (mindspore.dtype): of the model.
        other (str): model_type of a kind of model that has none.
        names (tuple[str]): what there is for this kind of model.

    Raises:
        InputError: in one sentence.
    """
    if quantization is None:
        return
    if not isinstance(quantization, str) or quantization not in names:
        raise InputError(f"quantization is {shown(quantization)}; expected {' or '.join(names)}, or none")
    if other:
        raise InputError(f"quantization {quantization} is for text models; a {other} model opens without it")
    if dtype != ms.float32:
        raise InputError(f"quantization {quantization} goes with dtype float32, not {str(dtype).lower()}")


def say_expanded(reason, name="int8"):
    """Warn that weights of 8 or 4 bits cannot be computed with."""
    warnings.warn(f"{name} weights are expanded to float32, because {reason}", stacklevel=3)
