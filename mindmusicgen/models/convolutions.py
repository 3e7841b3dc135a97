"""EnCodec's convolutions along time, as matrix products, channels last.

MindSpore's bundled convolution falls back to a reference kernel on some CPUs (50 to 260 times slower in 2.9 and
2.10); MatMul is fast on every version and device. A convolution with k taps either gathers the taps and multiplies
once, or multiplies by each tap's matrix and adds the shifted products: each cell moves the smaller of input and
output k times. The forms were chosen by measuring on a CPU, where slices along time are cheap, slices along channels
and broadcast additions are not. Where there is a kernel (`ops.convolution`), nothing is moved, and an ELU before a
convolution and an addition behind it are part of it.

Shapes: B clips, N samples or frames, C channels, O output channels.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..ops import bfloat16, gradients, native, pictures
from ..ops.convolution import convolve_op, fits, numbers
from ..ops.indices import indices
from ..ops.linear import matmul_transposed
from .layers import empty_parameter

NARROW = 4  # below this many output channels, time goes last


@ops.constexpr
def _count(number):
    """A number as what a graph's `end` is: [1] int32."""
    return Tensor(np.array([number], np.int32))


@ops.constexpr
def _reflected(length, left, right):
    """Indices that reflect a sequence of `length` at both ends: ([left], [right]) int32."""
    return Tensor(np.arange(left, 0, -1, dtype=np.int32)), Tensor(
        np.arange(length - 2, length - 2 - right, -1, dtype=np.int32)
    )


def pad_time(x, left, right, mode):
    """Pad [B, N, C] along time with zeros or by reflection.

    An input no longer than the padding is first extended with zeros, which are cut off again afterwards.
    """
    rows, length, channels = x.shape
    if mode == "constant":
        return ops.concat(
            (ops.zeros((rows, left, channels), x.dtype), x, ops.zeros((rows, right, channels), x.dtype)), 1
        )
    extra = max(max(left, right) - length + 1, 0)
    if extra:
        x = ops.concat((x, ops.zeros((rows, extra, channels), x.dtype)), 1)
    before, after = _reflected(length + extra, left, right)
    parts = (ops.gather(x, before, 1),) if left else ()
    parts += (x,)
    parts += (ops.gather(x, after, 1),) if right else ()
    padded = ops.concat(parts, 1) if len(parts) > 1 else x
    return time_slice(padded, 0, left + length + right) if extra else padded


def pad_until(x, left, right, mode, end):
    """`pad_time` of the first `end` [1] int32 entries of [B, N, C], which are more than the padding.

    What follows behind their padding means nothing. So the graph of one N serves every length up to it.
    """
    order = indices(-left, x.shape[1] + right).astype(ms.int32)
    if mode == "constant":
        real = ops.logical_and(order >= 0, order < end).astype(x.dtype).reshape(1, -1, 1)
        return ops.gather(x, ops.clip(order, 0, x.shape[1] - 1), 1) * real
    order = ops.abs(order)
    mirrored = ops.minimum(order, 2 * end - 2 - order)
    return ops.gather(x, ops.maximum(mirrored, 0), 1)


def time_slice(x, start, length):
    """`length` frames of [B, N, C] from `start` on. One primitive: indexing compiles far slower, and a codec has 30."""
    rows, _, channels = x.shape
    return ops.strided_slice(x, (0, start, 0), (rows, start + length, channels), (1, 1, 1))


