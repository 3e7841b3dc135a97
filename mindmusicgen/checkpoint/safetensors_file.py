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

from ..errors import InputError, clip
from ..runtime.files import whole_file
from .json_file import MAX_BYTES, parse_json

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
FIELDS = ("shape", "data_offsets", "dtype")
MAX_DIMENSIONS = 32  # numpy 1's limit
AGAIN = "download it again"
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

    @property
    def bytes(self):
        """Size in the file."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def read(self):
        """The values as a NumPy array; bfloat16 comes as float32."""
        values = np.empty(self.shape, DTYPES[self.dtype])
        self.read_into(values)
        return bfloat16_to_float32(values) if self.dtype == "BF16" else values

    def read_into(self, array):
        """Read the values into an array of their shape and dtype.

        Raises:
            InputError: if the file has gone or shrunk since it was opened.
        """
        memory, done = memoryview(array.reshape(-1).view(np.uint8)), 0
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                while done < len(memory):
                    count = file.readinto(memory[done:])
                    if not count:
                        raise InputError(f"{self.path} is truncated; download it again")
                    done += count
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}); it must stay while in use") from error

    def map(self):
        """The values as an array backed by the file, read when touched; writing to it does not change the file."""
        if self.dtype == "BF16" or not math.prod(self.shape):
            return self.read()
        try:
            return np.asarray(np.memmap(self.path, DTYPES[self.dtype], "c", self.offset, self.shape))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be mapped ({error}); it must stay unchanged while in use") from error


def open_safetensors(path):
    """The tensors of a file, unread; as strict as the format's own library.

    Args:
        path (str): the file.

    Returns:
        dict[str, LazyTensor]

    Raises:
        InputError: if the file is truncated or not in the format: its tensors must lie one after the other and fill it.
    """
    header, start, size = _read_header(path)
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}
    reached = start
    for name, tensor in sorted(tensors.items(), key=lambda entry: (entry[1].offset, entry[1].bytes)):
        if tensor.offset != reached:
            raise InputError(f"{path} is damaged: {clip(name)} overlaps another tensor or leaves a gap; {AGAIN}")
        reached += tensor.bytes
    if reached != size:
        raise InputError(f"{path} is damaged: its tensors end at byte {reached}, the file has {size}; {AGAIN}")
    return tensors


def read_metadata(path):
    """The metadata in the header of a file: dict of strings.

    Raises:
        InputError: if the file has no such header.
    """
    return _read_header(path)[0].get("__metadata__", {})


def _read_header(path):
    """The header, where the tensors begin, and the size of the file."""
    try:
        with open(path, "rb") as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(MAX_BYTES, size - 8):
                raise InputError(f"{path} is not a complete safetensors file: its header does not fit; {AGAIN}")
            text = file.read(length)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a safetensors file") from error
    header = parse_json(text, f"{path} is not a safetensors file: its header")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(f"{path} is damaged: its metadata are not texts; {AGAIN}")
    return header, 8 + length, size


def _tensor(path, name, entry, data_start):
    shape, span, dtype = (entry.get(key) if isinstance(entry, dict) else None for key in FIELDS)
    numbers = [*shape, *span] if isinstance(shape, list) and isinstance(span, list) and len(span) == 2 else [None]
    sound = all(type(n) is int and 0 <= n < 1 << 40 for n in numbers) and len(shape) <= MAX_DIMENSIONS
    if not sound or math.prod(n or 1 for n in shape) > 1 << 56:  # NumPy multiplies the sizes of empty arrays too
        raise InputError(f"{path} is damaged: it does not say where {clip(name)} lies, or its shape; {AGAIN}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(f"{path} holds {clip(name)} as {clip(dtype)}; expected one of {', '.join(DTYPES)}")
    if span[1] - span[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise InputError(
            f"{path} is damaged: {clip(name)} claims shape {clip(tuple(shape))} but has {span[1] - span[0]} bytes; "
            f"{AGAIN}"
        )
    return LazyTensor(str(path), tuple(shape), dtype, data_start + span[0])


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
