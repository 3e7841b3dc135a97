"""The shipped model, opened by transformers and by us."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import oracle  # noqa: E402
import transformers  # noqa: E402
from mindspore import Tensor  # noqa: E402

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor  # noqa: E402
from mindmusicgen.checkpoint.source import DEMO  # noqa: E402

PROMPTS = ["upbeat 80s pop with drums and synth bass, 125 bpm", "calm piano, no drums"]


@pytest.fixture(scope="module")
def both():
    reference, report = transformers.MusicgenForConditionalGeneration.from_pretrained(
        DEMO, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    return reference.eval(), MusicgenForConditionalGeneration.from_pretrained("demo")


def test_tokens_are_transformers():
    theirs = transformers.AutoTokenizer.from_pretrained(DEMO)(PROMPTS, padding=True, return_tensors="np")
    ours = MusicgenProcessor.from_pretrained("demo")(PROMPTS, return_tensors="np")
    np.testing.assert_array_equal(ours["input_ids"], theirs["input_ids"])


def test_greedy_music_is_the_same(both):
    reference, model = both
    inputs = MusicgenProcessor.from_pretrained("demo")(PROMPTS, return_tensors="np")
    arguments = {"do_sample": False, "max_new_tokens": 100, "guidance_scale": 3.0}
    codes, audio = oracle.generate(reference, inputs["input_ids"], inputs["attention_mask"], **arguments)
    made = model.generate(
        Tensor(inputs["input_ids"]), Tensor(inputs["attention_mask"]), return_dict_in_generate=True, **arguments
    )
    np.testing.assert_array_equal(made.audio_codes.asnumpy(), codes)
    np.testing.assert_allclose(made.audio_values.asnumpy(), audio, atol=1e-4)


def test_the_codec_codes_the_same(both):
    reference, model = both
    rng = np.random.default_rng(0)
    t = np.arange(32000) / 32000
    audio = (0.2 * np.sin(2 * np.pi * 330 * t) * np.exp(-3 * t) + 0.01 * rng.standard_normal(32000)).astype(np.float32)
    with torch.no_grad():
        codes = reference.audio_encoder.encode(torch.from_numpy(audio[None, None])).audio_codes[0].numpy()
    found = model.encode(audio[None, None]).asnumpy()
    assert (found == codes).mean() > 0.995  # a tie between two codes may fall either way
