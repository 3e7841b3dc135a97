"""The manifest of a folder that `export` wrote: read, and checked against the files before they are used."""

import hashlib
import os
import re

from ..checkpoint.json_file import read_json
from ..checkpoint.writing import MANIFEST
from ..errors import InputError, clip
from ..families import FIRST_EXPORTED, KINDS

FORMAT = 1  # of the manifest; a reader refuses another
WIDE = 1 << 16
CACHE = {"layers": 256, "heads": 1024, "head_size": WIDE}
# Operations that run code, or write files, from a folder: none is in what `export` writes, in any byte.
FOREIGN = (b"Custom", b"PyExecute", b"PyInterpret", b"PyFunc", b"TensorDump")


def exported_kind(folder):
    """The kind of model, one of `families.KINDS`, whose files `export` wrote into a folder.

    Args:
        folder (str): written by `mindmusicgen export`.

    Raises:
        InputError: if there is no manifest, it is damaged, or of a kind that this version does not know.
    """
    return _read(folder)[1]


def _read(folder):
    """What manifest.json holds, and the kind of model it speaks of."""
    path = os.path.join(folder, MANIFEST)
    try:
        found = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: give a folder of mindmusicgen export") from error
    if found.get("format") != FORMAT:
        said = clip(repr(found.get("format")), 40)
        raise InputError(f"{path} has format {said}, this version reads {FORMAT}; export again")
    kind = found.get("kind", FIRST_EXPORTED)
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{path} is of kind {clip(repr(kind), 40)}; expected one of {', '.join(KINDS)}")
    return found, kind


class Manifest(dict):
    """What manifest.json says, and the folder it speaks of; a family says which numbers its own must have.

    Args:
        folder (str): written by `mindmusicgen export`.

    Raises:
        InputError: if there is no manifest, it is damaged, of another kind of model, or of another version.
    """

    kind = ""  # of the models that the family exports
    numbers = {}  # group of numbers, or None for those at the top: name and the most that each can be
    positive = ()  # (group, name) of those that cannot be 0

    def __init__(self, folder):
        self.folder, self.path = folder, os.path.join(folder, MANIFEST)
        found, kind = _read(folder)
        if kind != self.kind:
            raise InputError(f"{folder} holds the files of a {kind!r} model; expected those of {self.kind!r}")
        super().__init__(found)
        self._check_fields()
        self._check_version()

    def broken(self):
        """The error for what `export` would not have written."""
        return InputError(f"{self.path} is damaged; export the model again")

    def _check_fields(self):
        """Refuse a manifest without what the reader asks it for."""
        for group, most in self.numbers.items():
            values = self if group is None else self.get(group)
            if not isinstance(values, dict) or not all(_whole(values.get(name), most[name]) for name in most):
                raise self.broken()
        if not all(self[group][name] for group, name in self.positive):
            raise self.broken()
        graphs, files = self.get("graphs"), self.get("files")
        texts = all(isinstance(self.get(name), str) for name in ("mindspore", "model", "dtype"))
        if (
            not texts
            or self["dtype"] not in ("float32", "float16")
            or not isinstance(graphs, dict)
            or not isinstance(files, dict)
        ):
            raise self.broken()
        for name, entry in files.items():
            inside = name == os.path.normpath(name) and not os.path.isabs(name) and name.split(os.sep)[0] != os.pardir
            if not inside or "\0" in name or not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
                raise self.broken()
        for name, entry in graphs.items():
            file = entry.get("file") if isinstance(entry, dict) else None
            if not isinstance(file, str) or file not in files or os.path.dirname(file) != name:
                raise self.broken()

    def _check_version(self):
        """Refuse files of a newer MindSpore: an older one may not know their operators."""
        import mindspore

        if _numbers(self["mindspore"]) > _numbers(mindspore.__version__):
            raise InputError(
                f"{self.folder} was exported with MindSpore {clip(self['mindspore'], 40)} and this is "
                f"{mindspore.__version__}; update MindSpore, or export again with this one"
            )

    def check_listed(self):
        """Refuse a folder with anything that the manifest does not list: a library could lie there for a graph.

        Raises:
            InputError: naming the first such file.
        """
        for where, folders, names in os.walk(self.folder):
            links = [name for name in folders if os.path.islink(os.path.join(where, name))]
            for name in sorted(names + links):
                path = os.path.relpath(os.path.join(where, name), self.folder)
                if path not in self["files"] and path != MANIFEST:
                    raise InputError(f"{self.folder} holds {clip(path)}, which {MANIFEST} does not list; remove it")

    def check_files(self, graph=None):
        """Compare files with what the manifest says of them.

        Args:
            graph (str): those of one graph; None for all that belong to none.

        Raises:
            InputError: naming the first file that is missing or has changed.
        """
        for name, expected in self["files"].items():
            above = name.split(os.sep)[0]
            if (above if above in self["graphs"] else None) != graph:
                continue
            path = os.path.join(self.folder, name)
            if not os.path.isfile(path):
                raise InputError(f"{path} is missing, which {MANIFEST} lists; copy it again, or export again")
            if os.path.getsize(path) != expected["bytes"] or digest(path)["sha256"] != expected["sha256"]:
                raise InputError(f"{path} is not the file that {MANIFEST} describes; copy it again, or export again")

    def graph(self, name):
        """Path of a graph's file, checked with all that belongs to it.

        Raises:
            InputError: if the graph was not exported, or its files do not fit.
        """
        if name not in self["graphs"]:
            raise InputError(f"{self.folder} holds no {name}, which this needs; export again with all --pieces")
        self.check_files(name)
        path = os.path.join(self.folder, self["graphs"][name]["file"])
        found = foreign_operation(path)
        if found:
            raise InputError(f"{path} has an operation {found}, which could run any code; export never writes one")
        return path


def foreign_operation(path):
    """The first of `FOREIGN` that a graph's file names, or None."""
    kept, longest = b"", max(map(len, FOREIGN))
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            kept = kept[-longest:] + piece
            for name in FOREIGN:
                if name in kept:
                    return name.decode()
    return None


def digest(path):
    """Size and SHA-256 of a file."""
    made = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            made.update(piece)
    return {"bytes": os.path.getsize(path), "sha256": made.hexdigest()}


def _whole(value, most):
    return type(value) is int and 0 <= value <= most


def _numbers(version):
    """(major, minor) of a version; (0, 0) for what is none."""
    found = re.match(r"(\d{1,6})\.(\d{1,6})(?!\d)", version, re.ASCII)
    return tuple(map(int, found.groups())) if found else (0, 0)
