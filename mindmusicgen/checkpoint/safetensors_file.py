"""Read and write safetensors files one tensor at a time.

The format is eight bytes of header length, a JSON header, and the tensors' bytes. The safetensors package cannot
read bfloat16 into NumPy and writes from a second copy of everything in memory; this module does neither.
"""

import json
import math
import os
import struct
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..files import whole_file

MAX_HEADER = 100_000_000
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype.str: name for name, dtype in DTYPES.items() if name != "BF16"}


def bfloat16_to_float32(bits):
    """The values of bfloat16 numbers given as uint16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that stays in its file until `read` is called."""

    path: str
    shape: tuple
    dtype: str
    offset: int

    def read(self):
        """The values as a NumPy array; bfloat16 comes as float32."""
        dtype = DTYPES[self.dtype]
        with open(self.path, "rb") as file:
            values = np.fromfile(file, dtype, math.prod(self.shape), offset=self.offset).reshape(self.shape)
        return bfloat16_to_float32(values) if self.dtype == "BF16" else values

    def read_into(self, array):
        """Read the values into an array of their shape and dtype."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            memory, done = memoryview(array.reshape(-1).view(np.uint8)), 0
            while done < len(memory):
                count = file.readinto(memory[done:])
                if not count:
                    raise InputError(f"{self.path} is truncated; download it again")
                done += count

    def map(self):
        """The values as an array backed by the file, read when touched; writing to it does not change the file."""
        if self.dtype == "BF16" or not math.prod(self.shape):
            return self.read()
        return np.asarray(np.memmap(self.path, DTYPES[self.dtype], "c", self.offset, self.shape))


def open_safetensors(path):
    """The tensors of a file, unread.

    Args:
        path (str): the file.

    Returns:
        dict[str, LazyTensor]

    Raises:
        InputError: if the file is truncated or not in the format.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
        if length > min(MAX_HEADER, size - 8):
            raise InputError(f"{path} is not a complete safetensors file: its header does not fit; download it again")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            return {name: _tensor(path, name, entry, 8 + length, size) for name, entry in header.items()}
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} is not a safetensors file: its header cannot be read; download it again"
            ) from error


def read_metadata(path):
    """The metadata of a file that `open_safetensors` has found good: dict of strings."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)).get("__metadata__") or {}


def _tensor(path, name, entry, data_start, file_size):
    begin, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), entry["dtype"]
    if dtype not in DTYPES:
        raise InputError(f"{path} holds {name} as {dtype}; expected one of {', '.join(DTYPES)}")
    if any(not isinstance(n, int) or n < 0 for n in (*shape, begin, end)):
        raise ValueError("sizes must be whole numbers")
    if end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
        raise InputError(
            f"{path} is damaged: {name} claims shape {shape} but has {end - begin} bytes; download it again"
        )
    if data_start + end > file_size:
        raise InputError(f"{path} is truncated: {name} lies beyond its end ({file_size} bytes); download it again")
    return LazyTensor(str(path), shape, dtype, data_start + begin)


def write_safetensors(path, tensors, metadata):
    """Write tensors one after the other; the file appears whole or not at all.

    Args:
        path (str): the file to write.
        tensors (Sequence[tuple[str, tuple, numpy.dtype, Callable]]): name, shape, dtype and a function that
            returns the array, called when its turn comes.
        metadata (dict[str, str]): goes into the header.
    """
    header, offset = {"__metadata__": metadata}, 0
    for name, shape, dtype, _ in tensors:
        end = offset + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {"dtype": NAMES[np.dtype(dtype).str], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # tensors start on a cache line
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, dtype, values in tensors:
            array = np.asarray(values(), dtype, order="C")  # ascontiguousarray would give a scalar an axis
            if array.shape != tuple(shape):
                raise ValueError(f"{name} has shape {array.shape}, announced {shape}")
            file.write(memoryview(array.reshape(-1)).cast("B"))
