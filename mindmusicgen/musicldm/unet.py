"""The UNet that foretells the noise of latents, told by a text's vector and by time.

Latent diffusion after Rombach et al., arXiv:2112.10752, in the form of AudioLDM, arXiv:2301.12503, and MusicLDM,
arXiv:2308.01546: the text is one vector, which goes where the time goes; there is no cross-attention, and each
transformer block attends to its picture twice. The numbers follow diffusers' UNet2DConditionModel, and so do the names
of parameters, but for q, k and v, which are one matrix.

Shapes: B latents, H lines (four frames, 0.04 s, each) by W columns, C channels.
"""

import mindspore as ms
from mindspore import nn, ops

from ..models.layers import LayerNorm, gelu
from ..ops.bfloat16 import activation_dtype
from ..ops.sequence import gelu_op
from .layers import (
    Conv1x1,
    Conv3x3,
    Dense,
    Downsample,
    GroupNorm,
    ResnetBlock,
    SelfAttention,
    Upsample,
    silu,
    sinusoids,
)

TRANSFORMER_EPS = 1e-6


class FeedForward(nn.Cell):
    """Four times the width with a gate, and back."""

    def __init__(self, channels, dtype):
        super().__init__()
        self.gelu = gelu_op(activation_dtype(dtype)) or gelu
        self.proj, self.out = Dense(channels, 8 * channels, dtype), Dense(4 * channels, channels, dtype)

    def construct(self, x):
        values, gates = ops.split(self.proj(x), self.proj.out_features // 2, -1)
        return self.out(values * self.gelu(gates))


class TransformerBlock(nn.Cell):
    """Self-attention twice, and feed-forward, each after a norm and added."""

    def __init__(self, channels, heads, dtype):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(channels, 1e-5, activation_dtype(dtype)) for _ in range(3))
        self.attn1, self.attn2 = (SelfAttention(channels, heads, dtype=dtype) for _ in range(2))
        self.ff = FeedForward(channels, dtype)

    def construct(self, x):
        x, normed = self.norm2.after_sum(x, self.attn1(self.norm1(x)))
        x, normed = self.norm3.after_sum(x, self.attn2(normed))
        return x + self.ff(normed)


class SpatialTransformer(nn.Cell):
    """A transformer block over all places of a picture, added to it. [B, H, W, C] -> the same."""

    def __init__(self, channels, heads, groups, dtype):
        super().__init__()
        self.norm = GroupNorm(groups, channels, TRANSFORMER_EPS, dtype=dtype)
        self.proj_in, self.proj_out = Conv1x1(channels, channels, dtype), Conv1x1(channels, channels, dtype)
        self.block = TransformerBlock(channels, heads, dtype)

    def construct(self, x):
        rows, height, width, channels = x.shape
        y = self.proj_in(self.norm(x).reshape(rows, height * width, channels))
        return x + self.proj_out(self.block(y)).reshape(x.shape)


class DownBlock(nn.Cell):
    """ResNets, each with a transformer behind it where `heads` is not 0, then half the size unless it is the last."""

    def __init__(self, config, channels, out_channels, layers, heads, last, dtype):
        super().__init__()
        sizes = [channels] + [out_channels] * layers
        make = _resnet_maker(config, dtype)
        self.resnets = nn.CellList([make(a, b) for a, b in zip(sizes, sizes[1:], strict=False)])
        self.attentions = _transformers(config, out_channels, heads, layers, dtype)
        self.downsampler = None if last else Downsample(out_channels, dtype)

    def construct(self, x, condition):
        """The picture, and all that came before it: what the way up reads."""
        kept = ()
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, condition)
            if len(self.attentions):
                x = self.attentions[i](x)
            kept += (x,)
        if self.downsampler is not None:
            x = self.downsampler(x)
            kept += (x,)
        return x, kept


