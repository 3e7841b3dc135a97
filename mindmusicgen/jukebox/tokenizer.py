"""What Jukebox is told of a song, as numbers: artist, genres, and the characters of the lyrics.

There are two lists of names, "v2" (in its keys, ".v2" at the end) and "v3". In v2 a genre is a bag of up to five words,
in v3 one name. The 1b model's top prior reads v3; all others read v2.
"""

import difflib
import json
import os
import re
from dataclasses import dataclass

import numpy as np

from ..checkpoint.json_file import read_json
from ..checkpoint.source import resolve
from ..errors import InputError, shown
from ..habits import opening
from ..language import said
from ..outputs import Output
from ..runtime.files import whole_file
from ..runtime.telling import tell
from ..words import has_lone_surrogate
from .ascii import to_ascii

FILES = {"artists_file": "artists.json", "genres_file": "genres.json", "lyrics_file": "lyrics.json"}
SETTINGS = "tokenizer_config.json"
VERSIONS = ("v2", "v3")
GENRES = {"v2": 5, "v3": 1}  # slots for them in a label


@dataclass
class JukeboxTokens(Output):
    """What the tokenizer returns.

    Attributes:
        input_ids (list): for each prior, the top first, int32 [songs, 4 + genres (+ lyrics)]: three zeros for the
            timing, the artist, genres (-1 for none), and for the top prior the characters (-1 behind shorter lyrics).
        attention_masks (list): empty, as in transformers.
    """

    input_ids: list = None
    attention_masks: list = None


