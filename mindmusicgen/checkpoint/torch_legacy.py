"""Reads what torch.save wrote before PyTorch 1.6, as OpenAI's files of 2020 are: five pickles one after the other (a
magic number, a version, facts of the machine, the object, the keys of its storages), then each storage's size and raw
values. As strict as `torch_file`, whose checks these are; but there are no checksums in such files.

Source: torch/serialization.py (_legacy_save, _legacy_load) of PyTorch.
"""

import os
import pickletools
import struct
from io import BytesIO

import numpy as np

from .torch_file import _MAX_PICKLE, _RAW, _check_extent, _scan, _Storage, _tensors, _Unpickler

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5))


class _Legacy(_Unpickler):
    """Remembers storages, which such a file refers to once for each of their tensors."""

    def __init__(self, file, data):
        super().__init__(file, data)
        self.storages = {}

    def persistent_load(self, pid):
        if type(pid) is not tuple or len(pid) != 6 or pid[5] is not None:
            raise ValueError("data refers to something that is not a whole storage")
        made = super().persistent_load(pid[:5])
        known = self.storages.setdefault(made.key, made)
        if (known.dtype, known.numel) != (made.dtype, made.numel):
            raise ValueError(f"storage {made.key[:40]} is described in two ways")
        return known


def read_legacy(file, stream):
    """Everything in such a file, with a LazyTensor in the place of each tensor.

    Args:
        file (str): its path, for errors.
        stream (io.BufferedReader): open at its beginning.

    Raises:
        InputError: for a tensor that does not fit its storage, or is of no plain kind.
        Exception: of any kind for a file that is damaged.
    """
    head = stream.read(_MAX_PICKLE)
    loaded, place = [], 0
    for _ in range(5):
        data, place = _pickle_at(head, place)
        _scan(data)
        reader = _Legacy(file, data)
        loaded.append((reader.load(), reader.storages))
        if len(loaded) == 1 and loaded[0][0] != MAGIC:
            raise ValueError("it does not begin with torch's magic number")
    (_, _), (version, _), (machine, _), (tree, storages), (keys, _) = loaded
    if version != VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError(f"version {str(version)[:20]}, or not of a little-endian machine")
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("it does not list the storages that its tensors lie in")
    starts = _places(stream, keys, storages, place)
    for name, tensor in _tensors(tree, set()):
        storage = tensor._storage
        _check_extent(tensor, file, name, storage.numel * np.dtype(_RAW[tensor.dtype]).itemsize)
        storage.__dict__["sound"] = True  # there is no checksum to compare
        tensor.__dict__.update(_file=os.path.abspath(file), _name=name, _start=starts[storage.key])
    return tree


def _pickle_at(head, place):
    """The pickle that begins at a place, and where it ends."""
    stream = BytesIO(head)
    stream.seek(place)
    for opcode, _, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            return head[place : stream.tell()], stream.tell()
    raise ValueError("a pickle does not end")


def _places(stream, keys, storages: dict[str, _Storage], place):
    """Where the values of each storage begin."""
    end, starts = os.fstat(stream.fileno()).st_size, {}
    for key in keys:
        stream.seek(place)
        (count,), storage = struct.unpack("<q", stream.read(8)), storages[key]
        if count != storage.numel:
            raise ValueError(f"storage {key[:40]} has {count} values and should have {storage.numel}")
        starts[key] = place + 8
        place += 8 + count * np.dtype(_RAW[storage.dtype]).itemsize
        if place > end:
            raise ValueError(f"storage {key[:40]} reaches past the end")
    if place != end:
        raise ValueError(f"{end - place} bytes are left over")
    return starts
