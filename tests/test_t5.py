"""T5 encoder: hidden states equal to transformers', with padding, beyond the last distance bucket, and gated."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.models.t5 import relative_position_buckets

EDGES = [0, 1, 60, 69, 140, 149]  # what make_goldens keeps of the long prompts


def states(model, ids, mask, jit=True):
    encode = model._encode_text if jit else model.encode_text
    return encode(Tensor(ids), Tensor(mask)).asnumpy()


@pytest.mark.parametrize("name", ["quad", "plain", "eight"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_states_equal_transformers(goldens, close, name, index):
    golden = goldens(name)
    ids, mask, expected = (golden[f"text{index}.{part}"] for part in ("ids", "mask", "states"))
    found = states(golden.model, ids, mask, jit=index == 2)
    if index == 2:
        found, mask = found[:, EDGES], mask[:, EDGES]
    real = mask[..., None].astype(bool)
    close(np.where(real, found, 0), np.where(real, expected, 0), 1e-5)


def test_the_long_prompt_needs_the_far_buckets(quad, monkeypatch):
    """Without the distinction of far distances the states differ, so the test above does check them."""
    ids, mask, expected = (quad[f"text2.{part}"] for part in ("ids", "mask", "states"))
    bias = quad.model.text_encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    monkeypatch.setattr(bias, "max_distance", 64)
    assert np.abs(states(quad.model, ids, mask, jit=False)[0, EDGES] - expected[0]).max() > 1e-3


def test_the_first_call_compiles_nothing_and_gives_the_same(quad, compiled):
    ids, mask = (np.pad(quad[f"text0.{part}"], ((0, 0), (0, 3))).astype(np.int32) for part in ("ids", "mask"))
    before = compiled()
    first = states(quad.model, ids, mask, jit=False)
    assert compiled() == before
    second, third = (states(quad.model, ids, mask, jit=False) for _ in range(2))
    assert compiled() == before + 1
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_padding_does_not_matter(quad):
    ids, mask = quad["text0.ids"], quad["text0.mask"]
    other = np.where(mask == 1, ids, 55).astype(np.int32)
    real = mask.astype(bool)
    first, second = (states(quad.model, x, mask, jit=False) for x in (ids, other))
    np.testing.assert_array_equal(first[real], second[real])
    longer = states(quad.model, *(np.pad(x, ((0, 0), (0, 7))) for x in (ids, mask)), jit=False)
    np.testing.assert_allclose(longer[:, : ids.shape[1]][real], first[real], rtol=0, atol=5e-6)


def bucket(relative, half=16, exact=8, farthest=128):
    """The rule of the paper for one key at `relative` places behind the query."""
    side, distance = (half if relative > 0 else 0), abs(relative)
    if distance < exact:
        return side + distance
    scale = np.log(distance / exact) / np.log(farthest / exact)
    return side + min(exact + int(np.float32(scale * (half - exact)) + np.float32(1e-6)), half - 1)


def test_buckets_follow_the_rule():
    table = relative_position_buckets(300, 32, 128)
    for query, key in (
        (0, 0),
        (0, 1),
        (1, 0),
        (0, 7),
        (0, 8),
        (20, 5),
        (0, 127),
        (0, 128),
        (0, 299),
        (299, 0),
        (100, 7),
    ):
        assert table[query, key] == bucket(key - query), (query, key)
    assert table[0].max() == 31 and table[-1].max() == 15
    assert (np.diff(table[0]) >= 0).all()


def test_float16_stays_finite_and_close(quad, tmp_path):
    """Large activations overflow float16 inside a block; they are clamped, not infinite."""
    from mindmusicgen import MusicgenForConditionalGeneration

    folder = str(quad.write(tmp_path / "half"))
    half = MusicgenForConditionalGeneration.from_pretrained(folder, dtype="float16")
    assert half.text_encoder.shared.weight.dtype == ms.float16
    ids, mask, expected = (quad[f"text0.{part}"] for part in ("ids", "mask", "states"))
    found = states(half, ids, mask, jit=False)
    real = mask.astype(bool)
    assert np.abs(found[real] - expected[real]).max() < 0.02 * np.abs(expected).max()
    half.text_encoder.shared.weight.asnumpy()[...] = 60000
    assert np.isfinite(states(half, ids, mask, jit=False)).all()
