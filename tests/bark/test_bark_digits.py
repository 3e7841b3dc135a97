"""The tiny Bark that comes with the package says what it is asked to, in the voice it is asked for.

What is said is heard by comparing each word with the synthesiser's: scripts/bark_digits/judge.py.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mindmusicgen import BarkModel, BarkProcessor, BarkSemanticModel
from mindmusicgen.checkpoint.source import SHIPPED, resolve

ROOT = Path(__file__).resolve().parents[2]
VOICES = [f"v2/en_speaker_{number}" for number in range(3)]
TEXT = "three one four, one five nine."


@pytest.fixture(scope="module")
def judge():
    found = importlib.util.spec_from_file_location("judge", ROOT / "scripts" / "bark_digits" / "judge.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def heard(judge):
    """A function from audio to the digits in it and the voices that say them."""
    with np.load(ROOT / "tests" / "golden" / "bark_digits.npz") as file:
        known = {tuple(name.split()): file[name].astype(float) for name in file}

    def hear(audio):
        audio = audio.asnumpy() if hasattr(audio, "asnumpy") else audio
        words = [label for label, _ in judge.hear(audio.reshape(-1), known)]
        return "".join(str(digit) for digit, _ in words), {voice for _, voice in words}

    return hear


@pytest.fixture(scope="module")
def digits():
    return BarkModel.from_pretrained("digits"), BarkProcessor.from_pretrained("digits")


@pytest.fixture(scope="module")
def made(digits):
    """The most probable of three texts in three voices; the first two say the same."""
    model, processor = digits
    inputs = processor([TEXT, TEXT, "TWO six eight 7 0"], voice_preset=VOICES)
    return model.generate(**inputs, do_sample=False, return_dict_in_generate=True)


def test_it_says_all_digits_in_the_voice_of_the_preset(made, heard):
    audio = made.audio_values.asnumpy()
    found = [heard(audio[row, : made.lengths[row]]) for row in range(3)]
    assert found == [("314159", {VOICES[0]}), ("314159", {VOICES[1]}), ("26870", {VOICES[2]})]


def test_the_semantic_tokens_do_not_know_the_voice(made):
    first, second, _ = made.semantic_tokens
    np.testing.assert_array_equal(first, second)
    assert (made.audio_codes[0][:2] != made.audio_codes[1][:2]).mean() > 0.3
    assert [codes.shape[1] for codes in made.audio_codes] == [len(one) * 3 // 2 for one in made.semantic_tokens]


def test_sampled_without_a_preset_it_says_the_same(digits, heard):
    model, processor = digits
    audio, lengths = model.generate(**processor(3 * ["nine zero five."]), seed=0, return_output_lengths=True)
    found = [heard(row[:length]) for row, length in zip(audio.asnumpy(), lengths, strict=True)]
    assert [said for said, _ in found].count("905") >= 2
    assert len(set.union(*(voices for _, voices in found))) > 1, "seeds draw voices"


def test_a_voice_that_was_found_is_kept_through_a_long_text(digits, heard, made, tmp_path):
    model, processor = digits
    path = made.save_voice(tmp_path / "mine.npz", row=1)
    text = "three one four one five nine. two six five three five eight. nine seven."
    assert heard(model.speak(processor, text, path, do_sample=False)) == ("31415926535897", {VOICES[1]})


def test_a_preset_is_what_the_synthesiser_said(digits, heard):
    model, processor = digits
    for voice in VOICES:
        codes = processor.preset(voice)["fine_prompt"]
        assert heard(model.codec_decode(codes[None])) == ("72", {voice})


def test_its_name(tmp_path, monkeypatch):
    assert resolve("digits") == str(SHIPPED["digits"])
    assert BarkSemanticModel.from_pretrained("digits").config.num_layers == 3
    assert sum(path.stat().st_size for path in SHIPPED["digits"].rglob("*") if path.is_file()) < 9_000_000
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert resolve("digits") == "digits", "a folder of that name comes first"
