"""Damaged files of sound, codes, captions and prompts: nothing but an InputError of one sentence leaves a reader."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "fuzz"))

import audio_files

MUTATIONS = dict.fromkeys(audio_files.DATA, 500) | dict.fromkeys(audio_files.SOUND, 300)


@pytest.mark.parametrize("kinds", [audio_files.SOUND, audio_files.DATA])
def test_damaged_files_are_read_or_refused(kinds):
    found = audio_files.run(kinds, MUTATIONS[kinds[0]])
    assert set(found) == set(kinds)
    for kind, result in found.items():
        assert set(result["outcomes"]) <= {"read", "refused"}, (kind, result)
        assert sum(result["outcomes"].values()) == MUTATIONS[kind]
        assert kind == "captions" or min(result["outcomes"].values()) > 3, "mutations that change nothing, or all"
        assert result["slowest"] < audio_files.SLOW and result["memory"] < 300, (kind, result)


def test_faults_are_told(monkeypatch):
    """The fuzzer itself: what it says of readers with faults."""

    def crash(path):
        raise KeyError("a fault")

    name, make, _ = audio_files.KINDS["csv"]
    calls = iter([None] * len(make()))  # whole files must be read
    monkeypatch.setitem(audio_files.KINDS, "csv", (name, make, lambda path: next(calls, None) or None))
    assert audio_files.attempt("csv", 5)["outcomes"] == {"read": 5}
    faults = iter([lambda path: None] + [crash] * 3)
    monkeypatch.setitem(audio_files.KINDS, "csv", (name, make, lambda path: next(faults)(path)))
    assert [kind.split(":")[0] for kind in audio_files.attempt("csv", 3, 7)["outcomes"]] == [
        f"KeyError (seed {seed})" for seed in (7, 8, 9)
    ]


def test_mutations_repeat_and_differ():
    whole = bytes(range(256)) * 4
    made = [audio_files.mutate(whole, random.Random(seed)) for seed in range(300)]
    assert made == [audio_files.mutate(whole, random.Random(seed)) for seed in range(300)]
    assert len(set(made)) > 290 and whole not in made[:100]
    assert min(map(len, made)) < 100 and max(map(len, made)) > 2000
