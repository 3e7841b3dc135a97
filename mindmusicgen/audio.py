"""Audio files, through soundfile."""

import os
from fractions import Fraction

import numpy as np

from .errors import InputError

READABLE = (".wav", ".flac", ".ogg", ".mp3")
RATES = (1_000, 1_000_000)  # samples per second; a header beyond them is damaged, and resampling would take hours
FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}


class UnusableAudio(InputError):
    """An audio file that cannot be used.

    Args:
        path (str): the file.
        reason (str): what is wrong, a few words that follow its name.
        wanted (str): what would be right.
    """

    def __init__(self, path, reason, wanted):
        super().__init__(f"audio {path!r} {reason}; {wanted}")
        self.reason = reason


def read_audio(path, sampling_rate, channels):
    """Read one clip, mixed to `channels` and resampled to `sampling_rate`.

    A file with as many channels is taken as it is; any other is mixed to one, which is repeated.

    Args:
        path (str): a file that libsndfile reads, such as .wav, .flac, .ogg or .mp3.
        sampling_rate (int): samples per second of the result.
        channels (int): channels of the result.

    Returns:
        numpy.ndarray: float32, [channels, samples], in -1 to 1 unless the file goes beyond.

    Raises:
        UnusableAudio: if the file cannot be read, is empty, or holds samples that are not finite.
    """
    import soundfile

    try:
        values, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:  # libsndfile's are RuntimeErrors
        raise UnusableAudio(path, "cannot be read", f"expected a whole {', '.join(READABLE)} file") from error
    if not RATES[0] <= rate <= RATES[1]:
        raise UnusableAudio(
            path, "has an impossible sampling rate", f"it says {rate}; expected {RATES[0]} to {RATES[1]}"
        )
    if not values.size:
        raise UnusableAudio(path, "is empty", "expected at least one sample")
    try:
        return fit_audio(path, values.T, rate, sampling_rate, channels)
    except InputError as error:
        raise UnusableAudio(path, "holds samples that are not finite", "expected numbers in -1 to 1") from error


def fit_audio(name, values, rate, sampling_rate, channels):
    """Mix a clip to `channels` and resample it from `rate` to `sampling_rate`; see `read_audio`.

    Args:
        name (str): of the clip, for messages.
        values (numpy.ndarray): [channels of the clip, samples].

    Returns:
        numpy.ndarray: float32, [channels, samples].

    Raises:
        InputError: if samples are not finite.
    """
    from scipy.signal import resample_poly

    if len(values) != channels:
        values = np.repeat(values.mean(axis=0, keepdims=True), channels, axis=0)
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds samples that are not finite; expected numbers in -1 to 1")
    ratio = Fraction(sampling_rate, rate)
    if ratio != 1:
        values = resample_poly(values, ratio.numerator, ratio.denominator, axis=1)
    return np.ascontiguousarray(values, np.float32)


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
