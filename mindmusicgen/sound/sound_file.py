"""An audio file as blocks of samples, to its end.

libsndfile (through soundfile) decodes. It believes what a header says of the length, and takes what follows for
nothing. So the parts of a file are found here: recordings that stand behind one another (chained Ogg, joined FLAC and
MP3), and what a recorder has written that never came to fill in its header.
"""

import contextlib
import io
import os
import re
import stat

import numpy as np
import soundfile

from ..runtime.telling import quoted
from .samples import RATES, READABLE, UnusableAudio, check_level

VALUES = 1 << 17  # samples that are decoded at a time, of all channels together
UNKNOWN = 1 << 62  # libsndfile's number of frames where the header has none is beyond it
WANTED = f"expected a whole {', '.join(READABLE)} file"
FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # with the length of the block that must follow
OGG = re.compile(b"OggS")
PATIENCE = 1000  # chunks, or damages, of a file that are looked at before it is left to libsndfile
SCANNED = 1 << 20  # bytes of a file that are searched at a time
CHUNK = re.compile(rb"[A-Za-z0-9 _.\-]{4}")


def name_of(path):
    """How messages call a file."""
    return f"audio {quoted(path)}"


class Part(io.RawIOBase):
    """Some of a file's bytes as a file of their own.

    Args:
        path (str): the file.
        start, end (int): its bytes.
        head (bytes): stand in the place of the first of them.
    """

    def __init__(self, path, start, end, head=b""):
        super().__init__()
        self.file, self.start, self.size, self.head = io.FileIO(path), start, end - start, head
        self.place, self.error = 0, None

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.place = max(offset + (0, self.place, self.size)[whence], 0)
        return self.place

    def tell(self):
        return self.place

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")[: max(self.size - self.place, 0)]
        try:
            self.file.seek(self.start + self.place)
            count = self.file.readinto(view)
        except OSError as error:  # libsndfile, which asks, can only be told of an end
            self.error, count = error, 0
        head = self.head[self.place : self.place + count]
        view[: len(head)] = head
        self.place += count
        return count

    def close(self):
        self.file.close()
        super().close()


class _Forward(soundfile.SoundFile):
    """A file that is read from its beginning to its end: soundfile's seek after each block fails without a length."""

    def seekable(self):
        return False


class SoundFile:
    """An audio file.

    Args:
        path (str): what libsndfile reads.

    Attributes:
        rate, channels (int): of its first recording.
        seconds (float): how long it is; infinite where its header does not say.

    Raises:
        UnusableAudio: if it cannot be read.
    """

    def __init__(self, path):
        self.path, self.name, self.seconds = path, name_of(path), 0.0
        with self._readable():
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe might wait for ever
                raise OSError("no file")
            self.parts = _parts(path)
            for number, part in enumerate(self.parts):
                with Part(path, *part) as source, _Forward(source) as file:
                    if number == 0:
                        self.rate, self.channels = file.samplerate, file.channels
                    if not RATES[0] <= file.samplerate <= RATES[1]:
                        wanted = f"it says {file.samplerate}; expected {RATES[0]} to {RATES[1]}"
                        raise UnusableAudio(self.name, "has an impossible sampling rate", wanted)
                    self.seconds += file.frames / file.samplerate if file.frames < UNKNOWN else np.inf

    def recordings(self):
        """For each recording in the file its rate and a generator of its samples, float32 [channels, n] at a time.

        Raises:
            UnusableAudio: if it is damaged, or holds samples that are not finite.
        """
        for part in self.parts:
            with self._readable(), Part(self.path, *part) as source, _Forward(source) as file:
                yield file.samplerate, self._blocks(file, source)

    @contextlib.contextmanager
    def _readable(self):
        """Context in which whatever goes wrong means that the file cannot be read."""
        try:
            yield
        except UnusableAudio:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:  # libsndfile's are RuntimeErrors
            raise UnusableAudio(self.name, "cannot be read", WANTED) from error

    def _blocks(self, file, source):
        """Samples up to the end."""
        size = VALUES // file.channels + 1
        while True:
            with self._readable():
                found = self._block(file, source, np.full((size, file.channels), np.nan, np.float32))
            if len(found):
                check_level(self.name, found)
                yield found.T
            if len(found) < size:
                return

    def _block(self, file, source, values):
        """The next samples in the place of NaN, fewer at the end."""
        try:
            found = file.read(len(values), out=values)
        except soundfile.LibsndfileError:
            # A recorder that died has left half a frame: what was decoded of the block stands in front of it.
            if file.frames < UNKNOWN or source.place < source.size:
                raise
            missing = np.isnan(values).any(axis=1)
            found = values[: missing.argmax()] if missing.any() else values
        if source.error is not None:
            raise source.error
        return found


def comment_of(path):
    """The comment in a file; see `audio.read_comment`."""
    file = SoundFile(path)
    with file._readable(), Part(path, *file.parts[0]) as source, _Forward(source) as opened:
        comment = opened.comment
    with contextlib.suppress(UnicodeError):  # libsndfile takes the UTF-8 of an .mp3 for Latin-1
        return comment.encode("latin-1").decode()
    return comment


