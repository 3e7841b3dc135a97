"""Speed of MusicLDM's networks beside diffusers and transformers on torch, on this machine's CPU, in float32.

    python scripts/benchmark/musicldm.py [--rounds 3]

Needs `pip install -e ".[parity]"`. Full sizes with random weights, 10.24 s of music: a step of the UNet with guidance,
the VAE's decoder, the vocoder. Both sides stay in one process and take turns; the table has medians and their ratio.
"""

import argparse
import statistics
import time

import mindspore as ms
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from mindspore import Tensor
from sides import CPUS
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from mindmusicgen.musicldm.config import UNetConfig, VaeConfig, VocoderConfig
from mindmusicgen.musicldm.unet import UNet
from mindmusicgen.musicldm.vae import VaeDecoder
from mindmusicgen.musicldm.vocoder import Vocoder
from mindmusicgen.runtime.compiled import compiled

LINES, COLUMNS, FRAMES, BINS = 256, 16, 1024, 64  # of latents and of the spectrogram
WIDTHS = (128, 256, 384, 640)


def ours():
    """Functions of our networks by name."""
    rng = np.random.default_rng(0)

    def random(network):
        for parameter in network.get_parameters():
            parameter.set_data(Tensor((0.02 * rng.standard_normal(parameter.shape)).astype(np.float32)))
        return compiled(network.construct)

    def numbers(*shape):
        return Tensor(rng.standard_normal(shape, np.float32))

    unet, vae, vocoder = random(UNet(UNetConfig())), random(VaeDecoder(VaeConfig())), random(Vocoder(VocoderConfig()))
    latents, vectors = numbers(2, LINES, COLUMNS, 8), numbers(2, 512)
    one, mel, when = numbers(1, LINES, COLUMNS, 8), numbers(1, FRAMES, BINS), Tensor(np.array([901], np.float32))
    return {
        "UNet step, 2 rows": lambda: unet(latents, when, vectors).asnumpy(),
        "VAE": lambda: vae(one).asnumpy(),
        "vocoder": lambda: vocoder(mel).asnumpy(),
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
    return {
        "UNet step, 2 rows": lambda: unet(latents, when, encoder_hidden_states=None, class_labels=vectors),
        "VAE": lambda: vae.decode(one),
        "vocoder": lambda: vocoder(mel),
    }


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of every measurement")
    rounds = parser.parse_args().rounds
    mine, peer = ours(), theirs()
    print(f"MindSpore {ms.__version__}, torch {torch.__version__}, {CPUS} CPUs; seconds, medians of {rounds}")
    for name, run in mine.items():
        run(), peer[name]()  # compiled, and warm
        found = [(seconds(run), seconds(peer[name])) for _ in range(rounds)]
        own, other = (statistics.median(side) for side in zip(*found, strict=True))
        print(f"{name:20} mindmusicgen {own:6.2f}   torch {other:6.2f}   ratio {own / other:.2f}", flush=True)


if __name__ == "__main__":
    main()
