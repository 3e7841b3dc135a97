"""Golden values in files: arrays of a model that ships with the package, and which model that was."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..runtime.files import whole_file


def fingerprint(folder, names):
    """SHA-256 of the files of a model that golden values depend on."""
    digest = hashlib.sha256()
    for name in names:
        digest.update((Path(folder) / name).read_bytes())
    return digest.hexdigest()


def read(path, script, names=None):
    """Arrays of a file of golden values.

    Args:
        path (Path): the file.
        script (str): what writes it.
        names (Sequence[str]): which there must be; None: all that there are.

    Returns:
        dict[str, numpy.ndarray]

    Raises:
        InputError: if the file is missing or damaged, or lacks one.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (names or file.files)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"the doctor's golden values in {path} cannot be read; {_again(script)}") from error


def _again(script):
    return f"reinstall mindmusicgen (in its repository: python {script})"


def load(path, folder, names, script):
    """Golden arrays of a model that ships with the package.

    Args:
        path (Path): the file.
        folder (Path), names (Sequence[str]): of the model's files that they must belong to.
        script (str): what writes the file.

    Returns:
        dict[str, numpy.ndarray]

    Raises:
        InputError: if the file is missing, damaged, or belongs to another model.
    """
    arrays = read(path, script)
    if str(arrays.pop("fingerprint", "")) != fingerprint(folder, names):
        raise InputError(
            f"the doctor's golden values belong to another demo model than the one in {folder}; {_again(script)}"
        )
    return arrays


def save(path, folder, names, arrays):
    """Write golden arrays for `load`; the file appears whole or not at all."""
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays, fingerprint=np.array(fingerprint(folder, names)))