class JukeboxTokenizer:
    """Artist, genre and lyrics to numbers.

    Args:
        artists_file, genres_file, lyrics_file (str): JSON files of names and characters with their numbers.
        version (list[str]): "v2" or "v3" for each prior, the top first.
        max_n_lyric_tokens (int): how many characters the top prior reads at once; nothing is cut here.
        n_genres (int): kept as transformers has it; labels have five slots for v2 and one for v3.
        unk_token (str): kept as transformers has it.

    Raises:
        InputError: if a file is missing or not such a list.
    """

    def __init__(
        self,
        artists_file,
        genres_file,
        lyrics_file,
        version=("v3", "v2", "v2"),
        max_n_lyric_tokens=512,
        n_genres=5,
        unk_token="<|endoftext|>",
    ):
        if not isinstance(version, (list, tuple)) or not version or any(one not in VERSIONS for one in version):
            raise InputError(
                f"version is {shown(version)}; expected v2 or v3 for each prior, such as ['v3', 'v2', 'v2']"
            )
        self.version, self.max_n_lyric_tokens = list(version), max_n_lyric_tokens
        self.n_genres, self.unk_token = n_genres, unk_token
        self.artists_encoder, self.genres_encoder = _read(artists_file), _read(genres_file)
        self.lyrics_encoder = _read(lyrics_file)
        self.artists_decoder, self.genres_decoder, self.lyrics_decoder = (
            {number: name for name, number in table.items()}
            for table in (self.artists_encoder, self.genres_encoder, self.lyrics_encoder)
        )

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **settings):
        """Open the lists of a model's folder.

        Args:
            model (str): folder or hub id.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            **settings: in place of what tokenizer_config.json says.

        Raises:
            InputError: if there is no such model, or it has no such lists.
        """
        model, _, _, settings = opening(model, None, None, settings)
        folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
        found = folder.json(SETTINGS) if folder.has(SETTINGS) else {}
        known = ("version", "max_n_lyric_tokens", "n_genres", "unk_token")
        found = {name: found[name] for name in known if isinstance(found.get(name), (list, int, str))}
        for name in sorted(set(settings) - set(known)):
            raise InputError(f"from_pretrained does not take {shown(name)}; expected some of {', '.join(known)}")
        return cls(*map(folder.file, FILES.values()), **(found | settings))

    @property
    def vocab_size(self):
        """Artists, genres and characters together."""
        return len(self.artists_encoder) + len(self.genres_encoder) + len(self.lyrics_encoder)

    def get_vocab(self):
        """The three lists, by transformers' names."""
        return {
            "artists_encoder": self.artists_encoder,
            "genres_encoder": self.genres_encoder,
            "lyrics_encoder": self.lyrics_encoder,
        }

    def __call__(self, artist, genres, lyrics="", return_tensors="ms"):
        """Numbers for songs.

        Args:
            artist (str | Sequence[str]): names; an unknown one counts as "unknown", which a line says.
            genres (str | Sequence[str]): one text for each song, such as "Country Rock".
            lyrics (str | Sequence[str]): texts; a backslash is a line break, other scripts become Latin letters.
            return_tensors (str): "ms" for Tensors, "np" for arrays.

        Returns:
            JukeboxTokens

        Raises:
            InputError: if lyrics lose more than half of their characters.
        """
        if return_tensors not in ("ms", "np"):
            raise InputError(f"return_tensors is {shown(return_tensors)}; expected ms or np")
        songs = _songs(artist, genres, lyrics)
        texts = [self.lyric_ids(text) for _, _, text in songs]
        longest = max(map(len, texts))
        ids = []
        for prior, version in enumerate(self.version):
            rows = [[0, 0, 0, *self._names(name, genre, version, prior)] for name, genre, _ in songs]
            if prior == 0:
                rows = [row + text + [-1] * (longest - len(text)) for row, text in zip(rows, texts, strict=True)]
            ids.append(np.array(rows, np.int32))
        if return_tensors == "ms":
            from mindspore import Tensor

            ids = list(map(Tensor, ids))
        return JukeboxTokens(ids, [])

    def clean_lyrics(self, text):
        """A text with the characters that there are numbers for, and no others."""
        return "".join(c for c in to_ascii(text).replace("\\", "\n") if c in self.lyrics_encoder and self._sung(c))

    def _sung(self, character):
        return character != "+" or self.version[0] == "v2"  # v3 forgot it

    def lyric_ids(self, text):
        """The numbers of a text's characters, list of int.

        Raises:
            InputError: if more than half of them would be lost.
        """
        kept = self.clean_lyrics(text)
        lost = sum(not self.clean_lyrics(c) for c in text if not c.isspace())
        if 2 * lost > sum(not c.isspace() for c in text):
            raise InputError(
                f"the lyrics {shown(text)} would lose {lost} of their {len(text)} characters, which this model cannot "
                "read; write them in Latin letters"
            )
        if lost:
            tell(said(f"characters that the model does not know are left out of the lyrics: {lost}"), error=True)
        return [self.lyrics_encoder[c] for c in kept]

    def _names(self, artist, genre, version, prior):
        """The numbers of an artist and of the slots of genres."""
        if version == "v3":
            words, artist = [genre.lower()], artist.lower()
        else:
            words, artist = [f"{word}.v2" for word in _plain(genre).split("_") if word], f"{_plain(artist)}.v2"
        number = self._number("artist", artist, self.artists_encoder, prior)
        found = [self._number("genre", word, self.genres_encoder, prior) for word in words]
        slots = GENRES[version]
        if len(found) > slots:
            found = [one for one in found if one][:slots] or found[:1]
            tell(
                said(f"genre {shown(genre)} has more words than the {slots} that count; the first known ones do"),
                error=True,
            )
        return [number, *found, *[-1] * (slots - len(found))]

    def _number(self, what, name, table, prior):
        if name in table or not name.removesuffix(".v2"):
            return table.get(name, 0)
        if prior < 2:  # the third prior reads the second one's lists
            names = [one for one in table if one.endswith(".v2") == name.endswith(".v2")]
            near = difflib.get_close_matches(name, set(names) - {"unknown", "unknown.v2"}, 3, 0.4)
            near = f"; near: {', '.join(one.removesuffix('.v2') for one in near)}" if near else ""
            of = "model" if prior == 0 else "model's upsamplers"
            plain = name.removesuffix(".v2")
            tell(
                said(f"{what} {shown(plain)} is not among the {len(names):,} of this {of} and counts as unknown{near}"),
                error=True,
            )
        return 0

    def search(self, words, what="artists", most=20):
        """Names that hold all of some words.

        Args:
            words (str): parts of a name, in any case.
            what (str): "artists" or "genres".
            most (int): how many names at most.

        Returns:
            list[str]: as the top prior's list has them.
        """
        table = self.artists_encoder if what == "artists" else self.genres_encoder
        own = self.version[0] == "v2"
        names = [name.removesuffix(".v2") for name in table if name.endswith(".v2") == own]
        parts = [_plain(word) if own else word for word in words.lower().split()]
        return sorted(name for name in names if all(part in name for part in parts))[:most]

    def save_vocabulary(self, save_directory, filename_prefix=None):
        """Write the three lists into a folder; returns their paths."""
        start, paths = f"{filename_prefix}-" if filename_prefix else "", []
        os.makedirs(save_directory, exist_ok=True)
        for name, table in zip(FILES.values(), self.get_vocab().values(), strict=True):
            paths.append(os.path.join(save_directory, start + name))
            _write(paths[-1], table)
        return tuple(paths)

    def save_pretrained(self, save_directory):
        """Write the lists and tokenizer_config.json into a folder; returns their paths."""
        paths = self.save_vocabulary(save_directory)
        path = os.path.join(save_directory, SETTINGS)
        names = ("version", "max_n_lyric_tokens", "n_genres", "unk_token")
        _write(path, {name: getattr(self, name) for name in names} | FILES | {"tokenizer_class": type(self).__name__})
        return (*paths, path)


def _songs(artist, genres, lyrics):
    """[(artist, genres, lyrics)] of each song; one text serves all."""
    given = {"artist": artist, "genres": genres, "lyrics": lyrics}
    for name, value in given.items():
        if not isinstance(value, (str, list, tuple)):
            raise InputError(f"{name} is {shown(value)}; expected text, or a list of texts")
    lists = {name: [value] if isinstance(value, str) else list(value) for name, value in given.items()}
    count = max(map(len, lists.values()))
    for name, texts in lists.items():
        if len(texts) not in (1, count) or not texts:
            raise InputError(f"there are {len(texts)} of {name} for {count} songs; give one for each, or one for all")
        for text in texts:
            if not isinstance(text, str) or has_lone_surrogate(text):
                raise InputError(f"{name} holds {shown(text)}; expected text")
    return list(zip(*(texts * count if len(texts) == 1 else texts for texts in lists.values()), strict=True))


def _plain(text):
    """A name as v2 has it: ASCII's letters and digits in lower case, what lies between them as one underscore."""
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_")


def _read(path):
    table = read_json(path)
    if not table or not all(type(number) is int and 0 <= number < 1 << 22 for number in table.values()):
        raise InputError(f"{path} is no list of names with their numbers; download it again")
    return table


def _write(path, table):
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(table, file, ensure_ascii=False, indent=1)
