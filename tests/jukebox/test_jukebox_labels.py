"""Windows, lyrics and bins of time: each number of the original program's."""

import numpy as np
import pytest

from mindmusicgen.jukebox.config import JukeboxConfig
from mindmusicgen.jukebox.labels import Labels, lyric_window, time_bins, window_starts

RUNS = "ABCDE"


def labels_of(golden, config, level):
    return Labels(config.prior_configs[level], golden.labels[level], 2, level, (128, 32, 8)[level])


@pytest.mark.parametrize("run", RUNS)
def test_windows_and_labels_are_the_originals(golden, run):
    config, facts = JukeboxConfig.from_pretrained(golden.folder), golden.runs[run]
    for level, prior in enumerate(config.prior_configs):
        total, hop = facts["sample_length"] // (128, 32, 8)[level], int(config.hop_fraction[level] * prior.n_ctx)
        starts = window_starts(total, prior.n_ctx, hop) if total >= prior.n_ctx else [0]
        labels = labels_of(golden, config, level)
        if level == 0:
            for start, positions in zip(starts, golden[f"{run}_lyric_positions"], strict=True):
                window = labels.window(start, facts["total_length"], facts["offset"])
                np.testing.assert_array_equal(window.positions, positions)
        if f"{run}_starts_{2 - level}" not in golden:
            continue
        made = golden[f"{run}_starts_{2 - level}"]
        assert set(made) <= set(starts) and (run not in "AE" or list(made) == starts)
        for start, rows in zip(made, golden[f"{run}_labels_{2 - level}"], strict=True):
            window = labels.window(int(start), facts["total_length"], facts["offset"])
            np.testing.assert_array_equal(window.rows(), rows)


@pytest.mark.parametrize("run", "AB")
def test_bins_of_time_are_the_originals(golden, run):
    config, facts = JukeboxConfig.from_pretrained(golden.folder), golden.runs[run]
    for i, start in enumerate(golden[f"{run}_starts_2"]):
        found = labels_of(golden, config, 0).window(int(start), facts["total_length"], facts["offset"])
        for name in ("total", "absolute", "relative"):
            np.testing.assert_array_equal(getattr(found, name), golden[f"{run}_bins_{name}"][i])


def test_windows_move_by_hops_and_the_last_fits():
    assert window_starts(98, 32, 4)[-3:] == [60, 64, 66] and window_starts(32, 32, 4) == [0]
    assert window_starts(33, 32, 4) == [0, 1] and window_starts(40, 32, 8) == [0, 8]


def test_short_lyrics_are_padded_on_the_left_and_long_ones_move():
    assert lyric_window(np.array([5, 6]), 4, 100, 0, 10)[0].tolist() == [0, 0, 5, 6]
    ids = np.arange(100)
    assert lyric_window(ids, 10, 1000, 0, 10)[0].tolist() == list(range(10))
    assert lyric_window(ids, 10, 1000, 500, 100)[0].tolist() == list(range(50, 60))
    assert lyric_window(ids, 10, 1000, 990, 100)[1].tolist() == list(range(90, 100))


def test_one_row_serves_all_samples(both):
    prior = JukeboxConfig.from_pretrained(both["1b"].folder).prior_configs[0]
    found = Labels(prior, both["1b"].labels[0][:1], 3, 0, 128).window(0, 40000, 0)
    assert found.artist.tolist() == [1, 1, 1] and found.total.shape == (3, 1)


def test_labels_that_are_none_are_refused(both, refused):
    prior, rows = JukeboxConfig.from_pretrained(both["1b"].folder).prior_configs[0], both["1b"].labels[0]
    refused(lambda: Labels(prior, rows[:, :3], 2, 0, 128), "labels of prior 0")
    refused(lambda: Labels(prior, rows, 3, 0, 128), "labels of prior 0", "(3, n) or (1, n)")
    refused(lambda: Labels(prior, rows.astype(np.float32), 2, 0, 128), "whole numbers")
    for column, value, what in ((3, 6, "artist 6"), (4, 5, "genre 5"), (6, 79, "character 79")):
        wrong = rows.copy()
        wrong[0, column] = value
        refused(lambda wrong=wrong: Labels(prior, wrong, 2, 0, 128), what)


def test_beyond_the_longest_song(both, refused):
    prior = JukeboxConfig.from_pretrained(both["1b"].folder).prior_configs[0]
    refused(lambda: time_bins(prior, 40000, 43000, 4096), "beyond what the model counts", "0.1 to 1 s")
