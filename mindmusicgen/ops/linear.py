"""The matrix product of a linear layer: a kernel that streams the weights for few rows, MatMul otherwise."""

import mindspore as ms
from mindspore import ops

FEW_ROWS = 16  # with more, arithmetic counts as much as reading the weights, and MatMul is as good


def matmul_transposed(x, weight, kernel):
    """y = x W^T.

    On CPU, for float32 and at most 16 rows, a kernel of `csrc/` if there is one; the choice among shapes is made while
    the graph is compiled. It sums in another order than MatMul: results differ by rounding. A function and not a cell,
    because MindSpore parses every cell of every layer again, and a decoder has 144 of these products.

    Args:
        x (Tensor): [rows, in].
        weight (Tensor): [out, in], of the dtype of `x`.
        kernel (Primitive): what `native.linear_op` returned.

    Returns:
        Tensor of shape [rows, out].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    if kernel is not None and x.shape[0] <= FEW_ROWS and x.dtype == weight.dtype == ms.float32:
        return kernel(x, weight)
    return ops.MatMul(transpose_b=True)(x, weight)
