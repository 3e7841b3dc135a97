"""The operator of csrc/convolution.c: convolutions along time that put no neighbourhood together; float32 on CPU."""

import ctypes
import functools

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from . import native


def numbers(
    taps, dilation=1, stride=1, left=0, reflect=False, elu=False, added=False, taps_first=False, transposed=False
):
    """What the operator is told besides arrays, as a constant: see csrc/convolution.c.

    Args:
        taps (int): samples, or blocks of `stride` samples, that an output depends on.
        dilation (int): samples from tap to tap.
        stride (int): samples from output to output; of a transposed convolution outputs of a sample.
        left (int): padding before the first sample; of a transposed convolution what is cut off there.
        reflect (bool): the padding is the reflection, else zeros.
        elu (bool): the input passes through ELU first.
        added (bool): the fourth input is added.
        taps_first (bool): the matrix is [k O, C], not [O, k C].
        transposed (bool): the matrix is [stride O, k / stride C].

    Returns:
        Tensor of int32.
    """
    told = [transposed, taps, dilation, stride, left, reflect, elu, added, taps_first, 0]
    return Tensor(np.array([int(number) for number in told], np.int32))


def _is_right(library):
    """A reflected convolution of an ELU with something added, and a transposed one."""
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((1, 70, 5), np.float32), rng.standard_normal((9, 15), np.float32), np.ones(9)
    more, y = rng.standard_normal((1, 70, 9), np.float32), np.full((1, 70, 9), np.nan, np.float32)
    told = numbers(3, left=1, reflect=True, elu=True, added=True).asnumpy()
    code = native.call(library.Convolve, x, weight, bias.astype(np.float32), more, told, np.array([70], np.int32), y)
    padded = np.pad(np.where(x < 0, np.expm1(np.minimum(x, 0)), x), ((0, 0), (1, 1), (0, 0)), mode="reflect")[0]
    taps = np.concatenate([padded[i : i + 70] for i in range(3)], axis=1)
    right = code == 0 and np.allclose(y[0], taps @ weight.T + 1 + more[0], atol=1e-4)

    matrix, y = rng.standard_normal((8, 10), np.float32), np.full((1, 280, 2), np.nan, np.float32)
    told, bias = numbers(2, stride=4, left=2, transposed=True).asnumpy(), np.zeros(2, np.float32)
    code = native.call(library.Convolve, x, matrix, bias, bias, told, np.array([70], np.int32), y)
    pairs = np.concatenate([np.pad(x[0], ((0, 1), (0, 0))), np.pad(x[0], ((1, 0), (0, 0)))], axis=1)
    return right and code == 0 and np.allclose(y[0], (pairs @ matrix.T).reshape(-1, 2)[2:282], atol=1e-4)


@functools.cache
def _usable(path):
    library = ctypes.CDLL(path)
    return hasattr(library, "Convolve") and _is_right(library)


@functools.cache
def _convolve_op(path, samples, per):
    def shape(x, weight, bias, *_):
        return [x[0], (x[1] + samples) * per[0] // per[1], bias[0]]

    op = ops.Custom(f"{path}:Convolve", shape, lambda x, *_: x, func_type="aot")
    op.add_prim_attr("samples", samples)  # MindSpore takes operators that are alike in name and attributes for one
    op.add_prim_attr("per", f"{per[0]}/{per[1]}")
    return op


def convolve_op(samples=0, longer=1, shorter=1):
    """The operator (x [B, N, C], matrix, bias [O], what is added [B, L, O] or the bias again, what `numbers` gives, how
    many of the N samples are real [1] int32) -> [B, L, O], where L = (N + samples) * longer // shorter.

    None if not available, and where there is a tile unit (AMX), whose products are quicker.

    Args:
        samples, longer, shorter (int): see above.

    Supported Platforms:
        ``CPU``
    """
    path = native.library_path()
    if not path or native.linear_rows() != native.FEW_ROWS or not _usable(path):
        return None
    return _convolve_op(path, samples, (longer, shorter))


def fits(op, x, weight, training):
    """Whether the operator is to be used: there is one, it need not be differentiated, and dtypes are those it has."""
    return op is not None and not training and x.dtype == weight.dtype == ms.float32
