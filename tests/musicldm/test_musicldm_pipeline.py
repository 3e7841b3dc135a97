"""The whole pipeline against diffusers', with every scheduler; seeds, stopping, compilations, what a call refuses."""

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import AutoModelForTextToWaveform, EulerDiscreteScheduler, MusicLDMPipeline
from mindmusicgen.musicldm.schedulers import SCHEDULERS

SHORT = {"audio_length_in_s": 0.5, "num_inference_steps": 10}


@pytest.mark.parametrize("name", ["ddim", "pndm", "lms", "euler", "dpm"])
def test_latents_of_every_scheduler(golden, pipe, near, compiled, name):
    made, seen = golden.settings["schedulers"][name], []
    pipe.scheduler = SCHEDULERS[made["class"]].from_config(made["config"])
    before = compiled()

    def callback(step, timestep, latents):
        seen.append((step, timestep, latents.asnumpy()[0]))

    call = SHORT | {"latents": golden["latents"], "negative_prompt": golden.negative, "callback": callback}
    found = pipe(golden.prompts[0], output_type="latent", **call).audios
    near(found, golden[f"{name}_final_latents"], 1e-5)
    near(np.stack([one[2] for one in seen]), golden[f"{name}_step_latents"], 1e-5)
    assert [one[0] for one in seen] == list(range(10))
    assert name == "ddim" or compiled() == before  # the first made the graphs


def test_audio(golden, ddim, near, compiled):
    call = {"latents": golden["latents"], "negative_prompt": golden.negative, "return_dict": False}
    (found,) = ddim(golden.prompts[0], **SHORT, **call)
    near(found, golden["audio_ddim"], 1e-4)
    before = compiled()
    found = ddim("another prompt, as long", 0.5, 7, 5.5, "other words", latents=Tensor(golden["latents"]), eta=0.5)
    assert found.audios.shape == (1, 8000) and found.audios.dtype == np.float32 and compiled() == before
    assert ddim.sampling_rate == 16000 and abs(ddim.longest - 1.28) < 1e-9 and ddim.hop_length == 160


def test_two_prompts(golden, ddim, near):
    call = SHORT | {"latents": golden["latents_two"]}
    near(ddim(golden.prompts, guidance_scale=3.5, **call).audios, golden["audio_two_guided"], 1e-4)
    both = np.stack([golden[f"prompt{i}_embedding"] for i in (0, 1)])
    found = ddim(prompt_embeds=both, guidance_scale=1.0, output_type="latent", **call).audios
    near(found, golden["latents_two_unguided"], 1e-5)
    near(ddim.encode_prompt(golden.prompts), both, 1e-5)


def test_a_row_alone_is_the_row_in_a_batch(golden, ddim, near):
    call = SHORT | {"num_inference_steps": 3, "eta": 1.0, "output_type": "latent"}
    both = ddim(golden.prompts, seed=[7, 9], **call)
    alone = ddim(golden.prompts[1], generator=9, **call)
    near(alone.audios, both.audios.asnumpy()[1:], 1e-5)
    assert both.seeds == (7, 9) and alone.seeds == (9,)
    again = ddim(golden.prompts[1], generator=np.random.default_rng(3), **call)
    same = ddim(golden.prompts[1], seed=again.seeds[0], **call)
    assert np.array_equal(again.audios.asnumpy(), same.audios.asnumpy())
    assert not np.allclose(again.audios.asnumpy(), alone.audios.asnumpy())


def test_stopping(golden, ddim):
    steps = []

    def stop(step, timestep, latents):
        steps.append(step)
        return step == 4

    found = ddim(golden.prompts[0], 0.5, 10, callback=stop, callback_steps=2, output_type="ms", seed=1)
    assert steps == [0, 2, 4] and found.audios.shape == (1, 8000)
    ddim(golden.prompts[0], 0.5, 10, callback=lambda *_: ddim.stop(), output_type="latent", seed=1)


