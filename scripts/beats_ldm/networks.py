"""The networks, by diffusers' and transformers' classes, and the spectrograms that lie between them."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional
from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig
from world import BINS, CHANNELS, HOP, LINES, RATE

VECTOR = 32  # numbers that say what a text means
TOKENS = 32  # of a text
FFT = 1024
FLOOR = 1e-3  # of magnitudes: -60 dB
MEAN, SCALE = -5.0, 1.5  # about those of log-mel spectrograms


def unet():
    """Foretells noise."""
    return UNet2DConditionModel(
        sample_size=LINES,
        in_channels=len(CHANNELS),
        out_channels=len(CHANNELS),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 96),
        cross_attention_dim=(32, 64, 96),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=16,
        class_embed_type="simple_projection",
        class_embeddings_concat=True,
        projection_class_embeddings_input_dim=VECTOR,
    )


def vae():
    """Spectrograms to latents and back; a line is eight frames, a column eight bins."""
    widths = (16, 16, 32, 64)
    made = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=len(CHANNELS),
        norm_num_groups=8,
        sample_size=BINS,
        scaling_factor=1.0,
    )
    with torch.no_grad():  # what comes out is about as loud as spectrograms are
        made.decoder.conv_out.weight.mul_(SCALE)
        made.decoder.conv_out.bias.fill_(MEAN)
    return made


def vocoder():
    """Spectrograms to sound."""
    config = SpeechT5HifiGanConfig(
        model_in_dim=BINS,
        sampling_rate=RATE,
        upsample_initial_channel=192,
        upsample_rates=[5, 4, 4, 2],
        upsample_kernel_sizes=[11, 8, 8, 4],
        resblock_kernel_sizes=[5],
        resblock_dilation_sizes=[[1, 3]],
        normalize_before=True,
    )
    made = SpeechT5HifiGan(config)
    made.mean.fill_(MEAN)
    made.scale.fill_(SCALE)
    with torch.no_grad():  # the usual start, 0.01, is too small for so few steps
        for module in made.modules():
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                nn.init.kaiming_uniform_(module.weight, 0.1)
                module.bias.zero_()
        for block in made.resblocks:
            for last in block.convs2:
                last.weight.mul_(0.2)
        made.conv_post.weight.mul_(0.1)
    return made


def play(vocoder, shown):
    """What the vocoder makes of spectrograms [B, frames, BINS]: [B, samples]; as pictures of one line, which torch does
    several times as fast on a CPU."""

    def conv(module, x):
        dilation, padding = (1, module.dilation[0]), (0, module.padding[0])
        return functional.conv2d(x, module.weight[:, :, None], module.bias, padding=padding, dilation=dilation)

    slope = vocoder.config.leaky_relu_slope
    x = ((shown - vocoder.mean) / vocoder.scale).transpose(1, 2)[:, :, None]
    x = conv(vocoder.conv_pre, x.contiguous(memory_format=torch.channels_last))
    blocks = vocoder.num_kernels
    for i, up in enumerate(vocoder.upsampler):
        x = functional.leaky_relu(x, slope)
        x = functional.conv_transpose2d(
            x, up.weight[:, :, None], up.bias, stride=(1, up.stride[0]), padding=(0, up.padding[0])
        )
        total = 0
        for block in vocoder.resblocks[i * blocks : (i + 1) * blocks]:
            y = x
            for first, second in zip(block.convs1, block.convs2, strict=True):
                z = conv(first, functional.leaky_relu(y, slope))
                y = y + conv(second, functional.leaky_relu(z, slope))
            total = total + y
        x = total / blocks
    return torch.tanh(conv(vocoder.conv_post, functional.leaky_relu(x)).float())[:, 0, 0]


def clap(vocabulary):
    """Texts to vectors."""
    return ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=TOKENS + 2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            projection_dim=VECTOR,
            pad_token_id=1,
        )
    )


def scheduler():
    """MusicLDM's own."""
    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def mel_filters():
    """Slaney's triangles, [FFT // 2 + 1, BINS], each with a height of one."""
    from mindmusicgen.clap.features import FeatureConfig
    from mindmusicgen.clap.features import mel_filters as filters

    made = filters(FeatureConfig(sampling_rate=RATE, fft=FFT, bins=BINS, lowest=0, highest=RATE / 2))
    return torch.tensor(made / made.max(0), dtype=torch.float32)


class LogMel(nn.Module):
    """Sound [B, samples] to natural logarithms of mel magnitudes, [B, samples / HOP, BINS]; a full sine has about 0."""

    def __init__(self):
        super().__init__()
        self.register_buffer("filters", mel_filters())
        self.register_buffer("window", torch.hann_window(FFT))

    def forward(self, sound):
        """The spectrogram."""
        reach = (FFT - HOP) // 2
        padded = nn.functional.pad(sound[:, None], (reach, reach), mode="reflect")[:, 0]
        spectrum = torch.stft(padded, FFT, HOP, window=self.window, center=False, return_complex=True)
        magnitude = spectrum.abs() * 2 / self.window.sum()
        return torch.log(magnitude.transpose(1, 2) @ self.filters + FLOOR)


def as_tensor(array):
    """A float32 tensor."""
    return torch.from_numpy(np.asarray(array, np.float32))
