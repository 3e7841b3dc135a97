"""EnCodec: waveform to codes and back.

Paper: "High Fidelity Neural Audio Compression" (Defossez et al., 2022). The numbers follow transformers'
`modeling_encodec.py`: a convolutional encoder and decoder around an LSTM, and a residual vector quantiser.

Shapes: B clips, N samples, C channels, T frames, K codebooks, D hidden size.
"""

import math

import mindspore as ms
from mindspore import nn, ops

from ..ops.indices import indices
from ..ops.lstm import LSTM
from .convolutions import Conv1d, ConvTranspose1d
from .layers import empty_parameter


class ELU(nn.Cell):
    """x for x > 0, else exp(x) - 1."""

    def __init__(self):
        super().__init__()
        self.elu = ops.Elu()

    def construct(self, x):
        return self.elu(x)

    def until(self, x, end):
        return self.elu(x), end


class Identity(nn.Cell):
    """The shortcut that does nothing, and the place of an ELU that the convolution behind it takes along."""

    def construct(self, x):
        return x

    def until(self, x, end):
        return x, end


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
                Identity(),
                Conv1d(config, dim, hidden, config.residual_kernel_size, dilation=dilation, elu=True),
                Identity(),
                Conv1d(config, hidden, dim, 1, elu=True),
            ]
        )
        self.shortcut = Conv1d(config, dim, dim, 1) if config.use_conv_shortcut else Identity()

    def construct(self, x):
        return self.block[3](self.block[1](x), self.shortcut(x))

    def until(self, x, end):
        y, _ = self.block[1].until(x, end)
        return self.block[3].until(y, end, self.shortcut.until(x, end)[0])


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
        layers += [Identity(), Conv1d(config, width, 2 * width, 2 * ratio, stride=ratio, elu=True)]
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
        layers += [Identity(), ConvTranspose1d(config, width, width // 2, 2 * ratio, ratio, elu=True)]
        width //= 2
        layers += [
            ResidualBlock(config, width, config.dilation_growth_rate**j) for j in range(config.num_residual_layers)
        ]
    return layers + [Identity(), Conv1d(config, width, config.audio_channels, config.last_kernel_size, elu=True)]


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

    def decode(self, codes, used=None):
        """Codes [B, K, T] -> the sum of their embeddings [B, T, D]; where `used` [B, K, T] is 0, none."""
        books, size, dim = self.embed.shape
        places = codes + (indices(0, codes.shape[1]) * size).astype(codes.dtype).reshape(1, -1, 1)
        found = self.gather(self.embed.reshape(books * size, dim), places, 0)
        return (found if used is None else found * used.expand_dims(-1)).sum(axis=1)


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

    def decode_recurrent(self, codes, h, c, used=None):
        """First part of `to_audio` for a piece of a longer clip: the first convolution and the LSTM.

        Args:
            codes (Tensor): [B, K, left + F + right], what surrounds the piece included; (left, right) is the padding
                of the first convolution, and at an end of the clip holds the clip's reflection.
            h, c (Tensor): state of the LSTM before the piece, [layers, B, D'].
            used (Tensor): see `ResidualVectorQuantizer.decode`.

        Returns:
            hidden frames [B, F, D'], and the state after the piece.
        """
        x = self.decoder.layers[0].convolve(self.quantizer.decode(codes, used))
        x, (h, c) = self.decoder.layers[1].piece(x, (h, c))
        return x, h, c

    def decode_convolutions(self, x):
        """The rest of `to_audio`: hidden frames [B, F, D'] to a waveform [B, C, F * hop]."""
        for layer in self.decoder.layers[2:]:
            x = layer(x)
        return x.swapaxes(1, 2)

    def decode_convolutions_until(self, x, end):
        """`decode_convolutions` of the first `end` [1] int32 hidden frames; the audio behind them means nothing."""
        for layer in self.decoder.layers[2:]:
            x, end = layer.until(x, end)
        return x.swapaxes(1, 2)

    def encode_convolutions_until(self, audio, end):
        """First part of `encode` for a window: audio [B, 1, F * hop], of which `end` [1] int32 samples are real, to
        hidden frames [B, F, D'] up to the LSTM."""
        x = audio.swapaxes(1, 2)
        for layer in self.encoder.layers[:-3]:
            x, end = layer.until(x, end)
        return x

    def encode_recurrent(self, x, h, c):
        """The LSTM of `encode` for a piece [B, F, D'] after a state: the piece, and the state after it."""
        x, (h, c) = self.encoder.layers[-3].piece(x, (h, c))
        return self.encoder.layers[-2](x), h, c

    def encode_last(self, x, num_quantizers):
        """The rest of `encode`: frames [B, left + F + right, D'], (left, right) the padding of the last convolution,
        to codes [B, K, F] int32."""
        return self.quantizer.encode(self.encoder.layers[-1].convolve(x), num_quantizers)

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

    @property
    def encoder_reach(self):
        """Frames on either side that a hidden frame of `encode_convolutions_until` may depend on, rounded up."""
        frames, rate = 0.0, self.config.hop_length
        for layer in self.encoder.layers[:-3]:
            convolutions = [cell for _, cell in layer.cells_and_names() if isinstance(cell, Conv1d)]
            frames += sum((cell.kernel_size - 1) * cell.dilation for cell in convolutions) / rate
            rate /= max([cell.stride for cell in convolutions], default=1)
        return math.ceil(frames)


def parameter_count(config):
    """The codec's, with weight norm folded."""

    def convolution(inputs, outputs, kernel):
        return inputs * outputs * kernel + outputs

    def residual(width):
        narrow = width // config.compress
        made = convolution(width, narrow, config.residual_kernel_size) + convolution(narrow, width, 1)
        return config.num_residual_layers * (made + (convolution(width, width, 1) if config.use_conv_shortcut else 0))

    def half(begin, end):  # encoder and decoder are mirror images
        width = config.num_filters
        total = convolution(config.audio_channels, width, begin)
        for ratio in reversed(config.upsampling_ratios):
            total += residual(width) + 2 * width * width * 2 * ratio
            width *= 2
        return total + config.num_lstm_layers * 8 * (width * width + width) + width * config.hidden_size * end

    first, last, ratios = config.kernel_size, config.last_kernel_size, config.upsampling_ratios
    widths = [config.num_filters * 2**i for i in range(len(ratios) + 1)]
    encoder = half(first, last) + sum(widths[1:]) + config.hidden_size
    decoder = half(last, first) - config.num_filters + config.audio_channels + sum(widths[:-1]) + widths[-1]
    return encoder + decoder + config.num_quantizers * config.codebook_size * config.codebook_dim
