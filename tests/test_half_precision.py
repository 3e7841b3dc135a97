"""float16 and bfloat16, which are for NPUs, as far as a CPU can show: where float32 stays, and errors."""

import mindspore as ms
import numpy as np
import pytest
from half_precision import PROMPTS, as_on_an_npu, half_twin, measure, text_states
from mindspore import Tensor

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor
from mindmusicgen.models.layers import additive_mask
from mindmusicgen.models.t5 import T5Block

ROUNDING = 2.0**-11  # of a number of float16, where the number is 1


@pytest.fixture(scope="module")
def demo():
    model = MusicgenForConditionalGeneration.from_pretrained("demo").run_eagerly()
    return model, MusicgenProcessor.from_pretrained("demo")


def test_the_error_on_the_demo_model(demo):
    """Measured: 0.0006, 0.0005 and 0.0015, and 99.2 % of the codes."""
    found = measure(*demo)
    assert 0.2 * ROUNDING < found["text states, mean square"] < 3 * ROUNDING
    assert 0.2 * ROUNDING < found["logits, mean square"] < 3 * ROUNDING
    assert found["guided logits, mean square"] < 9 * ROUNDING  # guidance multiplies differences by 3
    assert found["most likely codes that stay"] > 0.97


def test_where_float32_is_kept(quad):
    """Softmax, norms, T5's wo, logits and sampling."""
    model = quad.model
    ids, mask = Tensor(quad["run.ids"]), Tensor(quad["run.mask"])
    codes = Tensor(np.full((2 * model.config.decoder.num_codebooks, 3), model.pad_code, np.int32))
    with as_on_an_npu() as log:
        twin = half_twin(model)
        text = model.config.text_encoder
        twin.text_encoder.construct(ids, mask)
        assert log.dtypes("softmax") == log.dtypes("ReduceMean") == {"float32"}
        products = [str(one).lower() for name, one in log if name == "MatMul"]
        assert products.count("float32") == text.num_layers and products.count("float16") >= 3 * text.num_layers
        assert log.dtypes("BatchMatMul") == {"float16"}
        log.clear()
        logits = twin.logits(ids, mask, codes)
        assert logits.dtype == ms.float32 and np.isfinite(logits.asnumpy()).all()
        assert log.dtypes("softmax") == log.dtypes("LayerNorm") == {"float32"}
    assert {parameter.dtype for parameter in twin.audio_encoder.get_parameters()} == {ms.float32}


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16, ms.bfloat16], ids=str)
def test_masks_are_finite_in_every_dtype(dtype):
    """float32's lowest number is minus infinity in bfloat16, and a mask of it NaN."""
    mask = additive_mask(Tensor(np.array([1, 0], np.int32)), dtype)
    first, second = mask.astype(ms.float32).asnumpy()
    assert mask.dtype == dtype and first == 0 and np.isfinite(second) and second < -60000


def test_a_row_that_may_see_nothing_is_finite(quad):
    """The null rows of guidance: everything is masked."""
    with as_on_an_npu():
        twin = half_twin(quad.model)
        ids, nothing = Tensor(quad["run.ids"]), Tensor(0 * quad["run.mask"])
        codes = Tensor(np.zeros((2 * twin.config.decoder.num_codebooks, 3), np.int32))
        assert np.isfinite(twin.logits(ids, nothing, codes).asnumpy()).all()


def test_the_clamp_of_t5_is_needed(quad, monkeypatch):
    """Activations beyond float16's 65,504 stay finite, and without the clamp they would not: neither in a block, nor in
    what follows."""
    ids, mask = Tensor(quad["run.ids"]), Tensor(quad["run.mask"])
    with as_on_an_npu():
        twin = half_twin(quad.model)
        twin.text_encoder.shared.weight.set_data(twin.text_encoder.shared.weight * 0 + 60000)
        large = twin.text_encoder.encoder.block[0].layer[1].DenseReluDense.wo.weight
        large.set_data(large * 1e6)
        assert np.isfinite(text_states(twin, ids, mask)).all()
        monkeypatch.setattr(T5Block, "clamp", lambda self, x: x)
        assert not np.isfinite(text_states(twin, ids, mask)).all()


def test_wo_of_t5_is_needed_in_float32(demo):
    """In float16 its product overflows where the sum of many large numbers does, though the result is clamped."""
    model, processor = demo
    inputs = processor(text=PROMPTS)
    with as_on_an_npu():
        twin = half_twin(model)
        dense = twin.text_encoder.encoder.block[0].layer[1].DenseReluDense
        before = dense.wo(Tensor(np.full((1, 2, dense.wo.in_features), 60000, np.float16)))
        assert before.dtype == ms.float32 and np.isfinite(before.asnumpy()).all()
        assert np.abs(before.asnumpy()).max() > 65504
        assert np.isfinite(text_states(twin, inputs["input_ids"], inputs["attention_mask"])).all()