@pytest.mark.parametrize(
    "call, words",
    [
        ({}, ("lacks", "prompt", "prompt_embeds")),
        ({"prompt": "a", "prompt_embeds": np.zeros((1, 16))}, ("prompt and prompt_embeds", "one of them")),
        ({"prompt": 3}, ("prompt is 3", "list of texts")),
        ({"prompt": ["a", None]}, ("prompt is", "list of texts")),
        ({"prompt": []}, ("prompt is an empty list",)),
        ({"prompt": "a", "negative_prompt": ["b", "c"]}, ("negative_prompt has 2 entries for 1",)),
        ({"prompt": "a", "negative_prompt": 7}, ("negative_prompt is 7",)),
        ({"prompt": "a", "audio_length_in_s": 0.03}, ("audio_length_in_s is 0.03", "0.04")),
        ({"prompt": "a", "audio_length_in_s": float("nan")}, ("audio_length_in_s is nan",)),
        ({"prompt": "a", "audio_length_in_s": 61}, ("audio_length_in_s is 61", "60")),
        ({"prompt": "a", "num_inference_steps": 0}, ("num_inference_steps is 0",)),
        ({"prompt": "a", "num_inference_steps": 1001}, ("num_inference_steps is 1001", "1000")),
        ({"prompt": "a", "num_inference_steps": 10.5}, ("num_inference_steps is 10.5", "whole")),
        ({"prompt": "a", "guidance_scale": float("inf")}, ("guidance_scale is inf",)),
        ({"prompt": "a", "guidance_scale": "high"}, ("guidance_scale is 'high'",)),
        ({"prompt": "a", "eta": 1.5}, ("eta is 1.5",)),
        ({"prompt": "a", "callback_steps": 0}, ("callback_steps is 0",)),
        ({"prompt": "a", "callback": 3}, ("callback is 3",)),
        ({"prompt": "a", "num_waveforms_per_prompt": 0}, ("num_waveforms_per_prompt is 0",)),
        ({"prompt": "a", "output_type": "pt"}, ("output_type is 'pt'", "'np'", "'ms'")),
        ({"prompt": "a", "output_type": "wav"}, ("output_type is 'wav'",)),
        ({"prompt": "a", "cross_attention_kwargs": {"gain": 1}}, ("cross_attention_kwargs", "scale")),
        ({"prompt": "a", "generator": 1, "seed": 2}, ("generator and seed",)),
        ({"prompt": "a", "seed": [1, 2]}, ("seed has 2 entries for 1",)),
        ({"prompt_embeds": np.zeros((1, 15))}, ("prompt_embeds has shape (1, 15)", "16")),
        (
            {"prompt_embeds": np.zeros((1, 16)), "negative_prompt_embeds": np.zeros((2, 16))},
            ("negative_prompt_embeds has 2 rows for 1",),
        ),
        (
            {"prompt": ["a", "b"], "audio_length_in_s": 5.0, "latents": np.zeros((1, 8, 125, 16))},
            ("latents have shape (1, 8, 125, 16)", "5 s of 2 waveforms need (2, 8, 125, 16)"),
        ),
        ({"prompt": "a", "audio_length_in_s": 0.5, "latents": np.full((1, 8, 13, 16), np.nan)}, ("latents hold NaN",)),
    ],
)
def test_refused_calls(pipe, refused, compiled, call, words):
    before = compiled()
    refused(lambda: pipe(**call), *words)
    assert compiled() == before


def test_what_is_told(unstepped, capsys):
    unstepped.scheduler = EulerDiscreteScheduler.from_config(unstepped.scheduler.config)
    long = "a long prompt of more than thirty-two bytes, which is all that fits"
    unstepped(long, 1.3, 1, 1.0, "never", eta=0.5, output_type="latent", seed=1)
    unstepped.encode_prompt(long)
    said = capsys.readouterr().err
    for words in (
        "negative prompt is ignored",
        "trained on 1.28 s",
        "EulerDiscreteScheduler ignores it",
        "first 32 count",
    ):
        assert words in said


def test_a_folder_of_pieces(golden, refused):
    assert AutoModelForTextToWaveform.from_pretrained(golden.folder).model_type == "musicldm"
    pipe = MusicLDMPipeline.from_pretrained(golden.folder, torch_dtype="float32", scheduler=EulerDiscreteScheduler())
    assert isinstance(pipe.scheduler, EulerDiscreteScheduler) and set(pipe.components) >= {"unet", "vae", "vocoder"}
    refused(lambda: setattr(pipe, "scheduler", "ddim"), "scheduler is 'ddim'", "from_config")
    refused(lambda: MusicLDMPipeline.from_pretrained(golden.folder, unet=3), "does not take 'unet'")
