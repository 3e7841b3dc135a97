"""Speed of MusicLDM beside diffusers and transformers on torch, on this machine's CPU.

    python scripts/benchmark/musicldm.py [--only whole] [--rounds 3]

Needs `pip install -e ".[parity]"`. Full sizes with random weights: a step of the UNet with guidance, the VAE's decoder
and the vocoder for 10.24 s of music; and the field's example as a whole, ten steps for 5 s, without the text encoders.
All sides, torch in float32 and ours in float32 and, where there is a tile unit, bfloat16, stay in one process and take
turns; the table has medians and their ratios to torch. With `--error`, how far bfloat16 is from float32 in the example.
"""

import argparse
import statistics
import time

import mindspore as ms
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers import MusicLDMPipeline as Peer
from mindspore import Tensor
from sides import CPUS
from transformers import ClapConfig, ClapModel, SpeechT5HifiGan, SpeechT5HifiGanConfig

from mindmusicgen import DDIMScheduler as Ours
from mindmusicgen import MusicLDMPipeline
from mindmusicgen.clap.config import TextConfig
from mindmusicgen.clap.text import TextEncoder
from mindmusicgen.musicldm.config import UNetConfig, VaeConfig, VocoderConfig
from mindmusicgen.musicldm.unet import UNet
from mindmusicgen.musicldm.vae import VaeDecoder
from mindmusicgen.musicldm.vocoder import Vocoder
from mindmusicgen.ops import bfloat16, pictures
from mindmusicgen.runtime import device
from mindmusicgen.runtime.compiled import compiled

LINES, COLUMNS, FRAMES, BINS = 256, 16, 1024, 64  # of latents and of the spectrogram
WIDTHS = (128, 256, 384, 640)
SCHEDULER = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "clip_sample": False}
SCHEDULER |= {"set_alpha_to_one": False, "steps_offset": 1}
STEPS, SECONDS = 10, 5.0  # of the field's example
TASKS = ("step", "vae", "vocoder", "whole")


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def random(network):
    """Fill a network of ours, in float32 or bfloat16, with the same numbers; norms are about 1."""
    rng = np.random.default_rng(0)
    for name, parameter in network.parameters_and_names():
        drawn = rng.standard_normal(parameter.shape, np.float32)
        if len(parameter.shape) > 1:
            drawn /= np.float32(np.sqrt(parameter.shape[1]))
        else:
            drawn = 0.02 * drawn + np.float32("norm" in name and name.endswith("weight"))
        parameter.set_data(Tensor(bfloat16.to_bits(drawn) if parameter.dtype == ms.uint16 else drawn))
    return network.set_train(False)


def ours(dtype):
    """Functions of ours by task."""
    unet, vae = random(UNet(UNetConfig(), dtype)), random(VaeDecoder(VaeConfig(), dtype))
    vocoder, text = random(Vocoder(VocoderConfig(), dtype)), TextEncoder(TextConfig())
    pipe = MusicLDMPipeline(vae, text, None, None, unet, Ours(**SCHEDULER), vocoder)
    noise, sketch, sound = (compiled(network.construct) for network in (unet, vae, vocoder))
    latents, vectors, when = Tensor(numbers(1, 2, LINES, COLUMNS, 8)), Tensor(numbers(2, 2, 512)), Tensor([901.0])
    one, mel = Tensor(numbers(3, 1, LINES, COLUMNS, 8)), Tensor(numbers(4, 1, FRAMES, BINS))
    given = {"prompt_embeds": numbers(5, 1, 512) / 22, "negative_prompt_embeds": numbers(6, 1, 512) / 22, "seed": 1}
    return {
        "step": lambda: noise(latents, when, vectors).asnumpy(),
        "vae": lambda: sketch(one).asnumpy(),
        "vocoder": lambda: sound(mel).asnumpy(),
        "whole": lambda **more: pipe(None, SECONDS, STEPS, **given, **more).audios,
    }


def theirs():
    """The same of diffusers and transformers."""
    torch.set_num_threads(CPUS)
    torch.set_grad_enabled(False)
    unet = UNet2DConditionModel(
        sample_size=LINES, in_channels=8, out_channels=8, block_out_channels=WIDTHS, layers_per_block=2,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",), cross_attention_dim=WIDTHS, attention_head_dim=8,
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=512, class_embeddings_concat=True,
    ).eval()  # fmt: skip
    vae = AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 3, layers_per_block=2,
        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(128, 256, 512), latent_channels=8,
    ).eval()  # fmt: skip
    config = SpeechT5HifiGanConfig(
        model_in_dim=BINS, sampling_rate=16000, upsample_initial_channel=1024, upsample_rates=(5, 4, 2, 2, 2),
        upsample_kernel_sizes=(16, 16, 8, 4, 4), normalize_before=False,
    )  # fmt: skip
    vocoder = SpeechT5HifiGan(config).eval()
    latents, vectors, when = torch.randn(2, 8, LINES, COLUMNS), torch.randn(2, 512), torch.tensor(901)
    one, mel = torch.randn(1, 8, LINES, COLUMNS), torch.randn(1, FRAMES, BINS)
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    clap = ClapModel(ClapConfig(text_config=tiny, audio_config={"depths": [1], "num_attention_heads": [1]}))
    pipe = Peer(vae, clap, None, None, unet, DDIMScheduler(**SCHEDULER), vocoder)
    pipe.set_progress_bar_config(disable=True)
    given = {"prompt_embeds": torch.randn(1, 512) / 22, "negative_prompt_embeds": torch.randn(1, 512) / 22}
    return {
        "step": lambda: unet(latents, when, encoder_hidden_states=None, class_labels=vectors),
        "vae": lambda: vae.decode(one),
        "vocoder": lambda: vocoder(mel),
        "whole": lambda: pipe(audio_length_in_s=SECONDS, num_inference_steps=STEPS, **given),
    }


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def error(sides):
    """How far bfloat16 is from float32 in the example: of the latents, and of the audio in dB."""
    exact, rough = (sides[name]["whole"] for name in ("float32", "bfloat16"))
    a, b = (run(output_type="latent").asnumpy().astype(np.float64) for run in (exact, rough))
    largest, typical = np.abs(a - b).max() / np.abs(a).max(), np.sqrt(((a - b) ** 2).mean() / (a**2).mean())
    print(f"latents after {STEPS} steps: error {largest:.1e} of the largest, {typical:.1e} of the mean square")
    a, b = (run().astype(np.float64) for run in (exact, rough))
    print(f"audio: signal to noise {10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()):.1f} dB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of every measurement")
    parser.add_argument("--only", choices=TASKS, action="append", help="some of the tasks")
    parser.add_argument("--error", action="store_true", help="compare bfloat16 with float32 instead")
    options = parser.parse_args()
    device.use("CPU")
    dtypes = {"float32": ms.float32} | ({"bfloat16": ms.bfloat16} if pictures.can_multiply_bfloat16() else {})
    sides = {name: ours(dtype) for name, dtype in dtypes.items()}
    if options.error:
        error(sides)
        return
    sides["torch"] = theirs()
    print(f"MindSpore {ms.__version__}, torch {torch.__version__}, {CPUS} CPUs; seconds, medians of {options.rounds}")
    for task in options.only or TASKS:
        for side in sides.values():
            side[task]()  # compiled, and warm
        found = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                found[name].append(seconds(side[task]))
        middle = {name: statistics.median(times) for name, times in found.items()}
        said = "   ".join(f"{name} {time:6.2f} ({time / middle['torch']:.2f})" for name, time in middle.items())
        print(f"{task:8} {said}", flush=True)


if __name__ == "__main__":
    main()
