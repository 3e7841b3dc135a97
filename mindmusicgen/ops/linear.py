"""The matrix product of a linear layer: a kernel that streams the weights for few rows, MatMul otherwise."""

import mindspore as ms
from mindspore import nn, ops

from . import native

FEW_ROWS = 16  # with more, arithmetic counts as much as reading the weights, and MatMul is as good


class MatMulTransposed(nn.Cell):
    """y = x W^T.

    On CPU, for float32 and at most 16 rows, a kernel of `csrc/` if it is available when the cell is made; the choice
    among shapes is made while the graph is compiled. It sums in another order than MatMul: results differ by rounding.

    Inputs:
        - **x** (Tensor) - [rows, in].
        - **weight** (Tensor) - [out, in], of the dtype of `x`.

    Outputs:
        Tensor of shape [rows, out].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self):
        super().__init__()
        self.kernel = native.linear_op()
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x, weight):
        if self.kernel is not None and x.shape[0] <= FEW_ROWS and x.dtype == weight.dtype == ms.float32:
            return self.kernel(x, weight)
        return self.matmul(x, weight)
