"""Recordings as arrays: the one entrance for what a user calls audio.

Processor, `encode`, `generate`, `write_audio`, players, plots and training ask here, so that one array is right, or is
refused with one sentence, wherever it is given.
"""

import os
from fractions import Fraction

import numpy as np

from ..errors import InputError
from ..language import current, said

READABLE = (".wav", ".flac", ".ogg", ".mp3")  # what messages advise; libsndfile reads more
RATES = (1_000, 1_000_000)  # samples per second; beyond them a header is damaged, and resampling would take hours
SILENCE = 1e-4  # a peak below it is no music: 16 bit audio has a step of 3e-5
LOUDEST = 100.0  # times full scale; what goes beyond are whole numbers that were turned into floats, or damage
LONGEST = 600.0  # seconds that are held in memory at once; training, which reads in blocks, knows no limit
CANCELLED = 1e-4  # of its power is left of a recording whose sides are each other's opposite: -40 dB
FINEST = 50_000  # largest part of a ratio of two rates: an hour stays right to a millisecond, and filters stay small
BLOCK = 1 << 18  # samples that are resampled at a time


class UnusableAudio(InputError):
    """Audio that cannot be used.

    Args:
        name (str): of the file or argument.
        reason (str): what is wrong, a few words that follow its name.
        wanted (str): what would be right.
    """

    def __init__(self, name, reason, wanted):
        super().__init__(f"{name} {reason}; {wanted}")
        self.name, self.reason, self.wanted = name, reason, wanted

    def __str__(self):
        if current() == "en":
            return super().__str__()
        return f"{said(self.name)} {said(self.reason)}；{said(self.wanted)}"


def as_samples(name, value, loudest=LOUDEST):
    """Samples as an array of whatever axes.

    Args:
        name (str): of the argument, for messages.
        value (numpy.ndarray | Tensor | Sequence): floats in -1 to 1.
        loudest (float): largest absolute sample that is still taken for sound.

    Returns:
        numpy.ndarray: float32, at least one axis, at least one sample, all finite.

    Raises:
        UnusableAudio: for anything else.
    """
    try:
        values = np.asarray(value.asnumpy() if hasattr(value, "asnumpy") else value)
    except Exception as error:  # rows of different lengths, or an object whose own conversion fails
        wanted = "expected floats in -1 to 1, all rows equally long; give several recordings as a list of arrays"
        raise UnusableAudio(name, f"is no array ({type(value).__name__})", wanted) from error
    if values.dtype.kind in "iu":
        largest = np.iinfo(values.dtype).max + 1
        wanted = f"expected floats in -1 to 1: divide by the largest value, {largest}"
        raise UnusableAudio(name, f"has type {values.dtype}", wanted)
    if values.dtype.kind != "f" or not values.ndim:
        wanted = "expected samples as floats in -1 to 1, with or without channels"
        raise UnusableAudio(name, f"has shape {values.shape} and type {str(values.dtype)[:40]}", wanted)
    if not values.size:
        raise UnusableAudio(name, f"is empty, its shape is {values.shape}", "expected at least one sample")
    with np.errstate(over="ignore"):
        values = np.asarray(values, np.float32)
    check_level(name, values, loudest)
    return values


def check_level(name, values, loudest=LOUDEST):
    """Refuse samples that are not finite, or beyond what sound can be."""
    peak = peak_of(values)
    if not np.isfinite(peak):
        raise UnusableAudio(name, "holds samples that are not finite", "expected numbers in -1 to 1")
    if peak > loudest:
        raise UnusableAudio(name, f"holds samples up to {peak:.3g}", "expected -1 to 1: divide by full scale")


def peak_of(values):
    """The largest absolute sample, 0 of none; NaN if any is."""
    return float(np.maximum(values.max(), -values.min())) if values.size else 0.0


