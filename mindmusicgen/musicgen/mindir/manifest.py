"""The manifest of a folder that `export` wrote: read, and checked against the files before they are used."""

import hashlib
import os
import re

from ...checkpoint.json_file import read_json
from ...checkpoint.writing import MANIFEST
from ...errors import InputError, clip

FORMAT = 1  # of the manifest; a reader refuses another
WIDE = 1 << 16
# Every number that sizes something, and the most that it can be in files of `export`.
SIZES = {"batch": 256, "text_length": 512, "cache_length": 4096, "prompt_columns": 4096, "prompt_samples": 1 << 26}
SIZES |= {"chunk": 1024}
CACHE = {"layers": 256, "heads": 1024, "head_size": WIDE}
CODEC = {"left": WIDE, "right": WIDE, "reach": WIDE, "layers": 64, "hidden": WIDE, "piece": WIDE}
# Operations that run code, or write files, from a folder: none is in what `export` writes, in any byte.
FOREIGN = (b"Custom", b"PyExecute", b"PyInterpret", b"PyFunc", b"TensorDump")


class Manifest(dict):
    """What manifest.json says, and the folder it speaks of.

    Args:
        folder (str): written by `mindmusicgen export`.

    Raises:
        InputError: if there is no manifest, it is damaged, or of another version.
    """

    def __init__(self, folder):
        self.folder, self.path = folder, os.path.join(folder, MANIFEST)
        try:
            found = read_json(self.path)
        except InputError as error:
            raise InputError(f"{error}: give a folder of mindmusicgen export") from error
        if found.get("format") != FORMAT:
            said = clip(repr(found.get("format")), 40)
            raise InputError(f"{self.path} has format {said}, this version reads {FORMAT}; export again")
        super().__init__(found)
        self._check_fields()
        self._check_version()

    def _broken(self):
        return InputError(f"{self.path} is damaged; export the model again")

    def _check_fields(self):
        """Refuse a manifest without what the reader asks it for."""
        for group, most in (("sizes", SIZES), ("codec", CODEC), ("cache", CACHE), (None, {"pad_code": 1 << 22})):
            values = self if group is None else self.get(group)
            if not isinstance(values, dict) or not all(_whole(values.get(name), most[name]) for name in most):
                raise self._broken()
        graphs, files = self.get("graphs"), self.get("files")
        if not self["sizes"]["batch"] or not self["sizes"]["chunk"] or not self["codec"]["piece"]:
            raise self._broken()
        texts = all(isinstance(self.get(name), str) for name in ("mindspore", "model", "dtype"))
        if (
            not texts
            or self["dtype"] not in ("float32", "float16")
            or not isinstance(graphs, dict)
            or not isinstance(files, dict)
        ):
            raise self._broken()
        for name, entry in files.items():
            inside = name == os.path.normpath(name) and not os.path.isabs(name) and name.split(os.sep)[0] != os.pardir
            if not inside or "\0" in name or not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
                raise self._broken()
        for name, entry in graphs.items():
            file = entry.get("file") if isinstance(entry, dict) else None
            if not isinstance(file, str) or file not in files or os.path.dirname(file) != name:
                raise self._broken()

    def check_fits(self, decoder):
        """Refuse a cache of other sizes than the config's.

        Args:
            decoder (transformers.MusicgenDecoderConfig): from the config.json beside the manifest.
        """
        heads, width = decoder.num_attention_heads, decoder.hidden_size
        expected = {"layers": decoder.num_hidden_layers, "heads": heads, "head_size": width // heads}
        if {name: self["cache"][name] for name in CACHE} != expected or self["pad_code"] > decoder.vocab_size:
            raise self._broken()

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

    def check_files(self, below=""):
        """Compare files with what the manifest says of them.

        Args:
            below (str): only those of this subfolder; "" for those beside the manifest.

        Raises:
            InputError: naming the first file that is missing or has changed.
        """
        for name, expected in self["files"].items():
            if os.path.dirname(name).split(os.sep)[0] != below:
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
