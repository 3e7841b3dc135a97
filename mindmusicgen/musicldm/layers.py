"""Layers of pictures, channels last: convolutions as matrix products, group norm, resizing, attention.

Pictures are [B, height, width, C]: a matrix product reads them as they lie. A convolution of 3 x 3 puts the three
neighbours of a row of the picture side by side and multiplies once for each of its three rows; that moves a third of
what gathering all nine moves. CPUs with a tile unit have an operator for the whole convolution, and so has Ascend.

Shapes: B pictures, H height, W width, C channels, O output channels, N = H * W.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..models.layers import Linear, empty_parameter
from ..ops import ascend, bfloat16, pictures
from ..ops.attention import attention
from ..ops.linear import matmul_transposed
from ..ops.sequence import attention_op
from ..runtime.device import is_ascend

QUERIES = 256  # of one block of attention, whose weights then stay in the processor's cache


def product(x, weight):
    """[rows, in] and [out, in] -> [rows, out]"""
    return ops.MatMul(transpose_b=True)(x, weight)


def rows_slice(x, start, end, step=1):
    """Entries `start` to `end` of the second axis of [B, n, columns]."""
    return ops.strided_slice(x, (0, start, 0), (x.shape[0], end, x.shape[2]), (1, step, 1))


def shifted(x, by):
    """[B, n, columns] moved along n by one, a zero in the place that is left: by 1 to the right, by -1 to the left."""
    rows, length, columns = x.shape
    edge = ops.zeros((rows, 1, columns), x.dtype)
    if length == 1:
        return edge
    if by > 0:
        return ops.concat((edge, rows_slice(x, 0, length - 1)), 1)
    return ops.concat((rows_slice(x, 1, length), edge), 1)


def conv3x3(x, weight, bias):
    """A convolution of 3 x 3 with a border of zeros. x: [B, H, W, C], weight: as `Conv3x3` packs it, bias: [O]."""
    rows, height, width, channels = x.shape
    size, columns = bias.shape[0], 3 * channels
    lines = x.reshape(rows * height, width, channels)
    beside = ops.concat((shifted(lines, 1), lines, shifted(lines, -1)), 2).reshape(-1, columns)
    shape = (rows, height, width * size)
    above = product(beside, weight_rows(weight, 0, size)).reshape(shape)
    same = product(beside, weight_rows(weight, 1, size)).reshape(shape)
    below = product(beside, weight_rows(weight, 2, size)).reshape(shape)
    y = shifted(above, 1) + same + shifted(below, -1)
    return ops.bias_add(y.reshape(-1, size), bias).reshape(rows, height, width, size)


def conv3x3_halved(x, weight, bias):
    """The same with stride 2: pairs of columns, then pairs of lines; the missing neighbour is in the pair before."""
    rows, height, width, channels = x.shape
    size, columns = bias.shape[0], 3 * channels
    if width % 2:
        x = ops.concat((x, ops.zeros((rows, height, 1, channels), x.dtype)), 2)
    if height % 2:
        x = ops.concat((x, ops.zeros((rows, 1, x.shape[2], channels), x.dtype)), 1)
    height, width = (height + 1) // 2, (width + 1) // 2
    pairs = x.reshape(rows * 2 * height, width, 2 * channels)
    odd = ops.strided_slice(pairs, (0, 0, channels), tuple(pairs.shape), (1, 1, 1))
    beside = ops.concat((shifted(odd, 1), pairs), 2).reshape(rows, 2 * height, width * columns)
    first = rows_slice(beside, 0, 2 * height, 2).reshape(-1, columns)
    second = rows_slice(beside, 1, 2 * height, 2).reshape(-1, columns)
    above = product(second, weight_rows(weight, 0, size)).reshape(rows, height, width * size)
    here = product(first, weight_rows(weight, 1, size)) + product(second, weight_rows(weight, 2, size))
    y = shifted(above, 1) + here.reshape(rows, height, width * size)
    return ops.bias_add(y.reshape(-1, size), bias).reshape(rows, height, width, size)


def weight_rows(weight, i, size):
    """Part `i` of a matrix whose parts have `size` rows."""
    return ops.strided_slice(weight, (i * size, 0), ((i + 1) * size, weight.shape[1]), (1, 1))


def convolution(x, weight, bias, stride):
    """The same as `conv3x3` by the device's own operator, weight: [O, C, 3, 3]."""
    return ops.conv2d(x.transpose(0, 3, 1, 2), weight, bias, stride, "pad", 1).transpose(0, 2, 3, 1)


