"""Fused operators of an NPU, each with the arguments of the plain operations that it stands for.

A cell asks for them when it is made: `attention_cell`, `cached_attention_cell` and `add_norm_op` give None where there
are none, that is on another device, for float32, for sizes that the operators do not take, in a MindSpore without them,
and with MINDMUSICGEN_FUSED=0. They have no gradients; fine-tuning is in float32.

The arguments follow the operators' documentation in MindSpore 2.7 to 2.10 and CANN; nothing here has run on an NPU yet.
Shapes: B rows, H heads of size d, T queries, S keys, L columns of the cache.
"""

import contextlib
import math
import os

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import auto_generate

from .indices import indices

ENVIRONMENT = "MINDMUSICGEN_FUSED"
HALVES = (ms.float16, ms.bfloat16)
EVERYTHING = 2147483647  # tokens before and behind a query that it may see: the mask alone decides
LARGEST_HEAD, MOST_HEADS, ALIGNED = 512, 256, 16  # of the attention operators
LARGEST_SIDE = 65535  # of the matrix of WeightQuantBatchMatmul
NORM_EPS = 1e-5  # the one that AddLayerNorm is documented for
_imagined = False


@contextlib.contextmanager
def as_on_ascend():
    """Context in which cells are made as on an NPU. Elsewhere they cannot compute, but their graphs can be exported."""
    global _imagined
    _imagined = True
    try:
        yield
    finally:
        _imagined = False


def is_target():
    """Whether cells made now are for an NPU.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    return _imagined or ms.get_context("device_target") == "Ascend"


def why_not(dtype, *names):
    """Why operators are not used, in one line; an empty string when they are.

    Args:
        dtype (mindspore.dtype): of the activations.
        names (str): the operators' names in MindSpore.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    if not is_target():
        return "the device is not an NPU"
    if os.environ.get(ENVIRONMENT) == "0":
        return f"{ENVIRONMENT}=0 is set"
    if dtype not in HALVES:
        return f"they are for float16 and bfloat16, not {str(dtype).lower()}"
    missing = [name for name in names if not hasattr(auto_generate, name)]
    return f"MindSpore {ms.__version__} has no {' and no '.join(missing)}" if missing else ""


def attention_cell(heads, size, dtype):
    """`FusedAttention`, or None if it is not available for heads of this number and size.

    Supported Platforms:
        ``Ascend``
    """
    names = ("PromptFlashAttention", "IncreFlashAttention")
    return None if why_not(dtype, *names) or not _fits(heads, size) else FusedAttention(heads, size)


def cached_attention_cell(heads, size, dtype):
    """`FusedCachedAttention`, or None if it is not available for heads of this number and size.

    Supported Platforms:
        ``Ascend``
    """
    names = ("IncreFlashAttention", "KVCacheScatterUpdate")
    return None if why_not(dtype, *names) or not _fits(heads, size) else FusedCachedAttention(heads, size)


def add_norm_op(dtype, eps):
    """The operator (x, y, weight, bias, eps, True) -> norm of x + y, its mean, 1 / deviation, x + y; None if not
    available.

    Supported Platforms:
        ``Ascend``
    """
    return None if why_not(dtype, "AddLayerNormV2") or eps != NORM_EPS else auto_generate.AddLayerNormV2()


def _fits(heads, size):
    return heads <= MOST_HEADS and size <= LARGEST_HEAD and size % ALIGNED == 0


def _query_op(heads, size):
    """IncreFlashAttention for one query; the keys and the values are lists of one tensor."""
    return auto_generate.IncreFlashAttention(
        num_heads=heads,
        input_layout="BNSD",
        scale_value=1 / math.sqrt(size),
        num_key_value_heads=heads,
        inner_precise=0,  # high precision
    )


def discarded(mask):
    """An additive mask as the operators want it: true where a key is discarded.

    A query that may see nothing, as in the null rows of guidance, sees everything instead: what it reads are zeros, and
    the operators do not say what they make of a row in which all is discarded.
    """
    hidden = mask < 0
    blind = ops.ReduceAll(keep_dims=True)(hidden, -1)
    return ops.logical_and(hidden, ops.logical_not(blind))


