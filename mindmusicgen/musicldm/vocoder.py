"""The vocoder: log-mel spectrograms to sound.

HiFi-GAN, Kong et al., arXiv:2010.05646. The numbers follow transformers' SpeechT5HifiGan, and so do the names of
parameters. A transposed convolution whose stride does not divide its kernel has its kernel filled up with zeros.

Shapes: B clips, N frames or samples, C channels.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..models.convolutions import ConvWeight, pad_time, time_slice
from ..models.layers import empty_parameter, tanh
from ..ops.pictures import conv_time_op

LAST_SLOPE = 0.01


class Conv(nn.Cell):
    """A convolution along time, as long as its input: [B, N, C] -> [B, N, O]."""

    def __init__(self, in_channels, out_channels, kernel_size, dilation=1, dtype=ms.float32):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.dilation = kernel_size, dilation
        self.conv = ConvWeight(out_channels, kernel_size * in_channels, out_channels, dtype)
        self.reach = Tensor(np.array([dilation], np.int32))
        self.whole = conv_time_op(dtype)

    def pack(self, weight):
        """(O, C, k) as in torch -> the matrix this cell multiplies with."""
        return weight.transpose(0, 2, 1).reshape(self.out_channels, -1)

    def unpack(self, matrix):
        """The inverse of `pack`."""
        return matrix.reshape(self.out_channels, self.kernel_size, self.in_channels).transpose(0, 2, 1)

    def construct(self, x):
        if self.whole is not None:
            return self.whole(x, self.conv.weight, self.conv.bias, self.reach)
        rows, length, channels = x.shape
        reach = (self.kernel_size - 1) * self.dilation // 2
        x = pad_time(x, reach, reach, "constant")
        taps = ()
        for i in range(self.kernel_size):
            taps += (time_slice(x, i * self.dilation, length),)
        x = ops.concat(taps, 2).reshape(rows * length, self.kernel_size * channels)
        return self.conv.add_bias(self.conv(x)).reshape(rows, length, self.out_channels)


class ConvTranspose(nn.Cell):
    """A transposed convolution, [B, N, C] -> [B, (N - 1) * stride + kernel - 2 * ((kernel - stride) // 2), O]."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, dtype=ms.float32):
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.kernel_size, self.blocks = kernel_size, math.ceil(kernel_size / stride)
        self.trim = (kernel_size - stride) // 2
        self.conv = ConvWeight(stride * out_channels, self.blocks * in_channels, out_channels, dtype)

    def pack(self, weight):
        """(C, O, k) as in torch -> the matrix this cell multiplies with."""
        room = self.blocks * self.stride
        full = np.zeros((self.in_channels, self.out_channels, room), np.float32)
        full[:, :, : self.kernel_size] = weight
        full = full.reshape(self.in_channels, self.out_channels, self.blocks, self.stride)
        return full.transpose(3, 1, 2, 0).reshape(self.stride * self.out_channels, -1)

    def unpack(self, matrix):
        """The inverse of `pack`."""
        full = matrix.reshape(self.stride, self.out_channels, self.blocks, self.in_channels).transpose(3, 1, 2, 0)
        return full.reshape(self.in_channels, self.out_channels, -1)[:, :, : self.kernel_size]

    def construct(self, x):
        rows, length, channels = x.shape
        reach = self.blocks - 1
        frames = length + reach
        x, taps = pad_time(x, reach, reach, "constant"), ()
        for i in range(self.blocks):
            taps += (time_slice(x, reach - i, frames),)
        x = ops.concat(taps, 2).reshape(rows * frames, self.blocks * channels)
        y = self.conv.add_bias(self.conv(x).reshape(rows * frames * self.stride, self.out_channels))
        y = y.reshape(rows, frames * self.stride, self.out_channels)
        return time_slice(y, self.trim, (length - 1) * self.stride + self.kernel_size - 2 * self.trim)


class ResidualBlock(nn.Cell):
    """Pairs of convolutions, the first of each reaching farther, each pair added to what came in."""

    def __init__(self, channels, kernel_size, dilations, slope, dtype=ms.float32):
        super().__init__()
        self.slope = slope
        self.convs1 = nn.CellList([Conv(channels, channels, kernel_size, n, dtype) for n in dilations])
        self.convs2 = nn.CellList([Conv(channels, channels, kernel_size, 1, dtype) for _ in dilations])

    def construct(self, x):
        for first, second in zip(self.convs1, self.convs2):  # noqa: B905 graphs know no strict
            x = x + second(leaky(first(leaky(x, self.slope)), self.slope))
        return x


def leaky(x, slope):
    """Leaky ReLU: the larger of x and slope * x, as slope is below 1."""
    return ops.maximum(x, x * slope)


class Vocoder(nn.Cell):
    """Log-mel spectrograms to sound, in float32.

    Args:
        config (musicldm.config.VocoderConfig): sizes.
        dtype (mindspore.dtype): float32; or bfloat16 on a CPU, of weights and products.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        self.config, self.dtype, channels = config, dtype, config.upsample_initial_channel
        self.conv_pre = Conv(config.model_in_dim, channels, 7, 1, dtype)
        ups, blocks = [], []
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            ups.append(ConvTranspose(channels, channels // 2, kernel_size, rate, dtype))
            channels = channels // 2
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                blocks.append(ResidualBlock(channels, size, dilations, config.leaky_relu_slope, dtype))
        self.upsampler, self.resblocks = nn.CellList(ups), nn.CellList(blocks)
        self.conv_post = Conv(channels, 1, 7, 1, dtype)
        self.mean = empty_parameter(config.model_in_dim) if config.normalize_before else None
        self.scale = empty_parameter(config.model_in_dim) if config.normalize_before else None

    def construct(self, mel):
        """[B, frames, bins] -> [B, samples], each from -1 to 1."""
        if self.mean is not None:
            mel = (mel - self.mean) / self.scale
        x, count = self.conv_pre(mel), len(self.config.resblock_kernel_sizes)
        for i, up in enumerate(self.upsampler):
            x = up(leaky(x, self.config.leaky_relu_slope))
            y = self.resblocks[i * count](x)
            for j in range(1, count):
                y = y + self.resblocks[i * count + j](x)
            x = y / count
        y = tanh(self.conv_post(leaky(x, LAST_SLOPE)))
        return y.reshape(y.shape[0], y.shape[1])
