"""Priors with weights of 8 bits: how near they are to float32, the operators against the layers, what is refused."""

import warnings

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import JukeboxModel
from mindmusicgen.checkpoint import rounding
from mindmusicgen.jukebox.decode_loop import PriorGraphs
from mindmusicgen.models.quantized import QuantizedConvWeight, QuantizedLinear
from mindmusicgen.ops import quantized as quantized_ops

KERNELS = pytest.mark.skipif(bool(quantized_ops.why_not()), reason="the kernels cannot run here")
GREEDY = tuple(Tensor(np.array([n], t)) for n, t in ((1, np.float32), (1, np.int32), (2, np.float32)))


@pytest.fixture(scope="module")
def int8(both):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: JukeboxModel.from_pretrained(one.folder, quantization="int8") for name, one in both.items()}


def whole_window(golden, prior, seed=0):
    """Codes, labels and the condition of a window of two samples."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 32, (2, prior.n_ctx)).astype(np.int32)
    artist, genres = np.array([1, 2], np.int32), np.array([[1, -1], [0, 2]], np.int32)
    lyrics = rng.integers(0, 20, (2, max(prior.lyrics, 1))).astype(np.int32)
    upper = rng.integers(0, 32, (2, prior.n_ctx // (prior.cond_downsample or 1))).astype(np.int32)
    bins = [np.zeros((2, 1), np.int32), np.zeros((2, prior.n_ctx), np.int32), np.zeros((2, prior.n_ctx), np.int32)]
    return codes, artist, genres, lyrics, upper, bins


def logits_of(prior, window):
    codes, artist, genres, lyrics, upper, bins = (
        [Tensor(one) for one in part] if isinstance(part, list) else Tensor(part) for part in window
    )
    condition = prior.condition(upper, *bins)
    return prior.construct(codes, lyrics, artist, genres, condition).asnumpy()


@pytest.mark.parametrize("variant", ["1b", "5b"])
@pytest.mark.parametrize("level", [0, 1])
def test_logits_are_near(both, int8, variant, level):
    exact, rounded = (model.priors[level] for model in (both[variant].model, int8[variant]))
    window = whole_window(both[variant], exact)
    want, found = logits_of(exact, window), logits_of(rounded, window)
    assert 0 < np.abs(found - want).max() < 0.05 * np.abs(want).max()


@KERNELS
def test_every_matrix_is_rounded(int8):
    for level in (0, 1):
        cells = dict(int8["5b"].priors[level].cells_and_names())
        matrices = {name for name, cell in cells.items() if isinstance(cell, QuantizedLinear)}
        convolutions = {name for name in matrices if isinstance(cells[name], QuantizedConvWeight)}
        assert all(
            f"prior.layers.{i}.attn.c_attn" in matrices for i in range(len(int8["5b"].priors[level].prior.layers))
        )
        assert bool(convolutions) == (level == 1)
        assert level or {"encoder.proj_in", "encoder.layers.0.mlp.c_fc"} <= matrices


@KERNELS
@pytest.mark.parametrize(("variant", "level"), [("1b", 0), ("5b", 0), ("5b", 2)])
def test_the_operators_are_the_layers(both, int8, variant, level):
    """Known codes and steps as one operator each, against the layers of the same weights over the whole window."""
    prior = int8[variant].priors[level]
    window = whole_window(both[variant], prior, seed=level)
    codes, artist, genres, lyrics, upper, bins = window
    logits = logits_of(prior, window)[:, prior.before :]
    graphs = PriorGraphs(prior, 2, eager=True)
    assert graphs.buffers[0].dtype == ms.uint16 or prior.prior.kinds[0] == "cross"
    condition = prior.condition(Tensor(upper), *(Tensor(one) for one in bins))
    graphs.prepare(Tensor(artist), Tensor(genres), Tensor(lyrics), condition)
    known = prior.n_ctx // 2 + 1
    ids = np.concatenate([lyrics, codes + prior.shift], 1) if prior.before else codes
    at = prior.before + known
    graphs.prefill(Tensor(ids[:, : graphs.buckets[-1] * graphs.row]), Tensor(np.array([at], np.int32)))
    newest = ids[:, at - 1]
    made = list(graphs.steps(newest, at, 1, np.zeros((1, 2), np.float32), GREEDY))[0][0]
    want = logits[:, known]
    near = np.abs(want[[0, 1], made] - want.max(-1))
    assert (near <= 0.03 * np.abs(want).max()).all()


def test_without_kernels_the_rounded_weights_are_expanded(both, monkeypatch):
    """The layers' matrices are what 8 bits stand for; tables and heads stay."""
    monkeypatch.setattr(quantized_ops, "why_not", lambda: "there are none")
    with pytest.warns(UserWarning, match="there are none"):
        model = JukeboxModel.from_pretrained(both["5b"].folder, quantization="int8")
        expanded, exact = model.priors[0].prior, both["5b"].model.priors[0].prior
    pairs = [
        (one.layers[0].mlp.c_fc.weight.asnumpy(), one.fc_proj_out.weight.asnumpy(), one.embed_tokens.weight.asnumpy())
        for one in (expanded, exact)
    ]
    assert 0 < np.abs(pairs[0][0] - pairs[1][0]).max() <= np.abs(pairs[1][0]).max() / 127
    assert all(np.array_equal(pairs[0][i], pairs[1][i]) for i in (1, 2))


def test_what_cannot_be_is_refused(both, int8, refused, tmp_path):
    folder = both["1b"].folder
    refused(lambda: JukeboxModel.from_pretrained(folder, quantization="int4"), "quantization is 'int4'", "int8")
    refused(lambda: JukeboxModel.from_pretrained(folder, "float16", quantization="int8"), "goes with dtype float32")
    refused(lambda: JukeboxModel(quantization="int8"), "open it from a checkpoint")
    refused(lambda: int8["1b"].save_pretrained(tmp_path / "x"), "no Hugging Face layout")
    assert not (tmp_path / "x").exists()


def test_a_weight_that_is_no_number_is_named(both):
    network = both["1b"].model.priors[1]
    stores = rounding.rounding(network, {"": network}, ("fc_proj_out",))
    shape, store = stores["prior.layers.0.attn.c_attn.weight"]
    with pytest.raises(ValueError, match=r"prior\.layers\.0\.attn\.c_attn cannot be quantised"):
        store(np.full(shape, np.nan, np.float32))
