"""The processor: prompts to ids and masks, and what it refuses."""

import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from random_checkpoint import build_tokenizer

from mindmusicgen import AutoProcessor, EncodecFeatureExtractor, InputError, MusicgenProcessor, write_audio


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processor")
    MusicgenProcessor(tokenizer=build_tokenizer()).save_pretrained(str(path))
    return str(path)


@pytest.fixture(scope="module")
def processor(folder):
    return AutoProcessor.from_pretrained(folder)


def test_pads_right_with_zero_and_ends_each_prompt(processor):
    inputs = processor(text=["happy techno track", "slow dark ambient track with bells"], return_tensors="np")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    assert ids.shape == mask.shape and ids.dtype == np.int32
    lengths = mask.sum(axis=1)
    assert lengths[0] < lengths[1] == ids.shape[1]
    for row, length in zip(ids, lengths, strict=True):
        assert row[length - 1] == 1, "</s> closes the prompt"
        assert (row[length:] == 0).all()
    assert (mask == (np.arange(ids.shape[1]) < lengths[:, None])).all()


def test_returns_mindspore_tensors_that_unpack(processor):
    inputs = processor(text="happy techno", return_tensors="ms")
    assert isinstance(inputs["input_ids"], Tensor) and isinstance(inputs.attention_mask, Tensor)
    assert set(dict(**inputs)) == {"input_ids", "attention_mask"}


def test_a_prompt_alone_and_in_a_batch_has_the_same_ids(processor):
    alone = processor(text="happy techno", return_tensors="np")["input_ids"][0]
    batch = processor(text=["happy techno", "a much longer slow rock track"], return_tensors="np")["input_ids"][0]
    assert (batch[: len(alone)] == alone).all()


def test_over_long_prompts_are_cut_with_a_warning_and_keep_their_end_mark(processor):
    with pytest.warns(UserWarning, match="text encoder takes 512"):
        ids = processor(text="happy techno " * 400, return_tensors="np")["input_ids"]
    assert ids.shape == (1, 512) and ids[0, -1] == 1


@pytest.mark.parametrize("text", [None, "", "   ", [], ["fine", ""], [3], 3.5])
def test_refuses_what_is_not_text(processor, text):
    with pytest.raises(InputError, match="text|prompt"):
        processor(text=text)


