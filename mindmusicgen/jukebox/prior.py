"""A prior of Jukebox: the network that writes the codes of one level, from labels, lyrics and the level above.

Dhariwal et al., arXiv:2005.00341; numbers as in openai/jukebox, names as in transformers. Prior 0 is the top.
"""

import mindspore as ms
from mindspore import nn, ops

from ..errors import InputError, shown
from ..models.convolutions import ConvWeight
from ..models.layers import LayerNorm, Linear
from ..models.quantized import QuantizedConvWeight, QuantizedLinear, check_quantization
from ..parts import Elsewhere
from ..torch_names import Habits
from .conditions import LabelConditioner, MusicTokenConditioner
from .config import JukeboxPriorConfig, check
from .config_checks import warn_of_defaults
from .initial_weights import initialise
from .transformer import Transformer


class LyricEncoder(Transformer):
    """The network that reads the lyrics of the 5b model: [B, S] characters to states [B, S, W] of the prior's width.

    Args:
        config (JukeboxPriorConfig): the prior's; its encoder_config has the sizes.
        dtype (mindspore.dtype): of weights and activations.
        linear (type): of its matrices.
    """

    def __init__(self, config, dtype=ms.float32, linear=Linear):
        own = config.encoder_config
        super().__init__(own, config.nb_relevant_lyric_tokens, config.lyric_vocab_size, dtype, True, linear)
        self.proj_in = linear(own.hidden_size, config.hidden_size, bias=True, dtype=dtype)
        self.final_layer_norm = LayerNorm(config.hidden_size, dtype=dtype)
        self.lm_head = Linear(config.hidden_size, config.lyric_vocab_size, dtype=dtype)

    def construct(self, lyrics):
        samples, count = lyrics.shape
        width = self.pos_emb.shape[1]
        start = ops.broadcast_to(self.start_token, (samples, width))
        nothing = ops.zeros((samples, count, width), self.dtype)
        return self.final_layer_norm(self.proj_in(self.hidden(self.embed(lyrics, start, nothing), nothing)))


class JukeboxPrior(Habits, nn.Cell):
    """The codes of one level.

    Args:
        config (JukeboxPriorConfig): sizes.
        level (int): 0 for the top prior; None: the config's.
        nb_priors (int): how many there are.
        vqvae_encoder, vqvae_decoder (callable): of the VQ-VAE, for `forward` on sound.
        dtype (mindspore.dtype): of weights and activations; conditioners, norms, softmax and logits are float32.
        quantization (str): "int8" for matrices of 8 bits, which only a checkpoint can fill; tables and the head stay
            float32.
        empty (bool): leave the parameters zeros in place of random weights.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = JukeboxPriorConfig.model_type
    forward = __call__ = Elsewhere("jukebox.prior_calls", "call")
    sample = Elsewhere("jukebox.prior_calls", "sample")
    eager = False  # whether `sample` computes operation by operation: quicker for a few codes

    def __init__(
        self,
        config,
        level=None,
        nb_priors=3,
        vqvae_encoder=None,
        vqvae_decoder=None,
        *,
        dtype=ms.float32,
        quantization=None,
        empty=False,
    ):
        super().__init__(auto_prefix=True)
        if not isinstance(config, JukeboxPriorConfig):
            raise InputError(f"config is one of {shown(type(config).__name__)}; expected JukeboxPriorConfig")
        check(config)
        check_quantization(quantization, dtype)
        linear, weight = (QuantizedLinear, QuantizedConvWeight) if quantization else (Linear, ConvWeight)
        level = config.level if level is None else level
        warn_of_defaults(config, level)
        self.config, self.level, self.nb_priors, self.dtype = config, level, nb_priors, dtype
        self.quantization = quantization
        self.vqvae_encoder, self.vqvae_decoder = vqvae_encoder, vqvae_decoder
        self.made = {}  # graphs of `sample`, by the number of samples
        self.n_ctx, self.lyrics = config.n_ctx, config.nb_relevant_lyric_tokens
        halvings = list(config.res_downs_t)
        self.raw_to_tokens = 2 ** sum(halvings[: nb_priors - level])  # samples of a code
        self.sample_length = self.n_ctx * self.raw_to_tokens
        self.cond_downsample = 2 ** halvings[nb_priors - level] if level else None
        ids, merged = config.music_vocab_size, config.is_encoder_decoder
        self.shift = config.lyric_vocab_size if merged else 0  # of music's ids
        self.before = self.lyrics if merged else 0  # positions before the music
        self.metadata_embedding = LabelConditioner(config, level == 0, dtype)
        if level:
            self.conditioner_blocks = MusicTokenConditioner(config, halvings[nb_priors - level], dtype, weight)
        self.encoder = LyricEncoder(config, dtype, linear) if config.reads_lyrics else None
        self.prior = Transformer(config, config.positions, ids + self.shift, dtype, linear=linear)
        self.set_train(False)
        if not empty and not quantization:
            initialise(self, 0.02, level)

    @property
    def width(self):
        """W."""
        return self.config.hidden_size

    def condition(self, upper, total, absolute, relative):
        """What is added at each code, [B, n_ctx, W]: of the codes above [B, n], or of bins of time."""
        if self.level:
            return self.conditioner_blocks(upper)
        return self.metadata_embedding.time(total, absolute, relative)

    def everywhere(self, condition):
        """The same for every position: zeros for the lyrics."""
        if not self.before:
            return condition
        samples, _, width = condition.shape
        return ops.concat((ops.zeros((samples, self.before, width), condition.dtype), condition), 1)

    def sequence(self, lyrics, codes):
        """The ids of the whole sequence: lyrics [B, S] in front of codes [B, n], where they are in it."""
        return ops.concat((lyrics, codes + self.shift), 1) if self.before else codes

    def states(self, lyrics):
        """What cross attention looks at, [B, S, W]; the lyrics themselves where there is none."""
        return lyrics if self.encoder is None else self.encoder(lyrics)

    def construct(self, codes, lyrics, artist, genres, condition):
        """Logits [B, T, V] of a whole window; all but `condition` int32, as in `labels.Window`."""
        start = self.metadata_embedding.start(artist, genres).astype(self.dtype)
        ids = self.sequence(lyrics, codes)
        return self.prior.logits(ids, start, self.everywhere(condition), self.states(lyrics))
