"""Jukebox's stacks of convolutions, channels last: dilated residual blocks, and steps that halve or double time.

The VQ-VAE's encoders and decoders are made of them, and so is what the upsampling priors read of the codes above.
Shapes: B clips, N frames, C channels.
"""

import math
from types import SimpleNamespace

from mindspore import nn, ops

from ..models.convolutions import Conv1d, ConvTranspose1d, ConvWeight

SYMMETRIC = SimpleNamespace(pad_mode="constant", use_causal_conv=False, norm_type="none", trim_right_ratio=1.0)


def conv(in_channels, out_channels, kernel_size, stride=1, dilation=1, weight=ConvWeight):
    """A convolution with as many zeros on either side, [B, N, C] -> [B, N / stride, O]."""
    return Conv1d(SYMMETRIC, in_channels, out_channels, kernel_size, stride, dilation, weight)


class ResidualBlock(nn.Cell):
    """x + scale * conv1(relu(conv3(relu(x)))), the first dilated."""

    def __init__(self, width, hidden, dilation, scale, weight=ConvWeight):
        super().__init__()
        self.scale, self.reach = scale, dilation
        self.conv1d_1 = conv(width, hidden, 3, dilation=dilation, weight=weight)
        self.conv1d_2 = conv(hidden, width, 1, weight=weight)

    def construct(self, x):
        y = self.conv1d_2(ops.relu(self.conv1d_1(ops.relu(x))))
        return x + (y if self.scale == 1.0 else y * self.scale)


class Resnet(nn.Cell):
    """Residual blocks, each dilated more than the one before; the other way round where `descending`."""

    def __init__(self, config, width, depth, descending=False, weight=ConvWeight):
        super().__init__()
        cycle, growth = config.res_dilation_cycle or depth, config.res_dilation_growth_rate
        scale = 1.0 / math.sqrt(depth) if config.conv_res_scale else 1.0
        hidden = config.res_convolution_multiplier * width
        dilations = [growth ** (i % cycle) for i in range(depth)]
        self.reach = sum(dilations)
        ordered = reversed(dilations) if descending else dilations
        self.resnet_block = nn.CellList([ResidualBlock(width, hidden, d, scale, weight) for d in ordered])

    def construct(self, x):
        for block in self.resnet_block:
            x = block(x)
        return x


class Down(nn.Cell):
    """Halve time a few times: [B, N, C] -> [B, N / 2**halvings, O]."""

    def __init__(self, config, in_channels, out_channels, width, depth, halvings):
        super().__init__()
        blocks = []
        for i in range(halvings):
            blocks.append(conv(width if i else in_channels, width, 4, 2))
            blocks.append(Resnet(config, width, depth))
        self.downsample_block = nn.CellList(blocks)
        self.proj_out = conv(width, out_channels, 3)

    def construct(self, x):
        for block in self.downsample_block:
            x = block(x)
        return self.proj_out(x)


class Up(nn.Cell):
    """Double time a few times: [B, N, C] -> [B, N * 2**doublings, C]; `weight` holds matrices."""

    def __init__(self, config, channels, width, depth, doublings, descending, weight=ConvWeight):
        super().__init__()
        self.doublings = doublings
        self.proj_in = conv(channels, width, 3)
        blocks = []
        for i in range(doublings):
            blocks.append(Resnet(config, width, depth, descending, weight))
            out = width if i < doublings - 1 else channels
            blocks.append(ConvTranspose1d(SYMMETRIC, width, out, 4, 2, weight))
        self.upsample_block = nn.CellList(blocks)

    @property
    def reach(self):
        """How many frames of the input, on either side, an output looks at."""
        found = 1.0
        for i in range(self.doublings):
            found += (self.upsample_block[2 * i].reach + 1) / 2**i
        return found

    def construct(self, x):
        x = self.proj_in(x)
        for block in self.upsample_block:
            x = block(x)
        return x