def test_refuses_other_misuse(processor, tmp_path):
    with pytest.raises(InputError, match="give text"):
        processor(negative_text="a", audio=np.zeros(10))
    with pytest.raises(InputError, match="return_tensors is 'pt'"):
        processor(text="a", return_tensors="pt")
    with pytest.raises(InputError, match="padding=True"):
        processor(text=["a", "a long one indeed"], padding=False)
    with pytest.raises(InputError, match="no tokenizer"):
        AutoProcessor.from_pretrained(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(InputError, match="cannot be used"):
        AutoProcessor.from_pretrained(str(tmp_path))


def test_half_characters_are_refused_wherever_words_are_given(processor, tmp_path):
    half = b"calm \xff piano".decode("utf-8", "surrogateescape")  # as a command line gives bytes of another encoding
    for words in (half, "\ud83c", ["fine", "techno \udfb5"]):
        for given in ({"text": words}, {"text": "techno", "negative_text": words}):
            with pytest.raises(
                InputError, match="a prompt holds half a character .a lone surrogate.; write the text as UTF"
            ):
                processor(**given)
    assert processor(text="techno \U0001f3b5")["input_ids"].shape[0] == 1
    with pytest.raises(InputError, match="the comment of .* holds half a character"):
        write_audio(str(tmp_path / "a.wav"), np.zeros(9), 32000, comment=half)
    assert not list(tmp_path.iterdir())


def test_batch_decode_lists_the_clips(processor):
    audio = np.arange(12, dtype=np.float32).reshape(2, 1, 6)
    clips = processor.batch_decode(Tensor(audio))
    assert [clip.shape for clip in clips] == [(1, 6), (1, 6)] and (clips[1] == audio[1]).all()


def sine(seconds, rate, hertz=100):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def test_audio_is_padded_on_the_left(processor):
    long, short = sine(0.5, 32000), sine(0.25, 32000)
    inputs = processor(text=["a", "b"], audio=[long, short], sampling_rate=32000, return_tensors="np")
    assert set(inputs) == {"input_ids", "attention_mask", "input_values", "padding_mask"}
    assert inputs["input_values"].shape == (2, 1, 16000) and inputs["input_values"].dtype == np.float32
    np.testing.assert_array_equal(inputs["input_values"][0, 0], long)
    np.testing.assert_array_equal(inputs["input_values"][1, 0], np.append(np.zeros(8000), short))
    np.testing.assert_array_equal(inputs["padding_mask"], np.arange(16000) >= [[0], [8000]])
    padded = np.concatenate([inputs["input_values"], np.ones((2, 1, 40), np.float32)], axis=2)
    clips = processor.batch_decode(Tensor(padded), padding_mask=inputs["padding_mask"])
    assert [clip.shape for clip in clips] == [(1, 16040), (1, 8040)]
    np.testing.assert_array_equal(clips[1][0], np.append(short, np.ones(40)))
    several = processor.batch_decode(np.repeat(padded, 2, axis=0), inputs["padding_mask"])
    assert [clip.shape[1] for clip in several] == [16040, 16040, 8040, 8040]


def test_batch_decode_of_stereo(processor):
    audio = np.arange(24, dtype=np.float32).reshape(2, 2, 6)
    clips = processor.batch_decode(audio, padding_mask=[[1, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(clips[0], audio[0])
    np.testing.assert_array_equal(clips[1], audio[1, :, 2:])
    with pytest.raises(InputError, match=r"padding_mask has shape \(2, 7\)"):
        processor.batch_decode(audio, np.ones((2, 7)))
    with pytest.raises(InputError, match="padding_mask"):
        processor.batch_decode(audio, np.ones((3, 6)))


def test_audio_comes_from_anywhere(processor, tmp_path):
    import soundfile

    from mindmusicgen.musicgen.processing import MusicgenProcessor

    stereo = np.stack([sine(0.5, 44100), 0 * sine(0.5, 44100)], axis=1)
    path = tmp_path / "a.flac"
    soundfile.write(path, stereo, 44100, subtype="PCM_24")
    inner = slice(2000, 14000)  # resampling rings at the ends
    for audio, rate in ((path, None), (str(path), None), ([path], None), (stereo, 44100), (stereo.T, 44100)):
        values = processor(audio=audio, sampling_rate=rate, return_tensors="np")["input_values"]
        assert values.shape == (1, 1, 16000)
        np.testing.assert_allclose(values[0, 0, inner], sine(0.5, 32000)[inner] / 2, atol=2e-3)
    listed = processor(audio=[0.0, 0.5, -0.5], sampling_rate=32000, return_tensors="np")
    assert listed["input_values"].tolist() == [[[0.0, 0.5, -0.5]]]
    two = MusicgenProcessor(EncodecFeatureExtractor(2, 32000), processor.tokenizer)
    values = two(audio=[sine(0.1, 32000), stereo], sampling_rate=32000, return_tensors="np")["input_values"]
    np.testing.assert_array_equal(values[0, 0], values[0, 1])
    assert values[1, 0].any() and not values[1, 1].any()


@pytest.mark.parametrize(
    ("audio", "rate", "words"),
    [
        (np.zeros(9), None, "sampling_rate is not given"),
        (np.zeros(9), 0, "sampling_rate is 0"),
        (np.zeros(9), 44100.5, "sampling_rate is 44100.5"),
        (np.full(9, np.nan), 32000, "not finite"),
        (np.zeros(9, np.int16), 32000, "divide by the largest value"),
        (np.zeros((4, 9)), 32000, "shape"),
        (np.zeros(0), 32000, "shape"),
        ([], 32000, "empty list"),
        ("no/such.wav", None, "'no/such.wav' cannot be read"),
        ([np.zeros(9), None], 32000, "type object"),
    ],
)
def test_bad_audio_is_one_sentence(processor, audio, rate, words):
    with pytest.raises(InputError, match=words) as caught:
        processor(audio=audio, sampling_rate=rate)
    assert "\n" not in str(caught.value)


def test_negative_prompts_are_tokens_of_their_own(processor):
    inputs = processor(text=["a", "b"], negative_text="noise and hiss", return_tensors="np")
    np.testing.assert_array_equal(
        inputs["negative_input_ids"], processor("noise and hiss", return_tensors="np").input_ids
    )
    assert inputs["negative_attention_mask"].all()


def test_the_audio_layout_is_saved_and_found(processor, tmp_path):
    from mindmusicgen.musicgen.processing import MusicgenProcessor

    MusicgenProcessor(EncodecFeatureExtractor(2, 24000), processor.tokenizer).save_pretrained(str(tmp_path))
    again = AutoProcessor.from_pretrained(str(tmp_path))
    assert (again.sampling_rate, again.channels) == (24000, 2)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "config.json").write_text(
        '{"audio_encoder": {"sampling_rate": 16000}, "decoder": {"audio_channels": 2}}'
    )
    again = AutoProcessor.from_pretrained(str(tmp_path))
    assert (again.sampling_rate, again.channels) == (16000, 2)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": "fast"}')
    with pytest.raises(InputError, match="asks for 1 channels at 'fast' Hz"):
        AutoProcessor.from_pretrained(str(tmp_path))
