"""What a prior knows of the song beside its codes: artist, genres and time, and the codes of the level above."""

import mindspore as ms
from mindspore import nn, ops

from ..models.convolutions import ConvWeight
from ..models.layers import LayerNorm
from .convolutions import Up
from .transformer import Table


class MusicTokenConditioner(nn.Cell):
    """The codes of the level above as a condition for each of this level's: [B, n] -> [B, n * 2**doublings, W].

    Args:
        config (JukeboxPriorConfig): of the prior.
        doublings (int): how often the levels differ in rate.
        dtype (mindspore.dtype): of what comes out.
        weight (type): what holds the matrices of its convolutions.
    """

    def __init__(self, config, doublings, dtype=ms.float32, weight=ConvWeight):
        super().__init__()
        dim, self.dtype = config.hidden_size, dtype
        self.embed_tokens = Table(config.music_vocab_size, dim)
        self.upsampler = Up(config, dim, config.res_conv_width, config.res_conv_depth, doublings, False, weight)
        self.layer_norm = LayerNorm(dim)

    def construct(self, codes):
        return self.layer_norm(self.upsampler(self.embed_tokens(codes))).astype(self.dtype)


class RangeEmbedding(nn.Cell):
    """A vector for each bin of time."""

    def __init__(self, bins, dim, dtype):
        super().__init__()
        self.emb = Table(bins, dim, dtype)

    def construct(self, bins):
        return self.emb(bins)


class LabelConditioner(nn.Cell):
    """Artist and genres as a vector, and for a top prior the place in time of each code.

    Args:
        config (JukeboxPriorConfig): of the prior.
        timed (bool): whether it is told of time.
        dtype (mindspore.dtype): of its tables.
    """

    def __init__(self, config, timed, dtype=ms.float32):
        super().__init__()
        (genres, artists), dim = config.metadata_dims, config.hidden_size
        self.bow_genre_emb, self.artist_emb = Table(genres, dim, dtype), Table(artists, dim, dtype)
        if timed:
            self.total_length_emb = RangeEmbedding(config.timing_dims, dim, dtype)
            self.absolute_pos_emb = RangeEmbedding(config.timing_dims, dim, dtype)
            self.relative_pos_emb = RangeEmbedding(config.timing_dims, dim, dtype)

    def start(self, artist, genres):
        """artist [B], genres [B, g] int32, -1 for none -> [B, W]"""
        found = self.bow_genre_emb(ops.maximum(genres, 0))
        there = (genres >= 0).astype(found.dtype).expand_dims(2)
        return (found * there).sum(axis=1) + self.artist_emb(artist)

    def time(self, total, absolute, relative):
        """Bins [B, 1], [B, n], [B, n] int32 -> [B, n, W]"""
        return self.total_length_emb(total) + self.absolute_pos_emb(absolute) + self.relative_pos_emb(relative)
