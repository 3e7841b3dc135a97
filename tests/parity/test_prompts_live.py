"""The cells of transformers' MusicGen page, live: unconditional, and audio prompts in batches, mono and stereo."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import oracle  # noqa: E402
import transformers  # noqa: E402
from random_checkpoint import build_tokenizer  # noqa: E402

from mindmusicgen import AutoProcessor, MusicgenForConditionalGeneration  # noqa: E402

RATE = 3200
GREEDY = {"do_sample": False, "max_new_tokens": 24}


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def both(request, tmp_path_factory):
    """transformers' processor and model, and ours from the same folder."""
    folder, channels = tmp_path_factory.mktemp("model"), request.param
    tokenizer = build_tokenizer()
    config = oracle.build_config(
        vocab=1024,  # 10 bits: transformers derives the number of codebooks from them when it encodes
        codebooks=4 * channels,
        ratios=(8, 8),
        rate=RATE,
        text={"vocab_size": len(tokenizer)},
        decoder={"audio_channels": channels},
    )
    extractor = transformers.EncodecFeatureExtractor(feature_size=channels, sampling_rate=RATE, padding_side="left")
    processor = transformers.MusicgenProcessor(extractor, tokenizer)
    processor.save_pretrained(folder)
    reference = oracle.build(config, 7)
    reference.save_pretrained(folder)
    ours = AutoProcessor.from_pretrained(str(folder)), MusicgenForConditionalGeneration.from_pretrained(str(folder))
    assert (ours[0].sampling_rate, ours[0].channels) == (RATE, channels)
    return (processor, reference), ours


def run(reference, inputs, **arguments):
    """Codes and audio of transformers for any inputs."""
    with torch.no_grad(), oracle.captured_codes(reference) as calls:
        audio = reference.generate(**inputs, **arguments)
    return np.stack(calls, axis=2).reshape(calls[0].shape[0], -1, calls[0].shape[2]), audio


def music(seconds, channels, seed):
    """[samples] or [samples, 2]"""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hertz * t) for hertz in rng.uniform(50, 800, 4)) / 8
    sides = [tones + 0.05 * rng.standard_normal(len(t)) for _ in range(channels)]
    return np.squeeze(np.stack(sides, axis=1), 1 if channels == 1 else ()).astype(np.float32)


def test_unconditional(both, close):
    (_, reference), (_, model) = both
    expected, audio = run(reference, reference.get_unconditional_inputs(num_samples=2), **GREEDY)
    found = model.generate(**model.get_unconditional_inputs(num_samples=2), **GREEDY, return_dict_in_generate=True)
    np.testing.assert_array_equal(found.audio_codes.asnumpy(), expected)
    close(found.audio_values, audio.numpy())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_audio_prompts_of_different_length(both, close, guidance):
    (processor, reference), (ours, model) = both
    channels = ours.channels
    clip = music(0.5, channels, 1)
    audio = [clip[: len(clip) // 4], clip[: len(clip) // 2]]  # as on the page: a batch of two slices
    text = ["80s pop track with bassy drums", "happy techno"]
    sides = [one.T for one in audio] if channels == 2 else audio  # transformers takes one layout only
    expected = [processor(audio=one, sampling_rate=RATE, padding=True, return_tensors="pt") for one in sides]
    width = max(one["input_values"].shape[-1] for one in expected)
    wanted = {
        name: torch.cat([torch.nn.functional.pad(one[name], (width - one[name].shape[-1], 0)) for one in expected])
        for name in ("input_values", "padding_mask")
    }
    inputs = ours(audio=audio, sampling_rate=RATE, text=text, padding=True)
    for name, values in wanted.items():
        np.testing.assert_array_equal(inputs[name].asnumpy(), values.numpy(), err_msg=name)
    words = processor(text=text, padding=True, return_tensors="pt")
    codes, values = run(reference, wanted | dict(words), **GREEDY, guidance_scale=guidance)
    found = model.generate(**inputs, **GREEDY, guidance_scale=guidance, return_dict_in_generate=True)
    np.testing.assert_array_equal(found.audio_codes.asnumpy(), codes)
    close(found.audio_values, values.numpy())
    clips = ours.batch_decode(found.audio_values, padding_mask=inputs["padding_mask"])
    if channels == 1:  # transformers fails here for stereo
        theirs = processor.batch_decode(values, padding_mask=wanted["padding_mask"])
        for one, other in zip(clips, theirs, strict=True):
            close(one, np.asarray(other))
    missing = width - len(audio[0])
    close(clips[0], values.numpy()[0, :, missing:])
    close(clips[1], values.numpy()[1])


def test_the_processors_agree_on_a_batch(both):
    (processor, _), (ours, _) = both
    if ours.channels == 2:
        clips = [music(0.2, 2, 1).T, music(0.3, 2, 2).T]
    else:
        clips = [music(0.2, 1, 1), music(0.3, 1, 2)]
    expected = processor(audio=clips, sampling_rate=RATE, text=["a", "happy rock"], padding=True, return_tensors="np")
    found = ours(audio=clips, sampling_rate=RATE, text=["a", "happy rock"], padding=True, return_tensors="np")
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
