"""The matrix product of a linear layer: a kernel of `csrc/` where it is quicker, MatMul otherwise."""

import mindspore as ms
from mindspore import ops

from .native import FEW_ROWS


def matmul_transposed(x, weight, kernel, most=FEW_ROWS):
    """y = x W^T.

    On CPU, for float32 and at most `most` rows, a kernel of `csrc/` if there is one; the choice among shapes is made
    while the graph is compiled. It sums in another order than MatMul: results differ by rounding. A function and not a
    cell, because MindSpore parses every cell of every layer again, and a decoder has 144 of these products.

    Args:
        x (Tensor): [rows, in].
        weight (Tensor): [out, in], of the dtype of `x`; or the bits of bfloat16, see `ops.bfloat16`.
        kernel (Primitive): what `native.linear_op` returned.
        most (int): what `native.linear_rows` returned.

    Returns:
        Tensor of shape [rows, out].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    if weight.dtype == ms.uint16:  # bits of bfloat16, which only the kernel reads
        return kernel(x, weight)
    if kernel is not None and x.shape[0] <= most and x.dtype == weight.dtype == ms.float32:
        return kernel(x, weight)
    return ops.MatMul(transpose_b=True)(x, weight)