class UpBlock(nn.Cell):
    """ResNets that read what the way down kept, the last first, each with a transformer where `heads` is not 0."""

    def __init__(self, config, channels, kept, out_channels, heads, last, dtype):
        super().__init__()
        make = _resnet_maker(config, dtype)
        before = [channels] + [out_channels] * (len(kept) - 1)
        self.resnets = nn.CellList([make(a + b, out_channels) for a, b in zip(before, kept, strict=True)])
        self.attentions = _transformers(config, out_channels, heads, len(kept), dtype)
        self.upsampler = None if last else Upsample(out_channels, dtype)

    def construct(self, x, kept, condition):
        """kept: all that is left of the way down; how much of it is left then is returned too."""
        for i, resnet in enumerate(self.resnets):
            x = resnet(ops.concat((x, kept[len(kept) - 1 - i]), 3), condition)
            if len(self.attentions):
                x = self.attentions[i](x)
        if self.upsampler is not None:
            below = kept[len(kept) - 1 - len(self.resnets)]
            x = self.upsampler(x, below.shape[1], below.shape[2])
        return x


class MidBlock(nn.Cell):
    """ResNet, transformer, ResNet."""

    def __init__(self, config, channels, heads, dtype):
        super().__init__()
        make = _resnet_maker(config, dtype)
        self.resnets = nn.CellList([make(channels, channels) for _ in range(2)])
        self.attentions = _transformers(config, channels, heads, 1, dtype)

    def construct(self, x, condition):
        x = self.attentions[0](self.resnets[0](x, condition))
        return self.resnets[1](x, condition)


def _resnet_maker(config, dtype):
    condition = 2 * config.time_embed_dim

    def make(channels, out_channels):
        return ResnetBlock(channels, out_channels, config.norm_num_groups, config.norm_eps, condition, dtype)

    return make


def _transformers(config, channels, heads, count, dtype):
    count = count if heads else 0
    return nn.CellList([SpatialTransformer(channels, heads, config.norm_num_groups, dtype) for _ in range(count)])


class UNet(nn.Cell):
    """Foretells the noise in latents.

    Args:
        config (musicldm.config.UNetConfig): sizes.
        dtype (mindspore.dtype): of weights and pictures; norms, softmax and what comes out are float32. bfloat16 on a
            CPU: of weights and products alone.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        self.config, self.dtype, self.activations = config, dtype, activation_dtype(dtype)
        sizes, size = config.block_out_channels, config.time_embed_dim
        self.conv_in = Conv3x3(config.in_channels, sizes[0], dtype=dtype)
        self.linear_1, self.linear_2 = Dense(sizes[0], size, dtype), Dense(size, size, dtype)
        self.class_embedding = Dense(config.class_size, size, dtype)
        down, kept, before = [], [sizes[0]], sizes[0]
        for i, channels in enumerate(sizes):
            last, layers = i == len(sizes) - 1, config.layers_per_block[i]
            down.append(DownBlock(config, before, channels, layers, config.down_heads[i], last, dtype))
            kept += [channels] * (layers + (not last))
            before = channels
        self.down_blocks = nn.CellList(down)
        self.mid_block = MidBlock(config, sizes[-1], config.mid_heads, dtype)
        up = []
        for i, channels in enumerate(reversed(sizes)):
            layers = config.layers_per_block[len(sizes) - 1 - i] + 1
            those, kept = kept[: -layers - 1 : -1], kept[:-layers]
            up.append(UpBlock(config, before, those, channels, config.up_heads[i], not kept, dtype))
            before = channels
        self.up_blocks = nn.CellList(up)
        self.conv_norm_out = GroupNorm(config.norm_num_groups, sizes[0], config.norm_eps, True, dtype)
        self.conv_out = Conv3x3(sizes[0], config.out_channels, dtype=dtype)

    def construct(self, latents, timestep, vector):
        """The noise.

        Args:
            latents (Tensor): [B, H, W, channels] float32.
            timestep (Tensor): [1] float32.
            vector (Tensor): of the text, [B, size] float32.

        Returns:
            Tensor of shape [B, H, W, channels], float32.
        """
        rows = latents.shape[0]
        time = self.linear_2(silu(self.linear_1(sinusoids(timestep, self.config.block_out_channels[0]))))
        time = ops.broadcast_to(time, (rows, time.shape[1]))
        condition = silu(ops.concat((time, self.class_embedding(vector)), 1))
        x = self.conv_in(latents.astype(self.activations))
        kept = (x,)
        for block in self.down_blocks:
            x, fresh = block(x, condition)
            kept += fresh
        x = self.mid_block(x, condition)
        for block in self.up_blocks:
            x = block(x, kept, condition)
            kept = kept[: len(kept) - len(block.resnets)]
        return self.conv_out(self.conv_norm_out(x)).astype(ms.float32)
