"""LSTM layers, on CPU with a kernel for the part that goes step by step."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from . import native
from .linear import matmul_transposed
from .memory import zeros


def _zeros(name, shapes):
    """Parameters of these shapes, called as nn.LSTM calls them."""
    return ParameterTuple(
        Parameter(Tensor.from_numpy(zeros(shape, np.float32)), name=f"{name}_l{layer}")
        for layer, shape in enumerate(shapes)
    )


class LSTM(nn.LSTM):
    """`mindspore.nn.LSTM` of one direction with `batch_first`, without dropout; its parameters begin as zeros.

    On CPU, for float32 and outside of training, the inputs' part of the gates is one product for all steps, and the
    rest a kernel of `csrc/`, if it is available when the cell is made. MindSpore's operator lays out all weights anew
    in every call, which takes longer than 25 steps of EnCodec's LSTM.

    Args:
        input_size (int): size D of the last axis of the input.
        hidden_size (int): size H of h and c.
        num_layers (int): layers, each of which reads the one below.

    Inputs:
        - **x** (Tensor) - [B, T, D].
        - **state** (tuple[Tensor]) - h and c before the first step, [layers, B, H] each; None: zeros.

    Outputs:
        the last layer's h of every step, [B, T, H], and (h, c) after the last step.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, input_size, hidden_size, num_layers):
        super().__init__(1, 1, num_layers, batch_first=True)  # drawing its random weights would take a second
        self.hidden_size = hidden_size
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.w_ih_list = _zeros("weight_ih", [(4 * hidden_size, width) for width in widths])
        self.w_hh_list = _zeros("weight_hh", [(4 * hidden_size, hidden_size)] * num_layers)
        self.b_ih_list = _zeros("bias_ih", [(4 * hidden_size,)] * num_layers)
        self.b_hh_list = _zeros("bias_hh", [(4 * hidden_size,)] * num_layers)
        self.kernel, self.linear_kernel = native.lstm_op(), native.linear_op()

    def construct(self, x, state=None):
        if self.kernel is None or self.training or x.dtype != ms.float32:
            return super().construct(x, state)
        rows, steps, _ = x.shape
        size, last_h, last_c = self.hidden_size, (), ()
        if state is None:
            zeros = ops.zeros((self.num_layers, rows, size), ms.float32)
            state = (zeros, zeros)
        h, c = state
        for i in range(self.num_layers):
            flat = x.reshape(rows * steps, x.shape[2])
            gates = matmul_transposed(flat, self.w_ih_list[i], self.linear_kernel)
            gates = ops.bias_add(gates, self.b_ih_list[i] + self.b_hh_list[i]).reshape(rows, steps, 4 * size)
            x, last = self.kernel(gates, self.w_hh_list[i], h[i], c[i])
            last_h += (ops.strided_slice(x, (0, steps - 1, 0), (rows, steps, size), (1, 1, 1)).reshape(rows, size),)
            last_c += (last,)
        return x, (ops.stack(last_h), ops.stack(last_c))
