"""The operators of an NPU without one: their arguments against MindSpore's definitions, and what they compute against
the plain operations, through stand-ins that do in NumPy what the documentation says."""

import inspect
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.ops import auto_generate
from transformers import MusicgenDecoderConfig

from mindmusicgen.doctor import operators as operator_checks
from mindmusicgen.models.layers import LayerNorm, additive_mask, initialise
from mindmusicgen.musicgen.decoder import MusicgenDecoder
from mindmusicgen.ops import ascend
from mindmusicgen.ops.attention import CachedAttention, attention, attention_for
from mindmusicgen.ops.lstm import LSTM

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "ascend"))

from mindir_operations import operations

HEADS, SIZE = 2, 32
DEFINITIONS = {  # what the operators are called with, in order
    "PromptFlashAttention": ["query", "key", "value", "attn_mask"],
    "IncreFlashAttention": ["query", "key", "value", "attn_mask"],
    "KVCacheScatterUpdate": ["var", "indices", "updates", "axis", "reduce"],
    "AddLayerNormV2": ["x1", "x2", "gamma", "beta", "epsilon", "additionalOut"],
    "WeightQuantBatchMatmul": ["x", "weight", "antiquant_scale"],
}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def halves(*shape, seed=0):
    return Tensor(numbers(*shape, seed=seed), ms.float16)


@pytest.fixture
def on_ascend(monkeypatch):
    """Cells of this test are made as on an NPU."""
    monkeypatch.delenv(ascend.ENVIRONMENT, raising=False)
    with ascend.as_on_ascend():
        yield


# ---- stand-ins ----


def bnsd(operator):
    """The number that an operator keeps for the layout BNSD."""
    from mindspore.ops._utils.arg_handler import str_to_enum

    return str_to_enum(operator, "input_layout", "BNSD")


def attend(operator, q, k, v, discard):
    """What both attention operators do, for the settings that `operator` was made with. A query for which everything is
    discarded gives NaN: the documentation does not say what it would be."""
    assert q.shape[1] == k.shape[1] == operator.num_heads == operator.num_key_value_heads
    assert operator.input_layout == bnsd(type(operator).__name__)
    assert discard.dtype == ms.bool_ and q.dtype == k.dtype == v.dtype == ms.float16
    q, k, v = (one.asnumpy().astype(np.float64) for one in (q, k, v))
    hidden = np.broadcast_to(discard.asnumpy(), (q.shape[0], 1, q.shape[2], k.shape[2]))
    if hasattr(operator, "next_tokens"):
        apart = np.arange(k.shape[2]) - np.arange(q.shape[2])[:, None]
        hidden = hidden | (apart > operator.next_tokens) | (-apart > operator.pre_tokens)
    scores = np.where(hidden, -np.inf, q @ k.swapaxes(2, 3) * operator.scale_value)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return Tensor((weights / weights.sum(-1, keepdims=True) @ v).astype(np.float16))


class Prompt:
    """For PromptFlashAttention."""

    def __init__(self, operator):
        self.operator = operator

    def __call__(self, q, k, v, discard):
        rows, _, queries, _ = q.shape
        shapes = [(queries, k.shape[2]), *((n, queries, k.shape[2]) for n in (1, rows))]
        shapes += [(n, 1, queries, k.shape[2]) for n in (1, rows)]
        assert discard.shape in shapes
        return attend(self.operator, q, k, v, discard)


class Query:
    """For IncreFlashAttention: one query; keys and values are lists."""

    def __init__(self, operator):
        self.operator = operator

    def __call__(self, q, k, v, discard):
        assert isinstance(k, list) and isinstance(v, list) and len(k) == len(v) == 1 and q.shape[2] == 1
        rows, _, length, _ = k[0].shape
        assert discard.shape in [(rows, length), (rows, 1, length), (rows, 1, 1, length)]
        return attend(self.operator, q, k[0], v[0], discard)


