"""The songs and captions that the demo model was trained on."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "demo_model"))

import captions
import instruments
from captions import caption, english, nearest_beat
from facts import FACTS, NAMES, song_facts
from instruments import FRAME, PLAYERS, RATE, STATES, mix, player
from synthesiser import BEATS, STYLES, compose, draw_song

from mindmusicgen.training.spectral import mel_filters

SEEDS = range(500, 512)


@pytest.fixture(scope="module")
def songs():
    drawn = [draw_song(seed) for seed in SEEDS]
    return [(song, compose(song, 500)) for song in drawn]


def test_a_seed_is_a_song(songs):
    song, codes = songs[0]
    assert draw_song(500) == song
    np.testing.assert_array_equal(compose(song, 500), codes)
    np.testing.assert_array_equal(compose(song, 800)[:, :300], codes[:, :300])  # a longer song begins alike
    assert (songs[1][1] != codes).any()


def test_songs_are_clean(songs):
    for _, codes in songs:
        audio = mix(codes)
        assert audio.dtype == np.float32 and len(audio) == 500 * FRAME
        assert 0.1 < np.abs(audio).max() < 1 and abs(audio.mean()) < 0.01
        assert np.sqrt(np.mean(audio**2)) > 0.02


def test_every_state_is_one_sound():
    for name in PLAYERS:
        band = player(name)
        places = [np.arange(s.first, s.first + s.attack + s.loop) for s in band.sounds.values()]
        taken = np.concatenate(places)
        assert len(set(taken)) == len(taken) and taken.min() == 1 and taken.max() < STATES
        assert not band.frames[0].any() and band.following[0] == 0
        loud = np.abs(band.frames[taken]).max(axis=1)
        assert (loud > 0).all() and loud.max() < 1


def test_a_sound_ends_by_itself_or_goes_on():
    piano = player("chords").sounds["piano", (0, 4)]
    assert len(piano.states(99)) == instruments.LENGTHS["piano"] and len(piano.states(5)) == 5
    pad = player("chords").sounds["synth pad", (0, 4)]
    held = pad.states(200)
    assert len(held) == 200 and (held[6:-16] == held[22:]).all() and len(set(held)) == 22
    one = np.zeros((4, 200), np.int64)
    one[1] = held
    wave = mix(one)[6 * FRAME :].astype(np.float64)
    jumps = np.abs(np.diff(wave, n=2))
    assert jumps[16 * FRAME - 5 : 16 * FRAME + 5].max() <= jumps.max() * 1.001  # the loop cannot be heard
    np.testing.assert_array_equal(wave[: 16 * FRAME], wave[16 * FRAME : 32 * FRAME])


def test_what_is_cut_fades():
    codes = np.zeros((4, 40), np.int64)
    codes[3, :10] = player("lead").sounds["flute", 72].states(10)
    wave = mix(codes)
    after = np.abs(wave[10 * FRAME :])
    assert after[: instruments.FADE].max() > 0.01 and not after[instruments.FADE :].any()
    muted = mix(codes, heard=("drums", "bass"))
    assert not muted.any()


def test_beats_are_whole_frames_and_bars_repeat():
    for seed in range(40):
        song = draw_song(seed)
        if song.drums:
            bar = song.beat * song.meter
            drums = compose(song, 2 * bar)[0]
            np.testing.assert_array_equal(drums[:bar], drums[bar:])
            strong = drums[0]
            assert strong in {s.first for s in player("drums").sounds.values()}


@pytest.mark.parametrize("name, midi", [("flute", 72), ("square lead", 69), ("synth lead", 81)])
def test_notes_have_their_pitch(name, midi):
    wave = player("lead").frames[player("lead").sounds[name, midi].states(12)].ravel()
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 4 * len(wave)))
    found = np.argmax(power) * RATE / (4 * len(wave))
    assert abs(12 * np.log2(found / instruments.frequency(midi))) < 0.2


def test_the_draw_is_wide():
    drawn = [draw_song(seed) for seed in range(600)]
    assert {song.style for song in drawn} == set(STYLES) and {song.beat for song in drawn} == set(BEATS)
    without = np.mean([not song.drums for song in drawn])
    assert 0.15 < without < 0.6 and {song.meter for song in drawn} == {3, 4}
    assert {song.mode for song in drawn} == {"major", "minor"} and len({song.key for song in drawn}) == 6


def test_captions_say_what_is_in_it():
    drawn = [draw_song(seed) for seed in range(300)]
    for song in drawn:
        text = english(song, np.random.default_rng(song.seed), True, True).lower()
        said = [int(word) for word in text.replace(",", " ").replace(".", " ").split() if word.isdigit()]
        assert any(nearest_beat(number) == song.beat for number in said), text
        silent = any(words in text for words in ("no drums", "without drums", "no percussion"))
        assert silent == (not song.drums) and ("drum" in text or "percussion" in text), text
    texts = [caption(song, i) for song in drawn for i in range(4)]
    chinese = np.mean([any("一" <= letter <= "鿿" for letter in text) for text in texts])
    assert 0.08 < chinese < 0.22 and len(set(texts)) > 0.85 * len(texts)
    assert caption(drawn[0], 3) == caption(drawn[0], 3)


def test_any_tempo_is_near_one_that_exists():
    """Tempi lie at least 8 % apart, so that one is not taken for the next."""
    for bpm in range(60, 168):
        assert abs(3000 / nearest_beat(bpm) / bpm - 1) < 0.07, bpm
    assert min(slow / fast for fast, slow in itertools.pairwise(BEATS)) > 1.07


def test_every_word_has_its_sound():
    known = {*instruments.LENGTHS}
    assert set(captions.INSTRUMENTS) == known and set(captions.STYLES) == set(STYLES)


def test_facts_are_those_of_the_song():
    for seed in range(50):
        song = draw_song(seed)
        facts = song_facts(song)
        assert facts.shape == (FACTS,) and BEATS[int(facts[: len(BEATS)].argmax())] == song.beat
        named = {name for name, holds in zip(NAMES, facts[len(BEATS) :], strict=True) if holds}
        assert song.style in named and ("drums" in named) == bool(song.drums)
        assert ("bright" in named) == (song.tone == "bright") and ("minor" in named) == (song.mode == "minor")


def test_clips_are_what_the_package_trains_on():
    from mindmusicgen.musicgen.training.language_model import delayed_columns

    codes = compose(draw_song(3), 60)
    theirs = delayed_columns([codes.astype(np.int32)], 60, STATES)[0]
    players = len(PLAYERS)
    ours = np.full((players, 60), STATES)
    for k in range(players):
        ours[k, 1 + k :] = codes[k, : 60 - 1 - k]
    np.testing.assert_array_equal(ours, theirs[:, :60])
    assert mel_filters(80, 2048, RATE).shape == (1025, 80)


def test_silence_is_counted_and_sounds_the_same():
    for seed in range(8):
        codes = compose(draw_song(seed), 300)
        bare = instruments.plain(codes)
        assert not np.isin(bare[0], player("drums").silences).any()
        np.testing.assert_array_equal(instruments.count_silence(bare), codes)
        np.testing.assert_array_equal(mix(bare), mix(codes))
    silences = player("bass").silences
    row = np.zeros((4, 80), np.int64)
    row[2, 3:5] = player("bass").sounds["deep bass", 40].states(2)
    counted = instruments.count_silence(row)[2]
    assert not counted[:3].any() and list(counted[5 : 5 + len(silences)]) == list(silences)
    assert not counted[5 + len(silences) :].any()
