"""LSTM layers; what goes step by step is a kernel on a CPU and a loop in the graph on an NPU."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from . import ascend, native
from .linear import matmul_transposed
from .memory import zeros

INPUT_ROWS = 32  # up to which the kernel multiplies them faster than MatMul, which lays out the weights anew


def _zeros(name, shapes):
    """Parameters of these shapes, called as nn.LSTM calls them."""
    return ParameterTuple(
        Parameter(Tensor.from_numpy(zeros(shape, np.float32)), f"{name}_l{layer}")  # with `name=` it would be copied
        for layer, shape in enumerate(shapes)
    )


class LSTM(nn.LSTM):
    """`mindspore.nn.LSTM` of one direction with `batch_first`, without dropout; its parameters begin as zeros.

    On CPU, for float32 and outside of training, the inputs' part of the gates is one product for all steps, and the
    rest a kernel of `csrc/`, if it is available when the cell is made. MindSpore's operator lays out all weights anew
    in every call, which takes longer than 25 steps of EnCodec's LSTM. On an NPU that operator computes in float16, so
    there the steps are a loop of plain operations, again outside of training.

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
        self.rough_kernel, self.rough = native.rough_lstm_op(), False  # 16 bits in the recurrence: 80 dB below it
        self.input_rows = max(native.linear_rows(), INPUT_ROWS)
        self.loops = ascend.is_target()
        self.gather, self.update = ops.Gather(), ops.TensorScatterUpdate()

    def construct(self, x, state=None):
        if (self.kernel is None and not self.loops) or self.training or x.dtype != ms.float32:
            return super().construct(x, state)
        rows, steps, _ = x.shape
        size, last_h, last_c = self.hidden_size, (), ()
        if state is None:
            zeros = ops.zeros((self.num_layers, rows, size), ms.float32)
            state = (zeros, zeros)
        h, c = state
        for i in range(self.num_layers):
            flat = x.reshape(rows * steps, x.shape[2])
            gates = matmul_transposed(flat, self.w_ih_list[i], self.linear_kernel, self.input_rows)
            gates = ops.bias_add(gates, self.b_ih_list[i] + self.b_hh_list[i]).reshape(rows, steps, 4 * size)
            if self.loops:
                x, last = self.loop(gates, self.w_hh_list[i], h[i], c[i])
            elif self.rough and self.rough_kernel is not None:
                x, last = self.rough_kernel(gates, self.w_hh_list[i], h[i], c[i])
            else:
                x, last = self.kernel(gates, self.w_hh_list[i], h[i], c[i])
            last_h += (ops.strided_slice(x, (0, steps - 1, 0), (rows, steps, size), (1, 1, 1)).reshape(rows, size),)
            last_c += (last,)
        return x, (ops.stack(last_h), ops.stack(last_c))

    def loop(self, gates, weight, h, c):
        """What the kernel does: [B, T, 4 H], [4 H, H], [B, H], [B, H] -> h of every step [B, T, H], the last c."""
        rows, steps, _ = gates.shape
        gates = gates.swapaxes(0, 1)
        made = ops.zeros((steps, rows, self.hidden_size), ms.float32)
        step = Tensor(0, ms.int32)
        while step < steps:
            sums = self.gather(gates, step, 0) + ops.MatMul(transpose_b=True)(h, weight)
            enter, forget, cell, leave = ops.split(sums, self.hidden_size, 1)
            c = ops.sigmoid(forget) * c + ops.sigmoid(enter) * ops.tanh(cell)
            h = ops.sigmoid(leave) * ops.tanh(c)
            made = self.update(made, step.reshape(1, 1), h.expand_dims(0))
            step = step + 1
        return made.swapaxes(0, 1), c