class Conv3x3(nn.Cell):
    """A convolution of 3 x 3 with a border of zeros, [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), O].

    Args:
        in_channels (int): C.
        out_channels (int): O.
        stride (int): 1 or 2.
        dtype (mindspore.dtype): of weights and pictures.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, in_channels, out_channels, stride=1, dtype=ms.float32):
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.by_products = not (is_ascend() or ascend.is_target())
        self.whole = pictures.conv3x3_op(dtype, stride)
        shape = (3 * out_channels, 3 * in_channels) if self.by_products else (out_channels, in_channels, 3, 3)
        if self.whole is not None:
            shape = (out_channels, 9 * in_channels)
        self.weight = empty_parameter(*shape, dtype=bfloat16.stored_dtype(dtype))
        self.bias = empty_parameter(out_channels, dtype=bfloat16.activation_dtype(dtype))

    def pack(self, weight):
        """(O, C, 3, 3) as in torch -> rows (dy, O), columns (dx, C); for the kernel rows O, columns (dy, dx, C)."""
        if not self.by_products:
            return weight
        if self.whole is not None:
            return weight.transpose(0, 2, 3, 1).reshape(self.out_channels, -1)
        return weight.transpose(2, 0, 3, 1).reshape(3 * self.out_channels, 3 * self.in_channels)

    def unpack(self, matrix):
        """The inverse of `pack`."""
        if not self.by_products:
            return matrix
        if self.whole is not None:
            return matrix.reshape(self.out_channels, 3, 3, self.in_channels).transpose(0, 3, 1, 2)
        return matrix.reshape(3, self.out_channels, 3, self.in_channels).transpose(1, 3, 0, 2)

    def construct(self, x):
        if not self.by_products:
            return convolution(x, self.weight, self.bias, self.stride)
        if self.whole is not None:
            return self.whole(x, self.weight, self.bias)
        if self.stride == 1:
            return conv3x3(x, self.weight, self.bias)
        return conv3x3_halved(x, self.weight, self.bias)


def linear(x, weight, bias, kernel, most):
    """[..., in] -> [..., O]."""
    y = ops.bias_add(matmul_transposed(x.reshape(-1, x.shape[-1]), weight, kernel, most), bias)
    return y.reshape(*x.shape[:-1], bias.shape[0])


def matrix(x, weight, kernel, most):
    """The same without a bias."""
    return matmul_transposed(x.reshape(-1, x.shape[-1]), weight, kernel, most).reshape(*x.shape[:-1], weight.shape[0])


class Dense(Linear):
    """A linear layer, quick to compile.

    Args:
        in_features, out_features (int): of the last axis.
        dtype (mindspore.dtype): of the weights, and, but for bfloat16 on a CPU, of what comes in and out.
        bias (bool): whether something is added.
    """

    def __init__(self, in_features, out_features, dtype=ms.float32, bias=True):
        super().__init__(in_features, out_features, bias, bfloat16.stored_dtype(dtype))
        self.dtype = bfloat16.activation_dtype(dtype)
        if bfloat16.weights_only(dtype):
            self.bias = empty_parameter(out_features) if bias else None
            self.kernel = pictures.bfloat16_product_op()

    def construct(self, x):
        x = x if x.dtype == self.dtype else x.astype(self.dtype)
        if self.bias is None:
            return matrix(x, self.weight, self.kernel, self.most_rows)
        return linear(x, self.weight, self.bias, self.kernel, self.most_rows)


class Conv1x1(Dense):
    """A convolution of 1 x 1, which is a linear layer of the channels: [..., C] -> [..., O]."""


def group_means(x, groups):
    """[B, N, C] -> [B, 1, C]: of the group of each channel. A product with ones: a sum along N is slow on a CPU."""
    rows, length, channels = x.shape
    sums = ops.BatchMatMul()(ops.ones((rows, 1, length), x.dtype), x)
    size = channels // groups
    sums = sums.reshape(rows, groups, size).sum(-1, keepdims=True) / (length * size)
    return ops.broadcast_to(sums, (rows, groups, size)).reshape(rows, 1, channels)


def group_norm(x, weight, bias, groups, eps):
    """Group norm of [B, ..., C] over all but B and within groups of channels."""
    y = x.reshape(x.shape[0], -1, x.shape[-1])
    y = y - group_means(y, groups)
    y = y * (weight / ops.sqrt(group_means(y * y, groups) + eps)) + bias
    return y.reshape(x.shape)


def silu(x):
    """x * sigmoid(x)"""
    return x * ops.sigmoid(x)


class GroupNorm(nn.Cell):
    """Group norm of [B, ..., C] over all but B and within groups of channels, in float32.

    Args:
        groups (int): how many groups.
        channels (int): C.
        eps (float): added to the variance.
        silu (bool): whether SiLU follows.
        dtype (mindspore.dtype): of what comes out.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, groups, channels, eps, silu=False, dtype=ms.float32):
        super().__init__()
        self.groups, self.eps, self.silu, self.dtype = groups, eps, silu, bfloat16.activation_dtype(dtype)
        self.weight, self.bias = empty_parameter(channels), empty_parameter(channels)
        self.kernel = pictures.group_norm_op()
        numbers = np.array([groups], np.int32), np.array([eps], np.float32), np.array([int(silu)], np.int32)
        self.numbers = tuple(map(Tensor, numbers))

    def construct(self, x):
        if self.kernel is not None:
            flat = x.astype(ms.float32).reshape(x.shape[0], -1, x.shape[-1])
            return self.kernel(flat, self.weight, self.bias, *self.numbers).reshape(x.shape).astype(self.dtype)
        y = group_norm(x.astype(ms.float32), self.weight, self.bias, self.groups, self.eps)
        return (silu(y) if self.silu else y).astype(self.dtype)


