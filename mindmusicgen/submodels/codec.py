"""The codec, by itself and in a composite, with the chunks that EnCodec's 48 kHz model cuts audio into."""

import math

import numpy as np
from mindspore import Tensor

from .. import arguments as checks
from ..errors import InputError, shown
from ..models.encodec import parameter_count
from ..parts import Codec
from ..runtime.callers import serialised
from ..sound.samples import as_batch
from .base import Submodel, passed_to, returned
from .outputs import EncodecDecoderOutput, EncodecEncoderOutput, EncodecOutput


@serialised
def encode(codec, input_values, padding_mask=None, bandwidth=None, return_dict=None):
    """Audio to codes.

    Args:
        input_values (Tensor): [B, C, N] at the codec's sampling rate, in -1 to 1.
        padding_mask (Tensor): [B, N] or [B, C, N], 0 where audio is padding; it is coded as silence.
        bandwidth (float): kbit/s, one of `config.target_bandwidths`, which decides about the number of codebooks;
            the first of them for None.
        return_dict (bool): False returns a tuple.

    Returns:
        EncodecEncoderOutput

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    audio = _audio(codec, input_values, padding_mask)
    books = _codebooks(codec, bandwidth)
    length = audio.shape[2]
    chunk, stride = codec.config.chunk_length or length, codec.config.chunk_stride or length
    codes, scales = [], []
    for start in range(0, length, stride):
        found, scale = codec.to_codes(Tensor(audio[:, :, start : start + chunk].copy()), books)
        codes.append(found.asnumpy())
        scales.append(scale if codec.config.normalize else None)
    missing = codes[0].shape[2] - codes[-1].shape[2]
    codes[-1] = np.pad(codes[-1], ((0, 0), (0, 0), (0, missing)))
    output = EncodecEncoderOutput(Tensor(np.stack(codes)), scales, missing)
    whole = returned(output, return_dict, codec.config) is output
    return output if whole else (output.audio_codes, scales, missing)


@serialised
def decode(codec, audio_codes, audio_scales=None, padding_mask=None, return_dict=None, last_frame_pad_length=0):
    """Codes to audio.

    Args:
        audio_codes (Tensor): [chunks, B, K, frames]; fewer codebooks than the codec has are its first ones.
        audio_scales (Sequence[Tensor]): `audio_scales` of `encode`; None for a codec that does not normalise.
        padding_mask (Tensor): the audio is cut to its length, if it is the shorter.
        return_dict (bool): False returns a tuple.
        last_frame_pad_length (int): frames to drop from the last chunk, from `encode`.

    Returns:
        EncodecDecoderOutput

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    codes = _codes(codec, audio_codes)
    scales = [] if audio_scales is None else list(audio_scales)
    scales = [None] * len(codes) if all(scale is None for scale in scales) else scales
    if len(scales) != len(codes):
        raise InputError(f"audio_scales has {len(scales)} entries; expected one for each of {len(codes)} chunks")
    pieces = []
    for i, (chunk, scale) in enumerate(zip(codes, scales, strict=True)):
        if i == len(codes) - 1 and last_frame_pad_length:
            chunk = chunk[:, :, : chunk.shape[2] - last_frame_pad_length].copy()
        pieces.append(codec.to_audio(Tensor(chunk), scale))
    audio = pieces[0]
    if codec.config.chunk_length is not None:
        audio = Tensor(overlap_add([piece.asnumpy() for piece in pieces], codec.config.chunk_stride or 1))
    if padding_mask is not None and padding_mask.shape[-1] < audio.shape[2]:
        audio = audio[:, :, : padding_mask.shape[-1]]
    return returned(EncodecDecoderOutput(audio), return_dict, codec.config)


