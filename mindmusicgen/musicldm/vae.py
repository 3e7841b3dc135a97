"""The decoder of the variational autoencoder: latents to log-mel spectrograms.

The numbers follow diffusers' AutoencoderKL, and so do the names of parameters, but for q, k and v: one
matrix.
"""

import mindspore as ms
from mindspore import nn

from .layers import Conv1x1, Conv3x3, GroupNorm, ResnetBlock, SelfAttention, Upsample

EPS = 1e-6


class MidAttention(nn.Cell):
    """One head of attention over all places of a picture, added to it."""

    def __init__(self, channels, groups, dtype):
        super().__init__()
        self.group_norm = GroupNorm(groups, channels, EPS)
        self.attention = SelfAttention(channels, 1, bias=True, dtype=dtype)

    def construct(self, x):
        rows, height, width, channels = x.shape
        return x + self.attention(self.group_norm(x).reshape(rows, height * width, channels)).reshape(x.shape)


class MidBlock(nn.Cell):
    """ResNet, attention, ResNet."""

    def __init__(self, channels, groups, dtype):
        super().__init__()
        self.resnets = nn.CellList([ResnetBlock(channels, channels, groups, EPS, dtype=dtype) for _ in range(2)])
        self.attentions = nn.CellList([MidAttention(channels, groups, dtype)])

    def construct(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class UpBlock(nn.Cell):
    """ResNets, then twice the size unless it is the last."""

    def __init__(self, channels, out_channels, layers, groups, last, dtype):
        super().__init__()
        sizes = [channels] + [out_channels] * layers
        made = [ResnetBlock(a, b, groups, EPS, dtype=dtype) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.resnets, self.upsampler = nn.CellList(made), None if last else Upsample(out_channels, dtype)

    def construct(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.upsampler is None else self.upsampler(x, 2 * x.shape[1], 2 * x.shape[2])


class Decoder(nn.Cell):
    """Everything behind the first 1 x 1 convolution; its parameters have the checkpoint's prefix."""

    def __init__(self, config, dtype):
        super().__init__()
        sizes, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = Conv3x3(config.latent_channels, sizes[0], dtype=dtype)
        self.mid_block = MidBlock(sizes[0], groups, dtype)
        before, made = sizes[0], []
        for i, channels in enumerate(sizes):
            made.append(UpBlock(before, channels, config.layers_per_block + 1, groups, i == len(sizes) - 1, dtype))
            before = channels
        self.up_blocks = nn.CellList(made)
        self.conv_norm_out = GroupNorm(groups, sizes[-1], EPS, True)
        self.conv_out = Conv3x3(sizes[-1], config.out_channels, dtype=dtype)

    def construct(self, x):
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(x))


class VaeDecoder(nn.Cell):
    """Latents to log-mel spectrograms, in float32.

    Args:
        config (musicldm.config.VaeConfig): sizes.
        dtype (mindspore.dtype): float32; or bfloat16 on a CPU, of weights and products.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        self.config, self.dtype = config, dtype
        self.post_quant_conv = Conv1x1(config.latent_channels, config.latent_channels, dtype)
        self.decoder = Decoder(config, dtype)

    def construct(self, latents):
        """Latents divided by the scaling factor, [B, H, W, channels], to [B, frames, bins]; 4 frames a line."""
        y = self.decoder(self.post_quant_conv(latents))
        return y.reshape(y.shape[0], y.shape[1], y.shape[2])
