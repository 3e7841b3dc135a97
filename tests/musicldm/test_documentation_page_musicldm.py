"""Every example of the field's page of MusicLDM, with the import, the model's name and the kind of tensor changed."""

import numpy as np
import pytest
import scipy.io.wavfile
from mindspore import Tensor

PROMPT = "Techno music with a strong, upbeat tempo and high melodic riffs"
SHORT = 0.5  # of the page's seconds, for the tiny model's sake


@pytest.fixture
def opened(golden):
    """The page's first lines: the class, its checkpoint, a dtype of torch's, a device."""
    from mindmusicgen import MusicLDMPipeline

    pipe = MusicLDMPipeline.from_pretrained(golden.folder, torch_dtype="float32")
    return pipe.to("CPU")


@pytest.fixture(scope="module")
def page(golden):
    """One pipeline for the examples that follow."""
    from mindmusicgen import MusicLDMPipeline

    return MusicLDMPipeline.from_pretrained(golden.folder)


def test_the_example(opened, tmp_path):
    audio = opened(PROMPT, num_inference_steps=10, audio_length_in_s=SHORT).audios[0]
    scipy.io.wavfile.write(tmp_path / "techno.wav", rate=16000, data=audio)
    rate, samples = scipy.io.wavfile.read(tmp_path / "techno.wav")
    assert rate == 16000 and samples.shape == (8000,) and samples.dtype == np.float32 and np.abs(samples).max() <= 1


def test_the_tips(page):
    """A negative prompt, more steps, a length, and several waveforms, of which the first is the best."""
    made = page(
        [PROMPT, "a quiet piano"],
        negative_prompt="low quality, average quality",
        num_inference_steps=12,
        audio_length_in_s=SHORT,
        num_waveforms_per_prompt=3,
        generator=[0, 1, 2, 3, 4, 5],
    )
    assert made.audios.shape == (6, 8000) and made.scores.shape == (2, 3)
    assert (np.diff(made.scores, axis=1) <= 0).all()


def test_schedulers_and_components(page):
    from mindmusicgen import (
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        LMSDiscreteScheduler,
        MusicLDMPipeline,
        PNDMScheduler,
    )

    for kind in (DDIMScheduler, LMSDiscreteScheduler, PNDMScheduler, DPMSolverMultistepScheduler):
        page.scheduler = kind.from_config(page.scheduler.config)
        assert page(PROMPT, 0.5, 10, output_type="latent").audios.shape == (1, 8, 13, 16)
    again = MusicLDMPipeline(**page.components)
    assert again.scheduler is page.scheduler


def test_arguments_by_their_names(page, capsys):
    """All that the page's call lists, each given once."""
    seen = []
    vectors = page.encode_prompt([PROMPT])
    made = page(
        prompt_embeds=Tensor(vectors),
        negative_prompt_embeds=Tensor(page.encode_prompt([""])),
        audio_length_in_s=SHORT,
        num_inference_steps=10,
        guidance_scale=2.5,
        num_waveforms_per_prompt=1,
        eta=0.0,
        generator=np.random.default_rng(0),
        latents=Tensor(np.random.default_rng(1).standard_normal((1, 8, 13, 16), np.float32)),
        return_dict=False,
        callback=lambda step, timestep, latents: seen.append((step, latents.shape)),
        callback_steps=5,
        cross_attention_kwargs=None,
        output_type="np",
    )
    assert isinstance(made, tuple) and made[0].shape == (1, 8000) and seen[-1] == (5, (1, 8, 13, 16))
    page.enable_model_cpu_offload()
    assert "changes nothing here" in capsys.readouterr().err
    page.enable_vae_slicing()
    page.disable_vae_slicing()
