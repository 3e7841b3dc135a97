"""The tiny MusicLDM in `mindmusicgen doctor`: it passes here, and a network that is wrong is named."""

import mindspore as ms
import numpy as np
import pytest

from mindmusicgen import InputError
from mindmusicgen.checkpoint import huggingface
from mindmusicgen.doctor import results
from mindmusicgen.musicldm.checkpoint import names
from mindmusicgen.musicldm.doctor.demo import NAMES, Demo, load
from mindmusicgen.musicldm.doctor.tiny import TinyMusicLDM


@pytest.fixture(scope="module")
def demo():
    """If this fails, the golden values are of another model: run scripts/make_musicldm_doctor_golden.py."""
    return Demo("CPU", "float32")


def results_of(demo, *wanted):
    """Results of some checks, by name."""
    listed = [check for check in demo.checks(False) if not wanted or check.name in wanted]
    return {check.name: results.run("stage", check) for check in listed}


def test_it_passes_with_the_kernels_of_this_machine(demo):
    found = results_of(demo)
    assert list(found) == list(NAMES.values()) and all(result.passed for result in found.values()), found
    assert len(demo.checks(quick=True)) == 4


def test_the_weights_are_those_of_the_seed_whatever_their_layout(monkeypatch):
    """Kernels keep convolutions in another layout; the checkpoint's values are the same."""
    stored = []
    for kernels in ("1", "0"):
        monkeypatch.setenv("MINDMUSICGEN_KERNELS", kernels)
        unet = TinyMusicLDM(ms.float32).unet
        entries = huggingface.stored_tensors(unet, names.plan(unet, names.UNET))
        stored.append({name: values() for name, _, _, values in entries})
    assert stored[0].keys() == stored[1].keys() and len(stored[0]) > 60
    assert all(np.array_equal(stored[0][name], stored[1][name]) for name in stored[0])


@pytest.mark.parametrize("name, part", [("text", "linear2.weight"), ("waveform", "conv_pre.conv.weight")])
def test_a_wrong_weight_is_named_by_its_network(demo, name, part):
    cell = demo.model.runs[name].function.__self__
    parameter = next(one for key, one in cell.parameters_and_names() if key.endswith(part))
    values = parameter.asnumpy()  # shares the parameter's memory, which MindSpore 2.7 reads once it has compiled
    kept = values.copy()
    values[...] = np.roll(kept, 1, 0) + np.float32(0.05)
    found = results_of(demo, NAMES["text"], NAMES["waveform"])
    values[...] = kept
    assert [key for key, result in found.items() if not result.passed] == [NAMES[name]]


def test_wrong_latents_are_named(demo, monkeypatch):
    monkeypatch.setattr(demo, "gold", demo.gold | {"steps": demo.gold["steps"] * 1.001})
    (found,) = results_of(demo, NAMES["steps"]).values()
    assert not found.passed and found.error > 1e-4


def test_missing_golden_values_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read; reinstall.*make_musicldm_doctor_golden\.py"):
        load(tmp_path / "golden.npz")
    np.savez(tmp_path / "golden.npz", text=np.zeros(1))
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "golden.npz")
