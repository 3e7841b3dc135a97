"""What a visitor has made: pieces as files in a folder of their own, which goes when the visitor does."""

import os
import re
import shutil
import threading
from dataclasses import dataclass, field

from ..audio import write_audio
from ..codes_file import save_codes
from ..commands.outputs import free_paths
from ..sound.recipe import recipe_comment

FORMATS = ("wav", "flac", "ogg", "mp3")
MOST = 100  # pieces of a visitor that are kept; the oldest goes first


@dataclass(frozen=True)
class Piece:
    """A piece on disk.

    Attributes:
        number (int): of the visitor's pieces, from 1.
        stem (str): path of its files without their ending; there is always a .wav.
        values (dict): of the page's fields when it was made.
        recipe (dict), seed, rate (int): as made.
        seconds (float): how long it is.
    """

    number: int
    stem: str
    values: dict
    recipe: dict
    seed: int
    rate: int
    seconds: float

    @property
    def title(self):
        """What lists call it."""
        words = str(self.recipe.get("prompt") or self.recipe.get("lyrics") or self.recipe.get("model"))
        words = words if len(words) <= 48 else f"{words[:46]}..."
        return f"{self.number}. {words} · {self.seconds:.1f} s · {self.seed}"

    def file(self, ending="wav"):
        """The piece as a file of a format, written when it is first asked for; with its recipe in it."""
        from ..audio import read_audio

        path = f"{self.stem}.{ending}"
        if not os.path.isfile(path):
            wav = f"{self.stem}.wav"
            samples = read_audio(wav, self.rate, channels_of(wav))
            write_audio(path, samples, self.rate, comment=recipe_comment(self.recipe))
        return path

    def pictures(self):
        """A picture of waveform, spectrogram and, where there are any, codes."""
        import numpy as np

        from ..audio import read_audio
        from ..display import plot_piece

        wav, codes = f"{self.stem}.wav", None
        if os.path.isfile(f"{self.stem}.npz"):
            with np.load(f"{self.stem}.npz") as kept:
                codes = kept["codes"][0]
        columns = 50 if codes is None else codes.shape[1] / self.seconds
        return plot_piece(read_audio(wav, self.rate, channels_of(wav)), self.rate, codes, columns)


def channels_of(path):
    """One or two."""
    from ..sound.sound_file import SoundFile

    return min(SoundFile(path).channels, 2)


@dataclass
class Session:
    """A visitor.

    Attributes:
        folder (str): where the pieces are.
        language (str): "en" or "zh"; None is what the browser says.
        pieces (dict[int, Piece]): by number.
        stopped (threading.Event): of the piece that is asked for.
        refusal (tuple[str, str]): what was refused last: the field it is about, and the sentence.
    """

    folder: str
    language: str | None = None
    pieces: dict = field(default_factory=dict)
    count: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    refusal: tuple = ("prompt", "")

    def add(self, made, values, keep=None):
        """Write a piece that was made.

        Args:
            made (studio.Made): the piece.
            values (dict): of the page's fields.
            keep (str): a folder that keeps a copy, for whoever started the page.

        Returns:
            Piece
        """
        os.makedirs(self.folder, exist_ok=True)
        self.count += 1
        stem = os.path.join(self.folder, f"{self.count:03}-{slug(made)}")
        comment = recipe_comment(made.recipe)
        write_audio(f"{stem}.wav", made.audio, made.rate, comment=comment)
        if made.codes is not None:
            save_codes(f"{stem}.npz", made.codes[None], made.rate, made.frame_rate)
        if keep:
            path = free_paths([(os.path.join(keep, f"{slug(made)}.wav"), 1)])[0][0]
            write_audio(path, made.audio, made.rate, comment=comment)
        seconds = made.audio.shape[1] / made.rate
        piece = Piece(self.count, stem, values, made.recipe, made.seed, made.rate, seconds)
        self.pieces[piece.number] = piece
        while len(self.pieces) > MOST:
            oldest = self.pieces.pop(min(self.pieces))
            for ending in (*FORMATS, "npz"):
                if os.path.isfile(f"{oldest.stem}.{ending}"):
                    os.remove(f"{oldest.stem}.{ending}")
        return piece

    def forget(self):
        """The visitor has gone."""
        self.stopped.set()
        shutil.rmtree(self.folder, ignore_errors=True)


def slug(made):
    """A name for a piece's file: its first words and its seed."""
    words = re.findall(r"\w+", str(made.recipe.get("prompt") or made.recipe.get("model") or "piece").lower())
    return f"{'-'.join(words)[:40].strip('-')}-{made.seed}"
