"""MusicLDM against diffusers and torch, live: fresh random pipelines of both kinds, latents and audio, both ways."""

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")
diffusers = pytest.importorskip("diffusers", reason="the live comparison needs diffusers up to 0.35.2")

import transformers  # noqa: E402

from mindmusicgen import MusicLDMPipeline  # noqa: E402

SEED = int(os.environ.get("MINDMUSICGEN_TEST_SEED", "0"))  # one for all workers of a run; another for other weights
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "musicldm"
RECIPES = [  # (pipeline, UNet widths, ResNets a block, heads, VAE widths, upsampling, seconds, safetensors, scheduler)
    ("MusicLDM", (8, 16), 2, 2, (8, 16), ((5, 16), (4, 8), (8, 16)), 0.44, True, "DDIMScheduler"),
    (
        "AudioLDM",
        (16, 24, 32),
        1,
        4,
        (8, 8, 16),
        ((5, 16), (4, 16), (2, 8), (2, 4), (2, 4)),
        0.52,
        False,
        "PNDMScheduler",
    ),
    ("MusicLDM", (8, 8, 16, 24), 1, 8, (16, 24, 24), ((8, 16), (5, 10), (4, 8)), 0.2, False, "EulerDiscreteScheduler"),
    ("AudioLDM", (24, 48), 1, 3, (8, 16, 16), ((5, 11), (4, 8), (8, 16)), 0.32, True, "DPMSolverMultistepScheduler"),
]


def clap(kind, size):
    """CLAP's text side, or both."""
    text = {
        "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24,
        "max_position_embeddings": 34, "projection_dim": size,
    }  # fmt: skip
    if kind == "AudioLDM":
        return transformers.ClapTextModelWithProjection(transformers.ClapTextConfig(**text))
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_embeds_hidden_size": 8, "depths": [1, 1],
        "num_attention_heads": [1, 2], "hidden_size": 16, "num_hidden_layers": 2, "mlp_ratio": 2.0,
    }  # fmt: skip
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=size)
    return transformers.ClapModel(config)


def pipeline(kind, widths, layers, heads, vae, ups, scheduler):
    torch.manual_seed(SEED)
    levels, size = len(widths), 32
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=8, out_channels=8, block_out_channels=widths, layers_per_block=layers,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        cross_attention_dim=widths, attention_head_dim=heads, norm_num_groups=8, class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=size, class_embeddings_concat=True,
    )  # fmt: skip
    decoder = diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * len(vae), latent_channels=8,
        up_block_types=("UpDecoderBlock2D",) * len(vae), block_out_channels=vae, layers_per_block=1, norm_num_groups=8,
        scaling_factor=0.9,
    )  # fmt: skip
    vocoder = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=64, sampling_rate=16000, upsample_initial_channel=32 * 2 ** (len(ups) > 4),
            upsample_rates=[rate for rate, _ in ups], upsample_kernel_sizes=[size for _, size in ups],
            resblock_kernel_sizes=[3, 5], resblock_dilation_sizes=[[1, 3], [1, 2]],
            normalize_before=kind == "AudioLDM", initializer_range=0.12,
        )
    )  # fmt: skip
    settings = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "clip_sample": False}
    settings |= {"set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}
    parts = {
        "unet": unet, "vae": decoder, "vocoder": vocoder, "text_encoder": clap(kind, size),
        "tokenizer": transformers.RobertaTokenizerFast.from_pretrained(GOLDEN / "tokenizer"),
        "scheduler": getattr(diffusers, scheduler).from_config(settings),
    }  # fmt: skip
    for part in ("unet", "vae", "vocoder", "text_encoder"):
        parts[part].eval()  # what is made from a config has dropout
        with torch.no_grad():
            for name, values in parts[part].named_parameters():
                if values.ndim == 1:
                    values.normal_(0, 0.1).add_(float("norm" in name.lower() and name.endswith("weight")))
    if kind == "MusicLDM":
        extractor = transformers.ClapFeatureExtractor(feature_size=16, truncation="rand_trunc")
        return diffusers.MusicLDMPipeline(**parts, feature_extractor=extractor)
    return diffusers.AudioLDMPipeline(**parts)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe[0]}-{recipe[-1]}-{SEED}")
def test_pipeline(recipe, tmp_path, near_live):
    *sizes, seconds, safe, scheduler = recipe
    theirs = pipeline(*sizes, scheduler)
    theirs.set_progress_bar_config(disable=True)
    theirs.save_pretrained(tmp_path / "theirs", safe_serialization=safe)
    ours = MusicLDMPipeline.from_pretrained(str(tmp_path / "theirs"))
    lines = -(-round(seconds * 100) // ours.vae.config.stretch)
    noise = np.random.default_rng(SEED).standard_normal((1, 8, lines, ours.columns)).astype(np.float32)
    call = {"negative_prompt": "noise", "audio_length_in_s": seconds, "num_inference_steps": 5, "guidance_scale": 2.5}
    found = ours("a waltz", latents=noise, **call).audios
    expected = theirs("a waltz", latents=torch.from_numpy(noise), **call).audios
    near_live(found, np.asarray(expected), 1e-3)
    ours.save_pretrained(str(tmp_path / "ours"))
    again = type(theirs).from_pretrained(tmp_path / "ours")
    again.set_progress_bar_config(disable=True)
    near_live(np.asarray(again("a waltz", latents=torch.from_numpy(noise), **call).audios), np.asarray(expected), 1e-6)


@pytest.fixture
def near_live():
    def check(found, expected, tolerance):
        assert found.shape == expected.shape
        error = np.abs(found - expected).max() / np.abs(expected).max()
        print("error", error)
        assert error <= tolerance, error

    return check
