"""Model folders are written whole: what a reader finds is the old model or the new one, never some of each."""

import contextlib
import fnmatch
import os
import shutil

from ..errors import InputError
from ..runtime.files import check_folder, temporary_folder
from ..runtime.telling import quoted
from .source import NATIVE

WEIGHTS = (NATIVE, "model*.safetensors*", "pytorch_model*.bin*", "generation_config.json")  # and how they are used
COMPANIONS = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)
CONFIG, MANIFEST = "config.json", "manifest.json"
CONFIGS = (CONFIG, "model_index.json")  # what a folder is known by


@contextlib.contextmanager
def whole_folder(folder):
    """A temporary folder that becomes `folder` when the block succeeds, and vanishes when not.

    In a folder that is there already, weights take the place of all earlier weights, and a tokenizer of all files of an
    earlier one; what belongs to neither stays.

    Raises:
        InputError: if the folder cannot be written, or holds the files of `mindmusicgen export`.
    """
    folder = os.path.realpath(folder)
    check_whole_folder(folder)
    there = os.path.isdir(folder)
    parent = folder if there else os.path.dirname(folder)
    try:
        os.makedirs(parent, exist_ok=True)
        with temporary_folder(parent) as partial:
            yield partial
            if there:
                _replace(partial, folder)
            else:
                os.rename(partial, folder)
    except OSError as error:
        raise InputError(
            f"{quoted(folder)} cannot be written ({error.strerror}); choose one you may write to, with room"
        ) from error


def check_whole_folder(folder, room=0):
    """Refuse a path that `whole_folder` could not write, or with less than about `room` bytes left.

    Raises:
        InputError: if it cannot be a folder, or holds the files of `mindmusicgen export`.
    """
    check_folder(folder, "output", room)
    if os.path.isfile(os.path.join(folder, MANIFEST)):
        raise InputError(
            f"output {quoted(folder)} holds files of mindmusicgen export, which belong together; choose another folder"
        )


def _replace(partial, folder):
    """Move files into a folder, in the place of earlier ones.

    The old config goes first and the new one comes last: a folder without it is refused, should this be interrupted.
    """
    new, old = os.listdir(partial), os.listdir(folder)
    stale = [name for name in CONFIGS if name in new and name in old]
    for patterns in (WEIGHTS, COMPANIONS):
        if _matching(new, patterns):
            stale += sorted(set(_matching(old, patterns)) - set(new))
    for name in stale:
        os.remove(os.path.join(folder, name))
    for name in sorted(new, key=lambda name: (name in CONFIGS, name)):
        if os.path.isdir(os.path.join(folder, name)) and not os.path.islink(os.path.join(folder, name)):
            shutil.rmtree(os.path.join(folder, name))  # a part with a folder of its own
        os.replace(os.path.join(partial, name), os.path.join(folder, name))


def _matching(names, patterns):
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def copy_companions(source, folder):
    """Copy tokenizer and processor files from one folder to another."""
    for name in _matching(os.listdir(source), COMPANIONS):
        if os.path.isfile(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), folder)
