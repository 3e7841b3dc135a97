"""Bark with weights of 8 bits: how near to float32, its kernels against its layers, and what it refuses."""

import warnings
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from mindmusicgen.bark.model import BarkModel
from mindmusicgen.models.quantized import FineQuantizedLinear, QuantizedLinear
from mindmusicgen.ops import quantized as quantized_ops

KERNELS = pytest.mark.skipif(bool(quantized_ops.why_not()), reason="the kernels cannot run here")


@pytest.fixture(scope="module")
def int8(golden):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BarkModel.from_pretrained(golden.folder, quantization="int8")


def speak(model, **more):
    ids = Tensor(np.array([[3, 4, 5]], np.int32))
    made = model.generate(ids, semantic_max_new_tokens=40, seed=1, return_dict_in_generate=True, **more)
    return made.semantic_tokens[0], made.audio_codes[0]


def test_logits_are_near(bark, int8):
    rng = np.random.default_rng(0)
    ids = Tensor(rng.integers(0, 20, (2, 9)).astype(np.int32))
    codes = Tensor(rng.integers(0, 10, (1, 9, 8)).astype(np.int32))
    for stage in ("semantic", "coarse_acoustics"):
        exact, found = (getattr(model, stage)(ids).logits.asnumpy() for model in (bark, int8))
        assert 0 < np.abs(found - exact).max() < 0.03 * np.abs(exact).max()
    exact, found = (model.fine_acoustics(4, codes).logits.asnumpy() for model in (bark, int8))
    assert 0 < np.abs(found - exact).max() < 0.03 * np.abs(exact).max()


@KERNELS
@pytest.mark.parametrize("stage", ["semantic", "coarse_acoustics"])
def test_the_operators_are_the_layers(int8, stage):
    """A prefill and steps as one operator each, against the call of the same weights without a cache."""
    network = getattr(int8, stage)
    kind, config = network.graphs_kind, network.config
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 20, (2, 12)).astype(np.int32)
    expected = network(Tensor(ids)).logits.asnumpy()
    graphs = kind(network, 2, 8)
    states = network.prefill_quantized(network.input_embeds_layer(Tensor(ids[:, :10])), graphs.inner)
    assert np.allclose(network.lm_head(states).asnumpy(), expected[:, :10], atol=2e-3 * np.abs(expected).max())
    greedy = tuple(Tensor(np.array([n], kind)) for n, kind in ((1, np.float32), (1, np.int32), (2, np.float32)))
    firsts, uniforms = np.full(30, 3, np.int32), np.zeros((30, 2), np.float32)
    for at in (10, 11):
        columns, made, _ = graphs.chunk(
            Tensor(ids[:, at]),
            Tensor(np.array([at], np.int32)),
            Tensor(1, ms.int32),
            Tensor(firsts),
            Tensor(uniforms),
            Tensor(np.array([2], np.float32)),
            ms.mutable(greedy),
        )
        wanted = expected[:, at, 3:11]
        picked = np.take_along_axis(wanted, columns.asnumpy()[0][:, None] - 3, 1)[:, 0]
        assert int(made.asnumpy()) == 1 and columns.shape == (30, 2)
        assert (picked > wanted.max(1) - 0.02 * np.abs(expected).max()).all()  # the best, or as good
    assert config.num_layers * 4 == len(graphs.cache)


@KERNELS
def test_the_fine_pass_is_the_layers(int8):
    network = int8.fine_acoustics
    codes = Tensor(np.random.default_rng(2).integers(0, 10, (2, 11, 8)).astype(np.int32))
    book = Tensor(3, ms.int32)
    expected = network(3, codes).logits.asnumpy()
    assert network.sequence_op is not None
    assert np.allclose(network.predict(codes, book).asnumpy(), expected, atol=1e-3 * np.abs(expected).max())


def test_a_row_in_a_batch_is_the_row_alone(int8):
    sampling = {"do_sample": True, "semantic_max_new_tokens": 30, "return_dict_in_generate": True}
    both = int8.generate(Tensor(np.array([[3, 4, 5], [7, 8, 9]], np.int32)), seed=[5, 6], **sampling)
    alone = int8.generate(Tensor(np.array([[7, 8, 9]], np.int32)), seed=6, **sampling)
    assert np.array_equal(both.semantic_tokens[1], alone.semantic_tokens[0])
    assert np.array_equal(both.audio_codes[1], alone.audio_codes[0])


