"""The songs and captions that the demo model was trained on, and the measures that judge it."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "demo_model"))

import measure
from captions import caption, english
from facts import FACTS, NAMES, TEMPI, bar_starts, beat_angles, song_facts
from synthesiser import GENRES, RATE, draw_song, render

SEEDS = range(500, 512)


@pytest.fixture(scope="module")
def songs():
    drawn = [draw_song(seed) for seed in SEEDS]
    return [(song, render(song)) for song in drawn]


def test_a_seed_is_a_song(songs):
    song, audio = songs[0]
    assert draw_song(500) == song
    np.testing.assert_array_equal(render(song), audio)
    assert (songs[1][1][: len(audio)] != audio[: len(songs[1][1])]).any()


def test_songs_are_clean(songs):
    for song, audio in songs:
        assert audio.dtype == np.float32 and audio.ndim == 1
        assert 8 * RATE <= len(audio) <= 16.1 * RATE and abs(len(audio) / RATE - song.seconds) < 0.1
        assert 0.1 < np.abs(audio).max() < 1 and abs(audio.mean()) < 0.01
        assert np.sqrt(np.mean(audio**2)) > 0.02


def test_the_draw_is_wide():
    drawn = [draw_song(seed) for seed in range(600)]
    assert {song.genre for song in drawn} == set(GENRES)
    tempi = np.array([song.bpm for song in drawn])
    assert tempi.min() >= 60 and tempi.max() <= 180 and np.std(tempi) > 20
    without = np.mean([not song.drums for song in drawn])
    assert 0.15 < without < 0.6 and {song.meter for song in drawn} == {3, 4}
    assert {song.mode for song in drawn} == {"major", "minor"} and len({song.key for song in drawn}) == 12


def test_captions_say_what_is_in_it():
    drawn = [draw_song(seed) for seed in range(300)]
    for song in drawn:
        text = english(song, np.random.default_rng(song.seed), True, True).lower()
        assert str(song.bpm) in text
        silent = any(words in text for words in ("no drums", "without drums", "no percussion"))
        assert silent == (not song.drums) and ("drum" in text or "percussion" in text), text
    texts = [caption(song, i) for song in drawn for i in range(4)]
    chinese = np.mean([any("一" <= letter <= "鿿" for letter in text) for text in texts])
    assert 0.06 < chinese < 0.2 and len(set(texts)) > 0.9 * len(texts)
    assert caption(drawn[0], 3) == caption(drawn[0], 3)


def clicks(bpm, seconds=10, every=1):
    audio = np.zeros(seconds * RATE)
    hit = np.sin(2 * np.pi * 200 * np.arange(3000) / RATE) * np.exp(-np.arange(3000) / 500)
    for start in np.arange(0, len(audio) - len(hit), RATE * 60 / bpm).astype(int)[::every]:
        audio[start : start + len(hit)] += hit
    return audio


@pytest.mark.parametrize("bpm", [72, 100, 128, 165])
def test_tempo_of_clicks(bpm):
    assert measure.tempo_error(measure.tempo(clicks(bpm)), bpm)[1] < 0.02
    assert measure.tempo(np.zeros(RATE * 5)) == 0


def test_measures_tell_songs_apart(songs):
    found = [measure.has_drums(audio) == bool(song.drums) for song, audio in songs]
    assert np.mean(found) >= 0.75
    octaves = [measure.tempo_error(measure.tempo(audio), song.bpm)[1] < 0.08 for song, audio in songs]
    assert np.mean(octaves) >= 0.75
    dull = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    assert measure.brightness(dull) < measure.brightness(dull + 0.3 * np.sin(2 * np.pi * 3000 * np.arange(RATE) / RATE))


def test_distances():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(RATE)
    assert measure.si_sdr(x, 2 * x) > 80  # the scale does not count
    noisy = x + 0.1 * rng.standard_normal(RATE)
    assert measure.si_sdr(x, noisy) == pytest.approx(20, abs=0.3)
    assert measure.stft_distance(x, x) == (0, 0) and min(measure.stft_distance(x, noisy)) > 0.01


def test_faults():
    t = np.arange(2 * RATE) / RATE
    clean = 0.5 * np.sin(2 * np.pi * 300 * t)
    assert measure.faults(clean)[0] == 0 and measure.faults(clean)[2] < 1.1
    broken = clean.copy()
    broken[640::640] += 0.2
    assert measure.faults(broken)[2] > 3
    assert measure.faults(np.clip(3 * clean, -1, 1) + 0.1)[1] == pytest.approx(0.1, abs=1e-3)


def test_facts_are_those_of_the_song():
    for seed in range(50):
        song = draw_song(seed)
        facts = song_facts(song)
        assert facts.shape == (FACTS,) and abs(TEMPI[facts[: len(TEMPI)].argmax()] - song.bpm) <= 1
        named = {name for name, holds in zip(NAMES, facts[len(TEMPI) :], strict=True) if holds}
        assert (
            song.genre in named and ("drums" in named) == bool(song.drums) and ("three" in named) == (song.meter == 3)
        )
        assert {"bright", "dark"} & named == {song.tone} - {"neutral"}


def test_beats_and_bars_are_where_the_synthesiser_puts_them():
    song = draw_song(3)
    starts = bar_starts(song)
    assert starts[0] == 0 and np.allclose(np.diff(starts), 50 * 60 / song.bpm * song.meter)
    angles = beat_angles(song, starts[1], 200)
    np.testing.assert_allclose(angles[0], [1, 1, 0, 0], atol=1e-4)  # a bar begins with a beat
    assert angles.shape == (200, 4) and np.allclose(angles[:, 0] ** 2 + angles[:, 2] ** 2, 1, atol=1e-5)
    crossings = np.sum((angles[:-1, 2] < 0) & (angles[1:, 2] >= 0))
    assert abs(crossings - 200 / 50 * song.bpm / 60) <= 1
