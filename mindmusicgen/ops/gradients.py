"""Operators of csrc/gradients.c and csrc/gradients_attention.c, each with its gradient: float32, on CPU, for training.

MindSpore's own products take two to four times as long, its attention stores the scores of every layer, and its
cross-entropy a one-hot of every label. An operator here is None where the kernels are not available; who asks for one
keeps plain operations for that case.

Shapes: B rows of a batch, T columns, S text positions, K codebooks, V codes each, D width, H heads of size d.
"""

import ctypes
import functools

import mindspore as ms
import numpy as np
from mindspore import ops

from . import native

NAMES = (
    *("ProductForward", "ProductAdded", "ProductInput", "ProductGated", "ProductWeight", "FeedForward", "LayerNorm"),
    *("LayerNormGradient", "CodeLosses", "CodeLossesGradient", "EmbedCodes", "EmbedCodesGradient", "SumOfSquares"),
    *("AdamW", "SelfAttend", "SelfAttendGradient", "CrossAttend", "CrossAttendGradient"),
)


def _close(found, expected):
    return np.allclose(found, expected, rtol=1e-4, atol=1e-4)


def _products_are_right(library):
    rng = np.random.default_rng(0)
    x, weight, dy = (rng.standard_normal(shape, np.float32) for shape in ((67, 37), (45, 37), (67, 45)))
    results = (("ProductForward", x, weight, x @ weight.T), ("ProductInput", dy, weight, dy @ weight))
    for name, a, b, expected in (*results, ("ProductWeight", dy, x, dy.T @ x)):
        found = np.full_like(expected, np.nan)
        if native.call(getattr(library, name), a, b, found) != 0 or not _close(found, expected):
            return False
    return True


def _attention_is_right(library):
    rng = np.random.default_rng(0)
    qkv, dy = rng.standard_normal((1, 53, 30), np.float32), rng.standard_normal((1, 53, 10), np.float32)
    heads, y, stats = np.array([2], np.int32), np.full((1, 53, 10), np.nan, np.float32), np.empty((1, 2, 53, 2), "f4")
    found = np.full_like(qkv, np.nan)
    if native.call(library.SelfAttend, qkv, heads, y, stats) != 0:
        return False
    if native.call(library.SelfAttendGradient, qkv, heads, y, stats, dy, found) != 0:
        return False
    q, k, v = qkv.reshape(53, 3, 2, 5).transpose(1, 2, 0, 3)
    weights = np.tril(np.exp(q @ k.swapaxes(1, 2) / np.sqrt(5)))
    weights /= weights.sum(-1, keepdims=True)
    d = dy.reshape(53, 2, 5).swapaxes(0, 1)
    slopes = d @ v.swapaxes(1, 2)
    slopes = weights * (slopes - (slopes * weights).sum(-1, keepdims=True)) / np.sqrt(5)
    expected = np.stack([slopes @ k, slopes.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ d])  # [3, H, T, d]
    right = _close(y, (weights @ v).swapaxes(0, 1).reshape(1, 53, 10))
    return right and _close(found, expected.transpose(2, 0, 1, 3).reshape(1, 53, 30))


@functools.cache
def _usable(path):
    """Whether the library at `path` has these kernels, and products and attention are right."""
    library = ctypes.CDLL(path)
    there = all(hasattr(library, name) for name in NAMES)
    return there and _products_are_right(library) and _attention_is_right(library)


def library_path():
    """Absolute path of the library with these kernels, or None.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    path = native.library_path()
    return path if path and _usable(path) else None


@functools.cache
def _op(path, name, shapes, dtypes=None, bprop=None):
    """The operator; dtypes: of the results, by default the first argument's."""
    dtypes = dtypes or (lambda first, *_: first)
    return ops.Custom(f"{path}:{name}", shapes, dtypes, func_type="aot", bprop=bprop)


def _made(make):
    path = library_path()
    return make(path) if path else None


# ---- products ----


def _out_shape(x, weight, *_):
    return [x[0], weight[0]]


def _in_shape(dy, weight, *_):
    return [dy[0], weight[1]]


def _weight_shape(dy, x):
    return [dy[1], x[1]]


@functools.cache
def _linear(path, added):
    to_input, to_weight = _op(path, "ProductInput", _in_shape), _op(path, "ProductWeight", _weight_shape)

    def bprop(x, weight, out, dout):
        return to_input(dout, weight), to_weight(dout, x)

    def added_bprop(x, weight, base, out, dout):
        return to_input(dout, weight), to_weight(dout, x), dout

    if added:
        return _op(path, "ProductAdded", _out_shape, bprop=added_bprop)
    return _op(path, "ProductForward", _out_shape, bprop=bprop)


def linear_op():
    """The operator (x [rows, in], weight [out, in]) -> x W^T [rows, out]; None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(lambda path: _linear(path, False))


def linear_added_op():
    """The operator (x [rows, in], weight [out, in], base [rows, out]) -> x W^T + base; None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(lambda path: _linear(path, True))


@functools.cache
def _feed_forward(path):
    to_input, to_weight = _op(path, "ProductInput", _in_shape), _op(path, "ProductWeight", _weight_shape)
    gated = _op(path, "ProductGated", _in_shape)

    def shapes(x, first, second, base):
        return x, [x[0], first[0]]

    def bprop(x, first, second, base, out, dout):
        dy, hidden = dout[0], out[1]
        dhidden = gated(dy, second, hidden)
        return to_input(dhidden, first), to_weight(dhidden, x), to_weight(dy, hidden), dy

    return _op(path, "FeedForward", shapes, lambda x, *_: (x, x), bprop)


