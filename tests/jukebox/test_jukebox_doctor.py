"""The tiny Jukebox in `mindmusicgen doctor`: it passes here, and what is wrong is named."""

import mindspore as ms
import numpy as np
import pytest

from mindmusicgen import InputError
from mindmusicgen.checkpoint import huggingface
from mindmusicgen.doctor import results
from mindmusicgen.jukebox import attention
from mindmusicgen.jukebox.checkpoint.names import plan
from mindmusicgen.jukebox.doctor.demo import Demo, load
from mindmusicgen.jukebox.doctor.kinds import KINDS, Kinds, seen
from mindmusicgen.jukebox.doctor.tiny import TinyJukebox


@pytest.fixture(scope="module")
def demo():
    """If this fails, the golden values are of another model: run scripts/make_jukebox_doctor_golden.py."""
    return Demo("CPU", "float32")


def results_of(demo, *wanted):
    """Results of some checks, by the last word or words of their names."""
    listed = [check for check in demo.checks(False) if not wanted or check.name.removeprefix("Jukebox's ") in wanted]
    return {check.name: results.run("stage", check) for check in listed}


def test_it_passes_with_the_kernels_of_this_machine(demo):
    found = results_of(demo)
    assert len(found) == len(KINDS) + 3 and all(result.passed for result in found.values()), found
    assert [check.name for check in demo.checks(quick=True)] == list(found)[:-2]


@pytest.mark.parametrize("kind", ["previous", "prime", "cross"])
def test_an_attention_that_looks_elsewhere_is_named(demo, kind, monkeypatch):
    if kind == "previous":
        monkeypatch.setattr(attention, "by_previous_rows", attention.by_rows)
    elif kind == "prime":
        monkeypatch.setattr(demo.kinds.cell(kind), "prime", demo.kinds.cell(kind).prime - 1)
    else:
        monkeypatch.setattr(demo.kinds, "states", demo.kinds.states[:, ::-1].copy() * 0)
        monkeypatch.setattr(demo.kinds, "expected", Kinds(demo.kinds.seed, ms.float32).expected)
    found = results_of(demo, f"{kind} attention", "dense attention")
    assert [result.passed for result in found.values()] == [name != f"Jukebox's {kind} attention" for name in found]


def test_who_is_seen_is_what_the_page_says():
    rows = {kind: seen(kind, 3, 3, 4)[5].nonzero()[0].tolist() for kind in KINDS[:-1]}  # the last of the second row
    assert rows == {
        "row": [3, 4, 5], "column": [2, 5], "previous": [0, 1, 2], "prime": [0, 1, 2, 3], "dense": [0, 1, 2, 3, 4, 5],
    }  # fmt: skip


def test_wrong_ids_and_sound_are_named(demo, monkeypatch):
    ids = demo.gold["top"].copy()
    ids[1, 3] = (ids[1, 3] + 1) % 34
    monkeypatch.setattr(demo, "gold", demo.gold | {"top": ids, "sound": demo.gold["sound"] * 1.001})
    found = results_of(demo, "VQ-VAE", "top prior")
    assert not any(result.passed for result in found.values())
    assert "37 of 38 ids" in found["Jukebox's top prior"].detail


def test_the_weights_are_those_of_the_seed_whatever_their_layout(monkeypatch):
    stored = []
    for kernels in ("1", "0"):
        monkeypatch.setenv("MINDMUSICGEN_KERNELS", kernels)
        vqvae = TinyJukebox(ms.float32).vqvae
        entries = huggingface.stored_tensors(vqvae, plan(vqvae, ""))
        stored.append({name: values() for name, _, _, values in entries})
    assert stored[0].keys() == stored[1].keys() and len(stored[0]) > 60
    assert all(np.array_equal(stored[0][name], stored[1][name]) for name in stored[0])


def test_missing_golden_values_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read; reinstall.*make_jukebox_doctor_golden\.py"):
        load(tmp_path / "golden.npz")
    np.savez(tmp_path / "golden.npz", top=np.zeros(1))
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "golden.npz")
