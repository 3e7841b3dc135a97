"""CLAP's audio side: HTSAT, a Swin transformer of spectrograms, and a projection; a recording to a vector of length 1.

HTSAT, Chen et al., arXiv:2202.00874; Swin, Liu et al., arXiv:2103.14030. The numbers follow transformers'
`modeling_clap` without fusion, and so do most names of parameters: see `clap.folder`.

Shapes: B recordings, H frequencies by W times of the folded spectrogram, C channels.
"""

import numpy as np
from mindspore import Tensor, nn, ops

from ..models.layers import LayerNorm, Linear, empty_parameter, gelu
from ..ops.attention import attention

HIDDEN = -100.0  # added to scores of places that the shift has brought together
NORM_EPS = 1e-5  # of the norms whose eps no config says


def cubic_matrix(length, wanted):
    """The weights of bicubic stretching of an axis with its corners aligned, [wanted, length] float32."""
    a, matrix = -0.75, np.zeros((wanted, length))
    places = np.arange(wanted) * ((length - 1) / (wanted - 1))
    first = np.floor(places).astype(int)
    for offset in range(-1, 3):
        distance = np.abs(places - first - offset)
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        at = np.clip(first + offset, 0, length - 1)
        np.add.at(matrix, (np.arange(wanted), at), np.where(distance <= 1, near, far))
    return matrix.astype(np.float32)


def window_indices(window):
    """For each pair of places in a window, which entry of the table of relative positions: [window ** 4] int32."""
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    apart = places[:, :, None] - places[:, None, :] + window - 1
    return (apart[0] * (2 * window - 1) + apart[1]).reshape(-1).astype(np.int32)