def feed_forward_op():
    """The operator (x [rows, D], w1 [F, D], w2 [D, F], base [rows, D]) -> relu(x W1^T) W2^T + base, and the hidden
    [rows, F], through which no gradient may come; None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(_feed_forward)


# ---- layer norm ----


@functools.cache
def _layer_norm(path):
    gradient = _op(
        path, "LayerNormGradient", lambda x, weight, *_: (x, weight, weight), lambda x, weight, *_: (x, weight, weight)
    )

    def shapes(x, weight, bias, eps):
        return x, [x[0], 2]

    def bprop(x, weight, bias, eps, out, dout):
        dx, dweight, dbias = gradient(x, weight, out[1], dout[0])
        return dx, dweight, dbias, eps

    return _op(path, "LayerNorm", shapes, lambda x, *_: (x, x), bprop)


def layer_norm_op():
    """The operator (x [rows, D], weight [D], bias [D], eps [1]) -> the norm, and mean and 1 / deviation of each row
    [rows, 2], through which no gradient may come; None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(_layer_norm)


# ---- attention ----


def _stats_shape(q, heads):
    return [q[0], heads, q[1], 2]


@functools.cache
def _self_attention(path, heads):
    gradient = _op(path, "SelfAttendGradient", lambda qkv, *_: qkv)

    def shapes(qkv, _):
        return [qkv[0], qkv[1], qkv[2] // 3], _stats_shape(qkv, heads)

    def bprop(qkv, number, out, dout):
        return gradient(qkv, number, out[0], out[1], dout[0]), number

    return _op(path, "SelfAttend", shapes, lambda qkv, _: (qkv, qkv), bprop)


def self_attention_op(heads):
    """The operator (q, k and v as one [B, T, 3 D], H [1] int32) -> causal attention [B, T, D], and what its gradient
    needs, through which no gradient may come; None if not available.

    Args:
        heads (int): H.

    Supported Platforms:
        ``CPU``
    """
    return _made(lambda path: _self_attention(path, heads))


@functools.cache
def _cross_attention(path, heads):
    gradient = _op(path, "CrossAttendGradient", lambda q, kv, *_: (q, kv), lambda q, kv, *_: (q, kv))

    def shapes(q, kv, mask, _):
        return q, _stats_shape(q, heads)

    def bprop(q, kv, mask, number, out, dout):
        dq, dkv = gradient(q, kv, mask, number, out[0], out[1], dout[0])
        return dq, dkv, mask, number

    return _op(path, "CrossAttend", shapes, lambda q, *_: (q, q), bprop)


def cross_attention_op(heads):
    """The operator (q [B, T, D], k and v as one [B, S, 2 D], additive mask [B, S], H [1] int32) -> attention [B, T, D],
    and what its gradient needs, through which no gradient may come, as none comes to the mask; None if not available.

    Args:
        heads (int): H.

    Supported Platforms:
        ``CPU``
    """
    return _made(lambda path: _cross_attention(path, heads))


# ---- codes ----


@functools.cache
def _code_losses(path):
    gradient = _op(path, "CodeLossesGradient", lambda logits, *_: logits)

    def shapes(logits, labels):
        return [labels[1]], labels

    def bprop(logits, labels, out, dout):
        return gradient(logits, labels, out[1], dout[0]), labels

    return _op(path, "CodeLosses", shapes, lambda logits, _: (logits, logits), bprop)


def code_losses_op():
    """The operator (logits [B, T, K V], labels [B, K, T] int32) -> mean cross-entropy of each codebook [K] over the
    labels in 0 .. V - 1, and what its gradient needs, through which no gradient may come; None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(_code_losses)


@functools.cache
def _embedding(path):
    gradient = _op(path, "EmbedCodesGradient", lambda table, *_: table)

    def shapes(table, codes, positions):
        return [codes[0], codes[2], table[1]]

    def bprop(table, codes, positions, out, dout):
        return gradient(table, codes, dout), codes, positions

    return _op(path, "EmbedCodes", shapes, bprop=bprop)


def embedding_op():
    """The operator (table [K R, D], codes [B, K, T] int32 in 0 .. R - 1, positions [at least T, D]) -> the sums of the
    codes' rows and the column's position [B, T, D]; none but the table has a gradient. None if not available.

    Raises:
        RuntimeError: from the kernel, for a code outside its table.

    Supported Platforms:
        ``CPU``
    """
    return _made(_embedding)


# ---- the optimizer ----


def sum_of_squares_op():
    """The operator x -> the sum of its squares [1]; None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(lambda path: _op(path, "SumOfSquares", _one))


def _one(*_):
    return [1]


@functools.cache
def _adamw(path):
    op = ops.Custom(f"{path}:AdamW", _one, lambda x, *_: x, func_type="aot")
    op.add_prim_attr("side_effect_mem", True)  # it writes into the parameter and its moments
    return op


def adamw_op():
    """The operator (parameter, first and second moments, gradient, rate, decay, factor of the gradient, beta1, beta2,
    eps), which updates the first three in place and gives [1]; numbers are [1]. None if not available.

    The formula is that of `mindspore.nn.AdamWeightDecay`, without correction of the moments' beginning.

    Supported Platforms:
        ``CPU``
    """
    return _made(_adamw)


def heads_number(heads):
    """H as the operators take it.

    Supported Platforms:
        ``CPU``
    """
    return ms.Tensor(np.array([heads], np.int32))
