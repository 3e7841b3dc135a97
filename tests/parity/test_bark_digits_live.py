"""The tiny Bark of the package in transformers: its files open there, and say the same."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import transformers  # noqa: E402

from mindmusicgen import BarkModel, BarkProcessor  # noqa: E402
from mindmusicgen.checkpoint.source import SHIPPED  # noqa: E402

TEXT, VOICE = "three one four, one five nine.", "v2/en_speaker_1"


def test_transformers_says_the_same():
    folder = str(SHIPPED["digits"])
    model, processor = BarkModel.from_pretrained(folder), BarkProcessor.from_pretrained(folder)
    oracle = transformers.BarkModel.from_pretrained(folder, dtype=torch.float32)
    its_processor = transformers.BarkProcessor.from_pretrained(folder)
    assert its_processor.available_voice_presets == processor.available_voice_presets
    theirs = its_processor(TEXT, voice_preset=VOICE)
    ours = processor(TEXT, voice_preset=VOICE)
    np.testing.assert_array_equal(theirs["input_ids"].numpy(), ours["input_ids"].asnumpy())
    for name, values in ours["history_prompt"].items():
        np.testing.assert_array_equal(theirs["history_prompt"][name].numpy(), values.asnumpy())
    greedy = {"semantic_do_sample": False, "coarse_do_sample": False}
    made = model.generate(**ours, **greedy, return_dict_in_generate=True)
    audio = oracle.generate(**theirs, **greedy).numpy()
    assert audio.shape == made.audio_values.shape
    np.testing.assert_allclose(audio, made.audio_values.asnumpy(), atol=1e-3)
