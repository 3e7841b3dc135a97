"""Voice presets: what a speaker said before, as semantic tokens and codes, which a generation goes on from.

A preset is a dict of three arrays: `semantic_prompt` [s], `coarse_prompt` [2, n] and `fine_prompt` [K, n], codes of n
frames. Files are NumPy's, as suno's program and transformers read and write them; nothing pickled is opened.
"""

import os

import numpy as np

from ..errors import InputError, clip, shown
from ..runtime.files import whole_file

KEYS = {"semantic_prompt": 1, "coarse_prompt": 2, "fine_prompt": 2}  # and their numbers of axes
MAX_BYTES = 10_000_000  # a hundred times what the published ones have


def open_preset(path):
    """The preset in an .npz file; ".npz" is appended where it is missing.

    Raises:
        InputError: if there is no such file, or it is damaged or no preset.
    """
    path = os.fspath(path)
    path = path if path.endswith(".npz") else f"{path}.npz"
    return checked(read_arrays(path), path)


def read_arrays(path):
    """What an .npy or .npz file holds: an array, or a dict of arrays."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES} bytes, which no voice preset is")
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            if sum(info.file_size for info in found.zip.infolist()) > MAX_BYTES:
                raise InputError(f"{path} unpacks to more than {MAX_BYTES} bytes, which no voice preset has")
            return {name: found[name] for name in found.files}
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"voice preset {shown(path)} is no file; give an .npz file with {', '.join(KEYS)}") from error
    except Exception as error:  # a damaged zip can raise nearly anything
        raise InputError(f"{path} cannot be read as a voice preset ({clip(error, 80)}); save it again") from error


def save_preset(path, preset):
    """Write a preset as an .npz file that suno's program and transformers read; the file appears whole or not at all.

    Args:
        path (str): the file; ".npz" is appended where it is missing.
        preset (dict): the three arrays, such as `BarkOutput.preset` gives.

    Returns:
        str: the file.

    Raises:
        InputError: if that is no preset, or the file cannot be written.
    """
    preset, path = checked(preset, "the preset"), os.fspath(path)
    path = path if path.endswith(".npz") else f"{path}.npz"
    try:
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, **{name: values.astype(np.int64) for name, values in preset.items()})
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose a file in a folder of yours") from error
    return path


def checked(preset, source):
    """A preset as NumPy arrays of int32.

    Args:
        preset (Mapping): of arrays or tensors.
        source (str): what to call it in errors.

    Raises:
        InputError: naming the array and the rule.
    """
    made = {}
    if not hasattr(preset, "keys"):
        raise InputError(f"{source} is {shown(preset)}; expected a dict of {', '.join(KEYS)}")
    for name, axes in KEYS.items():
        if name not in preset:
            raise InputError(f"{source} lacks {name}; a voice preset holds {', '.join(KEYS)}")
        values = preset[name]
        values = values.asnumpy() if hasattr(values, "asnumpy") else np.asarray(values)
        if values.ndim != axes or not values.size:
            wanted = {"semantic_prompt": "(tokens,)", "coarse_prompt": "(2, frames)", "fine_prompt": "(8, frames)"}
            raise InputError(f"{source}: {name} has shape {values.shape}; expected {wanted[name]}")
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"{source}: {name} holds {values.dtype}; expected whole numbers")
        if values.min() < 0 or values.max() > 1 << 30:
            raise InputError(f"{source}: {name} holds {values.min()} to {values.max()}, which are no codes")
        made[name] = values.astype(np.int32)
    if made["coarse_prompt"].shape[0] != 2:
        raise InputError(f"{source}: coarse_prompt has {made['coarse_prompt'].shape[0]} rows; expected 2")
    frames = [made[name].shape[1] for name in ("coarse_prompt", "fine_prompt")]
    if frames[0] != frames[1]:
        raise InputError(
            f"{source}: coarse_prompt has {frames[0]} frames and fine_prompt {frames[1]}; expected as many"
        )
    return made


def fitting(preset, settings, source="history_prompt"):
    """A preset checked against a model too.

    Args:
        preset (Mapping): as in `checked`; None for none.
        settings (settings.Settings): of the call.
        source (str): what to call it in errors.

    Raises:
        InputError: naming the array and the rule.
    """
    if preset is None:
        return None
    made, books = checked(preset, source), settings.fine.n_fine_codebooks
    if made["fine_prompt"].shape[0] != books:
        raise InputError(f"{source}: fine_prompt has {made['fine_prompt'].shape[0]} rows; expected {books}")
    sizes = {"semantic_prompt": settings.semantic.semantic_vocab_size}
    for name, values in made.items():
        size = sizes.get(name, settings.codebook_size)
        if values.max() >= size:
            raise InputError(f"{source}: {name} holds {values.max()}; this model's go from 0 to {size - 1}")
    tokens, frames, wanted = len(made["semantic_prompt"]), made["coarse_prompt"].shape[1], settings.ratio / 2
    found = frames / tokens
    if round(found, 1) != round(wanted, 1) and not 0 <= wanted * tokens - frames < 1:  # few: what generation rounds to
        raise InputError(
            f"{source} has {found:.2f} frames for a semantic token; expected about {wanted:.1f}: its arrays are of "
            "different recordings"
        )
    return made
