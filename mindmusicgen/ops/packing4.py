"""The layout of 4-bit weights, in NumPy: rounding to codes and scales, and back.

A weight is (code - 8) * scale. A byte holds the codes of two inputs: those of a matrix [out, in] lie in tiles of 16
outputs, in a tile in octs of 8 inputs, the first four in the low halves of the bytes, the others in the high ones:
[out / 16, in / 8, 16, 4], fractions rounded up. A scale of 16 bits belongs to one output and a group of 32 inputs:
[out / 16, in / 32, 16].

With 16 steps it matters which scale a group has. Those under which the largest weight lies `STEPS` of them from zero
are tried, each followed by the scale that is best for the codes it gives; the codes and scale with the least sum of
squared errors are kept. The sum is not weighted with the size of inputs: what the norms' weights tell of it changed no
error of a layer of the demo by a hundredth, and inputs that the model had made itself lowered one by an eighth and the
others by less than a twentieth.
"""

import numpy as np

TILE, QUAD, OCT, GROUP, ZERO = 16, 4, 8, 32, 8
VERSION = "1"  # of this layout and of what is quantised; part of every quantised file
DTYPES = (np.uint8, np.float16)  # of codes and scales
STEPS = (7.0, 7.5, 8.0, 8.5, 9.0, 9.5)  # of the largest weight of a group; codes end at 8
ROWS = 64  # outputs that are rounded at once
SMALLEST, LARGEST = 2.0**-16, 65504.0  # of a matrix's largest weight: scales of float16 are good to 2 % then


def packed_shapes(size_out, size_in):
    """The shapes of the codes and the scales of a matrix [size_out, size_in]."""
    tiles, octs, groups = (-(-n // step) for n, step in ((size_out, TILE), (size_in, OCT), (size_in, GROUP)))
    return (tiles, octs, TILE, QUAD), (tiles, groups, TILE)


def pack(weight, allocate=np.empty, kernel=None):
    """Round a matrix to 4 bits.

    Args:
        weight (numpy.ndarray): [out, in], finite floats.
        allocate (callable): makes an array of a shape and a dtype.
        kernel (callable): of (weight float32, codes, scale), fills the latter with what `searched` finds and returns 0.

    Returns:
        numpy.ndarray: codes, [out / 16, in / 8, 16, 4] uint8; numpy.ndarray: scales, [out / 16, in / 32, 16] float16.

    Raises:
        ValueError: if a weight is not finite, or too large or all are too small for scales of 16 bits.
    """
    codes, scale = map(allocate, packed_shapes(*weight.shape), DTYPES)
    top = float(np.abs(weight).max(initial=0))
    if not np.isfinite(top):
        raise ValueError("a weight is not finite")
    if top > LARGEST or 0 < top < SMALLEST:
        raise ValueError(f"its largest weight is {top:.2g}, too far from 1 for the scales of 4 bits; choose int8")
    if kernel is not None and kernel(np.ascontiguousarray(weight, np.float32), codes, scale) == 0:
        return codes, scale
    octs, groups = codes.shape[1], scale.shape[1]
    for first in range(0, weight.shape[0], ROWS):
        part = weight[first : first + ROWS].astype(np.float32)
        tiles = -(-part.shape[0] // TILE)
        part = np.pad(part, ((0, tiles * TILE - part.shape[0]), (0, groups * GROUP - part.shape[1])))
        rounded, scales = searched(part.reshape(tiles * TILE, groups, GROUP))
        place = slice(first // TILE, first // TILE + tiles)
        rounded = rounded.reshape(tiles, TILE, groups * GROUP // OCT, 2, QUAD)[:, :, :octs]
        codes[place] = (rounded[:, :, :, 0] | rounded[:, :, :, 1] << 4).swapaxes(1, 2)
        scale[place] = scales.reshape(tiles, TILE, groups).swapaxes(1, 2)
    return codes, scale


def searched(weight):
    """Codes and scales of groups of weights that err least among those that are tried.

    Args:
        weight (numpy.ndarray): [outputs, groups, 32] float32.

    Returns:
        numpy.ndarray: codes, [outputs, groups, 32] uint8; numpy.ndarray: scales, [outputs, groups] float16.
    """
    place = np.abs(weight).argmax(2)[..., None]
    top = np.take_along_axis(weight, place, 2)[..., 0]
    best = np.full(top.shape, np.inf, np.float32)
    codes, scales = np.zeros(weight.shape, np.float32), np.zeros(top.shape, np.float16)
    for step in STEPS:
        tried = _codes(weight, _half(top * np.float32(-1 / step)))
        above, below = _sum(tried * weight), _sum(tried * tried)
        scale = _half(above / np.where(below > 0, below, np.float32(np.inf)))
        tried = _codes(weight, scale)
        wrong = weight - tried * scale[..., None]
        error = _sum(wrong * wrong)
        better = error < best
        best = np.where(better, error, best)
        codes = np.where(better[..., None], tried, codes)
        scales = np.where(better, scale.astype(np.float16), scales)
    return (codes + np.float32(ZERO)).astype(np.uint8), scales


def _half(x):
    """float32 rounded to what float16 holds."""
    return x.astype(np.float16).astype(np.float32)


def _codes(weight, scale):
    """The nearest of the whole numbers -8 to 7, as floats."""
    inverse = np.float32(1) / np.where(scale != 0, scale, np.float32(np.inf))
    return np.clip(np.rint(weight * inverse[..., None]), -ZERO, ZERO - 1)


def _sum(x):
    """Sums over the last axis, one after the other as in csrc/packing4.c."""
    total = x[..., 0]
    for i in range(1, GROUP):
        total = total + x[..., i]
    return total


def unpack(codes, scale, size_out, size_in):
    """The matrix [size_out, size_in] float32 that codes and scales stand for.

    Args:
        codes (numpy.ndarray): as `pack` returns them.
        scale (numpy.ndarray): as `pack` returns them.
        size_out (int): outputs, without the padding.
        size_in (int): inputs, without the padding.
    """
    tiles, octs = codes.shape[:2]
    both = np.stack([codes & 15, codes >> 4], axis=3).astype(np.float32) - ZERO  # [T, O, 16, 2, 4]
    values = both.swapaxes(1, 2).reshape(tiles * TILE, octs * OCT)[:size_out, :size_in]
    each = np.repeat(scale.astype(np.float32).swapaxes(1, 2).reshape(tiles * TILE, -1), GROUP, axis=1)
    return values * each[:size_out, :size_in]
