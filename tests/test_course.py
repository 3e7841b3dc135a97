"""The calls of the MindNLP course "MusicGen on MindNLP", cell for cell; only the import has another name.

The course follows the Hugging Face notebook: unconditional, text, audio prompts one and several, generation config.
Its model is facebook/musicgen-small, here it is the demo; its recording comes from a data set, here from a synthesiser.
"""

import numpy as np
import pytest
import scipy.io.wavfile

from mindmusicgen import AutoProcessor, MusicgenForConditionalGeneration

MODEL = "demo"
TOKENS = 40  # the course's 256 would only take longer
FRAMES = TOKENS - 3  # what the delay leaves of them


@pytest.fixture(scope="module")
def model():
    return MusicgenForConditionalGeneration.from_pretrained(MODEL).run_eagerly()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def sample():
    """A recording as a data set hands it out."""
    time = np.arange(22050 * 2) / 22050
    return {"array": 0.3 * np.sin(2 * np.pi * 220 * time), "sampling_rate": 22050}


def samples(model, frames):
    return frames * model.config.audio_encoder.hop_length


def test_unconditional(model, tmp_path):
    unconditional_inputs = model.get_unconditional_inputs(num_samples=1)
    audio_values = model.generate(**unconditional_inputs, do_sample=True, max_new_tokens=TOKENS)

    sampling_rate = model.config.audio_encoder.sampling_rate
    path = tmp_path / "musicgen_out.wav"
    scipy.io.wavfile.write(path, rate=sampling_rate, data=audio_values[0, 0].asnumpy())
    rate, written = scipy.io.wavfile.read(path)
    assert rate == sampling_rate == 32000 and written.dtype == np.float32
    assert written.shape == (samples(model, FRAMES),) and np.abs(written).max() > 0

    audio_length_in_s = TOKENS / model.config.audio_encoder.frame_rate
    assert audio_length_in_s == pytest.approx(0.8)


def test_player_takes_what_generate_returns(model):
    audio = pytest.importorskip("IPython.display").Audio
    audio_values = model.generate(
        **model.get_unconditional_inputs(num_samples=1), do_sample=True, max_new_tokens=TOKENS
    )
    shown = audio(audio_values[0].asnumpy(), rate=model.config.audio_encoder.sampling_rate)
    assert shown.data[:4] == b"RIFF"


def test_text(model, processor):
    inputs = processor(
        text=["80s pop track with bassy drums and synth", "90s rock song with loud guitars and heavy drums"],
        padding=True,
        return_tensors="ms",
    )
    audio_values = model.generate(**inputs, do_sample=True, guidance_scale=3, max_new_tokens=TOKENS)
    assert audio_values.shape == (2, 1, samples(model, FRAMES))
    first, second = audio_values[0, 0].asnumpy(), audio_values[1, 0].asnumpy()
    assert np.isfinite(first).all() and not np.array_equal(first, second)


def test_audio_prompt(model, processor, sample):
    half = sample["array"][: len(sample["array"]) // 2]
    inputs = processor(
        audio=half,
        sampling_rate=sample["sampling_rate"],
        text=["80s blues track with groovy saxophone"],
        padding=True,
        return_tensors="ms",
    )
    audio_values = model.generate(**inputs, do_sample=True, guidance_scale=3, max_new_tokens=TOKENS)
    assert audio_values.shape == (1, 1, samples(model, 50 + FRAMES))  # a second of prompt, then new music


def test_audio_prompts_in_a_batch(model, processor, sample):
    sample_1 = sample["array"][: len(sample["array"]) // 4]
    sample_2 = sample["array"][: len(sample["array"]) // 2]
    inputs = processor(
        audio=[sample_1, sample_2],
        sampling_rate=sample["sampling_rate"],
        text=["80s blues track with groovy saxophone", "90s rock song with loud guitars and heavy drums"],
        padding=True,
        return_tensors="ms",
    )
    audio_values = model.generate(**inputs, do_sample=True, guidance_scale=3, max_new_tokens=TOKENS)
    padded = audio_values.shape[-1]
    audio_values = processor.batch_decode(audio_values, padding_mask=inputs.padding_mask)
    lengths = [clip.shape[-1] for clip in audio_values]
    assert lengths[1] == padded == samples(model, 50 + FRAMES)
    assert lengths[0] == padded - 16000  # half a second of padding less


def test_generation_config(model, processor):
    before = model.generation_config.to_dict()
    assert model.generation_config.do_sample is True and model.generation_config.guidance_scale == 2
    inputs = processor(text=["80s pop track with bassy drums and synth"], padding=True, return_tensors="ms")
    try:
        model.generation_config.guidance_scale = 4.0
        model.generation_config.max_new_tokens = TOKENS
        model.generation_config.temperature = 1.5
        audio_values = model.generate(**inputs)
        assert audio_values.shape == (1, 1, samples(model, FRAMES))

        # Arguments of the call win over the config.
        greedy = [model.generate(**inputs, do_sample=False, max_new_tokens=20).asnumpy() for _ in range(2)]
        assert greedy[0].shape == (1, 1, samples(model, 17)) and np.array_equal(*greedy)
    finally:
        model.generation_config.update(**before)
        model.generation_config.max_new_tokens = before.get("max_new_tokens")
