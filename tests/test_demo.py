"""The model that ships with the package, from the command line to the sound."""

import os

import numpy as np
import pytest
import soundfile

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.cli import main

PROMPT = "upbeat 80s pop with drums and synth bass, 120 bpm"


@pytest.fixture(scope="module")
def demo():
    return MusicgenForConditionalGeneration.from_pretrained("demo"), MusicgenProcessor.from_pretrained("demo")


def test_it_is_small_and_complete():
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= 25_000_000
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "spiece.model"} <= set(
        os.listdir(DEMO)
    )


def test_command_line_makes_music_by_default(tmp_path):
    path = tmp_path / "out.wav"
    assert main(["generate", PROMPT, "--duration", "2", "--seed", "3", "--output", str(path)]) == 0
    audio, rate = soundfile.read(path)
    assert rate == 32000 and len(audio) == 64000
    assert 0.02 < np.sqrt(np.mean(audio**2)) < 0.5 and abs(audio.mean()) < 0.01
    assert (np.abs(audio) > 0.999).mean() < 1e-3
    energy = np.abs(np.fft.rfft(audio)) ** 2
    assert energy[: 2 * 4000].sum() > 0.8 * energy.sum()  # below 4 kHz: music, not the noise of random weights


def test_the_codec_keeps_a_chord(demo):
    model, _ = demo
    t = np.arange(64000) / 32000
    beats = np.exp(-6 * (t % 0.5))  # plucked twice a second
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (220.0, 277.2, 329.6))
    audio = (0.1 * beats * chord).astype(np.float32)
    made = model.decode(model.encode(audio[None, None])).asnumpy()[0, 0]
    power = np.abs(np.fft.rfft(made * np.hanning(len(made)))) ** 2
    around = [power[int(2 * hertz) - 8 : int(2 * hertz) + 9].sum() for hertz in (220.0, 277.2, 329.6)]
    assert sum(around) > 0.25 * power.sum(), "most of the power lies elsewhere"
    loudness = np.sqrt(np.mean(made.reshape(-1, 1600) ** 2, axis=1)).reshape(-1, 10)  # [half seconds, 50 ms]
    assert (loudness[1:, :2].mean(axis=1) > 1.3 * loudness[1:, 8:].mean(axis=1)).all(), "the beats are gone"


def test_words_change_the_music(demo):
    model, processor = demo
    options = {"do_sample": False, "max_new_tokens": 60, "return_dict_in_generate": True}
    one, two = (
        model.generate(**processor(text), **options).audio_codes.asnumpy()
        for text in (PROMPT, "slow ambient with synth pads, no drums")
    )
    assert (one != two).mean() > 0.3
