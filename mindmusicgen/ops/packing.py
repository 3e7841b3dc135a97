"""The layout of 8-bit weights, in NumPy: rounding to codes and scales, and back.

A weight is (code - 128) * scale. The codes of a matrix [out, in] lie in tiles of 16 outputs, in a tile in quads of 4
inputs: [out / 16, in / 4, 16, 4], fractions rounded up, so that one vector register holds a quad of a tile. A scale
belongs to one output and a group of 128 inputs: [out / 16, in / 128, 16]. Scales are chosen so that the largest weight
of a group is exact; codes are 1 to 255.
"""

import numpy as np

TILE, QUAD, GROUP, ZERO = 16, 4, 128, 128
DTYPES = (np.uint8, np.float32)  # of codes and scales
VERSION = "2"  # of this layout and of what is quantised; part of every quantised file
ROWS = 512  # outputs that are rounded at once: their float copies stay in the processor's cache


def packed_shapes(size_out, size_in):
    """The shapes of the codes and the scales of a matrix [size_out, size_in]."""
    tiles, quads, groups = (-(-n // step) for n, step in ((size_out, TILE), (size_in, QUAD), (size_in, GROUP)))
    return (tiles, quads, TILE, QUAD), (tiles, groups, TILE)


def pack(weight, allocate=np.empty):
    """Round a matrix to 8 bits.

    Args:
        weight (numpy.ndarray): [out, in], finite floats.
        allocate (callable): makes an array of a shape and a dtype.

    Returns:
        numpy.ndarray: codes, [out / 16, in / 4, 16, 4] uint8; numpy.ndarray: scales, [out / 16, in / 128, 16] float32.

    Raises:
        ValueError: if a weight is not finite.
    """
    codes, scale = map(allocate, packed_shapes(*weight.shape), DTYPES)
    quads, groups = codes.shape[1], scale.shape[1]
    for first in range(0, weight.shape[0], ROWS):
        part = weight[first : first + ROWS].astype(np.float32)
        tiles = -(-part.shape[0] // TILE)
        part = np.pad(part, ((0, tiles * TILE - part.shape[0]), (0, groups * GROUP - part.shape[1])))
        part = part.reshape(tiles * TILE, groups, GROUP)
        top = np.abs(part).max(axis=2, keepdims=True)
        if not np.isfinite(top).all():
            raise ValueError("a weight is not finite")
        top = np.where(top > 1e-30, top, 0)
        np.rint(part * (127 / np.where(top > 0, top, np.inf)), out=part)
        rounded = (part + ZERO).astype(np.uint8).reshape(tiles, TILE, groups * GROUP)[:, :, : quads * QUAD]
        place = slice(first // TILE, first // TILE + tiles)
        codes[place] = rounded.reshape(tiles, TILE, quads, QUAD).swapaxes(1, 2)
        scale[place] = (top / 127).reshape(tiles, TILE, groups).swapaxes(1, 2)
    return codes, scale


def unpack(codes, scale, size_out, size_in):
    """The matrix [size_out, size_in] float32 that codes and scales stand for.

    Args:
        codes (numpy.ndarray): as `pack` returns them.
        scale (numpy.ndarray): as `pack` returns them.
        size_out (int): outputs, without the padding.
        size_in (int): inputs, without the padding.
    """
    tiles, quads = codes.shape[:2]
    values = codes.swapaxes(1, 2).reshape(tiles * TILE, quads * QUAD)[:size_out, :size_in].astype(np.float32) - ZERO
    each = np.repeat(scale.swapaxes(1, 2).reshape(tiles * TILE, -1), GROUP, axis=1)
    return values * each[:size_out, :size_in]
