"""Audio files, through soundfile."""

import errno
import io
import os
import wave

import numpy as np

from .errors import InputError
from .runtime.files import check_writable, whole_file
from .runtime.telling import quoted
from .sound.repeatable import make_repeatable
from .sound.samples import LONGEST, UnusableAudio, as_clip, check_length, checked_rate, fit_blocks, peak_of
from .words import has_lone_surrogate

FORMATS = {  # container, and for each bit depth its encoding, the default first
    ".wav": ("WAV", {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}),
    ".flac": ("FLAC", {24: "PCM_24", 16: "PCM_16"}),
    ".ogg": ("OGG", {None: "VORBIS"}),
    ".mp3": ("MP3", {None: "MPEG_LAYER_III"}),
}
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
NORMALIZATIONS = ("none", "peak", "loudness")
PEAK = 10 ** (-1 / 20)  # -1 dBFS: room for what lossy encoders add
LOUDNESS = -14.0  # LUFS: what streaming services play at


def read_audio(path, sampling_rate, channels, longest=LONGEST, upto=None):
    """Read one clip, mixed to `channels` and resampled to `sampling_rate`.

    A file with as many channels is taken as it is; any other is mixed to one, which is repeated. Recordings that follow
    each other in one file (chained Ogg) are joined. A file whose header does not know its length is read to its end.

    Args:
        path (str): a file that libsndfile reads, such as .wav, .flac, .ogg or .mp3.
        sampling_rate (int): samples per second of the result.
        channels (int): channels of the result.
        longest (float): seconds; what is longer is refused, if its header says so before anything is decoded.
        upto (float): seconds that are wanted of the beginning of a file of any length; None for all.

    Returns:
        numpy.ndarray: float32, [channels, samples], in -1 to 1 unless the file goes beyond.

    Raises:
        UnusableAudio: if the file cannot be read, is empty or too long, holds samples that are not finite, or its sides
            cancel when they are mixed.
    """
    from .sound.sound_file import SoundFile

    file = SoundFile(path)
    if upto is None and np.isfinite(file.seconds):
        check_length(file.name, file.seconds, longest)
    pieces, samples, most = [], 0, round((longest if upto is None else upto) * sampling_rate)
    for piece in read_blocks(file, sampling_rate, channels):
        pieces.append(piece)
        samples += piece.shape[1]
        if samples > most + 1:  # the last sample of a resampled file may lie behind its end
            if upto is None:
                check_length(file.name, np.inf, longest)
            break
    return np.concatenate(pieces, axis=1)[:, : None if upto is None else most]


def read_blocks(file, sampling_rate, channels):
    """The samples of a file piece by piece, resampled and mixed, for files of any length.

    Args:
        file (SoundFile): the file.

    Yields:
        numpy.ndarray: float32, [channels, n] with n above 0.

    Raises:
        UnusableAudio: as `read_audio`, but for the length.
    """
    empty = True
    for rate, blocks in file.recordings():
        for values in fit_blocks(file.name, blocks, rate, sampling_rate, channels):
            empty = False
            yield values
    if empty:
        raise UnusableAudio(file.name, "is empty", "expected at least one sample")


def check_output(path, bit_depth=None, room=0):
    """Refuse a path that could not be written, before hours are spent on what should go there.

    Args:
        path (str): the file.
        bit_depth (int): as in `write_audio`.
        room (int): about how many bytes it will have.

    Raises:
        InputError: for an unknown ending or bit depth, a missing or read-only folder, a name that is too long, a path
            that is a folder, or too little room.
    """
    check_format(path, bit_depth)
    check_writable(path, "output", room)


