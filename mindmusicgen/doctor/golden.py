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


def load(path, folder, names, script):
    """Golden arrays.

    Args:
        path (Path): the file.
        folder (Path), names (Sequence[str]): of the model's files that they must belong to.
        script (str): what writes the file.

    Returns:
        dict[str, numpy.ndarray]

    Raises:
        InputError: if the file is missing, damaged, or belongs to another model.
    """
    again = f"reinstall mindmusicgen (in its repository: python {script})"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        made_for = str(arrays.pop("fingerprint"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"the doctor's golden values in {path} cannot be read; {again}") from error
    if made_for != fingerprint(folder, names):
        raise InputError(f"the doctor's golden values belong to another demo model than the one in {folder}; {again}")
    return arrays


def save(path, folder, names, arrays):
    """Write golden arrays for `load`; the file appears whole or not at all."""
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays, fingerprint=np.array(fingerprint(folder, names)))
