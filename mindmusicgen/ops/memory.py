"""Memory of weights: huge pages for what every decode step reads, and giving back what is needed once a piece."""

import contextlib
import ctypes
import math
import mmap
import re

import numpy as np

LINE = 64  # bytes of a cache line; arrays begin on one
HUGE = 2 << 20  # bytes of a huge page of most CPUs
HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")


class Arena:
    """One piece of memory for many arrays, in huge pages where Linux gives them: fewer page walks while streaming.

    The memory lives as long as any of its arrays.

    Args:
        size (int): bytes, from `Arena.room`.
    """

    def __init__(self, size):
        self.used = 0
        self.memory = _anonymous(size) if size else np.empty(0, np.uint8)

    @staticmethod
    def room(arrays):
        """Bytes for arrays of these (shape, dtype)."""
        return sum(-(-math.prod(shape) * np.dtype(dtype).itemsize // LINE) * LINE for shape, dtype in arrays)

    def take(self, shape, dtype):
        """A new array, its values undefined."""
        array = np.frombuffer(self.memory, dtype, math.prod(shape), self.used).reshape(shape)
        self.used += self.room([(shape, dtype)])
        return array


def zeros(shape, dtype):
    """An array of zeros that takes no memory, and no time, until it is written to.

    np.zeros does so for large arrays only: what fits into memory that was freed before is cleared at once.
    """
    count, dtype = math.prod(shape), np.dtype(dtype)
    if count * dtype.itemsize < mmap.PAGESIZE:
        return np.zeros(shape, dtype)
    return np.frombuffer(_anonymous(count * dtype.itemsize), dtype, count).reshape(shape)


def _anonymous(size):
    """Memory of this process alone, none of whose pages exists until it is written to; huge ones where Linux has them,
    from which products of one row read 7 to 10 % faster."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # What is shared would have huge pages under another setting, which is mostly off.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def release_free_memory():
    """Give back what was freed: 0.2 GB after compiling graphs, 0.4 GB after loading. glibc only."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_mapped(arrays, untouched=False):
    """Take the pages of arrays that are mapped from a file out of this process's memory; reading brings them back.

    What was written to since stays, as does everything on another system than Linux.

    Args:
        arrays (Iterable[numpy.ndarray]): from `LazyTensor.map`.
        untouched (bool): nobody has written to them; to find out takes a look through all of the process's memory.
    """
    with contextlib.suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None, use_errno=True).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        clean = None if untouched else _clean_mappings()
        for array in filter(_is_mapped, arrays):  # what could not be mapped has no file to come back from
            start = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if end > start and (clean is None or any(low <= start and end <= high for low, high in clean)):
                advise(start, end - start, mmap.MADV_DONTNEED)


def _is_mapped(array):
    """Whether an array is a view of mapped memory, and not of memory of its own."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def _clean_mappings():
    """Ranges of addresses that are mapped from a file and hold no page of this process's own."""
    ranges, header, place = [], None, None
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := HEADER.match(line):
                place, header = (int(found[1], 16), int(found[2], 16)), line
            elif line.startswith("Anonymous:") and line.split()[1] == "0" and ".safetensors" in header:
                ranges.append(place)
    return ranges
