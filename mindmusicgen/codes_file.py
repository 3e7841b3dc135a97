"""Codes in a file: what EnCodec made of audio, or the decoder of a prompt, to be decoded or continued later."""

import os
import zipfile

import numpy as np

from .errors import InputError
from .runtime.files import check_writable, whole_file
from .runtime.telling import quoted

LARGEST = 1 << 30  # bytes of codes: a day and a half of stereo music
LARGEST_CODE = 1 << 31


def save_codes(path, codes, sampling_rate, frame_rate):
    """Write codes into an .npz file, which appears whole or not at all.

    Args:
        path (str): ends in .npz.
        codes (numpy.ndarray | Tensor): [B, K, frames].
        sampling_rate (int): samples per second of the audio they stand for.
        frame_rate (int | float): frames per second.

    Raises:
        InputError: if the file cannot be written.
    """
    check_codes_path(path)
    values = np.asarray(codes.asnumpy() if hasattr(codes, "asnumpy") else codes, np.int32)
    try:
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, codes=values, sampling_rate=sampling_rate, frame_rate=frame_rate)
    except OSError as error:
        raise InputError(f"codes {path!r} cannot be written ({error.strerror}); choose another place") from error


def check_codes_path(path):
    """Refuse a path that no codes could be written to."""
    if not path.endswith(".npz"):
        raise InputError(f"codes {quoted(path)} must end in .npz")
    check_writable(path, "codes")


def load_codes(path, config=None):
    """Read codes.

    Args:
        path (str): written by `save_codes`.
        config (transformers.PretrainedConfig): of the model that they must fit, a MusicGen, a Bark or a Jukebox; None
            checks nothing.

    Returns:
        numpy.ndarray: [B, K, frames] int32.

    Raises:
        InputError: if the file is missing, damaged, no file of codes, or of another model.
    """
    try:
        if not os.path.isfile(path):  # opening a pipe might wait for ever
            raise OSError("no file")
        with zipfile.ZipFile(path) as archive:  # before anything is unpacked
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise MemoryError(f"{size} bytes")
        with np.load(path, allow_pickle=False) as file:
            codes, rates = file["codes"], [_number(file[name]) for name in ("sampling_rate", "frame_rate")]
        kind, shape, span = codes.dtype.kind, codes.shape, (0, 0)
        if codes.size and kind in "iu":
            span = int(codes.min()), int(codes.max())
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for bytes that are not theirs
        raise InputError(f"codes {quoted(path)} cannot be read; expected a whole .npz file of `encode`") from error
    if len(shape) != 3 or not codes.size or kind not in "iu" or span[0] < 0 or span[1] >= LARGEST_CODE:
        raise InputError(
            f"codes {quoted(path)} hold {str(codes.dtype)[:40]} of shape {str(shape)[:60]}, {span[0]} to {span[1]}; "
            "expected whole numbers from 0 on, (batch, codebooks, frames)"
        )
    if config is not None:
        wanted, size = _layout(config)
        found = {"codebooks": codes.shape[1], "Hz": rates[0], "frames a second": rates[1]}
        for (name, value), expected in zip(found.items(), wanted, strict=True):
            if value not in expected:
                right = " or ".join(f"{one:g}" for one in expected)
                raise InputError(f"codes {path!r} have {value:g} {name}; this model has {right}")
        if codes.max() >= size:
            raise InputError(f"codes {path!r} go up to {codes.max()}; this model's end at {size - 1}")
    return codes.astype(np.int32)


def _layout(config):
    """The numbers of codebooks, rates and frame rates that codes may have, and how many codes a codebook has."""
    if hasattr(config, "vqvae_config"):  # of three levels the coarser may be alone
        return (config.codebooks, (config.sampling_rate,), (config.frame_rate,)), config.vqvae_config.nb_discrete_codes
    if hasattr(config, "decoder"):
        codec, books, size = config.audio_encoder, config.decoder.num_codebooks, config.decoder.vocab_size
    else:
        codec, books = config.codec_config, config.fine_acoustics_config.n_codes_total
        size = codec.codebook_size
    return ((books,), (codec.sampling_rate,), (codec.frame_rate,)), size


def _number(value):
    """A finite number of a file."""
    if np.ndim(value) or value.dtype.kind not in "iuf" or not np.isfinite(value):
        raise ValueError(f"{value.dtype} of shape {value.shape}")
    return value.item()