def update(cache, places, values, axis, reduce):
    """For KVCacheScatterUpdate."""
    assert isinstance(cache, Parameter) and axis == -2 and reduce == "update"
    assert places.dtype == ms.int64 and places.shape == cache.shape[:1] and values.dtype == cache.dtype
    array = cache.asnumpy().copy()
    for row, place in enumerate(places.asnumpy()):
        array[row, :, place : place + values.shape[2]] = values.asnumpy()[row]
    cache.set_data(Tensor(array))


def add_norm(x, y, weight, bias, eps, keep_sum):
    """For AddLayerNormV2."""
    assert x.shape == y.shape and x.dtype == y.dtype and weight.dtype == bias.dtype == ms.float32
    assert eps == 1e-5 and keep_sum is True
    total = x.asnumpy().astype(np.float64) + y.asnumpy()
    mean = total.mean(-1, keepdims=True)
    factor = 1 / np.sqrt(total.var(-1, keepdims=True) + eps)
    normed = (total - mean) * factor * weight.asnumpy() + bias.asnumpy()
    halves = [Tensor(one.astype(np.float16)) for one in (normed, total)]
    return halves[0], Tensor(mean.astype(np.float32)), Tensor(factor.astype(np.float32)), halves[1]


def multiply(x, weight, scale):
    """For WeightQuantBatchMatmul with a transposed matrix and a scale for each output."""
    assert weight.dtype == ms.int8 and scale.dtype == x.dtype and scale.shape == weight.shape[:1]
    matrix = weight.asnumpy().astype(np.float64) * scale.asnumpy()[:, None]
    return Tensor((x.asnumpy() @ matrix.T).astype(np.float16))


def stand_in(cell):
    """Put stand-ins in place of the operators of a cell and all below."""
    for _, part in cell.cells_and_names():
        for name in ("query", "prompt", "update", "product", "add_norm"):
            kinds = {"query": Query, "prompt": Prompt}
            plain = {"update": update, "product": multiply, "add_norm": add_norm}
            operator = vars(part).get(name) or part._primitives.get(name)
            if type(operator).__name__ in DEFINITIONS:
                part._primitives.pop(name, None)
                object.__setattr__(part, name, kinds[name](operator) if name in kinds else plain[name])
    return cell


def near(found, expected, tolerance=3e-3):
    found, expected = (one.astype(ms.float32).asnumpy() for one in (found, expected))
    assert found.shape == expected.shape and np.isfinite(found).all()
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


# ---- against MindSpore's definitions ----


@pytest.mark.parametrize("name", DEFINITIONS)
def test_operators_take_the_arguments_in_this_order(name):
    found = list(inspect.signature(getattr(auto_generate, name).__call__).parameters)[1:]
    wanted = DEFINITIONS[name]
    assert found[: len(wanted)] == wanted


def test_settings_are_those_of_the_definitions(on_ascend):
    cell = ascend.FusedAttention(HEADS, SIZE)
    for operator in (cell.prompt, cell.query):
        assert (operator.num_heads, operator.num_key_value_heads) == (HEADS, HEADS)
        assert operator.scale_value == pytest.approx(SIZE**-0.5) and operator.inner_precise == 0
        assert operator.input_layout == bnsd(type(operator).__name__)
    assert cell.prompt.sparse_mode == 0 and cell.query.block_size == 0
    assert cell.prompt.next_tokens == cell.prompt.pre_tokens == 2**31 - 1
    product = ascend.WeightOnlyLinear(numbers(4, 8)).product
    assert (product.transpose_x, product.transpose_weight, product.antiquant_group_size) == (False, True, 0)


