"""The delay pattern against its drawings and against a slow re-implementation of transformers' mask."""

import numpy as np
import pytest

from mindmusicgen.musicgen.delay_pattern import FREE, build_pattern, codebook_delays, columns_for, is_delayed, undelay

PAD = 99


def transformers_mask(prompt, length, channels):
    """What transformers' `generate` makes of a prompt without start column: the mask it applies at every step.

    Written from the rule alone: shift every codebook by its delay, then lay padding over both triangles. When the
    sequence is too short for the pattern nothing is shifted, and the start code and the prompt stay as they are.
    """
    codebooks, widest = prompt.shape[0], prompt.shape[0] // channels
    start = np.full((codebooks, 1), PAD)
    ids = np.concatenate([start, prompt], axis=1)
    mask = [[FREE] * length for _ in range(codebooks)]
    for k in range(codebooks):
        delay = k // channels if length >= 2 * widest - 1 else 0
        for column in range(length):
            if 0 <= column - delay < ids.shape[1]:
                mask[k][column] = ids[k, column - delay]
            if length >= 2 * widest - 1 and (column <= delay or column >= length - widest + 1 + delay):
                mask[k][column] = PAD
    return np.array(mask)


def drawing(text):
    rows = text.split()
    return np.array([[PAD if c == "P" else FREE if c == "." else ord(c) for c in row] for row in rows])


def empty(codebooks):
    return np.zeros((1, codebooks, 0), np.int32)


DRAWINGS = [
    (4, 8, 1, "P....PPP PP....PP PPP....P PPPP...."),
    (4, 7, 1, "P...PPP PP...PP PPP...P PPPP..."),
    (4, 6, 1, "P..... P..... P..... P....."),
    (1, 4, 1, "P..."),
    (2, 3, 1, "P.P PP."),
    (4, 5, 2, "P...P P...P PP... PP..."),
    (4, 3, 2, "P.P P.P PP. PP."),
    (4, 2, 2, "P. P. P. P."),
    (8, 8, 2, "P....PPP P....PPP PP....PP PP....PP PPP....P PPP....P PPPP.... PPPP...."),
]


@pytest.mark.parametrize("codebooks, length, channels, text", DRAWINGS)
def test_drawings(codebooks, length, channels, text):
    pattern, start = build_pattern(empty(codebooks), length, PAD, channels)
    np.testing.assert_array_equal(pattern[0], drawing(text))
    assert start == 1 and pattern.dtype == np.int32 and pattern.shape == (1, codebooks, length)


def test_drawing_with_a_prompt():
    prompt = np.array([[[ord(c) for c in row] for row in ("ab", "cd", "ef", "gh")]], np.int32)
    pattern, start = build_pattern(prompt, 9, PAD)
    np.testing.assert_array_equal(pattern[0], drawing("Pab...PPP PPcd...PP PPPef...P PPPPgh..."))
    assert start == 3


@pytest.mark.parametrize("codebooks, channels", [(1, 1), (2, 1), (3, 1), (4, 1), (8, 1), (2, 2), (4, 2), (8, 2)])
def test_equals_transformers_for_every_length_and_prompt(codebooks, channels):
    rng = np.random.default_rng(codebooks * 10 + channels)
    seen_short = False
    for length in range(2, 24):
        # A prompt of `length` - 1 frames or more leaves nothing to generate; `generate` refuses it.
        for frames in range(length - 1):
            prompt = rng.integers(0, PAD, (2, codebooks, frames)).astype(np.int32)
            pattern, start = build_pattern(prompt, length, PAD, channels)
            for row in range(2):
                np.testing.assert_array_equal(pattern[row], transformers_mask(prompt[row], length, channels))
            assert start == 1 + frames
        seen_short |= not is_delayed(length, codebooks, channels)
    assert seen_short or codebooks // channels == 1


@pytest.mark.parametrize("codebooks, channels", [(1, 1), (2, 1), (4, 1), (8, 1), (4, 2), (8, 2)])
def test_undelay_inverts_the_pattern(codebooks, channels):
    rng = np.random.default_rng(0)
    for length in range(2, 20):
        delayed = is_delayed(length, codebooks, channels)
        frames = length - codebooks // channels if delayed else length - 1
        codes = rng.integers(0, PAD, (3, codebooks, frames)).astype(np.int32)
        pattern, _ = build_pattern(codes, length, PAD, channels)
        assert not (pattern == FREE).any(), "all frames together fill the pattern"
        out = undelay(pattern, channels)
        np.testing.assert_array_equal(out, codes)
        assert not (out == PAD).any()


@pytest.mark.parametrize("codebooks, channels", [(4, 1), (8, 1), (4, 2), (8, 2)])
def test_every_free_place_is_a_frame_and_nothing_else(codebooks, channels):
    """The free places are exactly those that `undelay` keeps: no prediction is lost, no padding comes out."""
    for length in range(2, 20):
        pattern, _ = build_pattern(empty(codebooks), length, PAD, channels)
        free = pattern == FREE
        numbered = np.where(free, np.arange(free.size).reshape(free.shape), PAD + free.size)
        kept = undelay(numbered, channels)
        assert sorted(kept.ravel()) == sorted(numbered[free])


def test_delays():
    np.testing.assert_array_equal(codebook_delays(4), [0, 1, 2, 3])
    np.testing.assert_array_equal(codebook_delays(8, 2), [0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("frames", [4, 50, 1500])
@pytest.mark.parametrize("codebooks, channels", [(4, 1), (8, 2), (8, 1)])
def test_columns_for_gives_the_frames_asked_for(frames, codebooks, channels):
    length = 1 + columns_for(frames, codebooks, channels)
    if is_delayed(length, codebooks, channels):
        assert undelay(np.zeros((1, codebooks, length)), channels).shape[2] == frames
    assert columns_for(1500, 4) == 1503 and columns_for(1500, 8, 2) == 1503
