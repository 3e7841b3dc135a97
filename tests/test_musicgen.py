"""The decoder: logits equal to transformers', all columns at once and column by column through the KV cache."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.generation.sampling import guide
from mindmusicgen.musicgen.decode_loop import DecodeGraphs, DecodeState
from mindmusicgen.musicgen.decoder import sinusoidal_positions

NAMES = ("quad", "plain", "eight", "stereo")


@pytest.fixture(params=NAMES)
def golden(request, goldens):
    return goldens(request.param)


def inputs(golden):
    return tuple(Tensor(golden[f"decoder.{name}"]) for name in ("ids", "mask", "codes"))


class Steps(nn.Cell):
    """A bucket's state and one compiled step that returns its logits."""

    def __init__(self, model, rows, text_length, guided):
        super().__init__()
        state = DecodeState(model.config.decoder, rows, text_length, 64, ms.float32)
        self.graphs = DecodeGraphs(model.decoder, model.conditioner, state, guided)
        self.step = ms.jit(self._step, fullgraph=True)

    def _step(self, ids, position):
        state = self.graphs.state
        return self.graphs.decoder.step(self.graphs.rows(ids), position, state.cache, state.cross, state.cross_mask)


def step_by_step(model, ids, mask, codes, guided):
    """Logits [rows, K, T, V] through the cache; a row more per prompt with guidance."""
    rows, codebooks, columns = codes.shape
    steps = Steps(model, rows * (2 if guided else 1), ids.shape[1], guided)
    steps.graphs.condition(model.encode_text(ids, mask), mask)
    made = [steps.step(Tensor(codes[:, :, t]), Tensor(np.array([t], np.int32))).asnumpy() for t in range(columns)]
    return np.stack(made, axis=2)


def test_all_columns_at_once(golden, close):
    close(golden.model.logits(*inputs(golden)), golden["decoder.logits"])


def test_compiled(quad, close):
    close(ms.jit(quad.model.logits, fullgraph=True)(*inputs(quad)), quad["decoder.logits"])


def test_column_by_column_with_guidance(golden, close):
    """The cached steps give transformers' logits, and the null rows those of guidance."""
    ids, mask, codes = inputs(golden)
    expected = golden["decoder.logits"]
    codes = codes.asnumpy().reshape(2, -1, codes.shape[1])
    found = step_by_step(golden.model, ids, mask, codes, guided=True)
    close(found[:2].reshape(expected.shape), expected)
    guided = guide(Tensor(found), Tensor(np.array([3.0], np.float32)))
    close(guided.reshape(expected.shape), golden["decoder.guided"])


def test_columns_do_not_see_the_future(quad):
    ids, mask, codes = inputs(quad)
    other = codes.asnumpy().copy()
    other[:, 4:] = (other[:, 4:] + 1) % 64
    first, second = (quad.model.logits(ids, mask, Tensor(x)).asnumpy() for x in (codes.asnumpy(), other))
    np.testing.assert_allclose(first[:, :4], second[:, :4], rtol=0, atol=1e-5)
    assert np.abs(first[:, 4:] - second[:, 4:]).max() > 0.1


def test_padded_text_is_not_seen(quad):
    ids, mask, codes = inputs(quad)
    other = np.where(mask.asnumpy() == 1, ids.asnumpy(), 55).astype(np.int32)
    first, second = (quad.model.logits(Tensor(x), mask, codes).asnumpy() for x in (ids.asnumpy(), other))
    np.testing.assert_array_equal(first, second)


def test_a_wholly_masked_prompt_is_the_null_prompt(quad):
    """No NaN from a row without any key; and what remains does not depend on the text."""
    ids, mask, codes = inputs(quad)
    nothing = Tensor(np.zeros(mask.shape, np.int32))
    first = quad.model.logits(ids, nothing, codes).asnumpy()
    second = quad.model.logits(Tensor(np.full(ids.shape, 3, np.int32)), nothing, codes).asnumpy()
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dim", [8, 36, 37])
def test_positions(dim):
    """Cosine first, frequencies exp(-i ln(10000) / (half - 1)), and a zero at an odd end."""
    table, half = sinusoidal_positions(70, dim), dim // 2
    for position in (0, 1, 69):
        for i in (0, 1, half - 1):
            angle = position * 10000 ** (-i / (half - 1))
            assert abs(table[position, i] - np.cos(angle)) < 2e-5
            assert abs(table[position, half + i] - np.sin(angle)) < 2e-5
    assert table.shape == (70, dim) and (dim % 2 == 0 or not table[:, -1].any())


def test_float16_is_close(quad, tmp_path):
    """Half precision on the CPU, by weights and activations of float16: logits differ by rounding only."""
    model = MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path)), dtype="float16")
    expected = quad["decoder.logits"]
    found = model.logits(*inputs(quad))
    assert found.dtype == ms.float32
    assert np.abs(found.asnumpy() - expected).max() < 0.02 * np.abs(expected).max()