def test_a_seed_gives_the_same_again(int8):
    first, second = (speak(int8, do_sample=True, temperature=0.8) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert first[1].shape[0] == 8 and first[1].min() >= 0


def test_the_end_is_kept(int8):
    """The end in the place of the first choice, and no more steps after it."""
    tokens, _ = speak(int8, min_eos_p=0.9)
    sooner, _ = speak(int8, do_sample=True, min_eos_p=0.02)
    assert len(tokens) <= 40 and len(sooner) <= len(tokens)


def test_biases_go_another_way(golden, tmp_path):
    golden_model = BarkModel.from_pretrained(golden.folder)
    config = golden_model.config
    for name in ("semantic", "coarse_acoustics", "fine_acoustics"):
        getattr(config, f"{name}_config").bias = True
    floats = BarkModel(config, generation_config=golden_model.generation_config).initialise(3, 0.2)
    for name, parameter in floats.parameters_and_names():
        if name.endswith("att_proj.bias"):
            parameter.asnumpy()[...] = np.random.default_rng(4).standard_normal(parameter.shape)
    floats.save_pretrained(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rounded = BarkModel.from_pretrained(str(tmp_path), quantization="int8")
    ids = Tensor(np.array([[1, 2, 3, 4]], np.int32))
    exact, found = (model.semantic(ids).logits.asnumpy() for model in (floats, rounded))
    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    assert not hasattr(rounded.semantic, "graphs_kind")
    assert speak(rounded)[1].shape[0] == 8


def test_without_kernels_it_is_expanded(golden, int8, monkeypatch):
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    with pytest.warns(UserWarning, match="int8 weights are expanded to float32, because MINDMUSICGEN_KERNELS=0 is set"):
        expanded = BarkModel.from_pretrained(golden.folder, quantization="int8")
    assert expanded.quantization is None
    kinds = (QuantizedLinear, FineQuantizedLinear)
    assert not any(isinstance(cell, kinds) for _, cell in expanded.cells_and_names())
    ids = Tensor(np.array([[1, 2, 3, 4]], np.int32))
    found, wanted = (model.semantic(ids).logits.asnumpy() for model in (expanded, int8))
    assert np.allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_the_large_table_stays_in_its_file(golden, tmp_path):
    """Of float32 safetensors; the file as it is written by `save_pretrained`."""
    floats = BarkModel.from_pretrained(golden.folder)
    floats.save_pretrained(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = BarkModel.from_pretrained(str(tmp_path), quantization="int8")
    tables = [model.semantic.input_embeds_layer.weight.asnumpy() for model in (floats, found)]
    assert np.array_equal(*tables)
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) in maps.read_text(encoding="utf-8")


def test_what_it_refuses(golden, int8, tmp_path, refused):
    refused(lambda: BarkModel.from_pretrained(golden.folder, quantization="int4"), "int4", "expected int8, or none")
    refused(lambda: BarkModel.from_pretrained(golden.folder, quantization=8), "quantization is 8")
    refused(
        lambda: BarkModel.from_pretrained(golden.folder, quantization="int8", dtype="float16"), "float32, not float16"
    )
    if int8.quantization:
        refused(lambda: int8.save_pretrained(str(tmp_path / "new")), "a quantised model has no Hugging Face layout")
        refused(lambda: int8.initialise(), "cannot be filled with random weights")
        assert not (tmp_path / "new").exists()


def test_damaged_weights_are_named(golden, tmp_path, refused):
    model = BarkModel.from_pretrained(golden.folder)
    name, parameter = next((n, p) for n, p in model.parameters_and_names() if n.endswith("mlp.in_proj.weight"))
    parameter.asnumpy()[0, 0] = np.nan
    model.save_pretrained(str(tmp_path))
    refused(lambda: BarkModel.from_pretrained(str(tmp_path), quantization="int8"), name, "NaN or infinite")
    assert isinstance(parameter, Parameter)