class FusedAttention(nn.Cell):
    """`attention.attention` as one operator: one for many queries, another for a single one.

    Args:
        heads (int): H.
        size (int): d.

    Inputs:
        - **q**, **k**, **v** (Tensor) - [B, H, T, d] and [B, H, S, d], float16 or bfloat16.
        - **mask** (Tensor) - additive, [T, S] or [B, 1, T or 1, S].

    Outputs:
        Tensor of shape [B, H, T, d].

    Supported Platforms:
        ``Ascend``
    """

    def __init__(self, heads, size):
        super().__init__()
        self.query = _query_op(heads, size)
        self.prompt = auto_generate.PromptFlashAttention(
            num_heads=heads,
            scale_value=1 / math.sqrt(size),
            pre_tokens=EVERYTHING,
            next_tokens=EVERYTHING,  # its default, 0, would make any attention causal
            input_layout="BNSD",
            num_key_value_heads=heads,
            sparse_mode=0,
            inner_precise=0,
        )

    def construct(self, q, k, v, mask):
        rows, _, queries, _ = q.shape
        hidden = discarded(mask)
        if queries == 1 or mask.ndim == 4:  # one mask for all heads is allowed, one for all queries is not
            hidden = ops.broadcast_to(hidden, (rows, 1, queries, k.shape[2]))
        if queries == 1:
            return self.query(q, [k], [v], hidden)
        return self.prompt(q, k, v, hidden)


class FusedCachedAttention(nn.Cell):
    """`attention.CachedAttention` as two updates in place and one operator. Arguments and inputs are those.

    The filled part of the cache is told by a mask: lengths would have to be known on the host, which would wait for
    the device in every layer.

    Supported Platforms:
        ``Ascend``
    """

    def __init__(self, heads, size):
        super().__init__()
        self.query, self.update = _query_op(heads, size), auto_generate.KVCacheScatterUpdate()

    def construct(self, q, k, v, key_cache, value_cache, position):
        rows, _, length, _ = key_cache.shape
        places = ops.broadcast_to(position.astype(ms.int64), (rows,))  # one for each row
        self.update(key_cache, places, k, -2, "update")
        self.update(value_cache, places, v, -2, "update")
        hidden = (indices(0, length) > position).reshape(1, 1, 1, length)
        return self.query(q, [key_cache], [value_cache], ops.broadcast_to(hidden, (rows, 1, 1, length)))


def round_channels(weight):
    """Round a matrix to 8 bits with one scale for each output.

    Args:
        weight (numpy.ndarray): [out, in], finite floats.

    Returns:
        numpy.ndarray: codes, [out, in] int8 in -127 .. 127. numpy.ndarray: scales, [out] float32.
    """
    scale = np.abs(weight).max(axis=1).astype(np.float32) / 127
    codes = np.rint(weight / np.where(scale > 0, scale, 1)[:, None])
    return np.clip(codes, -127, 127).astype(np.int8), scale


class WeightOnlyLinear(nn.Cell):
    """y = x W^T, W in 8 bits with one scale for each output, x and y in float16 or bfloat16.

    Args:
        weight (numpy.ndarray): W, [out, in].
        dtype (mindspore.dtype): of x, y and the scales.

    Supported Platforms:
        ``Ascend``, and ``plain`` on ``CPU``
    """

    def __init__(self, weight, dtype=ms.float16):
        super().__init__()
        if max(weight.shape) > LARGEST_SIDE:
            raise ValueError(f"a matrix of 8 bits has at most {LARGEST_SIDE} rows and columns, not {weight.shape}")
        codes, scale = round_channels(weight)
        self.weight = Parameter(Tensor(codes), requires_grad=False)
        self.scale = Parameter(Tensor(scale, dtype), requires_grad=False)
        available = not why_not(dtype, "WeightQuantBatchMatmul")
        self.product = auto_generate.WeightQuantBatchMatmul(False, True, 0) if available else None

    def construct(self, x):
        """[rows, in] -> [rows, out]"""
        if self.product is None:
            return self.plain(x)
        return self.product(x, self.weight, self.scale)

    def plain(self, x):
        """The same with MindSpore's operations."""
        return ops.MatMul(transpose_b=True)(x, self.weight.astype(x.dtype)) * self.scale