@ops.constexpr
def _nearest(length, wanted):
    """Indices that stretch an axis to another length, as torch rounds them: [wanted] int32."""
    places = np.floor(np.arange(wanted, dtype=np.float32) * np.float32(length / wanted)).astype(np.int32)
    return Tensor(np.minimum(places, length - 1))


def resized(x, height, width):
    """[B, H, W, C] -> [B, height, width, C], each the nearest of x."""
    rows, high, wide, channels = x.shape
    x = ops.gather(x.reshape(rows * high, wide, channels), _nearest(wide, width), 1)
    return ops.gather(x.reshape(rows, high, width * channels), _nearest(high, height), 1).reshape(
        rows, height, width, channels
    )


def blocks_of_attention(q, k, v):
    """Attention of [B, H, N, d] to all, without a mask, in blocks of queries."""
    rows, heads, length, size = q.shape
    out = ()
    for start in range(0, length, QUERIES):
        end = min(start + QUERIES, length)
        part = q if length <= QUERIES else ops.strided_slice(q, (0, 0, start, 0), (rows, heads, end, size), (1,) * 4)
        out += (attention(part, k, v, None),)
    return out[0] if len(out) == 1 else ops.concat(out, 2)


def self_attention(qkv, heads):
    """Attention to itself of [B, N, 3 * C], q beside k beside v -> [B, N, C]."""
    rows, length, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    qkv = qkv.reshape(rows, length, 3 * heads, channels // heads)
    q, k, v = ops.split(qkv.transpose(0, 2, 1, 3), heads, 1)
    return blocks_of_attention(q, k, v).transpose(0, 2, 1, 3).reshape(rows, length, channels)


class SelfAttention(nn.Cell):
    """Attention of [B, N, C] to itself, q, k and v as one matrix; by a kernel of `csrc/` where there is one.

    Args:
        channels (int): C.
        heads (int): how many heads.
        bias (bool): whether q, k and v have biases.
        dtype (mindspore.dtype): of weights and pictures.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, channels, heads, bias=False, dtype=ms.float32):
        super().__init__()
        self.heads, self.kernel = heads, attention_op(dtype)
        self.number, self.causal = (Tensor(np.array([n], np.int32)) for n in (heads, 0))
        self.to_qkv = Dense(channels, 3 * channels, dtype, bias)
        self.to_out = Dense(channels, channels, dtype)

    def construct(self, x):
        qkv = self.to_qkv(x)
        if self.kernel is not None:
            return self.to_out(self.kernel(qkv, self.number, self.causal))
        return self.to_out(self_attention(qkv, self.heads))


class ResnetBlock(nn.Cell):
    """Two convolutions, each after a norm and SiLU, added to what came in; what is said of time comes between.

    Args:
        in_channels, out_channels (int): C and O.
        groups (int): of the norms.
        eps (float): of the norms.
        condition (int): size of what is said of time; 0 for none.
        dtype (mindspore.dtype): of weights and pictures.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, in_channels, out_channels, groups, eps, condition=0, dtype=ms.float32):
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps, True, dtype)
        self.conv1 = Conv3x3(in_channels, out_channels, dtype=dtype)
        self.time_emb_proj = Dense(condition, out_channels, dtype) if condition else None
        self.norm2 = GroupNorm(groups, out_channels, eps, True, dtype)
        self.conv2 = Conv3x3(out_channels, out_channels, dtype=dtype)
        self.conv_shortcut = Conv1x1(in_channels, out_channels, dtype) if in_channels != out_channels else None

    def construct(self, x, condition=None):
        """x: [B, H, W, C]; condition: [B, size], SiLU applied."""
        y = self.conv1(self.norm1(x))
        if self.time_emb_proj is not None:
            rows, channels = y.shape[0], y.shape[3]
            y = y + self.time_emb_proj(condition).reshape(rows, 1, 1, channels)
        y = self.conv2(self.norm2(y))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Cell):
    """Half the height and width, by a convolution."""

    def __init__(self, channels, dtype=ms.float32):
        super().__init__()
        self.conv = Conv3x3(channels, channels, 2, dtype)

    def construct(self, x):
        return self.conv(x)


class Upsample(nn.Cell):
    """To a given height and width, then a convolution."""

    def __init__(self, channels, dtype=ms.float32):
        super().__init__()
        self.conv = Conv3x3(channels, channels, dtype=dtype)

    def construct(self, x, height, width):
        return self.conv(resized(x, height, width))


def sinusoids(timestep, size):
    """Cosines, then sines, of times [B] float32 at size / 2 frequencies from 1 to about 1e-4: [B, size]."""
    half = size // 2
    frequencies = Tensor(np.exp(-math.log(10000) * np.arange(half, dtype=np.float32) / np.float32(half)))
    angles = timestep.reshape(-1, 1) * frequencies.reshape(1, half)
    return ops.concat((ops.cos(angles), ops.sin(angles)), 1)
