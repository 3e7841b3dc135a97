"""Graphs out of exported files, each checked and loaded when it is first called for."""

import mindspore as ms
import numpy as np
from mindspore import nn

from ..errors import InputError
from ..runtime.callers import Single
from ..runtime.compiled import settle


class Graphs:
    """The graphs of a folder by name, as functions of tensors.

    Args:
        manifest (Manifest): of the folder.
    """

    def __init__(self, manifest):
        self.manifest, self.loaded = manifest, {}

    def __call__(self, name):
        """A graph.

        Raises:
            InputError: if it was not exported, or its file is missing, changed or cannot be loaded.
        """
        if name not in self.loaded:
            path = self.manifest.graph(name)
            try:
                graph = nn.GraphCell(ms.load(path))
            except (RuntimeError, ValueError, TypeError) as error:
                reason = str(error).strip().partition("\n")[0]
                raise InputError(f"{path} cannot be loaded ({reason}); export again") from error

            def run(*arguments):
                try:
                    made = graph(*arguments)
                    settle()
                    return made
                except Exception:
                    self.loaded.pop(name, None)  # a graph that has failed once fails at every call
                    raise

            self.loaded[name] = run
        return self.loaded[name]


def filled(rows, count):
    """The first axis filled up to `count` with copies of the last row: a graph has fixed shapes."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


class Exported(Single):
    """A mixin of what runs from a folder of exported files: checks them, and keeps their graphs."""

    def _open(self, manifest):
        """Check the files that a manifest lists; `manifest` and `_load`, graphs by name, are there afterwards."""
        manifest.check_listed()
        manifest.check_files()
        self.manifest, self._load = manifest, Graphs(manifest)

    @classmethod
    def from_pretrained(cls, folder):
        """Open a folder of exported files: the class itself, by the name that models are opened with."""
        return cls(folder)