class _Bytes:
    """A file's bytes, read where they are asked for: not every file system can map a file into memory."""

    def __init__(self, file):
        self.file, self.size = file, file.seek(0, os.SEEK_END)

    def __len__(self):
        return self.size

    def __getitem__(self, where):
        start, stop, _ = where.indices(self.size)
        self.file.seek(start)
        return self.file.read(max(stop - start, 0))

    def places(self, pattern, start=0, overlap=7):
        """Where a pattern of at most `overlap` + 1 bytes occurs."""
        for begin in range(start, self.size, SCANNED):
            for found in pattern.finditer(self[begin : begin + SCANNED + overlap]):
                if found.start() < SCANNED:
                    yield begin + found.start()


def _parts(path):
    """(start, end, corrected head) of each recording in a file."""
    with open(path, "rb") as file:
        data = _Bytes(file)
        starts, head, kind = [0], b"", data[:4]
        behind = _behind_id3(data, 0)
        if kind == b"OggS":
            starts += _ogg_starts(data)
        elif kind in (b"RIFF", b"RF64"):
            head = _wav_head(data)
        elif kind == b"caff":
            head = _caf_head(data)
        elif FLAC.match(data[behind : behind + 8]):
            starts += list(data.places(FLAC))[1:]
        else:
            starts += _mp3_starts(data)
        return [(start, end, head) for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _ogg_starts(data):
    """Where further links of a chain begin: with first pages behind pages that are none."""
    place, playing, starts, damages = 0, False, [], 0
    while place is not None and damages < PATIENCE:
        page = data[place : place + 27 + 255]
        if len(page) < 27:
            break
        if page[:4] != b"OggS":  # damage: on with the next page
            place, damages = next(data.places(OGG, place), None), damages + 1
            continue
        first = bool(page[5] & 2)
        if first and playing:
            starts.append(place)
        playing = not first
        table = page[27 : 27 + page[26]]
        place += 27 + len(table) + sum(table)
    return starts


def _wav_head(data):
    """The head of a .wav file with the sizes that its recorder never filled in; nothing where they are right."""
    place = 12
    for _ in range(PATIENCE):
        if place + 8 > len(data):
            break
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        begin, end = place + 8, place + 8 + size
        if data[place : place + 4] == b"data":
            sizes = [min(length, 0xFFFFFFFF).to_bytes(4, "little") for length in (len(data) - 8, len(data) - begin)]
            if data[:4] == b"RF64":  # sizes of 64 bits stand in its first chunk; without them it is an ordinary .wav
                unknown = data[12:16] == b"ds64" and not any(data[28:36])
                return b"RIFF" + sizes[0] + b"WAVEJUNK" + data[16 : place + 4] + sizes[1] if unknown else b""
            told = 8 + int.from_bytes(data[4:8], "little")
            ends = {end, end + size % 2}  # not every writer fills up to an even number
            closed = size > 0 and told in ends or any(_are_chunks(data, one) for one in ends)
            if end >= len(data) or closed:  # what is too much libsndfile corrects
                return b""
            return data[:4] + sizes[0] + data[8 : place + 4] + sizes[1]
        place = end + size % 2
    return b""


def _caf_head(data):
    """The same of a .caf, whose length may be -1 while it is written."""
    place = 8
    for _ in range(PATIENCE):
        if not 8 <= place <= len(data) - 12:
            break
        size = int.from_bytes(data[place + 4 : place + 12], "big", signed=True)
        if data[place : place + 4] == b"data" and size == -1:
            return data[: place + 4] + (len(data) - place - 12).to_bytes(8, "big")
        place += 12 + size
    return b""


def _are_chunks(data, place):
    """Whether the rest of a RIFF file is whole chunks."""
    for _ in range(PATIENCE):
        if place + 8 > len(data) or not CHUNK.match(data[place : place + 4]):
            break
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return len(data) <= place <= len(data) + 1


def _behind_id3(data, place):
    """Where the audio begins behind a tag."""
    if data[place : place + 3] != b"ID3" or place + 10 > len(data):
        return place
    size = 0
    for byte in data[place + 6 : place + 10]:  # seven bits each
        size = size << 7 | byte & 127
    return place + 10 + size


def _mp3_starts(data):
    """Where further MP3 recordings begin: behind the bytes that the first frame of the one before counts."""
    starts, place = [], 0
    while True:
        frame = _behind_id3(data, place)
        if data[frame : frame + 1] != b"\xff":
            return starts
        beginning = data[frame : frame + 60]
        counts = max(beginning[:48].find(name) for name in (b"Xing", b"Info"))
        flags = beginning[counts + 7 : counts + 8]
        if counts < 0 or not flags or not flags[0] & 2:
            return starts
        where = counts + (12 if flags[0] & 1 else 8)
        place = frame + int.from_bytes(beginning[where : where + 4], "big")
        following = data[place : place + 3]
        if place <= frame or not (following == b"ID3" or following[:1] == b"\xff" and following[1:2] >= b"\xe0"):
            return starts
        starts.append(place)
