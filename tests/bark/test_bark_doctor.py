"""The tiny Bark in `mindmusicgen doctor`: it passes here, and a stage that is wrong is named."""

import shutil

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import InputError
from mindmusicgen.bark.doctor import golden
from mindmusicgen.bark.doctor.demo import Demo
from mindmusicgen.doctor import command, results
from mindmusicgen.doctor.report import Report

SEMANTIC, COARSE, FINE, CODEC = (f"Bark's {name}" for name in ("semantic stage", "coarse stage", "fine stage", "codec"))


@pytest.fixture(scope="module")
def demo():
    """If this fails, the golden values are of another model: run scripts/bark_digits/make_doctor_golden.py."""
    return Demo("CPU", "float32")


def results_of(demo, *names):
    """Results of some checks, by name."""
    return {check.name: results.run("stage", check) for check in demo.checks(False) if check.name in names}


def test_it_passes_with_the_kernels_of_this_machine(demo):
    found = results_of(demo, "Bark's tokenizer", SEMANTIC, COARSE, FINE, CODEC)
    assert len(found) == 5 and all(result.passed for result in found.values())
    count = len(demo.gold["semantic"])
    assert found[SEMANTIC].detail == f"{count} of {count} ids as in the golden run"
    assert len(demo.checks(quick=True)) == 3


def test_the_golden_choices_are_in_no_doubt(demo):
    """So that half precision, too, must make all of those that depend on each other."""
    assert min(demo.gold[f"{stage}_margins"].min() for stage in ("semantic", "coarse")) > 0.05
    assert demo.gold["fine_margins"].shape == demo.gold["fine"].shape


def test_a_wrong_weight_is_named_by_its_stage(demo):
    model = demo.stages.model
    harm = {
        SEMANTIC: model.semantic.layers[1].mlp.in_proj.weight,
        COARSE: model.coarse_acoustics.layers[0].attn.out_proj.weight,
        FINE: model.fine_acoustics.layers[2].attn.att_proj.weight,
    }
    for name, parameter in harm.items():
        kept = Tensor(parameter.asnumpy().copy())
        parameter.set_data(Tensor(np.roll(kept.asnumpy(), 1, 0) + 0.05))
        found = results_of(demo, *harm)
        parameter.set_data(kept)
        assert [key for key, result in found.items() if not result.passed] == [name]


def test_wrong_audio_and_wrong_tokens_are_named(demo, monkeypatch):
    monkeypatch.setattr(demo, "gold", demo.gold | {"audio": demo.gold["audio"] * 1.01, "text": np.array("two two")})
    found = results_of(demo, "Bark's tokenizer", CODEC)
    assert len(found) == 2 and not any(result.passed for result in found.values())


def test_a_choice_may_differ_where_it_was_in_doubt(demo, monkeypatch):
    gold = demo.gold
    monkeypatch.setattr(demo, "gold", gold | {name: gold[name].copy() for name in gold if name.endswith("margins")})
    other = gold["semantic"].copy()
    other[7] += 1
    error, tolerance, remark = demo._chain(other, gold["semantic"], gold["semantic_margins"])
    assert error > tolerance and remark.startswith("7 of ")
    demo.gold["semantic_margins"][7] = 1e-5
    error, tolerance, _ = demo._chain(other, gold["semantic"], demo.gold["semantic_margins"])
    assert error < tolerance
    for length in (-1, 1):  # an end too early or too late counts too
        other = np.concatenate([gold["semantic"], gold["semantic"]])[: len(gold["semantic"]) + length]
        assert demo._chain(other, gold["semantic"], gold["semantic_margins"])[0] > 0.05
    other = gold["fine"].copy()
    other[5, 3] += 1
    demo.gold["fine_margins"][5, 3] = 0.5
    assert demo._books(other)[0] == 0.5
    demo.gold["fine_margins"][5, 3] = 1e-5
    error, tolerance, _ = demo._books(other)
    assert error < tolerance


def test_another_model_is_refused_by_name(tmp_path):
    for name in golden.BELONGING:
        shutil.copyfile(golden.FOLDER / name, tmp_path / name)
    golden.load(folder=tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"another demo model.*bark_digits/make_doctor_golden\.py"):
        golden.load(folder=tmp_path)
    with pytest.raises(InputError, match=r"cannot be read.*bark_digits/make_doctor_golden\.py"):
        golden.load(tmp_path / "golden.npz")


def test_a_model_that_cannot_be_opened_keeps_no_other_from_its_checks(tmp_path, monkeypatch):
    """Each is opened, and what is wrong with one is a problem in the report."""

    def unreadable(device, dtype):
        raise InputError("the doctor's golden values cannot be read")

    monkeypatch.setattr(command.operator_checks, "checks", lambda device, dtype: [])
    seen = []

    class Other:
        title, __init__ = "Another", lambda self, device, dtype: None

        def checks(self, quick):
            seen.append(quick)
            return []

    unreadable.title = "One"
    kinds = {"demo": unreadable, "digits": Other}
    monkeypatch.setattr(command, "rooms_with", lambda module: list(kinds))
    monkeypatch.setattr(command, "room", lambda name, _: type("Module", (), {"Demo": kinds[name]}))
    report = Report(str(tmp_path / "r.json"), show=lambda line: None)
    command._run(report, type("Nobody", (), {"check": lambda self: None})(), "CPU", "float32", True)
    assert seen == [True] and report.content["problems"] == ["the doctor's golden values cannot be read"]
