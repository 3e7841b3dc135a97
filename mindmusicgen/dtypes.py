"""What weights and activations are computed with, by name, and what the device can."""

import mindspore as ms

from .errors import InputError, shown
from .habits import dtype_name as common_name
from .ops import pictures
from .runtime import device

DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}


def resolve_dtype(dtype=None, quantised=False, bfloat16_products=False):
    """A MindSpore dtype for a name, checked against what the device can compute with.

    Args:
        dtype (str | mindspore.dtype): float32, float16, bfloat16; None or "auto": float16 on Ascend, else float32.
        quantised (bool): whether weights have 8 bits, which go with float32 everywhere.
        bfloat16_products (bool): whether the model can have them on a CPU with a tile unit; see `ops.bfloat16`.

    Returns:
        mindspore.dtype

    Raises:
        InputError: for another name, or one that the device has no kernels for.
    """
    if dtype in (None, "auto"):
        return ms.float16 if device.is_ascend() and not quantised else ms.float32
    chosen = DTYPES.get(common_name(dtype))
    if chosen is None:
        raise InputError(f"dtype is {shown(dtype)}; expected auto or one of {', '.join(DTYPES)}")
    if chosen == ms.bfloat16 and not device.is_ascend():
        if bfloat16_products and pictures.can_multiply_bfloat16():
            return chosen
        if bfloat16_products:
            raise InputError("dtype bfloat16 needs a CPU with a tile unit (AMX), and the C kernels; use float32 here")
        raise InputError("dtype bfloat16 has no CPU kernels in MindSpore; use float32 (or float16) on a CPU")
    return chosen


def dtype_name(dtype=None, quantised=False):
    """`resolve_dtype` as a name: float32, float16 or bfloat16."""
    return str(resolve_dtype(dtype, quantised)).lower()