class All(nn.Cell):
    """Every operator once."""

    def __init__(self, dtype):
        super().__init__()
        self.attention = ascend.attention_cell(HEADS, SIZE, dtype)
        self.cached = ascend.cached_attention_cell(HEADS, SIZE, dtype)
        self.norm = LayerNorm(SIZE, dtype=dtype)
        self.linear = ascend.WeightOnlyLinear(numbers(48, SIZE), dtype)
        shape = (2, HEADS, 16, SIZE)
        self.keys = Parameter(Tensor(np.zeros(shape, np.float32), dtype), name="keys")
        self.values = Parameter(Tensor(np.zeros(shape, np.float32), dtype), name="values")

    def construct(self, q, k, v, mask, position):
        many = self.attention(q, k, v, mask)
        one = self.cached(q[:, :, :1], k[:, :, :1], v[:, :, :1], self.keys, self.values, position)
        total, normed = self.norm.after_sum(one, one)
        return many, total, self.linear(normed.reshape(-1, SIZE))


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16])
def test_mindspore_infers_types_and_shapes_for_our_arguments(on_ascend, tmp_path, dtype):
    """Exporting runs every definition's own checks."""
    inputs = [Tensor(numbers(2, HEADS, 5, SIZE), dtype) for _ in range(3)]
    mask, position = Tensor(numbers(2, 1, 1, 5), dtype), Tensor(np.array([3], np.int32))
    path = str(tmp_path / "all")
    ms.export(All(dtype), *inputs, mask, position, file_name=path, file_format="MINDIR")
    found = {operation.name: operation for operation in operations(f"{path}.mindir")}
    assert set(DEFINITIONS) <= set(found)
    name = str(dtype).lower()
    assert found["PromptFlashAttention"].inputs[:4] == (name, name, name, "bool")
    assert found["IncreFlashAttention"].inputs[:4] == (name, name, name, "bool")
    assert found["KVCacheScatterUpdate"].inputs[:3] == (name, "int64", name)
    assert found["WeightQuantBatchMatmul"].inputs[:3] == (name, "int8", name)
    assert found["AddLayerNormV2"].inputs[:4] == (name, name, "float32", "float32")
    assert found["AddLayerNormV2"].outputs == (name, "float32", "float32", name)


def test_a_definition_refuses_wrong_arguments(on_ascend, tmp_path, monkeypatch):
    """So that the test above can fail."""
    monkeypatch.chdir(tmp_path)  # MindSpore leaves notes about what it refused

    class Wrong(nn.Cell):
        def __init__(self):
            super().__init__()
            self.query = ascend.FusedAttention(HEADS, SIZE).query

        def construct(self, q, k, v):
            return self.query(q, k, v)  # keys and values are no lists

    inputs = [halves(2, HEADS, 1, SIZE) for _ in range(3)]
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        ms.export(Wrong(), *inputs, file_name=str(tmp_path / "wrong"), file_format="MINDIR")


# ---- against the plain operations ----


@pytest.mark.parametrize("queries,keys", [(1, 9), (7, 9), (6, 6)])
@pytest.mark.parametrize("kind", ["causal", "padding", "per query"])
def test_attention(on_ascend, queries, keys, kind):
    q, (k, v) = halves(3, HEADS, queries, SIZE), (halves(3, HEADS, keys, SIZE, seed=i) for i in (1, 2))
    if kind == "causal":
        keep = np.arange(keys) <= np.arange(queries)[:, None]
    elif kind == "padding":
        keep = np.arange(keys) < np.array([keys, 4, 1]).reshape(3, 1, 1, 1)
    else:
        keep = np.random.default_rng(0).random((3, 1, queries, keys)) < 0.5
        keep[..., 0] = True
    mask = additive_mask(Tensor(keep), ms.float16)
    cell = attention_for(HEADS, SIZE, ms.float16)
    assert isinstance(cell, ascend.FusedAttention)
    near(stand_in(cell)(q, k, v, mask), attention(q, k, v, mask))


@pytest.mark.parametrize("queries", [1, 4])
def test_attention_of_null_rows_is_zero(on_ascend, queries):
    """Their keys and values are zero and all masked, where an operator might divide zero by zero."""
    q, k = halves(2, HEADS, queries, SIZE), numbers(2, HEADS, 5, SIZE, seed=1)
    k[1] = 0
    keep = np.ones((2, 1, 1, 5), bool)
    keep[1] = False
    k, mask = Tensor(k, ms.float16), additive_mask(Tensor(keep), ms.float16)
    y = stand_in(ascend.FusedAttention(HEADS, SIZE))(q, k, k, mask)
    near(y, attention(q, k, k, mask))
    assert not y.asnumpy()[1].any()


