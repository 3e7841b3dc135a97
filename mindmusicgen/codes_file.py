"""Codes in a file: what EnCodec made of audio, or the decoder of a prompt, to be decoded or continued later."""

import zipfile
import zlib

import numpy as np

from .errors import InputError
from .files import check_writable, whole_file
from .telling import quoted

LARGEST = 1 << 30  # bytes of codes: a day and a half of stereo music


def save_codes(path, codes, sampling_rate, frame_rate):
    """Write codes into an .npz file, which appears whole or not at all.

    Args:
        path (str): ends in .npz.
        codes (numpy.ndarray | Tensor): [B, K, frames].
        sampling_rate (int): samples per second of the audio they stand for.
        frame_rate (int): frames per second.

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
        config (transformers.MusicgenConfig): of the model that they must fit; None checks nothing.

    Returns:
        numpy.ndarray: [B, K, frames] int32.

    Raises:
        InputError: if the file is missing, damaged, no file of codes, or of another model.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # before anything is unpacked
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise MemoryError(f"{size} bytes")
        with np.load(path, allow_pickle=False) as file:
            codes, rates = file["codes"], [int(file[name]) for name in ("sampling_rate", "frame_rate")]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise InputError(f"codes {path!r} cannot be read; expected a whole .npz file of `encode`") from error
    if codes.ndim != 3 or not codes.size or not np.issubdtype(codes.dtype, np.integer) or codes.min() < 0:
        raise InputError(
            f"codes {path!r} hold {codes.dtype} of shape {codes.shape}; expected (batch, codebooks, frames)"
        )
    if config is not None:
        codec, decoder = config.audio_encoder, config.decoder
        found = {"codebooks": codes.shape[1], "Hz": rates[0], "frames a second": rates[1]}
        wanted = (decoder.num_codebooks, codec.sampling_rate, codec.frame_rate)
        for (name, value), expected in zip(found.items(), wanted, strict=True):
            if value != expected:
                raise InputError(f"codes {path!r} have {value} {name}; this model has {expected}")
        if codes.max() >= decoder.vocab_size:
            raise InputError(f"codes {path!r} go up to {codes.max()}; this model's end at {decoder.vocab_size - 1}")
    return codes.astype(np.int32)
