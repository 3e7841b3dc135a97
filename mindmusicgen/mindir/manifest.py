"""The manifest of a folder that `export` wrote: read, and checked against the files before they are used."""

import hashlib
import json
import os

from ..checkpoint.writing import MANIFEST
from ..errors import InputError

FORMAT = 1  # of the manifest; a reader refuses another
SIZES = ("batch", "text_length", "cache_length", "prompt_columns", "prompt_samples", "chunk")
CODEC = ("left", "right", "reach", "layers", "hidden", "piece")


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
            with open(self.path, encoding="utf-8") as file:
                found = json.load(file)
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read: {error.strerror}; give a folder of mindmusicgen export"
            ) from error
        except (ValueError, RecursionError) as error:
            raise self._broken() from error
        if not isinstance(found, dict):
            raise self._broken()
        if found.get("format") != FORMAT:
            raise InputError(
                f"{self.path} has format {found.get('format')!r}, this version reads {FORMAT}; export again"
            )
        super().__init__(found)
        self._check_fields()
        self._check_version()

    def _broken(self):
        return InputError(f"{self.path} is damaged; export the model again")

    def _check_fields(self):
        """Refuse a manifest without what the reader asks it for."""
        sizes, codec, graphs, files = (self.get(name) for name in ("sizes", "codec", "graphs", "files"))
        for group, names in ((sizes, SIZES), (codec, CODEC)):
            if not isinstance(group, dict) or not all(_whole(group.get(name)) for name in names):
                raise self._broken()
        if not sizes["batch"] or not sizes["chunk"] or not _whole(self.get("pad_code")):
            raise self._broken()
        if not isinstance(graphs, dict) or not isinstance(files, dict) or not isinstance(self.get("mindspore"), str):
            raise self._broken()
        for name, entry in files.items():
            inside = name == os.path.normpath(name) and not os.path.isabs(name) and name.split(os.sep)[0] != os.pardir
            if not inside or not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
                raise self._broken()
        if not all(isinstance(entry, dict) and entry.get("file") in files for entry in graphs.values()):
            raise self._broken()

    def _check_version(self):
        """Refuse files of a newer MindSpore: an older one may not know their operators."""
        import mindspore

        if _numbers(self["mindspore"]) > _numbers(mindspore.__version__):
            raise InputError(
                f"{self.folder} was exported with MindSpore {self['mindspore']} and this is {mindspore.__version__}; "
                "update MindSpore, or export again with this one"
            )

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
        return os.path.join(self.folder, self["graphs"][name]["file"])


def digest(path):
    """Size and SHA-256 of a file."""
    made = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            made.update(piece)
    return {"bytes": os.path.getsize(path), "sha256": made.hexdigest()}


def _whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _numbers(version):
    """(major, minor) of a version; (0, 0) for what is none."""
    parts = version.split(".")
    return tuple(int(part) for part in parts[:2]) if len(parts) > 1 and all(p.isdigit() for p in parts[:2]) else (0, 0)