def test_cached_attention(on_ascend):
    cell = CachedAttention(HEADS, SIZE, ms.float16)
    assert isinstance(cell.fused, ascend.FusedCachedAttention)
    stand_in(cell)
    caches = [[Parameter(halves(3, HEADS, 12, SIZE, seed=i), name=f"cache{i}") for i in range(2)] for _ in range(2)]
    for position in (0, 5, 11):
        q, k, v = (halves(3, HEADS, 1, SIZE, seed=position + i) for i in range(3))
        place = Tensor(np.array([position], np.int32))
        near(cell(q, k, v, *caches[0], place), cell.plain(q, k, v, *caches[1], place))
        for found, expected in zip(*caches, strict=True):
            np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


def test_norm_after_sum(on_ascend):
    fused, x, y = LayerNorm(48, dtype=ms.float16), halves(2, 5, 48), halves(2, 5, 48, seed=1)
    assert type(fused.add_norm).__name__ == "AddLayerNormV2"
    plain = LayerNorm(48, dtype=ms.float16)
    plain.add_norm = None
    for cell in (fused, plain):
        cell.weight.set_data(Tensor(numbers(48, seed=2)))
        cell.bias.set_data(Tensor(numbers(48, seed=3)))
    for found, expected in zip(stand_in(fused).after_sum(x, y), plain.after_sum(x, y), strict=True):
        near(found, expected)


def test_weight_only_linear(on_ascend):
    weight = numbers(40, 96, seed=1)
    weight[3] = 0
    codes, scale = ascend.round_channels(weight)
    assert codes.dtype == np.int8 and np.abs(codes).max() == 127 and not codes[3].any()
    assert (np.abs(codes * scale[:, None] - weight) <= scale[:, None] * 0.5001).all()
    cell, x = ascend.WeightOnlyLinear(weight), halves(5, 96)
    y = stand_in(cell)(x)
    near(y, cell.plain(x))
    near(y, Tensor(numbers(5, 96) @ weight.T), 0.02)


def test_weight_only_linear_refuses_what_the_operator_cannot(on_ascend):
    with pytest.raises(ValueError, match="65535"):
        ascend.WeightOnlyLinear(np.zeros((65536, 1), np.float32))


def test_a_decoder_of_fused_operators_gives_the_same_logits(on_ascend):
    config = MusicgenDecoderConfig(
        vocab_size=20, hidden_size=HEADS * SIZE, num_attention_heads=HEADS, num_hidden_layers=2, ffn_dim=64,
        num_codebooks=2, max_position_embeddings=32,
    )  # fmt: skip
    fused = MusicgenDecoder(config, ms.float16)
    ascend_off = pytest.MonkeyPatch()
    ascend_off.setenv(ascend.ENVIRONMENT, "0")
    plain = MusicgenDecoder(config, ms.float16)
    ascend_off.undo()
    initialise(plain, std=0.2)
    ms.load_param_into_net(fused, plain.parameters_dict())
    stand_in(fused)
    assert plain.layers[0].self_attn.attention is attention and plain.layers[0].self_attn.cached_attention.fused is None
    rng = np.random.default_rng(0)
    ids = Tensor(rng.integers(0, 20, (2, 2, 6)).astype(np.int32))
    keep = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    states = numbers(2, 4, HEADS * SIZE) * keep[:, :, None]  # a null row, as in guidance
    mask = additive_mask(Tensor(keep.reshape(2, 1, 1, 4)), ms.float16)
    results = []
    for decoder in (fused, plain):
        cross = decoder.cross_keys_values(Tensor(states, ms.float16))
        x, pairs = decoder(ids, cross, mask)
        shape = (2, HEADS, 16, SIZE)
        cache = [Parameter(Tensor(np.zeros(shape, np.float16)), name=f"cache{i}") for i in range(len(pairs))]
        found = [decoder.logits(x)]
        for step in range(4):
            place = Tensor(np.array([step], np.int32))
            found.append(decoder.step(ids[:, :, step], place, cache, cross, mask))
        results.append(found)
    for found, expected in zip(*results, strict=True):
        near(found, expected, 1e-2)


