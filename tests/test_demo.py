"""The model that ships with the package, from the command line to the sound."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "demo_model"))

from instruments import PLAYERS, mix, plain, player
from synthesiser import compose, draw_song

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.cli import main

PROMPT = "upbeat 80s pop with drums and synth bass, 125 bpm"


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


def test_the_codec_hears_what_is_played(demo):
    model, _ = demo
    # A waltz, a reggae, and a rock song, in which all play at once: states heard right, and how alike the loudness is.
    for seed, right, alike in ((23, 0.75, 0.9), (25, 0.7, 0.7), (20, 0.5, 0.65)):
        codes = plain(compose(draw_song(seed), 250))
        audio = mix(codes)
        found = model.encode(audio[None, None])
        assert (found.asnumpy()[0] == codes).mean() > right
        made = model.decode(found).asnumpy()[0, 0]
        loudness = [np.sqrt(np.mean(wave.reshape(-1, 640) ** 2, axis=1)) for wave in (audio, made)]
        assert np.corrcoef(*loudness)[0, 1] > alike, "the beats are gone"


def test_each_codebook_is_a_player_and_silence_is_silent(demo):
    model, _ = demo
    codes = plain(compose(draw_song(20), 150))
    for book, name in enumerate(PLAYERS):
        alone = np.zeros_like(codes)
        alone[book] = codes[book]
        made = model.decode(alone[None].astype(np.int32)).asnumpy()[0, 0]
        wanted = mix(codes, heard=(name,))
        if wanted.any():
            assert np.sqrt(np.mean((made - wanted) ** 2)) < 0.7 * np.sqrt(np.mean(wanted**2)), name
    silent = model.decode(model.encode(np.zeros((1, 1, 64000), np.float32))).asnumpy()
    assert np.sqrt(np.mean(silent**2)) < 10 ** (-70 / 20)


def test_the_music_keeps_its_beat(demo):
    model, processor = demo
    made = model.generate(
        **processor("energetic techno with drums, 125 bpm"), duration=10, seed=5, return_dict_in_generate=True
    )
    kicks = {sound.first for (_, hits), sound in player("drums").sounds.items() if "kick" in hits}
    beats = np.flatnonzero(np.isin(made.audio_codes.asnumpy()[0, 0], list(kicks)))
    assert len(beats) > 10 and np.mean(np.isin(np.diff(beats), (24, 48))) > 0.8, np.diff(beats)


def test_words_change_the_music(demo):
    model, processor = demo
    options = {"do_sample": False, "max_new_tokens": 60, "return_dict_in_generate": True}
    one, two = (
        model.generate(**processor(text), **options).audio_codes.asnumpy()
        for text in (PROMPT, "slow ambient with synth pads, no drums")
    )
    assert (one != two).mean() > 0.3
