"""The networks, by transformers' classes, and their configs."""

import torch
from torch import nn
from torch.nn import functional
from transformers.models.deprecated.jukebox import JukeboxPriorConfig, JukeboxVQVAEConfig
from transformers.models.deprecated.jukebox.modeling_jukebox import JukeboxDecoder, JukeboxEncoder, JukeboxPrior
from world import ARTISTS, CODES, GENRES, MOST_NOTES, RATE

DOWNS = [5, 2, 2]
EMBED, WIDTH, DEPTH = 32, 32, 3  # of the VQ-VAE
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:;!?-'\"()[] \t\n"
LYRICS = 3 * MOST_NOTES  # characters that are read at once
MAX_DURATION = 8.0
N_CTX = (16 * MOST_NOTES, 256, 512)  # codes of a window, the top prior's first
SONG = {"sampling_rate": RATE, "timing_dims": 64, "min_duration": 0, "max_duration": MAX_DURATION, "max_nb_genres": 1}
COMMON = {"mask": True, "merged_decoder": False, "music_vocab_size": CODES, "res_downs_t": DOWNS, "zero_out": False}
NAMES = [len(GENRES) + 1, len(ARTISTS) + 1]
PRIORS = (
    {
        "level": 0, "n_ctx": N_CTX[0], "nb_relevant_lyric_tokens": LYRICS, "lyric_vocab_size": len(CHARACTERS) + 1,
        "blocks": (LYRICS + N_CTX[0]) // 16, "hidden_size": 128, "num_layers": 18, "n_heads": 2,
        "attention_multiplier": 0.5, "attention_pattern": "enc_dec_with_lyrics", "is_encoder_decoder": True,
        "alignment_layer": 15, "alignment_head": 0,
    },
    {"level": 1, "n_ctx": N_CTX[1], "blocks": 16},
    {"level": 2, "n_ctx": N_CTX[2], "blocks": 32},
)  # fmt: skip
UPSAMPLER = {
    "nb_relevant_lyric_tokens": 0, "hidden_size": 96, "num_layers": 6, "n_heads": 1, "attention_multiplier": 0.5,
    "attention_pattern": "raw_column_previous_row_attention", "is_encoder_decoder": False, "res_conv_width": 48,
    "res_conv_depth": 4, "res_dilation_growth_rate": 3,
}  # fmt: skip


def vqvae_config():
    """Sizes of the VQ-VAE."""
    return JukeboxVQVAEConfig(
        nb_discrete_codes=CODES,
        embed_dim=EMBED,
        res_conv_width=WIDTH,
        res_conv_depth=DEPTH,
        multipliers=[1, 1, 1],
        res_downs_t=DOWNS,
        hop_fraction=[0.5, 0.5, 0.5],
        sample_length=65536,
    )


def prior_config(level):
    """Sizes of a prior."""
    own = PRIORS[level] | (UPSAMPLER if level else {})
    return JukeboxPriorConfig(**COMMON, **SONG, **own, metadata_dims=NAMES)


class Level(nn.Module):
    """Encoder, codebook and decoder of a level of the VQ-VAE, 0 the finest."""

    def __init__(self, level):
        super().__init__()
        config, count = vqvae_config(), level + 1
        sizes = (config, WIDTH, DEPTH, count, DOWNS[:count], [2] * count)
        self.encoder, self.decoder = JukeboxEncoder(*sizes), JukeboxDecoder(*sizes)
        self.codebook = nn.Parameter(torch.randn(CODES, EMBED))
        for module in self.modules():  # a block begins as nearly nothing, so that depth does no harm
            if hasattr(module, "conv1d_2"):
                with torch.no_grad():
                    module.conv1d_2.weight.mul_(0.3)

    def play(self, codes):
        """[B, n] -> sound [B, n * hop]"""
        x = self.codebook[codes].transpose(1, 2)
        for block in reversed(self.decoder.level_blocks):
            x = run(block.upsample_block, conv(block.proj_in, x[:, :, None] if x.ndim == 3 else x))
        return conv(self.decoder.out, x)[:, 0, 0]

    def hear(self, sound):
        """[B, samples] -> vectors [B, n, EMBED], of which the nearest codes are taken"""
        x = sound[:, None, None]
        for block in self.encoder.level_blocks:
            x = conv(block.proj_out, run(block.downsample_block, x))
        return x[:, :, 0].transpose(1, 2)

    def logits(self, vectors):
        """How near each code is, [..., CODES]"""
        far = vectors.square().sum(-1, keepdim=True) - 2 * vectors @ self.codebook.T + self.codebook.square().sum(-1)
        return -far / EMBED**0.5


def conv(module, x):
    """A convolution in pictures of one line, which torch does several times as fast on a CPU."""
    x = x.contiguous(memory_format=torch.channels_last)
    weight, stride, padding = module.weight[:, :, None], (1, module.stride[0]), (0, module.padding[0])
    if isinstance(module, nn.ConvTranspose1d):
        return functional.conv_transpose2d(x, weight, module.bias, stride, padding)
    return functional.conv2d(x, weight, module.bias, stride, padding, (1, module.dilation[0]))


def run(blocks, x):
    """Convolutions and stacks of residual blocks, one after the other."""
    for block in blocks:
        if isinstance(block, (nn.Conv1d, nn.ConvTranspose1d)):
            x = conv(block, x)
            continue
        for one in block.resnet_block:
            x = x + conv(one.conv1d_2, functional.relu(conv(one.conv1d_1, functional.relu(x))))
    return x


def prior(level):
    """A prior with tables that can be told from each other, and layers that add little at first."""
    made = JukeboxPrior(prior_config(level), level, 3)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.ndim == 2 and ".c_" not in name:
                value.normal_(0, 0.15)
            elif value.ndim == 2:  # stored (in, out)
                value.normal_(0, (0.2 if "c_proj" in name else 1.0) * value.shape[0] ** -0.5)
    return made


def logits_of(network, codes, artist, genres, lyrics=None, timing=None, upper=None):
    """Logits of every position, [B, T, V]; arguments as in `mindmusicgen.jukebox.labels.Window`."""
    labels = network.metadata_embedding
    mask = (genres >= 0).float().unsqueeze(2)
    start = (labels.bow_genre_emb(genres.clamp(0)) * mask).sum(1, keepdim=True) + labels.artist_emb(artist)[:, None]
    ids = codes
    if network.level:
        condition = network.conditioner_blocks(upper)
    else:
        tables = labels.total_length_emb, labels.absolute_pos_emb, labels.relative_pos_emb
        condition = sum(table.emb(bins) for table, bins in zip(tables, timing, strict=True))
        condition = functional.pad(condition, (0, 0, network.nb_relevant_lyric_tokens, 0))
        ids = torch.cat([lyrics, codes + network.embed_dim_shift[1]], 1)
    _, found = network.prior(ids, condition, start, None, get_preds=True)
    return found
