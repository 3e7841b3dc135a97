"""Damaged files of models: the right weights, or one sentence; no other exception, at once, in little memory."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "fuzz"))

import checkpoints
from safetensors import SafetensorError, safe_open

from mindmusicgen import InputError
from mindmusicgen.checkpoint.safetensors_file import open_safetensors, write_safetensors

MUTATIONS = dict.fromkeys(checkpoints.KINDS, 500) | {"spiece": 100}  # which transformers reads, in 20 ms each


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_damaged_files_are_read_right_or_refused(kind):
    result = checkpoints.attempt(kind, MUTATIONS[kind])
    assert set(result["outcomes"]) == {"read", "refused"}, result
    assert sum(result["outcomes"].values()) == MUTATIONS[kind]
    assert min(result["outcomes"].values()) > 0, "mutations that change nothing, or all"
    assert result["slowest"] < checkpoints.SLOW and result["memory"] < 500, result


def test_what_the_formats_own_library_refuses_is_refused(tmp_path):
    """2,000 damaged safetensors files: nothing is read that the official reader does not read."""
    path, refused = tmp_path / "x.safetensors", 0
    values = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float16), np.zeros((0, 3), np.float32)]
    entries = [(f"w{i}", value.shape, value.dtype, lambda v=value: v) for i, value in enumerate(values)]
    write_safetensors(str(path), entries, {"format": "pt"})
    whole = path.read_bytes()
    for seed in range(2000):
        path.write_bytes(checkpoints.damaged_safetensors(whole, random.Random(seed)))
        try:
            with safe_open(path, "np"):
                pass
        except SafetensorError:
            refused += 1
            with pytest.raises(InputError):
                open_safetensors(str(path))
    assert 500 < refused < 2000


def test_faults_are_told(tmp_path):
    """The fuzzer itself: what it says of readers with faults."""

    class Faulty(checkpoints.Kind):
        files = ["a.json"]

        def make(self):
            self.put("a.json", b'{"a": 1, "b": [1, 2]}')
            self.fault = lambda: 1

        def read(self):
            return self.fault()

    class Bell(InputError):
        """InputError itself lets no such character through."""

        def __str__(self):
            return "a\abell"

    def fail(error):
        raise error

    kind = Faulty(tmp_path)
    faults = {
        "read": lambda: 1,
        "wrong": lambda: 2,
        "KeyError: 'x'": lambda: fail(KeyError("x")),
        "refused": lambda: fail(InputError("a sentence")),
        "no sentence: 'a\\x07bell'": lambda: fail(Bell()),
        "slow": lambda: fail(TimeoutError()),
    }
    for outcome, kind.fault in faults.items():
        assert kind.attempt(random.Random(1)) == outcome
    assert (tmp_path / "a.json").read_bytes() == kind.whole["a.json"]
    assert checkpoints.said({"read": 3, "wrong (seed 4)": 1, "KeyError: 'x' (seed 5)": 2}) == (
        "3 loaded right, 2 raw exception, 1 wrong weights without a word"
    )


SEEN = {"tokenizer": (4480, 6931, 7307, 7850), "manifest": (2542, 4894, 8632)}  # faults of the long form, mended since


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, seeds in SEEN.items() for seed in seeds])
def test_what_was_wrong_once(kind, seed):
    (outcome,) = checkpoints.attempt(kind, 1, seed)["outcomes"]
    assert outcome in ("read", "refused")