class ConvWeight(nn.Cell):
    """The weight of a convolution, with weight norm folded in, as a matrix; `bias` of shape (out_channels,).

    dtype: float32, or bfloat16 on a CPU that multiplies it (`ops.bfloat16`); what comes in and out is float32.
    """

    def __init__(self, rows, columns, out_channels, dtype=ms.float32):
        super().__init__()
        self.weight = empty_parameter(rows, columns, dtype=bfloat16.stored_dtype(dtype))
        self.bias = empty_parameter(out_channels)
        self.kernel = pictures.bfloat16_product_op() if bfloat16.weights_only(dtype) else native.linear_op()
        self.most_rows = native.linear_rows()
        self.trained = gradients.linear_op() if dtype == ms.float32 else None
        self.bias_add = ops.BiasAdd()

    def construct(self, x):
        """[N, columns] -> [N, rows], without the bias"""
        return self.matmul(x, self.weight)

    def matmul(self, x, weight):
        """x [N, columns] times weight [rows, columns] transposed"""
        if self.training and self.trained is not None and x.shape[0] > native.FEW_ROWS:
            return self.trained(x, weight)
        return matmul_transposed(x, weight, self.kernel, self.most_rows)

    def add_bias(self, x):
        """[N, O] + bias: BiasAdd takes half the time of a broadcast addition on a CPU."""
        return self.bias_add(x, self.bias)


class TimeGroupNorm(nn.Cell):
    """Group norm with one group: over time and channels of each clip."""

    def __init__(self, channels):
        super().__init__()
        self.weight = empty_parameter(channels)
        self.bias = empty_parameter(channels)

    def construct(self, x):
        mean = x.mean(axis=(1, 2), keep_dims=True)
        variance = (x - mean).square().mean(axis=(1, 2), keep_dims=True)
        return (x - mean) / ops.sqrt(variance + 1e-5) * self.weight + self.bias


