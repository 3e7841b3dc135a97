"""What a prior is told at each window: where the window lies in the song, who sings, and which part of the lyrics.

All of it is counted on the host, in whole numbers, or in float32 where the original program counts so.
"""

from dataclasses import dataclass

import numpy as np

from ..arguments import as_array
from ..errors import InputError, shown


def window_starts(total, n_ctx, hop):
    """Where the windows of a level begin.

    Args:
        total (int): codes of the level, at least n_ctx.
        n_ctx (int): codes of a window.
        hop (int): how far it moves.

    Returns:
        list[int]: 0, hop, 2 hop, ...; the last is moved to total - n_ctx.
    """
    count = -(-max(total - n_ctx, 0) // hop)
    return [min(i * hop, total - n_ctx) for i in range(count + 1)]


def lyric_window(ids, count, total_length, offset, length):
    """The characters around the middle of a window, if the lyrics are sung evenly over the song.

    Args:
        ids (numpy.ndarray): all characters, [m] int32.
        count (int): how many are read.
        total_length, offset, length (int): samples of the song, before the window, and of the window.

    Returns:
        numpy.ndarray: [count] int32, zeros on the left of fewer; and the index of each in `ids`, -1 for these zeros.
    """
    known = len(ids)
    if known < count:
        positions = np.concatenate([np.full(count - known, -1), np.arange(known)])
    else:
        middle = int(known * (offset + length / 2.0) / total_length)
        middle = min(max(middle, count // 2), known - count // 2)
        positions = np.arange(middle - count // 2, middle + count // 2)
    padded = np.append(np.asarray(ids, np.int32), np.int32(0))  # what index -1 reads
    return padded[positions], positions.astype(np.int32)


def bins(position, least, most, count):
    """In which of `count` bins between `least` and `most` float32 positions lie, int32."""
    least, most = np.float32(least), np.float64(most) - np.float64(least)
    return np.floor(np.float32(count) * ((position - least) / np.float32(most))).astype(np.int32)


def spread(start, end, count):
    """`count` positions from start [B, 1] up to, not including, end: [B, count] float32."""
    return start + (end - start) * (np.arange(count, dtype=np.float32) / np.float32(count))


@dataclass
class Window:
    """The labels of a window.

    Attributes:
        artist (numpy.ndarray): [B] int32.
        genres (numpy.ndarray): [B, g] int32, -1 for none.
        lyrics, positions (numpy.ndarray): [B, k] int32, characters and their places in the whole lyrics.
        total, absolute, relative (numpy.ndarray): bins of time, [B, 1], [B, n_ctx], [B, n_ctx] int32; None for a prior
            that is not told of time.
        total_length, offset, length (int): in samples.
    """

    artist: np.ndarray
    genres: np.ndarray
    lyrics: np.ndarray
    positions: np.ndarray
    total: np.ndarray
    absolute: np.ndarray
    relative: np.ndarray
    total_length: int
    offset: int
    length: int

    def rows(self):
        """The labels as the original program has them, [B, 4 + g + k] int32."""
        size = len(self.artist)
        timing = np.tile(np.array([self.total_length, self.offset, self.length], np.int32), (size, 1))
        return np.concatenate([timing, self.artist[:, None], self.genres, self.lyrics], 1).astype(np.int32)


class Labels:
    """What is known of the songs of a batch, for one prior.

    Args:
        config (JukeboxPriorConfig): the prior's.
        rows (array): [songs, 4 + g (+ m)] whole numbers, such as the tokenizer gives; its first three are not read.
        count (int): songs that are made; a single row serves all of them.
        level (int): the prior's number.
        raw (int): samples of a code.

    Raises:
        InputError: if these are no labels of this prior.
    """

    def __init__(self, config, rows, count, level, raw):
        self.config, self.level, self.raw = config, level, raw
        rows = as_array(f"labels of prior {level}", rows, 2)
        lyrics = config.nb_relevant_lyric_tokens
        least = 4 + (config.max_nb_genres if lyrics else 1)
        if rows.dtype.kind not in "iu" or rows.shape[1] < least or len(rows) not in (1, count):
            raise InputError(
                f"labels of prior {level} are {shown(rows)}; expected whole numbers of shape ({count}, n) or (1, n), n "
                f"at least {least}, as the tokenizer gives"
            )
        rows = np.repeat(rows, count // len(rows), 0).astype(np.int64)
        slots = config.max_nb_genres if lyrics else rows.shape[1] - 4
        self.artist, self.genres = rows[:, 3], rows[:, 4 : 4 + slots]
        self.lyrics = [row[row != -1] for row in rows[:, 4 + slots :]] if lyrics else [rows[0, :0]] * count
        genres, artists = config.metadata_dims
        self._check("artist", self.artist, 0, artists)
        self._check("genre", self.genres, -1, genres)
        for text in self.lyrics:
            self._check("character", text, 0, config.lyric_vocab_size)

    def _check(self, what, numbers, least, end):
        wrong = numbers[(numbers < least) | (numbers >= end)]
        if len(wrong):
            raise InputError(
                f"labels of prior {self.level} have the {what} {wrong[0]}; expected {least} to {end - 1}: are they of "
                "this model's tokenizer?"
            )

    def window(self, start, total_length, offset):
        """The labels of a window.

        Args:
            start (int): its first code.
            total_length, offset (int): samples of the song, and before the sample.

        Returns:
            Window

        Raises:
            InputError: if it lies beyond the longest song of the model.
        """
        config, size = self.config, len(self.artist)
        offset, length = offset + start * self.raw, config.n_ctx * self.raw
        count = config.nb_relevant_lyric_tokens
        read = [lyric_window(text, count, total_length, offset, length) for text in self.lyrics]
        text, positions = (np.stack(part).astype(np.int32) for part in zip(*read, strict=True))
        timed = (None,) * 3
        if self.level == 0:
            timed = (np.repeat(one, size, 0) for one in time_bins(config, total_length, offset, length))
        names = self.artist.astype(np.int32), self.genres.astype(np.int32)
        return Window(*names, text, positions, *timed, total_length, offset, length)


def time_bins(config, total_length, offset, length):
    """Bins of time of a window: of the song's length, of each code's place in seconds, and as a part of the song.

    Args:
        config (JukeboxPriorConfig): of a top prior.
        total_length, offset, length (int): samples of the song, before the window, and of the window.

    Returns:
        three arrays of int32, [1, 1], [1, n_ctx], [1, n_ctx].

    Raises:
        InputError: if the window lies beyond the longest song of the model.
    """
    rate, count, n_ctx = config.sampling_rate, config.timing_dims, config.n_ctx
    total, start, end = (np.full((1, 1), n, np.float32) for n in (total_length, offset, offset + length))
    whole = bins(total, config.min_duration * rate, config.max_duration * rate, count)
    absolute = bins(spread(start, end, n_ctx), 0.0, config.max_duration * rate, count)
    until = np.clip(end / total, np.float32(0), np.float32(1))
    relative = bins(spread(start / total, until, n_ctx), 0.0, 1.0, count)
    for found in (whole, absolute, relative):
        if found.min() < 0 or found.max() >= count:
            raise InputError(
                f"a window from {offset / rate:.2f} s to {(offset + length) / rate:.2f} s of a song of "
                f"{total_length / rate:.2f} s is beyond what the model counts; songs have {config.min_duration:g} to "
                f"{config.max_duration:g} s"
            )
    return whole, absolute, relative