def as_clip(name, value, loudest=LOUDEST):
    """One recording, float32 [channels, samples].

    Args:
        name (str): of the argument, for messages.
        value (numpy.ndarray | Tensor | Sequence): [samples], [channels, samples], [samples, channels] or
            [1, channels, samples], with 1 or 2 channels.
        loudest (float): see `as_samples`.

    Raises:
        UnusableAudio: for other shapes, whole numbers, and samples that are not finite.
    """
    values = as_samples(name, value, loudest)
    shape = values.shape
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim == 1:
        values = values[None]
    if values.ndim == 2 and len(values) > 2 >= values.shape[1]:
        values = values.T
    if values.ndim != 2 or len(values) > 2:
        wanted = (
            "expected one recording of 1 or 2 channels, (samples,) or (channels, samples); give several as a list, and "
            "of a batch give one piece, as in audio[0]"
        )
        channels = f", {len(values)} channels" if values.ndim == 2 else ""
        raise UnusableAudio(name, f"has shape {shape}{channels}", wanted)
    return values


def as_batch(name, value, channels=None):
    """Several recordings of one length, float32 [B, channels, samples].

    Raises:
        UnusableAudio: as `as_samples`, and for another shape or number of channels.
    """
    values = as_samples(name, value)
    if values.ndim != 3:
        raise UnusableAudio(name, f"has shape {values.shape}", "expected (batch, channels, samples)")
    if channels is not None and values.shape[1] != channels:
        wanted = f"this model has {channels}, and the batch is the first axis: (batch, channels, samples)"
        raise UnusableAudio(name, f"has {values.shape[1]} channels", wanted)
    return values


def recordings(audio, sampling_rate=None, prompts=1):
    """Take apart what a user gave as audio: one recording or several, each a file or an array with its rate.

    Args:
        audio: a file; samples, [N], [channels, N] or [N, channels]; both as (rate, samples) or (samples, rate), or as
            the datasets library has it, {"array": samples, "sampling_rate": rate}; a list of these; or
            [B, channels, N].
        sampling_rate (int): samples per second of arrays that do not say it themselves.
        prompts (int): that stand beside the audio.

    Returns:
        list[tuple]: of each recording its file or samples, unchecked, and its rate, None for a file.

    Raises:
        InputError: if a rate is missing, impossible or said twice, or it is not clear how many recordings there are.
    """
    if isinstance(audio, (list, tuple)) and not _has_rate(audio) and not (len(audio) and _is_number(audio[0])):
        if not len(audio):
            raise InputError("audio is an empty list; give a file or samples for each prompt")
        return [_one(one, sampling_rate) for one in audio]
    shape = tuple(getattr(audio, "shape", ()))
    if len(shape) == 3 and shape[0]:
        return [_one(one, sampling_rate) for one in audio]
    if len(shape) == 2 and shape[0] == prompts == 2:
        raise InputError(
            f"audio of shape {shape} beside two prompts may be one stereo recording or two; give [audio] for the one, "
            "list(audio) for the other"
        )
    return [_one(audio, sampling_rate)]


def _one(audio, sampling_rate):
    """A recording and its rate."""
    if is_path(audio):
        return audio, None
    said = None
    if isinstance(audio, dict) and {"array", "sampling_rate"} <= audio.keys():
        audio, said = audio["array"], audio["sampling_rate"]
    elif _has_rate(audio):
        said, audio = audio if _is_number(audio[0]) else audio[::-1]
    if said is None:
        if sampling_rate is None:
            raise InputError("sampling_rate is not given; say how many samples per second the audio has, such as 44100")
        return audio, checked_rate(sampling_rate)
    if sampling_rate is not None and sampling_rate != said:
        raise InputError(f"the audio comes with {said} samples a second and sampling_rate is {sampling_rate}; give one")
    return audio, checked_rate(said)


def _has_rate(audio):
    """Whether this is (rate, samples), as scipy and gradio have it, or (samples, rate), as soundfile and librosa."""
    if not isinstance(audio, tuple) or len(audio) != 2 or any(map(is_path, audio)):
        return False
    return _is_number(audio[0]) != _is_number(audio[1])


