"""The audio files of a folder and their captions.

The folder follows Hugging Face's audiofolder: the caption of an audio file is in `metadata.jsonl` or `metadata.csv`, in
the folder of the file or above it, or else in a .txt of the same stem beside it. Links to folders are followed. Names
are found whatever their case, and in whatever of Unicode's forms (NFC, NFD) they are written. What looks like audio or
like metadata and cannot be used is listed with its reason; it ends nothing.
"""

import csv
import json
import os
import unicodedata
from dataclasses import dataclass

from ..errors import InputError
from ..runtime.telling import printable
from ..sound.samples import READABLE, UnusableAudio
from ..words import has_lone_surrogate

TABLES = ("metadata.jsonl", "metadata.csv")
CAPTION_COLUMNS = ("text", "caption", "description")
# What libsndfile reads, and what is audio all the same. An ending decides only what is looked at: contents are tried.
AUDIO = (*READABLE, ".aif", ".aifc", ".aiff", ".au", ".caf", ".mp2", ".oga", ".opus", ".rf64", ".snd", ".w64", ".wave")
FOREIGN_AUDIO = (
    *(".3gp", ".aac", ".ac3", ".alac", ".amr", ".ape", ".dff", ".dsf", ".m4a", ".m4b", ".mid", ".midi", ".mka", ".mkv"),
    *(".mov", ".mp4", ".mpc", ".ra", ".raw", ".spx", ".tta", ".webm", ".weba", ".wma", ".wv"),
)
FOREIGN_TABLES = (".arrow", ".csv", ".json", ".jsonl", ".ods", ".parquet", ".tsv", ".xls", ".xlsx")
CONVERT = "is audio of a kind that is not read; convert it to .wav or .flac"


@dataclass(frozen=True)
class Pair:
    """An audio file with its captions.

    Attributes:
        name (str): path below the data folder.
        captions (tuple[str]): at least one.
        stamp (tuple[int, int]): size in bytes and time of the last change in ns.
    """

    name: str
    captions: tuple
    stamp: tuple


class Names:
    """The names of a folder's files, found by what they look like.

    Args:
        names (Iterable[str]): paths below the folder.
    """

    def __init__(self, names):
        self.alike = {}
        for name in names:
            self.alike.setdefault(_key(name), []).append(name)

    def __iter__(self):
        return (name for alike in self.alike.values() for name in alike)

    def find(self, name):
        """The file that is called so: exactly, in another Unicode form, or as the only one in another case; or None."""
        alike = self.alike.get(_key(name), [])
        composed = [one for one in alike if _composed(one) == _composed(name)]
        for candidates in ([one for one in alike if one == name], composed, alike):
            if len(candidates) == 1:
                return candidates[0]
        return None


def _composed(name):
    return unicodedata.normalize("NFC", name)


def _key(name):
    return _composed(_composed(name).casefold())


def find_pairs(folder):
    """The audio files of a folder that have captions.

    Args:
        folder (str): searched with the folders below it, also those that are links.

    Returns:
        list[Pair] in the order of their names, and the skipped as list[tuple[str, str]] of name and reason.

    Raises:
        InputError: if the folder or the metadata at its top cannot be read.
    """
    if not os.path.isdir(folder):
        raise InputError(f"data {folder!r} is not a folder; expected one with audio files and their captions")
    found, skipped = _walk(folder)
    names, listed, pairs, used = Names(found), {}, [], set()
    for table in sorted(filter(_is_table, found), key=_table_order):
        try:
            for place, name, caption in _read_table(folder, table):
                target, reason = _target(names, table, name)
                if reason:
                    skipped.append((name or place, reason))
                else:
                    listed.setdefault(target, []).append(caption)
        except InputError as error:
            if not os.path.dirname(table):
                raise
            skipped.append((table, str(error).removeprefix(f"{os.path.join(folder, table)} ")))
    for name in sorted(listed.keys() | {name for name in found if name.lower().endswith(AUDIO + FOREIGN_AUDIO)}):
        beside = names.find(os.path.splitext(name)[0] + ".txt")
        used.add(beside)
        try:
            pairs.append(_pair(folder, name, listed.get(name, ()), beside))
        except UnusableAudio as error:
            skipped.append((name, error.reason))
    for name in found:
        if name.lower().endswith(".txt") and name not in used:
            skipped.append((name, "is the caption of no audio file"))
        elif name.lower().endswith(FOREIGN_TABLES) and not _is_table(name):
            skipped.append((name, "is no metadata.csv or metadata.jsonl"))
    return pairs, skipped