@serialised
def call_codec(
    codec,
    input_values=None,
    padding_mask=None,
    bandwidth=None,
    audio_codes=None,
    audio_scales=None,
    return_dict=None,
    last_frame_pad_length=0,
):
    """Audio to codes to audio; the arguments are those of `encode` and `decode`.

    Args:
        input_values (Tensor): [B, C, N]; or else `audio_codes` and `audio_scales` are given.

    Returns:
        EncodecOutput; the audio is as long as the input.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    checks.exclusive(input_values=input_values, audio_codes=audio_codes)
    checks.belongs("input_values", audio_codes is None, bandwidth=bandwidth)
    checks.belongs("audio_codes", audio_codes is not None, audio_scales=audio_scales)
    if audio_codes is None:
        coded = codec.encode(input_values, padding_mask, bandwidth, True)
        audio_codes, audio_scales = coded.audio_codes, coded.audio_scales
        last_frame_pad_length = coded.last_frame_pad_length
        padding_mask = input_values if padding_mask is None else padding_mask
    audio = codec.decode(audio_codes, audio_scales, padding_mask, True, last_frame_pad_length).audio_values
    return returned(EncodecOutput(audio_codes, audio), return_dict, codec.config)


def _audio(codec, input_values, padding_mask):
    """Samples [B, C, N] float32 with the padding silenced."""
    channels = codec.config.audio_channels
    audio = as_batch("input_values", input_values, channels)
    if padding_mask is None:
        return audio
    shape = np.shape(padding_mask) if np.ndim(padding_mask) == 3 else (audio.shape[0], audio.shape[2])
    mask = checks.as_mask("padding_mask", padding_mask, shape)
    mask = mask.reshape(mask.shape[0], -1, mask.shape[-1])
    if mask.shape[0] != audio.shape[0] or mask.shape[1] not in (1, channels) or mask.shape[2] != audio.shape[2]:
        raise InputError(f"padding_mask has shape {mask.shape}; expected {(audio.shape[0], audio.shape[2])}")
    return audio * mask.astype(np.float32)


def _codebooks(codec, bandwidth):
    """How many codebooks a bandwidth pays for."""
    allowed = codec.config.target_bandwidths
    bandwidth = allowed[0] if bandwidth is None else bandwidth
    if not isinstance(bandwidth, (int, float)) or bandwidth not in allowed:
        raise InputError(f"bandwidth is {shown(bandwidth)}; expected one of {', '.join(str(b) for b in allowed)}")
    each = math.log2(codec.config.codebook_size) * codec.config.frame_rate
    return min(max(1, math.floor(bandwidth * 1000 / each)), codec.config.num_quantizers)


def _codes(codec, audio_codes):
    """Codes [chunks, B, K, frames] int32."""
    codes = checks.as_whole("audio_codes", audio_codes, 4)
    size, most = codec.config.codebook_size, codec.config.num_quantizers
    if not codes.size or codes.shape[2] > most:
        raise InputError(f"audio_codes has shape {codes.shape}; expected (chunks, batch, at most {most}, frames)")
    if codes.min() < 0 or codes.max() >= size:
        raise InputError(f"audio_codes holds {codes.min()} to {codes.max()}; expected codes 0 to {size - 1}")
    if codec.config.chunk_length is None and len(codes) != 1:
        raise InputError(f"audio_codes holds {len(codes)} chunks; this codec codes audio as one")
    return codes.astype(np.int32)


class EncodecModel(Submodel):
    """EnCodec: waveform to codes and back.

    Args:
        config (transformers.EncodecConfig): layout of the codec.
        dtype (mindspore.dtype): not used, the codec is always float32.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Follows transformers' `EncodecModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    part, model_type, network = "audio_encoder", "encodec", Codec
    count = staticmethod(parameter_count)
    forward = construct = passed_to(call_codec)
    encode, decode = passed_to(encode), passed_to(decode)


def overlap_add(pieces, stride):
    """Join pieces of audio that begin every `stride` samples, faded into each other.

    Args:
        pieces (list[numpy.ndarray]): [B, C, n] each, the last may be shorter.
        stride (int): samples from one beginning to the next.

    Returns:
        numpy.ndarray: [B, C, N] float32; where pieces overlap their mean, weighted by a triangle over each.
    """
    length = pieces[0].shape[2]
    triangle = 0.5 - np.abs(np.linspace(0, 1, length + 2, dtype=np.float32)[1:-1] - 0.5)
    total = stride * (len(pieces) - 1) + pieces[-1].shape[2]
    audio, weight = np.zeros((*pieces[0].shape[:2], total), np.float32), np.zeros(total, np.float32)
    for i, piece in enumerate(pieces):
        place = slice(i * stride, i * stride + piece.shape[2])
        audio[:, :, place] += triangle[: piece.shape[2]] * piece
        weight[place] += triangle[: piece.shape[2]]
    return audio / weight
