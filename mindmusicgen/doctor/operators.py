"""Every operation that a device may compute in its own way, against NumPy in float64: what `mindmusicgen doctor` runs.

`checks(device)` lists them; each runs alone, so that a wrong result names the operation.
"""

import dataclasses
import functools
from collections.abc import Callable
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import InputError
from ..generation import sampling
from ..models import layers
from ..models.convolutions import Conv1d, time_slice
from ..models.quantized import FourBitLinear, QuantizedLinear
from ..ops import ascend, native, quantized
from ..ops.attention import CachedAttention, attention
from ..ops.choice import choose_op
from ..ops.linear import matmul_transposed
from ..ops.lstm import LSTM

TOLERANCES = {ms.float32: 1e-4, ms.float16: 5e-3, ms.bfloat16: 4e-2}  # of the largest value, by dtype
DEVICES = ("CPU", "Ascend")


@dataclasses.dataclass(frozen=True)
class Check:
    """One operation and what it should give.

    Args:
        name (str): for a table, such as "linear (kernel, float32)".
        compute (Callable): runs the operation on the device; returns a tuple of NumPy arrays.
        expect (Callable): the same in NumPy.
        tolerance (float): largest error that passes, as part of the largest expected value.
    """

    name: str
    compute: Callable
    expect: Callable
    tolerance: float

    def run(self):
        """Run it once.

        Returns:
            float: the largest error as part of the largest expected value; inf if a value is not finite or a shape is
            wrong. float: the tolerance.
        """
        error = 0.0
        for found, expected in zip(self.compute(), self.expect(), strict=True):
            found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
            if found.shape != expected.shape or not np.isfinite(found).all():
                return float("inf"), self.tolerance
            error = max(error, np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
        return float(error), self.tolerance


def checks(device=None, dtype=ms.float32):
    """The checks for a device.

    Args:
        device (str): "CPU" or "Ascend"; None: the one that MindSpore computes on. Checks run on the latter always.
        dtype (mindspore.dtype): of weights and activations, for the operations that come in several.

    Returns:
        list[Check].

    Raises:
        InputError: for another device.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    device = ms.get_context("device_target") if device is None else device
    if device not in DEVICES:
        raise InputError(f"device is {device!r}; expected {' or '.join(DEVICES)}")
    listed = _plain(dtype) + [_lstm_check(device), _sampling_check("choice (plain)", _plain_choice)]
    return listed + (_cpu_kernels() if device == "CPU" else _fused(dtype if dtype in ascend.HALVES else ms.float16))


def _plain(dtype):
    """MindSpore's own operations as the networks use them."""
    name, tolerance = str(dtype).lower(), TOLERANCES[dtype]
    made = {
        "linear": (lambda: _linear(dtype, None), _linear_expected),
        "attention": (lambda: _attention(dtype), _attention_expected),
        "cached attention": (lambda: _cached_attention(dtype, kernel=False), _cached_attention_expected),
        "layer norm": (lambda: _layer_norm(dtype), _layer_norm_expected),
        "rms norm": (lambda: _rms_norm(dtype), _rms_norm_expected),
        "gelu": (lambda: _run(layers.gelu, Tensor(_numbers(4, 300), dtype)), lambda: (_gelu(_numbers(4, 300)),)),
        "elu": (lambda: _run(ops.Elu(), Tensor(_numbers(4, 300))), lambda: (_elu(_numbers(4, 300)),)),
        "gather": (lambda: _gather(dtype), lambda: (_numbers(50, 64)[[7, 0, 49]],)),
        "slice": (lambda: _run(time_slice, Tensor(_numbers(2, 9, 5)), 3, 4), lambda: (_numbers(2, 9, 5)[:, 3:7],)),
    }
    float32 = ("elu", "slice")  # only the codec has these
    return [
        Check(f"{key} (plain, {'float32' if key in float32 else name})", compute, expect, tolerance)
        for key, (compute, expect) in made.items()
    ]


def _cpu_kernels():
    """The kernels of csrc/, as far as they are installed."""
    found = []
    if native.library_path():
        found += [
            Check("linear (kernel)", lambda: _linear(ms.float32, native.linear_op()), _linear_expected, 1e-4),
            Check("linear of many rows (kernel)", _linear_many, _linear_many_expected, 1e-4),
            Check("convolution (kernel)", _convolution, _convolution_expected, 1e-4),
            Check("cached attention (kernel)", lambda: _cached_attention(ms.float32), _cached_attention_expected, 1e-4),
        ]
    if choose_op():
        found.append(_sampling_check("choice (kernel)", choose_op()))
    kind = "plain" if quantized.why_not() else "kernel"
    # Activations are rounded to 16 bits there.
    for cell, bits in ((QuantizedLinear, 8), (FourBitLinear, 4)):
        both = functools.partial(_quantized_linear, cell), functools.partial(_quantized_linear_expected, cell)
        found.append(Check(f"{bits}-bit linear ({kind})", *both, 1e-3))
    return found


def _fused(dtype):
    """The operators of an NPU, as far as they are available."""
    name, tolerance = str(dtype).lower(), TOLERANCES[dtype]
    found = [Check(f"8-bit linear (fused, {name})", lambda: _weight_only(dtype), _weight_only_expected, tolerance)]
    if ascend.attention_cell(3, 64, dtype) is not None:
        made = {
            "attention of a prompt": (lambda: _attention(dtype, fused=True), _attention_expected),
            "attention of one query": (lambda: _attention(dtype, fused=True, queries=1), _query_expected),
        }
        found += [Check(f"{key} (fused, {name})", *functions, tolerance) for key, functions in made.items()]
    if ascend.cached_attention_cell(3, 64, dtype) is not None:
        attend = (lambda: _cached_attention(dtype), _cached_attention_expected)
        found.append(Check(f"cached attention (fused, {name})", *attend, tolerance))
    if ascend.add_norm_op(dtype, ascend.NORM_EPS) is not None:
        found.append(Check(f"sum and norm (fused, {name})", lambda: _add_norm(dtype), _add_norm_expected, tolerance))
    return found


def _numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _run(function, *inputs):
    """The outputs of a function or cell as one compiled graph, as NumPy arrays in float32."""
    compiled = ms.jit(function.construct if isinstance(function, nn.Cell) else function, fullgraph=True)
    outputs = compiled(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple(o.astype(ms.float32).asnumpy() for o in outputs if isinstance(o, Tensor))


def _linear(dtype, kernel):
    x, weight = Tensor(_numbers(3, 256), dtype), Tensor(_numbers(130, 256, seed=1), dtype)

    def product(x, weight):
        return matmul_transposed(x, weight, kernel)

    return _run(product, x, weight)


def _linear_expected():
    return (_numbers(3, 256).astype(np.float64) @ _numbers(130, 256, seed=1).T,)


def _linear_many():
    kernel = native.linear_op()

    def product(x, weight):
        return kernel(x, weight)

    return _run(product, Tensor(_numbers(70, 256)), Tensor(_numbers(130, 256, seed=1)))


def _linear_many_expected():
    return (_numbers(70, 256).astype(np.float64) @ _numbers(130, 256, seed=1).T,)


def _quantized_linear(kind):
    cell = kind(256, 130)
    codes, scale = kind.layout.pack(_numbers(130, 256, seed=1))
    cell.weight.set_data(Tensor(codes))
    cell.scale.set_data(Tensor(scale))
    return _run(cell, Tensor(_numbers(3, 256)))


def _quantized_linear_expected(kind):
    weight = kind.layout.unpack(*kind.layout.pack(_numbers(130, 256, seed=1)), 130, 256)
    return (_numbers(3, 256).astype(np.float64) @ weight.T,)


def _weight_only(dtype):
    return _run(ascend.WeightOnlyLinear(_numbers(130, 256, seed=1), dtype), Tensor(_numbers(3, 256), dtype))


def _weight_only_expected():
    codes, scale = ascend.round_channels(_numbers(130, 256, seed=1))
    return (_numbers(3, 256).astype(np.float64) @ (codes * scale[:, None]).T,)


def softmax(scores):
    """Over the last axis, in float64."""
    weights = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _attention_inputs():
    """q, k, v and what may not be attended to: a triangle, and the second row's last keys."""
    q, k, v = _numbers(2, 3, 7, 64), _numbers(2, 3, 9, 64, seed=1), _numbers(2, 3, 9, 64, seed=2)
    hidden = np.broadcast_to(np.arange(9) > np.arange(7)[:, None], (2, 1, 7, 9)).copy()
    hidden[1, :, :, 4:] = True
    return q, k, v, hidden


def _attention(dtype, fused=False, queries=7):
    """The attended values of the last queries."""
    q, k, v, hidden = _attention_inputs()
    mask = layers.additive_mask(Tensor(~hidden[:, :, -queries:]), dtype)
    function = ascend.attention_cell(3, 64, dtype) if fused else attention
    return _run(function, *(Tensor(one, dtype) for one in (q[:, :, -queries:], k, v)), mask)


def _query_expected():
    return (_attention_expected()[0][:, :, -1:],)


def _attention_expected():
    q, k, v, hidden = _attention_inputs()
    return (softmax(np.where(hidden, -1e30, q @ k.swapaxes(2, 3) / 8)) @ v,)


def _cached_attention(dtype, kernel=True):
    """The attended values and both caches."""
    q, k, v, *cache = (Tensor(one, dtype) for one in _cached_attention_inputs())
    cell = CachedAttention(3, 64, dtype)
    if not kernel:
        cell.kernel = cell.fused = None
    keys, values = (Parameter(one, name=name) for one, name in zip(cache, ("keys", "values"), strict=True))

    def attend(q, k, v, position):
        return cell(q, k, v, keys, values, position)

    made = _run(attend, q, k, v, Tensor(np.array([5], np.int32)))
    return made + tuple(one.astype(ms.float32).asnumpy() for one in (keys, values))


def _cached_attention_inputs():
    column = [_numbers(2, 3, 1, 64, seed=seed) for seed in range(3)]
    return column + [_numbers(2, 3, 32, 64, seed=seed) for seed in (3, 4)]


def _cached_attention_expected():
    q, k, v, keys, values = _cached_attention_inputs()
    keys[:, :, 5:6], values[:, :, 5:6] = k, v
    return softmax(q @ keys[:, :, :6].swapaxes(2, 3) / 8) @ values[:, :, :6], keys, values


def _filled(cell, *arrays):
    """A norm with this weight and bias."""
    for parameter, array in zip(cell.get_parameters(), arrays, strict=True):
        parameter.set_data(Tensor(array))
    return cell


def _layer_norm(dtype):
    cell = _filled(layers.LayerNorm(64, dtype=dtype), _numbers(64, seed=1), _numbers(64, seed=2))
    return _run(cell, Tensor(_numbers(5, 64), dtype))


def layer_norm(x, weight, bias, eps=1e-5):
    """Over the last axis, in float64."""
    x = x.astype(np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def _layer_norm_expected():
    return (layer_norm(_numbers(5, 64), _numbers(64, seed=1), _numbers(64, seed=2)),)


def _add_norm(dtype):
    cell = _filled(layers.LayerNorm(64, dtype=dtype), _numbers(64, seed=1), _numbers(64, seed=2))
    return _run(cell.after_sum, Tensor(_numbers(5, 64), dtype), Tensor(_numbers(5, 64, seed=3), dtype))


def _add_norm_expected():
    total = _numbers(5, 64) + _numbers(5, 64, seed=3)
    return total, layer_norm(total, _numbers(64, seed=1), _numbers(64, seed=2))


def _rms_norm(dtype):
    return _run(_filled(layers.RMSNorm(64, dtype=dtype), _numbers(64, seed=1)), Tensor(_numbers(5, 64), dtype))


def _rms_norm_expected():
    x = _numbers(5, 64).astype(np.float64)
    return (x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * _numbers(64, seed=1),)


def _gelu(x):
    from scipy.special import erf

    return x * 0.5 * (1 + erf(x.astype(np.float64) / np.sqrt(2)))


def _elu(x):
    return np.where(x > 0, x, np.expm1(x.astype(np.float64)))


def _gather(dtype):
    return _run(ops.Gather(), Tensor(_numbers(50, 64), dtype), Tensor(np.array([7, 0, 49], np.int32)), 0)


def _convolution():
    config = SimpleNamespace(pad_mode="reflect", use_causal_conv=False, norm_type="weight_norm")
    cell = Conv1d(config, 24, 40, 3, elu=True).set_train(False)
    cell.conv.weight.set_data(Tensor(cell.pack(_numbers(40, 24, 3, seed=1))))
    cell.conv.bias.set_data(Tensor(_numbers(40, seed=2)))
    return _run(cell, Tensor(_numbers(2, 60, 24)))


def _convolution_expected():
    x, weight = _elu(np.pad(_numbers(2, 60, 24), ((0, 0), (1, 1), (0, 0)), mode="reflect")), _numbers(40, 24, 3, seed=1)
    return (sum(x[:, i : i + 60] @ weight[:, :, i].T for i in range(3)) + _numbers(40, seed=2),)


def _lstm_check(device):
    kind = "loop" if device == "Ascend" else "kernel" if native.lstm_op() else "plain"
    return Check(f"lstm ({kind})", _lstm, _lstm_expected, TOLERANCES[ms.float32])


def _lstm_weights():
    return [_numbers(*shape, seed=seed) / 8 for seed, shape in enumerate([(256, 64), (256, 64), (256,), (256,)])]


def _lstm():
    cell = LSTM(64, 64, 1).set_train(False)
    lists = (cell.w_ih_list, cell.w_hh_list, cell.b_ih_list, cell.b_hh_list)
    for parameters, array in zip(lists, _lstm_weights(), strict=True):
        parameters[0].set_data(Tensor(array))
    return _run(cell, Tensor(_numbers(2, 5, 64, seed=9)))[:1]


def _lstm_expected():
    w_ih, w_hh, b_ih, b_hh = (one.astype(np.float64) for one in _lstm_weights())
    x, outputs = _numbers(2, 5, 64, seed=9), []
    h = c = np.zeros((2, 64))
    for step in range(5):
        enter, forget, cell, leave = np.split(x[:, step] @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
        enter, forget, leave = (1 / (1 + np.exp(-gate)) for gate in (enter, forget, leave))
        c = forget * c + enter * np.tanh(cell)
        h = leave * np.tanh(c)
        outputs.append(h)
    return (np.stack(outputs, 1),)


def _sampling_inputs():
    """Logits with guidance, forced codes, uniforms, and guidance scale, temperature, top-k, top-p."""
    forced = np.full((2, 4), -1, np.int32)
    forced[1, 2] = 77
    uniforms = np.random.default_rng(1).random((2, 4), np.float32)
    numbers = (np.float32(3), np.float32(0.9), np.int32(50), np.float32(0.95))
    return _numbers(4, 4, 2048) * 3, forced, uniforms, *(np.array([number]) for number in numbers)


def _plain_choice(logits, forced, uniforms, scale, temperature, top_k, top_p):
    kept = sampling.filter_logits(sampling.guide(logits, scale), temperature, top_k, top_p)
    return ops.select(forced == -1, sampling.choose(kept, uniforms), forced)


def _sampling_check(name, function):
    def choose(*inputs):
        return function(*inputs)

    return Check(name, lambda: _run(choose, *map(Tensor, _sampling_inputs())), _sampling_expected, 0.0)


def _sampling_expected():
    logits, forced, uniforms, scale, temperature, top_k, top_p = _sampling_inputs()
    logits = logits.astype(np.float64)
    guided = (logits[2:] + (logits[:2] - logits[2:]) * scale) / temperature
    order = np.argsort(-guided, axis=-1, kind="stable")
    kept = np.where(np.argsort(order, axis=-1) < top_k, guided, -np.inf)
    mass = softmax(np.take_along_axis(kept, order, -1))
    likely = np.cumsum(mass, -1) - mass < max(top_p, sampling.LEAST)
    kept = np.where(np.take_along_axis(likely, np.argsort(order, axis=-1), -1), kept, -np.inf)
    cumulative = np.cumsum(softmax(kept), -1)
    codes = (cumulative <= uniforms[..., None] * cumulative[..., -1:]).sum(-1)
    return (np.where(forced == -1, codes, forced),)
