"""What a level of a Jukebox takes: counted, measured and told."""

from types import SimpleNamespace

import pytest

from mindmusicgen.jukebox import progress
from mindmusicgen.jukebox.estimates import level_work
from mindmusicgen.jukebox.sampling import windows


@pytest.mark.parametrize("level, wanted, have, hop", [(0, 40, 0, 4), (0, 20, 0, 4), (1, 160, 55, 24), (2, 640, 640, 9)])
def test_work_is_that_of_the_windows(both, level, wanted, have, hop):
    config = both["1b"].model.config.prior_configs[level]
    request = SimpleNamespace(wanted={level: wanted}, hops={level: hop})
    steps, known, left = 0, 0, have
    for start, end in windows(request, level, config.n_ctx, have):
        known += config.positions - config.n_ctx + left - start
        steps, left = steps + end - left, end
    assert level_work(config, wanted, have, hop) == (steps, known)


@pytest.fixture
def clock(monkeypatch):
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: made.now)
    return made


def bar(known=0.01, later=lambda step, known: 0.0, show=None, steps=1000):
    return progress.LevelBar(1, (steps, 500), known, later, show, SimpleNamespace(check=lambda: None))


def play(bar, clock, windows=2):
    """Windows of 500 steps of 0.2 s and of 250 known positions of 0.08 s; the first chunk compiles for an hour."""
    with bar:
        for window in range(windows):
            clock.now += 20
            bar.begun(250)
            for _ in range(50):
                if not window and not bar.done:
                    bar._compiles(False)
                    clock.now += 3600
                clock.now += 2
                bar.tick(10)


def test_it_is_told_once_compiling_and_known_codes_apart(clock, capsys):
    play(bar(later=lambda step, known: 3600 * step + 60000 * known), clock)
    (line,) = capsys.readouterr().err.splitlines()
    # after the sixth chunk 940 steps of 0.2 s and 250 positions, by then taken for 0.01 s
    assert line.startswith("level 1: 1000 steps, about 3 min, until ")
    assert line.endswith("; the levels after it about 22 min more")


def test_what_a_window_took_is_what_the_next_will(clock, capsys):
    made = bar()
    play(made, clock)
    assert made.guess == pytest.approx(0.08) and made.taken / made.counted == pytest.approx(0.2)
    assert made.known == 0 and made.done == 1000


def test_nothing_is_told_of_what_is_short_or_not_to_be_shown(clock, capsys):
    play(bar(show=False), clock)
    play(bar(known=0.0, steps=200), clock, 0)
    assert not capsys.readouterr().err