def _is_number(value):
    return np.isscalar(value) and not is_path(value)


def is_path(value):
    """Whether an argument names a file."""
    return isinstance(value, (str, os.PathLike))


def checked_rate(rate):
    """A number of samples per second as an int.

    Raises:
        InputError: if it is none, or none that audio has.
    """
    whole = isinstance(rate, (int, np.integer)) and not isinstance(rate, bool)
    if not whole or not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"sampling_rate is {str(rate)[:40]}; expected {RATES[0]} to {RATES[1]} samples per second, such as 44100"
        )
    return int(rate)


def fit_clip(name, values, rate, sampling_rate, channels, longest=LONGEST):
    """One recording mixed to `channels` and resampled.

    Args:
        name (str): of the recording, for messages.
        values (numpy.ndarray): [channels of the recording, samples] float32.
        rate, sampling_rate (int): samples per second before and after.
        channels (int): of the result.
        longest (float): seconds.

    Returns:
        numpy.ndarray: float32, [channels, samples].

    Raises:
        UnusableAudio: if it is too long, or its sides cancel.
    """
    check_length(name, values.shape[1] / rate, longest)
    parts = list(fit_blocks(name, [values], rate, sampling_rate, channels))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def check_length(name, seconds, longest):
    """Refuse what is too long to be held in memory."""
    if seconds > longest:
        long = f"lasts {seconds:.0f} s" if np.isfinite(seconds) else f"lasts more than {longest:.0f} s"
        raise UnusableAudio(name, long, f"expected at most {longest:.0f} s; cut it")


def fit_blocks(name, blocks, rate, sampling_rate, channels):
    """A recording of any length, resampled and mixed piece by piece: blocks [c, n] to blocks [channels, m]."""
    return _resampled(_mixed(name, blocks, channels), Fraction(sampling_rate, rate))


def _mixed(name, blocks, channels):
    """Blocks with as many channels as wanted; others are mixed to one, which is repeated.

    Raises:
        UnusableAudio: behind the last block, if mixing has left nothing of what was heard.
    """
    peak, before, after = 0.0, 0.0, 0.0
    for values in blocks:
        if len(values) != channels:
            one = values.mean(axis=0, keepdims=True)
            if len(values) > 1:
                peak = max(peak, peak_of(values))
                before += float(np.vdot(values, values)) / len(values)
                after += float(np.vdot(one, one))
            values = np.repeat(one, channels, axis=0)
        yield values
    if peak >= SILENCE and after < CANCELLED * before:
        raise UnusableAudio(name, "has sides that cancel each other when mixed", "give one side, or turn one around")


def _resampled(blocks, ratio):
    """Blocks [channels, n] at another rate: what resample_poly would give of all of them at once.

    The filter reaches 10 samples of the lower rate to each side: a block is resampled with so much of its neighbours.
    """
    from scipy.signal import resample_poly

    ratio = ratio.limit_denominator(FINEST) if ratio < 1 else 1 / (1 / ratio).limit_denominator(FINEST)
    up, down = ratio.numerator, ratio.denominator
    if up == down:
        yield from (np.ascontiguousarray(values, np.float32) for values in blocks)
        return
    reach = -(-10 * max(up, down) // (up * down)) * down  # samples, whole steps of the filter
    size, held, before = -(-BLOCK // down) * down, [], 0  # `before`: samples at the front that are done
    count = 0

    def resample(values, end):
        made = resample_poly(values, up, down, axis=1)[:, before // down * up : end]
        return np.ascontiguousarray(made, np.float32)

    for values in blocks:
        held.append(values)
        count += values.shape[1]
        while count >= before + size + reach:
            joined = held[0] if len(held) == 1 else np.concatenate(held, axis=1)
            yield resample(joined[:, : before + size + reach], (before + size) // down * up)
            kept = min(before + size, reach)
            held, before = [joined[:, before + size - kept :]], kept
            count = held[0].shape[1]
    if count > before:
        yield resample(np.concatenate(held, axis=1), None)
