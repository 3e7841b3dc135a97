"""A MusicLDM of a few thousand weights, drawn by NumPy from a seed: the same on every machine, and in no file."""

import numpy as np
from mindspore import Tensor

from ...clap import folder as clap_folder
from ...clap.config import TextConfig
from ...clap.text import TextEncoder
from ...doctor.drawn import filled
from ...runtime.compiled import compiled
from ..checkpoint import names
from ..config import UNetConfig, VaeConfig, VocoderConfig
from ..model import Step
from ..schedulers import STATE, DDIMScheduler
from ..unet import UNet
from ..vae import VaeDecoder
from ..vocoder import Vocoder

SEED, LINES, COLUMNS, STEPS, GUIDANCE = 7, 5, 4, 10, 2.0
TEXT = TextConfig(40, 16, 1, 2, 32, 20, 1, 1e-12, 16)
UNET = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16), "class_size": 16}
UNET |= {"layers_per_block": (1, 1), "down_heads": (0, 2), "up_heads": (2, 0), "mid_heads": 2, "norm_num_groups": 4}
VAE = VaeConfig(latent_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, scaling_factor=1.0)
VOCODER = VocoderConfig(
    model_in_dim=COLUMNS * 2,
    upsample_initial_channel=16,
    upsample_rates=(5, 2),
    upsample_kernel_sizes=(16, 4),  # of the first, the rate is no divisor
    resblock_kernel_sizes=(3, 7),
    resblock_dilation_sizes=((1, 3),) * 2,
)
SCHEDULER = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
SCHEDULER |= {"set_alpha_to_one": False, "steps_offset": 1}


class TinyMusicLDM:
    """The networks, each compiled alone, and the compiled step.

    Args:
        dtype (mindspore.dtype): of the UNet.
    """

    def __init__(self, dtype):
        unet = self.unet = UNet(UNetConfig(**UNET), dtype)
        networks = {"text": TextEncoder(TEXT), "noise": unet}
        networks |= {"spectrogram": VaeDecoder(VAE), "waveform": Vocoder(VOCODER)}
        plans = {"noise": names.UNET, "spectrogram": names.VAE, "waveform": names.VOCODER}
        for number, (name, cell) in enumerate(networks.items()):
            of_text = name == "text"
            plan = clap_folder.plan(cell, clap_folder.TEXT_NAMES) if of_text else names.plan(cell, plans[name])
            filled(cell, plan, SEED + number)
        networks["step"] = Step(unet, True)
        self.runs = {name: compiled(cell.construct, f"{name} {dtype}") for name, cell in networks.items()}

        self.given = self._inputs()

    def _inputs(self):
        """What the networks are given: by name arrays that a seed decides."""
        rng = np.random.default_rng(SEED + 4)
        latents = rng.standard_normal((2, LINES, COLUMNS, UNET["in_channels"]), np.float32)
        vectors = rng.standard_normal((2, UNET["class_size"]), np.float32)
        spectrogram = rng.standard_normal((1, 2 * LINES, VOCODER.model_in_dim), np.float32)
        return {"latents": latents, "vectors": vectors, "spectrogram": spectrogram}

    def run(self, name, *arrays):
        """What a network makes of arrays."""
        return self.runs[name](*map(Tensor, arrays)).asnumpy()

    def text(self):
        """The vector of a text of nine tokens and three of padding, [1, 16]."""
        ids = np.array([[0, 5, 31, 17, 8, 22, 39, 11, 2, 1, 1, 1]], np.int32)
        return self.run("text", ids, (ids != 1).astype(np.int32))

    def noise(self):
        """What the UNet foretells in latents of an odd number of lines, [2, lines, columns, 4]."""
        return self.run("noise", self.given["latents"], np.array([501], np.float32), self.given["vectors"])

    def spectrogram(self):
        """The autoencoder's spectrogram of the first latents."""
        return self.run("spectrogram", self.given["latents"][:1])

    def waveform(self):
        """The vocoder's samples of a spectrogram."""
        return self.run("waveform", self.given["spectrogram"])

    def steps(self):
        """Latents after ten steps of DDIM with guidance, [1, lines, columns, 4]."""
        table, start = DDIMScheduler(**SCHEDULER).table(STEPS), self.given["latents"][:1]
        state, fresh = Tensor(np.stack([start] + [0 * start] * (len(STATE) - 1))), Tensor(0 * start)
        vectors, guidance = Tensor(self.given["vectors"]), Tensor(np.array([GUIDANCE], np.float32))
        for time, scale, matrix in zip(table.timesteps, table.scales, table.matrices, strict=True):
            when, by = (Tensor(np.array([one], np.float32)) for one in (time, scale))
            state, _ = self.runs["step"](state, fresh, vectors, when, by, Tensor(matrix), guidance)
        return state.asnumpy()[0]
