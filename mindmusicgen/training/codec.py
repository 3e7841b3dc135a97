"""Training the codec: reconstruction losses, a straight-through quantiser, and codebooks that follow their data.

Papers: "High Fidelity Neural Audio Compression" (Defossez et al., 2022); codebooks as moving averages with dead codes
revived: "Neural Discrete Representation Learning" (van den Oord et al., 2017), "SoundStream" (Zeghidour et al., 2021).
"""

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .spectral import SpectralLoss

DEAD = 0.1  # a code chosen less often than this part of the average is replaced


class TrainableQuantizer(nn.Cell):
    """Quantises embeddings, and moves each code to the mean of what chose it; a code nobody chooses is replaced.

    Args:
        quantizer (ResidualVectorQuantizer): the codec's, whose `embed` is updated in place.
        decay (float): of the moving averages, per step.

    Inputs:
        - **x** (Tensor) - embeddings, [B, T, D].
        - **fresh** (Tensor) - [K, codes] int32 in 0 .. B * T - 1: which embedding replaces a dead code.
        - **strength** (Tensor) - [1] in 0 .. 1: how much of the quantisation reaches the output. Training starts with
          little, or all embeddings shrink to one point before the decoder has a use for them.

    Outputs:
        the quantised embeddings [B, T, D] with the gradient of `x`, the commitment loss, and the number of codes of
        each codebook that were replaced, [K] float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, quantizer, decay=0.99):
        super().__init__()
        self.quantizer, self.decay = quantizer, decay
        count, codes, dim = quantizer.embed.shape
        quantizer.embed.requires_grad = False
        self.sums = Parameter(Tensor(np.zeros((count, codes, dim), np.float32)), name="sums", requires_grad=False)
        self.counts = Parameter(Tensor(np.zeros((count, codes), np.float32)), name="counts", requires_grad=False)
        self.matmul = ops.MatMul(transpose_a=True)

    def construct(self, x, fresh, strength):
        rows, frames, dim = x.shape
        flat = x.reshape(rows * frames, dim)
        residual = ops.stop_gradient(flat)
        codes = self.quantizer.nearest(residual, self.quantizer.num_quantizers)
        average = rows * frames / self.counts.shape[1]
        tables, sums, counts, replaced = (), (), (), ()
        quantised, commitment = 0, 0
        for i in range(self.quantizer.num_quantizers):
            table = self.quantizer.embed[i]
            chosen = ops.one_hot(codes[i], self.counts.shape[1], Tensor(1.0), Tensor(0.0))  # [B * T, codes]
            count = self.decay * self.counts[i] + (1 - self.decay) * chosen.sum(axis=0)
            total = self.decay * self.sums[i] + (1 - self.decay) * self.matmul(chosen, residual)
            dead = (count < DEAD * average).astype(x.dtype)
            living, missing = (1 - dead).expand_dims(-1), dead.expand_dims(-1)
            count = count * (1 - dead) + average * dead
            total = total * living + ops.gather(residual, fresh[i], 0) * average * missing
            quantised = quantised + ops.gather(table, codes[i], 0)
            commitment = commitment + ops.square(flat - ops.stop_gradient(quantised)).mean()
            residual = residual - ops.gather(table, codes[i], 0)
            tables += (total / count.expand_dims(-1),)
            sums += (total,)
            counts += (count,)
            replaced += (dead.sum(),)
        ops.assign(self.quantizer.embed, ops.stop_gradient(ops.stack(tables)))
        ops.assign(self.sums, ops.stop_gradient(ops.stack(sums)))
        ops.assign(self.counts, ops.stop_gradient(ops.stack(counts)))
        straight_through = flat + ops.stop_gradient((quantised - flat) * strength)
        return straight_through.reshape(rows, frames, dim), commitment, ops.stack(replaced)


class CodecLoss(nn.Cell):
    """What the training of a codec minimises.

    Args:
        codec (Encodec): the codec.
        waveform_weight (float): weight of the mean absolute difference of the waveforms.
        commitment_weight (float): weight of the distance between embeddings and their codes.

    Inputs:
        - **audio** (Tensor) - [B, C, N] float32.
        - **fresh**, **strength** (Tensor) - see `TrainableQuantizer`.

    Outputs:
        loss, and the metrics named in `metric_names`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    metric_names = ("loss", "log-mel distance", "waveform distance", "commitment", "replaced codes")

    def __init__(self, codec, waveform_weight=5.0, commitment_weight=0.25):
        super().__init__()
        self.codec = codec
        self.quantizer = TrainableQuantizer(codec.quantizer)
        self.spectral = SpectralLoss(codec.config.sampling_rate)
        self.waveform_weight, self.commitment_weight = waveform_weight, commitment_weight

    def construct(self, audio, fresh, strength):
        rows, channels, length = audio.shape
        embeddings = self.codec.encoder(audio.swapaxes(1, 2))
        quantised, commitment, replaced = self.quantizer(embeddings, fresh, strength)
        made = self.codec.decoder(quantised).swapaxes(1, 2)
        waveform = ops.abs(made - audio).mean()
        spectral = self.spectral(made.reshape(rows * channels, length), audio.reshape(rows * channels, length))
        loss = spectral + self.waveform_weight * waveform + (self.commitment_weight * commitment * strength).sum()
        return loss, (spectral, waveform, commitment, replaced.sum())

    def draw(self, rng, rows, frames):
        """The `fresh` input for a batch of `rows` clips with `frames` frames each."""
        return rng.integers(0, rows * frames, self.quantizer.counts.shape, dtype=np.int32)


class DecoderLoss(nn.Cell):
    """What the training of a codec's decoder alone minimises: encoder and codebooks stay, and so do all codes.

    Args:
        codec (Encodec): the codec, trained with `CodecLoss`.
        waveform_weight (float): weight of the mean absolute difference of the waveforms.

    Inputs:
        - **audio** (Tensor) - [B, C, N] float32.

    Outputs:
        loss, and the metrics named in `metric_names`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    metric_names = ("loss", "log-mel distance", "waveform distance")

    def __init__(self, codec, waveform_weight=5.0):
        super().__init__()
        self.codec, self.waveform_weight = codec, waveform_weight
        self.spectral = SpectralLoss(codec.config.sampling_rate)
        for cell in (codec.encoder, codec.quantizer):
            for parameter in cell.get_parameters():
                parameter.requires_grad = False

    def construct(self, audio):
        rows, channels, length = audio.shape
        codes, _ = self.codec.to_codes(audio, self.codec.quantizer.num_quantizers)
        made = self.codec.to_audio(ops.stop_gradient(codes))
        waveform = ops.abs(made - audio).mean()
        spectral = self.spectral(made.reshape(rows * channels, length), audio.reshape(rows * channels, length))
        return spectral + self.waveform_weight * waveform, (spectral, waveform)