def check_format(path, bit_depth=None):
    """Refuse an unknown ending or bit depth; the arguments are those of `check_output`."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in FORMATS:
        raise InputError(
            f"output {quoted(path)} ends in {quoted(ending) if ending else 'nothing'}; expected one of "
            f"{', '.join(FORMATS)}"
        )
    if ending == ".mp3" and not _writes_mp3():
        raise InputError(
            f"output {quoted(path)} ends in '.mp3', which this libsndfile cannot write; take .flac or .ogg"
        )
    if bit_depth is not None and bit_depth not in FORMATS[ending][1]:
        depths = " or ".join(str(depth) for depth in FORMATS[ending][1] if depth) or "none"
        raise InputError(f"bit depth {bit_depth} does not exist in {ending} files; expected {depths}")


def _writes_mp3():
    """Whether libsndfile can, which it has been able to since version 1.1."""
    import soundfile

    return "MP3" in soundfile.available_formats()


def normalized(samples, sampling_rate, how="none"):
    """Scale a clip.

    Args:
        samples (numpy.ndarray): [channels, samples].
        sampling_rate (int): samples per second.
        how (str): "none"; "peak": the largest sample at -1 dBFS; "loudness": -14 LUFS (ITU-R BS.1770), or less where
            the largest sample would exceed -1 dBFS.

    Returns:
        numpy.ndarray: as `samples`; silence stays as it is.

    Raises:
        InputError: for another `how`.
    """
    if how not in NORMALIZATIONS:
        raise InputError(f"normalize is {how!r}; expected one of {', '.join(NORMALIZATIONS)}")
    peak = float(np.abs(samples).max(initial=0.0))
    if how == "none" or peak == 0:
        return samples
    gain = PEAK / peak
    if how == "loudness" and samples.shape[1] >= 0.4 * sampling_rate:  # a block of the standard
        import pyloudnorm

        found = pyloudnorm.Meter(sampling_rate).integrated_loudness(samples.T)
        if np.isfinite(found):
            gain = min(gain, 10 ** ((LOUDNESS - found) / 20))
    return samples * np.float32(gain)


def write_audio(path, samples, sampling_rate, normalize="none", bit_depth=None, comment=None):
    """Write one clip; the file appears whole or not at all.

    Args:
        path (str): file ending in .wav, .flac, .ogg (Vorbis) or .mp3.
        samples (numpy.ndarray | Tensor): floats, [channels, samples], [samples, channels] or [samples], of 1 or 2
            channels; beyond -1 to 1 they are clipped.
        sampling_rate (int): samples per second.
        normalize (str): "none", "peak" or "loudness"; see `normalized`.
        bit_depth (int): of .wav 16 (default), 24 or 32 (float, not clipped), of .flac 24 (default) or 16.
        comment (str): stored in the file.

    Returns:
        float: the largest absolute sample before clipping.

    Raises:
        InputError: if the path cannot be written, or these are no samples of one clip.
    """
    import soundfile

    check_output(path, bit_depth)
    if comment and has_lone_surrogate(comment):
        raise InputError(f"the comment of {quoted(path)} holds half a character (a lone surrogate); write it as UTF-8")
    sampling_rate = checked_rate(sampling_rate)
    values = normalized(as_clip(f"the audio for {quoted(path)}", samples, loudest=np.inf), sampling_rate, normalize)
    kind, subtypes = FORMATS[os.path.splitext(path)[1].lower()]
    if kind == "MP3" and sampling_rate not in MP3_RATES:
        raise InputError(f"output {quoted(path)} cannot have {sampling_rate} samples a second; take .flac or .ogg")
    subtype = subtypes[next(iter(subtypes)) if bit_depth is None else bit_depth]
    layout = {"samplerate": sampling_rate, "channels": len(values), "format": kind, "subtype": subtype}
    try:
        with whole_file(path) as partial:
            with soundfile.SoundFile(os.fsencode(partial), "w", **layout) as file:
                if comment:
                    file.comment = comment
                # In pieces: libsndfile's Vorbis encoder overflows its stack on long buffers.
                for start in range(0, values.shape[1], sampling_rate):
                    piece = values[:, start : start + sampling_rate].T
                    file.write(piece if subtype == "FLOAT" else np.clip(piece, -1, 1))
            if soundfile.info(os.fsencode(partial)).frames != values.shape[1]:  # a disk that is full as it is closed
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            make_repeatable(partial, kind)
    except (OSError, AssertionError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or "is there room on the disk?"
        raise InputError(f"output {quoted(path)} cannot be written ({reason}); choose another place") from error
    return peak_of(values)


def read_comment(path):
    """The comment stored in an audio file, as text; empty if there is none.

    Raises:
        UnusableAudio: if the file cannot be read.
    """
    from .sound.sound_file import comment_of

    return comment_of(path)


def as_pcm(samples):
    """Floats [channels, n] as bytes of 16 bit each, the channels of a sample beside each other; beyond -1 to 1 they are
    clipped."""
    return (np.clip(samples, -1, 1).T * 32767).round().astype("<i2").tobytes()


class PcmStream:
    """Writes a clip piece by piece to a pipe, as 16 bit samples with or without a WAV header.

    Args:
        file (io.RawIOBase): open for writing, need not seek.
        sampling_rate (int): samples per second.
        channels (int): of every piece.
        samples (int): in all; the header must say so before they exist.
        header (bool): a WAV header comes first.

    Attributes:
        seconds (float): of audio that were written.
    """

    def __init__(self, file, sampling_rate, channels, samples, header=True):
        self.file, self.sampling_rate, self.seconds = file, sampling_rate, 0.0
        if header:
            made = io.BytesIO()  # the writer would want to correct the header, and a pipe cannot go back
            with wave.open(made, "wb") as writer:
                writer.setparams((channels, 2, sampling_rate, samples, "NONE", ""))
                writer.writeframesraw(b"")
                self._put(made.getvalue())

    def write(self, samples):
        """Write [channels, n]; beyond -1 to 1 they are clipped."""
        self._put(as_pcm(samples))
        self.seconds += samples.shape[1] / self.sampling_rate

    def _put(self, content):
        while content:  # a pipe, or a disk that fills up, may take a part
            content = content[self.file.write(content) or 0 :]
        self.file.flush()
