"""Two priors and a VQ-VAE of a few thousand weights, drawn by NumPy from a seed: the same everywhere, in no file."""

import numpy as np
from mindspore import Tensor

from ...doctor.drawn import filled
from ..checkpoint.names import plan
from ..config import JukeboxPriorConfig, JukeboxVQVAEConfig
from ..labels import Window, time_bins
from ..prior import JukeboxPrior
from ..prior_calls import graphs_of
from ..sampling import OFF
from ..vqvae import JukeboxVQVAE

SEED, SAMPLES, KNOWN, LYRICS, CODES = 11, 2, 5, 8, 24
BIASES = 0.1  # larger ones would choose the codes alone
VQVAE = JukeboxVQVAEConfig(
    nb_discrete_codes=CODES, embed_dim=8, levels=2, multipliers=[2, 1], res_conv_width=6, res_conv_depth=2,
    res_downs_t=[2, 1], res_strides_t=[2, 2], hop_fraction=[0.5, 0.5],
)  # fmt: skip
COMMON = {
    "mask": True, "hidden_size": 16, "n_heads": 2, "attention_multiplier": 0.5, "metadata_dims": [3, 4],
    "music_vocab_size": CODES, "lyric_vocab_size": 10, "nb_relevant_lyric_tokens": LYRICS, "n_ctx": 24,
    "res_downs_t": [2, 1], "res_strides_t": [2, 2], "timing_dims": 8, "max_duration": 1.0, "sampling_rate": 1000,
    "res_conv_width": 8, "res_conv_depth": 2, "res_dilation_growth_rate": 3, "blocks": 4,
}  # fmt: skip


class Merged(JukeboxPriorConfig):
    """Lyrics and codes in one sequence, and in few layers all that such a prior's layers do."""

    kinds = ("row", "column", "previous", "prime", "dense")


class Separate(JukeboxPriorConfig):
    """An encoder of lyrics, and codes of a level above: no published prior has both."""

    kinds = ("row", "previous", "cross")


TOP = Merged(num_layers=5, merged_decoder=False, **COMMON)
UPPER = Separate(
    num_layers=3,
    is_encoder_decoder=False,
    encoder_config=dict(COMMON, num_layers=3, attention_pattern="raw_column_previous_row_attention"),
    **COMMON,
)


class TinyJukebox:
    """The networks, and what they are given.

    Args:
        dtype (mindspore.dtype): of the priors.
    """

    def __init__(self, dtype):
        vqvae, top, upper = (
            JukeboxVQVAE(VQVAE),
            *(JukeboxPrior(config, level, 2, dtype=dtype) for level, config in enumerate((TOP, UPPER))),
        )
        networks = self.vqvae, self.top, self.upper = vqvae, top, upper
        for number, network in enumerate(networks):
            filled(network, plan(network, ""), SEED + number, BIASES)
        upper.eager = True  # one compiled prior is enough to wait for
        rng = np.random.default_rng(SEED + 3)
        self.audio = rng.standard_normal((1, 64, 1), np.float32)
        self.known = rng.integers(0, CODES, (SAMPLES, KNOWN)).astype(np.int32)
        self.above = rng.integers(0, CODES, (SAMPLES, UPPER.n_ctx // 2)).astype(np.int32)
        self.uniforms = rng.random((TOP.n_ctx - KNOWN, SAMPLES)).astype(np.float32)
        self.window = self._labels(rng)

    def _labels(self, rng):
        """Labels of a window of two songs."""
        timed = (np.repeat(one, SAMPLES, 0) for one in time_bins(TOP, 700, 100, 24 * 8))
        draw = lambda end, *shape: rng.integers(0, end, shape).astype(np.int32)  # noqa: E731
        genres, lyrics = draw(3, SAMPLES, 1), draw(10, SAMPLES, LYRICS)
        return Window(draw(4, SAMPLES), genres, lyrics, lyrics, *timed, 700, 100, 24 * 8)

    def vectors(self):
        """What the encoder of the coarser level makes of a clip, [1, 8, 8]."""
        return self.vqvae.vectors(self.audio, 1)

    def sound(self):
        """What its decoder makes of codes, [1, 96, 1]."""
        return self.vqvae.decode([self.above[:1]], 1).asnumpy()

    def ids(self, prior):
        """The ids that a prior draws after the known codes, step by step, [2, n_ctx - KNOWN]: codes, which
        are counted from behind the characters where these are in the sequence."""
        graphs = graphs_of(prior, SAMPLES)
        ids, position = graphs.begin(self.window, self.above if prior.level else None, self.known)
        filters = ((1, np.float32), (len(prior.prior.embed_tokens.weight), np.int32), (OFF, np.float32))
        filters = tuple(Tensor(np.array([one], kind)) for one, kind in filters)
        columns = graphs.steps(ids, position, len(self.uniforms), self.uniforms, filters)
        return np.concatenate(list(columns)).T

    def logits(self, prior, ids):
        """Logits of the places of these ids, the sequence at once: [2, n_ctx - KNOWN, V]."""
        window, before = self.window, self.window.lyrics[:, : prior.before]
        timing = map(Tensor, (window.total, window.absolute, window.relative))
        condition = prior.everywhere(prior.condition(Tensor(self.above), *timing))
        lyrics, artist, genres = map(Tensor, (window.lyrics, window.artist, window.genres))
        start = prior.metadata_embedding.start(artist, genres)
        whole = Tensor(np.concatenate([before, self.known + prior.shift, ids], 1))
        found = prior.prior.logits(whole, start, condition, prior.states(lyrics)).asnumpy()
        return found[:, prior.before + KNOWN :]
