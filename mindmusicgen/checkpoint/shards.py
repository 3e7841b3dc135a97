"""Weights as one safetensors file, or as several behind an index where a file may not be as large."""

import json
import math
import os
import re

from ..errors import InputError, shown
from .safetensors_file import write_safetensors

METADATA = {"format": "pt"}  # what transformers asks for
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def write_weights(folder, entries, largest=None):
    """Write a Hugging Face folder's weights.

    Args:
        folder (str): where to.
        entries (list): (name, shape, dtype, function that returns the array) of each tensor.
        largest (int | str): bytes of a file, or such as "5GB"; a tensor that is larger has a file of its own. None: all
            in one file.

    Raises:
        InputError: if `largest` is no size.
    """
    limit = math.inf if largest is None else _bytes(largest)
    files, room = [[]], limit
    for entry in entries:
        size = math.prod(entry[1]) * entry[2].itemsize
        if size > room and files[-1]:
            files.append([])
            room = limit
        files[-1].append(entry)
        room -= size
    if len(files) == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), entries, METADATA)
        return
    places = {}
    for i, part in enumerate(files):
        name = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        write_safetensors(os.path.join(folder, name), part, METADATA)
        places |= {entry[0]: name for entry in part}
    total = sum(math.prod(shape) * dtype.itemsize for _, shape, dtype, _ in entries)
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": places}, file, indent=2, sort_keys=True)


def _bytes(size):
    """A size in bytes, of a number or of text such as 5GB or 200MiB."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?)?B?\s*", str(size).upper())
    if not found or isinstance(size, bool) or float(found[1]) == 0:
        raise InputError(f"max_shard_size is {shown(size)}; expected bytes, or such as 5GB")
    return int(float(found[1]) * UNITS[found[2] or ""])
