"""Audio files, through soundfile."""

import os

import numpy as np

from .errors import InputError

FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}


def check_output(path):
    """Refuse a path that could not be written, before hours are spent on what should go there.

    Raises:
        InputError: for an unknown ending, a missing or read-only folder, or a path that is a folder.
    """
    folder = os.path.dirname(os.path.abspath(path))
    ending = os.path.splitext(path)[1].lower()
    if ending not in FORMATS:
        raise InputError(f"output {path!r} ends in {ending or 'nothing'!r}; expected one of {', '.join(FORMATS)}")
    if not os.path.isdir(folder):
        raise InputError(f"output {path!r} lies in {folder}, which does not exist; create it first")
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        raise InputError(f"output {path!r} cannot be written; choose a file in a folder you may write to")


def write_audio(path, samples, sampling_rate):
    """Write one clip; the file appears whole or not at all.

    Args:
        path (str): file ending in .wav (16 bit), .flac (24 bit) or .ogg (Vorbis).
        samples (numpy.ndarray | Tensor): [channels, samples] or [samples]; beyond -1 to 1 they are clipped.
        sampling_rate (int): samples per second.

    Returns:
        float: the largest absolute sample before clipping.

    Raises:
        InputError: if the path cannot be written or the samples are not finite.
    """
    import soundfile

    check_output(path)
    values = np.atleast_2d(samples.asnumpy() if hasattr(samples, "asnumpy") else np.asarray(samples))
    if not np.isfinite(values).all():
        raise InputError(f"the audio for {path!r} holds samples that are not finite; the checkpoint may be damaged")
    kind, subtype = FORMATS[os.path.splitext(path)[1].lower()]
    partial = f"{path}.partial"
    try:
        # In pieces: libsndfile's Vorbis encoder overflows its stack on long buffers.
        with soundfile.SoundFile(partial, "w", sampling_rate, values.shape[0], format=kind, subtype=subtype) as file:
            clipped = np.clip(values.T, -1, 1)
            for start in range(0, len(clipped), sampling_rate):
                file.write(clipped[start : start + sampling_rate])
        os.replace(partial, path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InputError(f"output {path!r} cannot be written: {error}") from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return float(np.abs(values).max(initial=0.0))