def test_the_doctor_s_checks_of_the_operators(on_ascend, monkeypatch):
    """They pass with stand-ins that are right, and a wrong one is named."""

    def uncompiled(function, *inputs):
        outputs = function(*inputs)
        return tuple(o.astype(ms.float32).asnumpy() for o in (outputs if isinstance(outputs, tuple) else (outputs,)))

    monkeypatch.setattr(operator_checks, "_run", uncompiled)
    for name, kind in (("PromptFlashAttention", Prompt), ("IncreFlashAttention", Query)):
        made = getattr(auto_generate, name)
        monkeypatch.setattr(auto_generate, name, lambda kind=kind, made=made, **settings: kind(made(**settings)))
    for name, function in (("AddLayerNormV2", add_norm), ("KVCacheScatterUpdate", update)):
        monkeypatch.setattr(auto_generate, name, lambda function=function: function)
    monkeypatch.setattr(auto_generate, "WeightQuantBatchMatmul", lambda *_: multiply)
    checks = [check for check in operator_checks.checks("Ascend") if "fused" in check.name]
    assert len(checks) == 5
    for check in checks:
        error, tolerance = check.run()
        assert error <= tolerance, check.name
    monkeypatch.setattr(auto_generate, "WeightQuantBatchMatmul", lambda *_: lambda *inputs: multiply(*inputs) * 1.1)
    wrong = [check.name for check in checks if check.run()[0] > check.tolerance]
    assert wrong == ["8-bit linear (fused, float16)"]


# ---- the choice ----


def test_nothing_of_this_on_a_cpu():
    assert attention_for(HEADS, SIZE, ms.float16) is attention
    assert CachedAttention(HEADS, SIZE, ms.float16).fused is None
    assert LayerNorm(SIZE, dtype=ms.float16).add_norm is None
    assert ascend.WeightOnlyLinear(numbers(4, 8)).product is None
    assert not LSTM(16, 16, 1).loops


@pytest.mark.parametrize(
    "heads,size,dtype",
    [(HEADS, SIZE, ms.float32), (HEADS, 40, ms.float16), (HEADS, 528, ms.float16), (257, 16, ms.float16)],
)
def test_plain_operations_where_the_operators_do_not_fit(on_ascend, heads, size, dtype):
    assert attention_for(heads, size, dtype) is attention
    assert CachedAttention(heads, size, dtype).fused is None


def test_the_switch(on_ascend, monkeypatch):
    monkeypatch.setenv(ascend.ENVIRONMENT, "0")
    assert attention_for(HEADS, SIZE, ms.float16) is attention
    assert LayerNorm(SIZE, dtype=ms.float16).add_norm is None
    assert ascend.ENVIRONMENT in ascend.why_not(ms.float16)


def test_a_mindspore_without_an_operator(on_ascend, monkeypatch):
    monkeypatch.delattr(auto_generate, "IncreFlashAttention")
    assert attention_for(HEADS, SIZE, ms.float16) is attention
    assert "IncreFlashAttention" in ascend.why_not(ms.float16, "IncreFlashAttention")


def test_another_epsilon_than_the_operator_s(on_ascend):
    assert LayerNorm(SIZE, eps=1e-6, dtype=ms.float16).add_norm is None


# ---- the LSTM ----


@pytest.mark.parametrize("steps", [1, 7])
def test_the_lstm_of_an_npu_is_that_of_mindspore(steps):
    with ascend.as_on_ascend():
        cell = LSTM(24, 24, 2).set_train(False)
    assert cell.loops
    plain = nn.LSTM(24, 24, 2, batch_first=True).set_train(False)
    for own, other in zip(cell.get_parameters(), plain.get_parameters(), strict=True):
        own.set_data(other)
    x, state = Tensor(numbers(3, steps, 24)), tuple(Tensor(numbers(2, 3, 24, seed=i)) for i in (1, 2))
    found = ms.jit(cell.construct, fullgraph=True)(x, ms.mutable(state))
    expected = plain(x, state)
    for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=1e-5)
