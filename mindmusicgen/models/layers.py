"""Cells that the three networks share: linear and normalisation layers with Hugging Face's parameter names.

Parameters start as zeros of the right shape; `initialise` draws random weights for a network that is
built from a config alone, `checkpoint` fills them from a file.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..ops import ascend, gradients, native
from ..ops.attention import lowest
from ..ops.linear import matmul_transposed
from ..ops.memory import zeros

NUMPY_DTYPES = {ms.float32: np.float32, ms.float16: np.float16, ms.uint16: np.uint16}


def empty_parameter(*shape, dtype=ms.float32):
    """A zero Parameter of `shape`, which takes no memory until it is written to."""
    if dtype in NUMPY_DTYPES:
        return shared_parameter(zeros(shape, NUMPY_DTYPES[dtype]), None, True)
    return Parameter(Tensor(np.zeros(shape, np.float32), dtype))


def shared_parameter(values, name=None, requires_grad=False):
    """A Parameter on the memory of an array.

    MindSpore takes a tensor over, rather than copying it, when nothing else refers to it: words such as `name=` in the
    call do.
    """
    return Parameter(Tensor.from_numpy(values), name, requires_grad)


class Linear(nn.Cell):
    """y = x W^T (+ b) with `weight` of shape (out_features, in_features), as in torch.

    Args:
        in_features (int): size of the last axis of the input.
        out_features (int): size of the last axis of the output.
        bias (bool): whether a `bias` of shape (out_features,) is added.
        dtype (mindspore.dtype): dtype of the weights; the input is cast to it.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, in_features, out_features, bias=False, dtype=ms.float32):
        super().__init__()
        self.in_features, self.out_features, self.has_bias, self.dtype = in_features, out_features, bias, dtype
        self.weight = empty_parameter(out_features, in_features, dtype=dtype)
        self.bias = empty_parameter(out_features, dtype=dtype) if bias else None
        self.kernel, self.most_rows = native.linear_op(), native.linear_rows()
        self.trained = gradients.linear_op() if dtype == ms.float32 else None

    def construct(self, x):
        """[..., in] -> [..., out]"""
        if x.dtype != self.dtype:
            x = x.astype(self.dtype)
        if x.ndim == 2:  # a decode step, compiled for every layer: the fewer operations, the sooner it starts
            return self.product(x)
        return self.product(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)

    def product(self, x):
        """[rows, in] -> [rows, out]"""
        if self.training and self.trained is not None:
            y = self.trained(x, self.weight)
        else:
            y = matmul_transposed(x, self.weight, self.kernel, self.most_rows)
        return y + self.bias if self.has_bias else y

    def parts(self):
        """What a kernel that runs the layer needs of it, the bias last."""
        return self.weight, self.bias


class LayerNorm(nn.Cell):
    """Layer normalisation over the last axis, with `weight` and, unless told otherwise, `bias`, computed in float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, dim, eps=1e-5, dtype=ms.float32, bias=True):
        super().__init__()
        self.dtype = dtype
        self.weight = empty_parameter(dim)
        self.bias = empty_parameter(dim) if bias else Tensor(np.zeros(dim, np.float32))
        self.eps, self.norm = eps, ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)
        self.add_norm = ascend.add_norm_op(dtype, eps)

    def construct(self, x):
        if self.dtype == ms.float32:
            return self.norm(x, self.weight, self.bias)[0]
        return self.norm(x.astype(ms.float32), self.weight, self.bias)[0].astype(self.dtype)

    def after_sum(self, x, y):
        """x + y, and the norm of it."""
        if self.add_norm is not None:
            normed, _, _, total = self.add_norm(x, y, self.weight, self.bias, self.eps, True)
            return total, normed
        total = x + y
        return total, self.construct(total)


class RMSNorm(nn.Cell):
    """T5's norm: x / rms(x) * weight, without mean or bias, the variance in float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, dim, eps=1e-6, dtype=ms.float32):
        super().__init__()
        self.eps, self.dtype = eps, dtype
        self.weight = empty_parameter(dim)
        self.rsqrt, self.mean = ops.Rsqrt(), ops.ReduceMean(keep_dims=True)

    def construct(self, x):
        x = x.astype(ms.float32)
        return (x * self.rsqrt(self.mean(x * x, -1) + self.eps) * self.weight).astype(self.dtype)


def additive_mask(keep, dtype=ms.float32):
    """0 where `keep` is true, else the lowest finite value of `dtype`.

    Finite on purpose: a row with nothing to attend to (the null prompt of guidance) then gets equal weights
    over values that are all zero, where -inf would give NaN.
    """
    return ((1.0 - keep.astype(ms.float32)) * lowest(dtype)).astype(dtype)


def gelu(x):
    """The exact GELU (erf form)."""
    return ops.gelu(x, approximate="none")


def tanh(x):
    """The hyperbolic tangent, to rounding: MindSpore's own is 5e-5 off on a CPU."""
    return 1 - 2 / (ops.exp(2 * x) + 1)


def gelu_tanh(x):
    """The tanh approximation of GELU, which Hugging Face calls gelu_new."""
    return ops.gelu(x, approximate="tanh")


ACTIVATIONS = {"relu": ops.relu, "gelu": gelu, "gelu_new": gelu_tanh}


def activation(name):
    """The activation function called `name` in a Hugging Face config.

    Raises:
        ValueError: for a name that no published MusicGen or T5 encoder uses.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not supported; expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def initialise(cell, seed=0, std=0.02):
    """Fill a network built from a config with random weights: norms 1, biases 0, matrices normal.

    Args:
        cell (nn.Cell): network whose parameters are overwritten in place.
        seed (int): seed of the NumPy generator.
        std (float): standard deviation of matrices; convolutions, LSTMs and codebooks get a width that keeps
            the scale of their input.
    """
    rng = np.random.default_rng(seed)
    for name, parameter in cell.parameters_and_names():
        values = parameter.asnumpy()
        if name.endswith("norm.weight") or ".norm." in name and name.endswith("weight"):
            values[...] = 1
        elif values.ndim < 2:
            values[...] = 0
        else:
            codec = ".conv." in name or ".lstm." in name
            width = 0.6 / math.sqrt(values.shape[1]) if codec else 0.3 if name.endswith("embed") else std
            values[...] = rng.standard_normal(values.shape, np.float32) * width
        parameter.set_data(Tensor(values))
    for _, part in cell.cells_and_names():
        if getattr(part, "multiply_first", False):  # its matrix has the taps as rows: the sum goes over them too
            part.conv.weight.set_data(Tensor(part.conv.weight.asnumpy() / np.float32(math.sqrt(part.kernel_size))))
