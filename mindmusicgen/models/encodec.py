"""EnCodec: waveform to codes and back.

Paper: "High Fidelity Neural Audio Compression" (Defossez et al., 2022). The numbers follow transformers'
`modeling_encodec.py`: a convolutional encoder and decoder around an LSTM, and a residual vector quantiser.

Every convolution is matrix products, channels last. MindSpore's bundled convolution falls back to a reference
kernel on some CPUs (50 to 260 times slower in 2.9 and 2.10); MatMul is fast on every version and device. A
convolution with k taps either gathers the taps and multiplies once, or multiplies by each tap's matrix and adds the
shifted products: each cell moves the smaller of input and output k times. The forms were chosen by measuring on a
CPU, where slices along time are cheap, slices along channels and broadcast additions are not.

Shapes: B clips, N samples, C channels, T frames, K codebooks, D hidden size.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..ops.indices import indices
from ..ops.lstm import LSTM
from .layers import empty_parameter

NARROW = 4  # below this many output channels, time goes last


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


def time_slice(x, start, length):
    """`length` frames of [B, N, C] from `start` on. One primitive: indexing compiles far slower, and a codec has 30."""
    rows, _, channels = x.shape
    return ops.strided_slice(x, (0, start, 0), (rows, start + length, channels), (1, 1, 1))


class ConvWeight(nn.Cell):
    """The weight of a convolution, with weight norm folded in, as a matrix; `bias` of shape (out_channels,)."""

    def __init__(self, rows, columns, out_channels):
        super().__init__()
        self.weight = empty_parameter(rows, columns)
        self.bias = empty_parameter(out_channels)
        self.matmul, self.bias_add = ops.MatMul(transpose_b=True), ops.BiasAdd()

    def construct(self, x):
        """[N, columns] -> [N, rows], without the bias"""
        return self.matmul(x, self.weight)

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
    """

    def __init__(self, config, in_channels, out_channels, kernel_size, stride=1, dilation=1):
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
            self.conv = ConvWeight(out_channels, kernel_size * in_channels, out_channels)
        self.norm = TimeGroupNorm(out_channels) if config.norm_type == "time_group_norm" else None

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

    def construct(self, x):
        return self.convolve(self.pad(x))

    def convolve(self, x):
        """The convolution of what is padded already."""
        if not self.multiply_first:
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
        """The same for a handful of output channels, with time as the last axis."""
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

    Each output frame of `stride` samples depends on `kernel_size / stride` neighbouring input frames: one product.
    """

    def __init__(self, config, in_channels, out_channels, kernel_size, stride):
        super().__init__()
        if kernel_size % stride:
            raise ValueError(f"a transposed convolution needs a kernel its stride divides, got {kernel_size}/{stride}")
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.blocks = kernel_size // stride
        total = kernel_size - stride
        self.trim_right = math.ceil(total * config.trim_right_ratio) if config.use_causal_conv else total // 2
        self.trim_left = total - self.trim_right
        self.conv = ConvWeight(stride * out_channels, self.blocks * in_channels, out_channels)
        self.norm = TimeGroupNorm(out_channels) if config.norm_type == "time_group_norm" else None

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


class ELU(nn.Cell):
    """x for x > 0, else exp(x) - 1."""

    def __init__(self):
        super().__init__()
        self.elu = ops.Elu()

    def construct(self, x):
        return self.elu(x)


class Identity(nn.Cell):
    """The shortcut that does nothing."""

    def construct(self, x):
        return x


class ResidualLSTM(nn.Cell):
    """lstm(x) + x along time."""

    def __init__(self, config, dim):
        super().__init__()
        self.lstm = LSTM(dim, dim, config.num_lstm_layers)

    def construct(self, x):
        return self.lstm(x)[0] + x

    def piece(self, x, state):
        """A piece of a longer sequence, [B, T, D], after the state (h, c), [layers, B, D] each; the new state too."""
        y, state = self.lstm(x, state)
        return y + x, state


class ResidualBlock(nn.Cell):
    """shortcut(x) + conv(elu(conv(elu(x)))), with a narrow middle."""

    def __init__(self, config, dim, dilation):
        super().__init__()
        hidden = dim // config.compress
        self.block = nn.CellList(
            [
                ELU(),
                Conv1d(config, dim, hidden, config.residual_kernel_size, dilation=dilation),
                ELU(),
                Conv1d(config, hidden, dim, 1),
            ]
        )
        self.shortcut = Conv1d(config, dim, dim, 1) if config.use_conv_shortcut else Identity()

    def construct(self, x):
        y = x
        for layer in self.block:
            y = layer(y)
        return self.shortcut(x) + y


class LayerSequence(nn.Cell):
    """Cells applied one after the other; their indices are the checkpoint's."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.CellList(layers)

    def construct(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def encoder_layers(config):
    """The encoder's cells in the checkpoint's order: waveform [B, N, C] to embeddings [B, T, D]."""
    width = config.num_filters
    layers = [Conv1d(config, config.audio_channels, width, config.kernel_size)]
    for ratio in reversed(config.upsampling_ratios):
        layers += [
            ResidualBlock(config, width, config.dilation_growth_rate**j) for j in range(config.num_residual_layers)
        ]
        layers += [ELU(), Conv1d(config, width, 2 * width, 2 * ratio, stride=ratio)]
        width *= 2
    return layers + [
        ResidualLSTM(config, width),
        ELU(),
        Conv1d(config, width, config.hidden_size, config.last_kernel_size),
    ]


def decoder_layers(config):
    """The decoder's cells in the checkpoint's order: embeddings [B, T, D] to waveform [B, N, C]."""
    width = config.num_filters * 2 ** len(config.upsampling_ratios)
    layers = [Conv1d(config, config.hidden_size, width, config.kernel_size), ResidualLSTM(config, width)]
    for ratio in config.upsampling_ratios:
        layers += [ELU(), ConvTranspose1d(config, width, width // 2, 2 * ratio, ratio)]
        width //= 2
        layers += [
            ResidualBlock(config, width, config.dilation_growth_rate**j) for j in range(config.num_residual_layers)
        ]
    return layers + [ELU(), Conv1d(config, width, config.audio_channels, config.last_kernel_size)]


class ResidualVectorQuantizer(nn.Cell):
    """K codebooks, each coding what the ones before left over; `embed` holds them all, (K, codes, D)."""

    def __init__(self, config):
        super().__init__()
        self.num_quantizers = config.num_quantizers
        self.embed = empty_parameter(config.num_quantizers, config.codebook_size, config.codebook_dim)
        self.matmul, self.gather, self.argmin = ops.MatMul(transpose_b=True), ops.Gather(), ops.Argmin(-1)

    def encode(self, x, num_quantizers):
        """Embeddings [B, T, D] -> codes [B, K, T] int32."""
        rows, frames, dim = x.shape
        codes = ()
        for nearest in self.nearest(x.reshape(rows * frames, dim), num_quantizers):
            codes += (nearest.reshape(rows, frames),)
        return ops.stack(codes, 1).astype(ms.int32)

    def nearest(self, residual, num_quantizers):
        """Embeddings [N, D] -> in each stage the nearest code of what is left over: a tuple of [N] int32."""
        codes = ()
        for i in range(num_quantizers):
            table = self.embed[i]
            distance = (table * table).sum(axis=1) - 2 * self.matmul(residual, table)
            distance = distance + (residual * residual).sum(axis=1, keepdims=True)
            nearest = self.argmin(distance)
            residual = residual - self.gather(table, nearest, 0)
            codes += (nearest,)
        return codes

    def decode(self, codes):
        """Codes [B, K, T] -> the sum of their embeddings [B, T, D]."""
        books, size, dim = self.embed.shape
        places = codes + (indices(0, codes.shape[1]) * size).astype(codes.dtype).reshape(1, -1, 1)
        return self.gather(self.embed.reshape(books * size, dim), places, 0).sum(axis=1)


class Encodec(nn.Cell):
    """The codec: `to_codes`, and `to_audio`.

    Args:
        config (transformers.EncodecConfig): layout of the codec.

    Raises:
        ValueError: if the config asks for a padding, norm or kernel this cell does not have.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config):
        super().__init__()
        if config.pad_mode not in ("reflect", "constant"):
            raise ValueError(
                f"pad_mode {config.pad_mode!r} of the codec is not supported; expected reflect or constant"
            )
        if config.norm_type not in ("weight_norm", "time_group_norm"):
            raise ValueError(f"norm_type {config.norm_type!r} of the codec is not supported; expected weight_norm")
        self.config, self.normalize = config, config.normalize
        self.encoder = LayerSequence(encoder_layers(config))
        self.decoder = LayerSequence(decoder_layers(config))
        self.quantizer = ResidualVectorQuantizer(config)

    def to_codes(self, audio, num_quantizers):
        """Waveform to codes.

        Args:
            audio (Tensor): [B, C, N], float32 in -1 to 1.
            num_quantizers (int): how many codebooks to use.

        Returns:
            codes [B, K, T] int32, and the loudness [B, 1] that was divided out (ones unless `normalize`).
        """
        rows = audio.shape[0]
        scale = ops.ones((rows, 1), audio.dtype)
        if self.normalize:
            mono = audio.mean(axis=1)
            scale = ops.sqrt((mono * mono).mean(axis=1, keep_dims=True)) + 1e-8
            audio = audio / scale.reshape(rows, 1, 1)
        return self.quantizer.encode(self.encoder(audio.swapaxes(1, 2)), num_quantizers), scale

    def to_audio(self, codes, scale=None):
        """Codes [B, K, T] (and the loudness [B, 1] from `to_codes`) to a waveform [B, C, T * hop]."""
        audio = self.decoder(self.quantizer.decode(codes)).swapaxes(1, 2)
        return audio if scale is None else audio * scale.reshape(-1, 1, 1)

    def decode_recurrent(self, codes, h, c):
        """First part of `to_audio` for a piece of a longer clip: the first convolution and the LSTM.

        Args:
            codes (Tensor): [B, K, left + F + right], what surrounds the piece included; (left, right) is the padding
                of the first convolution, and at an end of the clip holds the clip's reflection.
            h, c (Tensor): state of the LSTM before the piece, [layers, B, D'].

        Returns:
            hidden frames [B, F, D'], and the state after the piece.
        """
        x = self.decoder.layers[0].convolve(self.quantizer.decode(codes))
        x, (h, c) = self.decoder.layers[1].piece(x, (h, c))
        return x, h, c

    def decode_convolutions(self, x):
        """The rest of `to_audio`: hidden frames [B, F, D'] to a waveform [B, C, F * hop]."""
        for layer in self.decoder.layers[2:]:
            x = layer(x)
        return x.swapaxes(1, 2)

    @property
    def reach(self):
        """Hidden frames on either side that a sample of `decode_convolutions` may depend on, rounded up."""
        frames, rate = 0.0, 1
        for ratio in self.config.upsampling_ratios:
            frames += 1 / rate  # the transposed convolution: one neighbour
            rate *= ratio
            dilations = sum(self.config.dilation_growth_rate**j for j in range(self.config.num_residual_layers))
            frames += (self.config.residual_kernel_size - 1) * dilations / rate
        return math.ceil(frames + (self.config.last_kernel_size - 1) / rate)
