"""Schedulers as tables of coefficients, against diffusers' schedulers with given predictions."""

import math

import numpy as np
import pytest

from mindmusicgen.musicldm.schedulers import (
    SCHEDULERS,
    STATE,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    advance,
    open_scheduler,
    read_scheduler,
)

NAMES = ("ddim", "pndm", "lms", "euler", "dpm")
ROUNDING = {"dpm_30": 1.5e-6}  # diffusers' float32 is 0.9e-6 from the same in double precision, the table 0.4e-6


def scheduler(golden, name):
    made = golden.settings["schedulers"][name]
    return SCHEDULERS[made["class"]].from_config(made["config"])


def run(table, start, predictions, fresh=None):
    state = np.zeros((len(STATE), *start.shape), np.float32)
    state[0] = start
    for call, prediction in enumerate(predictions):
        yield state[0] * table.scales[call]
        state = advance(table, call, state, prediction, None if fresh is None else fresh[call])
        yield state[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [10, 30])
def test_steps(golden, near, name, steps):
    stem, table = f"{name}_{steps}", scheduler(golden, name).table(steps)
    near(table.timesteps, golden[f"{stem}_timesteps"].astype(np.float64), 1e-6)
    made = list(run(table, golden[f"{stem}_start"], golden[f"{stem}_predictions"]))
    near(np.stack(made[::2]), golden[f"{stem}_scaled_inputs"], ROUNDING.get(stem, 1e-6))
    near(np.stack(made[1::2]), golden[f"{stem}_steps"], ROUNDING.get(stem, 1e-6))
    if steps == 10:
        expected = golden.settings["schedulers"][name]["init_noise_sigma"]
        assert math.isclose(table.start, expected, rel_tol=1e-6)


def test_fresh_noise(golden, near):
    table = DDIMScheduler.from_config(golden.json("scheduler/scheduler_config.json")).table(10, eta=1.0)
    arrays = [golden[f"ddim_eta1_{part}"] for part in ("start", "predictions", "noise")]
    near(np.stack(list(run(table, *arrays))[1::2]), golden["ddim_eta1_steps"], 1e-6)
    assert table.noisy


def test_alphas(golden, near):
    near(scheduler(golden, "ddim").alphas, golden["alphas_cumprod"].astype(np.float64), 1e-7)


def test_from_config_and_back(golden):
    config = golden.json("scheduler/scheduler_config.json")
    ddim = read_scheduler(config, "x")
    assert ddim.config.beta_end == ddim.config["beta_end"] == 0.0195 and ddim.config.steps_offset == 1
    assert ddim.to_dict() | config == ddim.to_dict() | {"_diffusers_version": "0.35.2"}
    there = PNDMScheduler.from_config(ddim.config, skip_prk_steps=True)
    there = DPMSolverMultistepScheduler.from_config(there.config)  # which has no set_alpha_to_one of its own
    there = PNDMScheduler.from_config(there.config)
    back = DDIMScheduler.from_config(there.config)
    assert np.array_equal(back.table(7).matrices, ddim.table(7).matrices)
    assert len(there.table(5).timesteps) == 6 and len(PNDMScheduler().table(5).timesteps) == 14


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"prediction_type": "v_prediction"}, ("prediction_type", "v_prediction", "epsilon")),
        ({"clip_sample": True}, ("clip_sample",)),
        ({"beta_schedule": "squaredcos_cap_v2"}, ("beta_schedule", "scaled_linear")),
        ({"trained_betas": [0.1]}, ("trained_betas",)),
        ({"beta_start": 2.0}, ("betas",)),
        ({"num_train_timesteps": 0}, ("num_train_timesteps",)),
        ({"lambda_min_clipped": -5.1}, ("lambda_min_clipped", "-inf")),
        ({"beta_ende": 0.1}, ("beta_ende", "did you mean beta_end?")),
    ],
)
def test_refused_fields(refused, fields, words):
    for kind in SCHEDULERS.values():
        refused(lambda kind=kind: kind(**fields), *words)


def test_infinity_in_a_file(tmp_path, refused):
    """diffusers writes it, though it is no JSON."""
    path = tmp_path / "scheduler_config.json"
    path.write_text('{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}')
    assert open_scheduler(path).config.lambda_min_clipped == -math.inf
    path.write_text('{"_class_name": "DPMSolverMultistepScheduler", "beta_start": NaN}')
    refused(lambda: open_scheduler(path), "not valid JSON")


def test_refused_runs(refused):
    for kind in SCHEDULERS.values():
        for steps in (0, 1001, 2.5, "ten", True):
            refused(lambda kind=kind, steps=steps: kind().table(steps), "num_inference_steps")
    refused(lambda: PNDMScheduler().table(3), "at least 4")
    for name in ("HeunDiscreteScheduler", ["DDIMScheduler"], {}, None):
        refused(lambda name=name: read_scheduler({"_class_name": name}, "x"), "x describes", "DDIMScheduler")
    for kind in (DDIMScheduler, PNDMScheduler):  # times beyond the last are the last
        assert np.isfinite(kind(steps_offset=10**6).table(10).matrices).all()
    unnoisy = DPMSolverMultistepScheduler(beta_start=1e-30, beta_end=1e-30)
    refused(lambda: unnoisy.table(10), "no finite coefficients for 10 steps")