def _walk(folder):
    """Names of the files below a folder, and of folders that are not gone through, with the reason.

    Hidden files are other programs' notes. Folders behind links come last, and each folder once, however it is reached.
    """
    found, skipped, left, links = [], [], [""], []
    seen = set()
    while left or links:
        where = left.pop() if left else links.pop(0)
        real = os.path.realpath(os.path.join(folder, where))
        if real in seen:
            skipped.append((where, "is a link to a folder that is read already"))
            continue
        seen.add(real)
        try:
            entries = sorted(os.listdir(os.path.join(folder, where)))
        except OSError as error:
            skipped.append((where or ".", f"cannot be read ({error.strerror})"))
            continue
        for entry in entries:
            name = os.path.join(where, entry)
            if os.path.isdir(os.path.join(folder, name)):
                (links if os.path.islink(os.path.join(folder, name)) else left).append(name)
            elif not entry.startswith("."):
                found.append(name)
    return found, skipped


def _is_table(name):
    return os.path.basename(name).casefold() in TABLES


def _table_order(name):
    where, base = os.path.split(name)
    return where, TABLES.index(base.casefold())


def _target(names, table, name):
    """The file that a table means, and what is wrong with the name it gives."""
    if not name:
        return None, "names no file"
    try:
        if b"\0" in os.fsencode(name):
            raise ValueError(name)
    except ValueError:  # half a character
        return None, "is no name of a file"
    # Only the name counts, not where links lead: in the hub's cache every file is a link out of its folder.
    path = os.path.normpath(os.path.join(os.path.dirname(table), name))
    if os.path.isabs(name) or path.split(os.sep)[0] == os.pardir:
        return None, "leads out of the data folder"
    return names.find(path) or names.find(path.replace("\\", "/")) or path, None


def _read_table(folder, table):
    """Place, file name and caption of each row of a metadata file; an unusable name is empty."""
    path = os.path.join(folder, table)
    try:
        if not os.path.isfile(path):
            raise InputError(f"{path} is no file; expected a table")
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate((_csv_rows if path.lower().endswith(".csv") else _json_rows)(file), 1):
                row = {_column(name): value for name, value in row.items()} if isinstance(row, dict) else {}
                texts = (row.get(column) for column in CAPTION_COLUMNS)
                caption = next((text for text in texts if isinstance(text, str) and text.strip()), "")
                name = row.get("file_name")
                yield f"{table} row {number}", name if isinstance(name, str) else "", caption
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else printable(str(error))[:80]
        raise InputError(f"{path} cannot be read ({reason}); expected UTF-8 text") from error


def _column(name):
    return name.strip().casefold() if isinstance(name, str) else name


def _csv_rows(file):
    rows = csv.DictReader(file)
    names = rows.fieldnames or ()
    columns = set(map(_column, names))
    if "file_name" not in columns or not columns & set(CAPTION_COLUMNS):
        shown = printable(", ".join(names)[:80])[:80] or "none"
        raise InputError(f"{file.name} has the columns {shown}; expected file_name and text")
    yield from rows


def _json_rows(file):
    for line in file:
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield None


def _pair(folder, name, captions, beside):
    """The pair of an audio file; UnusableAudio says why there is none."""
    path = os.path.join(folder, name)
    if name.lower().endswith(FOREIGN_AUDIO):
        raise UnusableAudio(path, CONVERT, "")
    if not name.lower().endswith(AUDIO):
        raise UnusableAudio(path, "is no audio file", f"expected {', '.join(READABLE)}")
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as error:  # a name that the file system cannot have is a ValueError
        raise UnusableAudio(path, "is not there", "the metadata names it, or it is a link to nothing") from error
    if not any(captions) and beside and os.path.isfile(os.path.join(folder, beside)):
        try:
            with open(os.path.join(folder, beside), encoding="utf-8-sig") as file:
                captions = [file.read(100_000)]
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableAudio(path, "has a caption that cannot be read", "expected UTF-8 text") from error
    words = tuple(dict.fromkeys(" ".join(caption.split()) for caption in captions if caption.strip()))
    if not words:
        reason = "has an empty caption" if captions else "has no caption"
        raise UnusableAudio(path, reason, "write one into a .txt beside it")
    if any(map(has_lone_surrogate, words)):
        raise UnusableAudio(path, "has a caption with half a character (a lone surrogate)", "expected UTF-8 text")
    return Pair(name, words, (facts.st_size, facts.st_mtime_ns))