def shift_mask(height, width, window, shift):
    """What hides, in windows of a shifted picture, places from elsewhere: [windows, 1, window ** 2, window ** 2]."""
    regions = np.zeros((height, width), np.float32)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((rows, columns) for rows in cuts for columns in cuts):
        regions[rows, columns] = number
    parts = regions.reshape(height // window, window, width // window, window).transpose(0, 2, 1, 3)
    parts = parts.reshape(-1, window * window)
    return np.where(parts[:, None] == parts[:, :, None], 0, HIDDEN).astype(np.float32)[:, None]


class Block(nn.Cell):
    """Attention within windows, and feed-forward, each after a norm and added. [B, side * side, C] -> the same."""

    def __init__(self, config, dim, side, heads, shifted):
        super().__init__()
        self.dim, self.side, self.heads = dim, side, heads
        self.window = min(config.window_size, side)
        self.shift = config.window_size // 2 if shifted and side > config.window_size else 0
        self.room = -(-side // self.window) * self.window  # the picture is filled up to whole windows
        self.layernorm_before = LayerNorm(dim, config.layer_norm_eps)
        self.qkv, self.attended = Linear(dim, 3 * dim, True), Linear(dim, dim, True)
        self.relative_position_bias_table = empty_parameter((2 * config.window_size - 1) ** 2, heads)
        self.layernorm_after = LayerNorm(dim, config.layer_norm_eps)
        inner = int(config.mlp_ratio * dim)
        self.intermediate, self.output = Linear(dim, inner, True), Linear(inner, dim, True)
        self.places = Tensor(window_indices(self.window))
        self.mask = Tensor(shift_mask(self.room, self.room, self.window, self.shift)) if self.shift else None

    def construct(self, x):
        rows, _, dim = x.shape
        y = self.layernorm_before(x).reshape(rows, self.side, self.side, dim)
        y = x + self.windows(y).reshape(x.shape)
        return y + self.output(gelu(self.intermediate(self.layernorm_after(y))))

    def windows(self, x):
        """Attention of [B, side, side, C] within windows of a picture that may be rolled by `shift`."""
        rows, side, _, dim = x.shape
        room, window, extra = self.room, self.window, self.room - side
        if extra:
            x = ops.concat((x, ops.zeros((rows, side, extra, dim), x.dtype)), 2)
            x = ops.concat((x, ops.zeros((rows, extra, room, dim), x.dtype)), 1)
        x = rolled(x, self.shift)
        x = x.reshape(rows, room // window, window, room // window, window, dim).transpose(0, 1, 3, 2, 4, 5)
        count, places = (room // window) ** 2, window * window
        qkv = self.qkv(x.reshape(rows * count, places, dim))
        qkv = qkv.reshape(rows * count, places, 3 * self.heads, dim // self.heads).transpose(0, 2, 1, 3)
        q, k, v = ops.split(qkv, self.heads, 1)
        y = attention(q, k, v, self.hidden(rows)).transpose(0, 2, 1, 3)
        y = self.attended(y.reshape(rows * count, places, dim))
        y = y.reshape(rows, room // window, room // window, window, window, dim).transpose(0, 1, 3, 2, 4, 5)
        y = rolled(y.reshape(rows, room, room, dim), -self.shift)
        return y[:, :side, :side] if extra else y

    def hidden(self, rows):
        """What is added to scores: where places lie to each other, and what the shift hides."""
        places = self.window * self.window
        bias = ops.gather(self.relative_position_bias_table, self.places, 0)
        bias = bias.reshape(places, places, self.heads).transpose(2, 0, 1).reshape(1, self.heads, places, places)
        if self.mask is None:
            return bias
        return ops.tile(self.mask, (rows, 1, 1, 1)) + bias


def rolled(x, by):
    """[B, H, W, C] with the first `by` lines and columns moved to the end; with a negative number, back."""
    if by == 0:
        return x
    x = ops.concat((x[:, by:], x[:, :by]), 1)
    return ops.concat((x[:, :, by:], x[:, :, :by]), 2)


class Stage(nn.Cell):
    """Blocks, every second one shifted, then four neighbours to one of twice the channels, unless it is the last."""

    def __init__(self, config, index, side):
        super().__init__()
        dim, last = config.width << index, index == len(config.depths) - 1
        heads = config.num_attention_heads[index]
        blocks = [Block(config, dim, side, heads, i % 2 == 1) for i in range(config.depths[index])]
        self.blocks, self.side = nn.CellList(blocks), side
        self.norm = None if last else LayerNorm(4 * dim, NORM_EPS)
        self.reduction = None if last else Linear(4 * dim, 2 * dim)

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        if self.norm is None:
            return x
        rows, _, dim = x.shape
        half = self.side // 2
        x = x.reshape(rows, half, 2, half, 2, dim).transpose(0, 1, 3, 4, 2, 5)  # the line's neighbour comes first
        return self.reduction(self.norm(x.reshape(rows, half * half, 4 * dim)))


class AudioEncoder(nn.Cell):
    """Log-mel spectrograms to vectors.

    Args:
        config (clap.config.AudioConfig): sizes.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, frames):
        super().__init__()
        self.config, bins = config, config.num_mel_bins
        self.fold, width = config.spec_size // bins, config.spec_size * (config.spec_size // bins)
        self.stretched = Tensor(cubic_matrix(frames, width)) if frames < width else None
        self.mean, self.variance = empty_parameter(bins), empty_parameter(bins)
        self.weight, self.bias = empty_parameter(bins), empty_parameter(bins)
        patch, side = config.patch_size, config.spec_size // config.patch_size
        self.patches = Linear(patch * patch, config.width, True)
        self.patch_norm = LayerNorm(config.width, NORM_EPS)
        self.stages = nn.CellList([Stage(config, i, side >> i) for i in range(len(config.depths))])
        self.norm = LayerNorm(config.hidden_size, NORM_EPS)
        size = config.projection_dim
        self.linear1, self.linear2 = Linear(config.hidden_size, size, True), Linear(size, size, True)

    def picture(self, features):
        """[B, frames, bins] -> [B, spec_size, spec_size]: normed, stretched, pieces of time one below the other."""
        x = (features - self.mean) / ops.sqrt(self.variance + NORM_EPS) * self.weight + self.bias
        if self.stretched is not None:
            x = ops.matmul(self.stretched, x)
        rows, frames, bins = x.shape
        x = x.reshape(rows, self.fold, frames // self.fold, bins).transpose(0, 1, 3, 2)
        return x.reshape(rows, self.fold * bins, frames // self.fold)

    def states(self, features):
        """Last hidden states, [B, places, hidden size], and their mean."""
        side, patch = self.config.spec_size // self.config.patch_size, self.config.patch_size
        x = self.picture(features)
        x = x.reshape(x.shape[0], side, patch, side, patch).transpose(0, 1, 3, 2, 4)
        x = self.patch_norm(self.patches(x.reshape(x.shape[0], side * side, patch * patch)))
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x)
        return x, x.mean(1)

    def construct(self, features):
        """[B, frames, bins] -> [B, size], each of length 1."""
        y = self.linear2(ops.relu(self.linear1(self.states(features)[1])))
        return y / ops.sqrt((y * y).sum(-1, keepdims=True))