class Conv1d(nn.Cell):
    """A padded convolution, [B, N, C] -> [B, ceil(N / stride), O].

    Non-causal padding puts the larger half on the left; the right is extended so that the last window is full.
    `gathered` is what holds the matrix of a convolution whose taps are gathered first. With `elu`, the input passes
    through ELU first; what is `added` [B, ceil(N / stride), O] to the output, is added last.
    """

    def __init__(
        self, config, in_channels, out_channels, kernel_size, stride=1, dilation=1, gathered=ConvWeight, elu=False
    ):
        super().__init__()
        if stride > 1 and (dilation > 1 or kernel_size % stride):
            raise ValueError(
                f"a strided convolution needs a kernel that its stride divides, got {kernel_size}/{stride}"
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.dilation = stride, dilation
        self.pad_mode, self.causal = config.pad_mode, config.use_causal_conv
        self.multiply_first = stride == 1 and out_channels < in_channels
        if self.multiply_first:
            self.conv = ConvWeight(kernel_size * out_channels, in_channels, out_channels)
        else:
            self.conv = gathered(out_channels, kernel_size * in_channels, out_channels)
        self.norm = TimeGroupNorm(out_channels) if config.norm_type == "time_group_norm" else None
        self.elu = ops.Elu() if elu else None
        taps, left = kernel_size // stride, self.padding[0]
        shape = {"dilation": dilation, "stride": stride, "taps_first": self.multiply_first}
        how = {"left": left, "reflect": self.pad_mode == "reflect", "elu": elu, **shape}
        self.told, self.told_adding = numbers(taps, **how), numbers(taps, added=True, **how)
        self.told_unpadded = numbers(taps, **shape)
        self.padded_op = convolve_op(stride - 1, 1, stride)
        self.unpadded_op = convolve_op(-(taps - 1) * dilation * stride, 1, stride)

    def pack(self, weight):
        """(O, C, k) as in torch -> the matrix this cell multiplies with."""
        if self.multiply_first:
            return weight.transpose(2, 0, 1).reshape(-1, self.in_channels)
        return weight.transpose(0, 2, 1).reshape(self.out_channels, -1)

    def unpack(self, matrix):
        """The inverse of `pack`."""
        if self.multiply_first:
            return matrix.reshape(self.kernel_size, self.out_channels, self.in_channels).transpose(1, 2, 0)
        return matrix.reshape(self.out_channels, self.kernel_size, self.in_channels).transpose(0, 2, 1)

    @property
    def padding(self):
        """(left, right), before the right is extended."""
        total = (self.kernel_size - 1) * self.dilation + 1 - self.stride
        right = 0 if self.causal else total // 2
        return total - right, right

    def pad(self, x):
        left, right = self.padding
        right = right + -x.shape[1] % self.stride
        if left + right == 0:
            return x
        return pad_time(x, left, right, self.pad_mode)

    def construct(self, x, added=None):
        length = x.shape[1]
        reach = max(self.padding) + self.stride - 1  # what a reflection must not reach beyond
        if (self.pad_mode == "constant" or length > reach) and self.takes(self.padded_op, x):
            return self.fused(x, _count(length), added)
        x = x if self.elu is None else self.elu(x)
        y = self.convolve(self.pad(x))
        return y if added is None else y + added

    def until(self, x, end, added=None):
        """The convolution of the first `end` [1] entries of x, whose length the stride divides; how many come out."""
        left, right = self.padding
        frames = ops.floor_div(end + (self.stride - 1), self.stride)
        if self.takes(self.padded_op, x):
            return self.fused(x, end, added), frames
        x = x if self.elu is None else self.elu(x)
        y = self.convolve(pad_until(x, left, right, self.pad_mode, end))
        return y if added is None else y + added, frames

    def takes(self, op, x):
        """Whether the kernel is to be used: few rows are quicker as a product that reads the weights once."""
        return x.shape[0] * x.shape[1] > self.stride * native.FEW_ROWS and fits(op, x, self.conv.weight, self.training)

    def fused(self, x, end, added):
        """ELU, padding, convolution and addition by the kernel."""
        weight, bias = self.conv.weight, self.conv.bias
        if self.norm is None and added is not None:
            return self.padded_op(x, weight, bias, added, self.told_adding, end)
        y = self.padded_op(x, weight, bias, bias, self.told, end)
        y = y if self.norm is None else self.norm(y)
        return y if added is None else y + added

    def convolve(self, x):
        """The convolution of what is padded already, and has passed through ELU."""
        if self.takes(self.unpadded_op, x):
            weight, bias = self.conv.weight, self.conv.bias
            y = self.unpadded_op(x, weight, bias, bias, self.told_unpadded, _count(x.shape[1]))
        elif not self.multiply_first:
            y = self.gather_then_multiply(x)
        elif self.out_channels < NARROW:
            y = self.multiply_transposed(x)
        else:
            y = self.multiply_then_add(x)
        return y if self.norm is None else self.norm(y)

    def gather_then_multiply(self, x):
        """One product with each output's taps side by side."""
        rows, length, channels = x.shape
        blocks = self.kernel_size // self.stride
        if self.stride > 1:
            x = x.reshape(rows, length // self.stride, self.stride * channels)
        frames = x.shape[1] - (blocks - 1) * self.dilation
        if blocks > 1:
            taps = ()
            for i in range(blocks):
                taps += (time_slice(x, i * self.dilation, frames),)
            x = ops.concat(taps, 2)
        y = self.conv.add_bias(self.conv(x.reshape(rows * frames, self.kernel_size * channels)))
        return y.reshape(rows, frames, self.out_channels)

    def multiply_then_add(self, x):
        """A product for each tap, shifted and added; the slices run along time and are cheap."""
        rows, length, channels = x.shape
        out = self.out_channels
        frames = length - (self.kernel_size - 1) * self.dilation
        flat = x.reshape(rows * length, channels)
        y = 0
        for tap in range(self.kernel_size):
            weight = ops.strided_slice(self.conv.weight, (tap * out, 0), ((tap + 1) * out, channels), (1, 1))
            product = self.conv.matmul(flat, weight)
            product = self.conv.add_bias(product) if tap == 0 else product
            product = product.reshape(rows, length, out)
            if self.kernel_size > 1:  # a slice of everything would be a slow copy
                product = time_slice(product, tap * self.dilation, frames)
            y = y + product
        return y

    def multiply_transposed(self, x):
        """The sum of products for a handful of output channels, with time as the last axis."""
        rows, length, channels = x.shape
        frames = length - (self.kernel_size - 1) * self.dilation
        products = self.conv.matmul(self.conv.weight, x.reshape(rows * length, channels))  # [k * O, B * N]
        products = products.reshape(self.kernel_size, self.out_channels, rows, length)
        y = self.conv.bias.reshape(-1, 1, 1)
        for tap in range(self.kernel_size):
            start = tap * self.dilation
            end = (tap + 1, self.out_channels, rows, start + frames)
            product = ops.strided_slice(products, (tap, 0, 0, start), end, (1, 1, 1, 1))
            y = y + product.reshape(self.out_channels, rows, frames)
        return y.transpose(1, 2, 0)


class ConvTranspose1d(nn.Cell):
    """A transposed convolution trimmed to exactly `stride` samples per input frame, [B, T, C] -> [B, T * stride, O].

    Each output frame of `stride` samples depends on `kernel_size / stride` neighbouring input frames: one product, with
    the matrix in `weight`. With `elu`, the input passes through ELU first.
    """

    def __init__(self, config, in_channels, out_channels, kernel_size, stride, weight=ConvWeight, elu=False):
        super().__init__()
        if kernel_size % stride:
            raise ValueError(f"a transposed convolution needs a kernel its stride divides, got {kernel_size}/{stride}")
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.blocks = kernel_size // stride
        total = kernel_size - stride
        self.trim_right = math.ceil(total * config.trim_right_ratio) if config.use_causal_conv else total // 2
        self.trim_left = total - self.trim_right
        self.conv = weight(stride * out_channels, self.blocks * in_channels, out_channels)
        self.norm = TimeGroupNorm(out_channels) if config.norm_type == "time_group_norm" else None
        self.elu = ops.Elu() if elu else None
        self.told = numbers(self.blocks, stride=stride, left=self.trim_left, elu=elu, transposed=True)
        self.kernel = convolve_op(0, stride, 1) if self.norm is None else None

    def pack(self, weight):
        """(C, O, k) as in torch -> the matrix this cell multiplies with."""
        weight = weight.reshape(self.in_channels, self.out_channels, self.blocks, self.stride)
        return weight.transpose(3, 1, 2, 0).reshape(self.stride * self.out_channels, -1)

    def unpack(self, matrix):
        """The inverse of `pack`."""
        matrix = matrix.reshape(self.stride, self.out_channels, self.blocks, self.in_channels)
        return matrix.transpose(3, 1, 2, 0).reshape(self.in_channels, self.out_channels, -1)

    def construct(self, x):
        rows, frames, channels = x.shape
        if self.takes(x):
            return self.fused(x, _count(frames))
        x = x if self.elu is None else self.elu(x)
        reach = self.blocks - 1
        if reach:
            edge = ops.zeros((rows, reach, channels), x.dtype)
            x = ops.concat((edge, x, edge), 1)
            frames = frames + reach
            taps = ()
            for i in range(self.blocks):
                taps += (time_slice(x, reach - i, frames),)
            x = ops.concat(taps, 2)
        y = self.conv(x.reshape(rows * frames, self.blocks * channels))
        y = self.conv.add_bias(y.reshape(rows * frames * self.stride, self.out_channels))
        y = y.reshape(rows, frames * self.stride, self.out_channels)
        y = y if self.norm is None else self.norm(y)
        return time_slice(y, self.trim_left, y.shape[1] - self.trim_left - self.trim_right) if reach else y

    def until(self, x, end):
        """That of the first `end` [1] frames of x, and how many samples come out; beyond a clip there are zeros."""
        if self.takes(x):
            return self.fused(x, end), end * self.stride
        real = (indices(0, x.shape[1]).astype(ms.int32) < end).astype(x.dtype)
        return self.construct(x * real.reshape(1, -1, 1)), end * self.stride

    def takes(self, x):
        """As in `Conv1d`."""
        few = x.shape[0] * (x.shape[1] + self.blocks - 1) <= native.FEW_ROWS
        return not few and fits(self.kernel, x, self.conv.weight, self.training)

    def fused(self, x, end):
        """ELU and convolution by the kernel."""
        return self.kernel(x, self.conv.weight, self.conv.bias, self.conv.bias, self.told, end)
