"""The experiment settings inside audiocraft's files (`xp.cfg`, YAML text) as sizes for transformers' configs.

audiocraft writes them with OmegaConf, which leaves references such as ${sample_rate} in place. Everything that would
change what the networks compute is either translated or refused by name.
"""

import functools
import math
import re

import yaml

from ...errors import InputError

MAX_TEXT = 1 << 20  # characters; the published settings have about 15,000
MAX_REFERENCES = 8  # from one setting to the next
MAX_CODEBOOKS = 64
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
MELODY = "self_wav"  # the conditioner of the melody and style models

# What transformers' MusicGen does without being told: a setting that says otherwise is another network.
DECODER = {
    "lm_model": "transformer_lm",
    "transformer_lm.norm": "layer_norm",
    "transformer_lm.norm_first": True,
    "transformer_lm.bias_proj": False,
    "transformer_lm.bias_ff": False,
    "transformer_lm.bias_attn": False,
    "transformer_lm.causal": True,
    "transformer_lm.layer_scale": None,
    "transformer_lm.past_context": None,
    "transformer_lm.qk_layer_norm": False,
    "transformer_lm.qk_layer_norm_cross": False,
    "transformer_lm.kv_repeat": 1,
    "transformer_lm.positional_embedding": "sin",
    "transformer_lm.max_period": 10000,
    "transformer_lm.positional_scale": 1,
    "codebooks_pattern.delay.flatten_first": 0,
    "codebooks_pattern.delay.empty_initial": 0,
    "interleave_stereo_codebooks.per_timestep": False,
    "conditioners.description.model": "t5",
    "fuser.cross": ["description"],
    "fuser.sum": [],
    "fuser.prepend": [],
    "fuser.input_interpolate": [],
    "fuser.cross_attention_pos_emb": False,
}
CODEC = {
    "compression_model": "encodec",
    "encodec.autoencoder": "seanet",
    "encodec.quantizer": "rvq",
    "encodec.renormalize": False,
    "seanet.encoder": {},
    "seanet.activation": "ELU",
    "seanet.activation_params.alpha": 1,
    "seanet.decoder.final_activation": None,
}
DECODER_OVERRIDES = {"trim_right_ratio", "final_activation", "final_activation_params"}


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which OmegaConf never writes and which can expand a short text without end."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias")
        return super().compose_node(parent, index)


@functools.lru_cache(maxsize=4)
def _parsed(text):
    """The values of a YAML text, which nobody changes; a model's two files are opened several times for one call."""
    return yaml.load(text, Loader=_Loader)


class Settings:
    """The settings of one file, looked up by dotted name.

    Args:
        text (str): the YAML.
        source (str): what to call the file in errors.

    Raises:
        InputError: if it is not the text of a YAML mapping.
    """

    def __init__(self, text, source):
        self.source, self.values = source, None
        if type(text) is str and len(text) <= MAX_TEXT:
            try:
                self.values = _parsed(text)
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                why = f"({type(error).__name__}), so the file is damaged"
                raise InputError(f"{source}: its entry xp.cfg is not valid YAML {why}; fetch it again") from error
        if not isinstance(self.values, dict):
            raise InputError(f"{source} has no settings: expected YAML text in an entry xp.cfg, as audiocraft has it")

    def get(self, name, default=None):
        """The value of a setting; references are followed, and null counts as absent."""
        start = name
        for _ in range(MAX_REFERENCES):
            value = self.values
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if not reference:
                return default if value is None else value
            name = reference[1]
        raise InputError(f"{self.source}: the setting {start} in xp.cfg refers to itself")

    def integer(self, name, default=None):
        """A whole number above zero."""
        value = self.get(name, default)
        if type(value) is not int or value < 1:
            self.refuse(name, value, "a whole number above 0")
        return value

    def choice(self, name, allowed, default=None):
        """One of a few values."""
        value = self.get(name, default)
        if value not in allowed:
            self.refuse(name, value, " or ".join(map(str, allowed)))
        return value

    def require(self, expected):
        """Check settings that must have a certain value, or be absent."""
        for name, wanted in expected.items():
            value = self.get(name, wanted)
            if value != wanted:
                self.refuse(name, value, wanted)

    def refuse(self, name, value, expected):
        """Raise the error for a setting that is missing or not supported."""
        found = f"does not set {name}" if value is None else f"sets {name} to {repr(value)[:60]}"
        raise InputError(f"{self.source}: xp.cfg {found}; expected {expected}")


def decoder_sizes(settings):
    """Arguments of `MusicgenDecoderConfig`.

    Args:
        settings (Settings): of state_dict.bin.

    Returns:
        dict

    Raises:
        InputError: for melody models and for networks that MusicGen in transformers is not.
    """
    conditioners = settings.get("conditioners", {})
    if isinstance(conditioners, dict):
        if MELODY in conditioners:
            refuse_melody(settings.source)
        other = sorted(set(map(str, conditioners)) - {"description", "args"})
        if other:
            raise InputError(f"{settings.source}: conditioner {other[0][:60]!r} is not supported; expected description")
    settings.require(DECODER)
    dim, heads = settings.integer("transformer_lm.dim"), settings.integer("transformer_lm.num_heads")
    if dim % heads or dim % 2 or dim < 4:
        settings.refuse("transformer_lm.dim", dim, f"an even multiple of the {heads} heads, at least 4")
    scale = settings.get("transformer_lm.hidden_scale", 4)
    if type(scale) not in (int, float) or not 0 < scale < 1000:
        settings.refuse("transformer_lm.hidden_scale", scale, "a number above 0")
    card = settings.integer("transformer_lm.card")
    channels = 2 if settings.choice("interleave_stereo_codebooks.use", (True, False), False) else 1
    if settings.get("channels", channels) != channels:
        settings.refuse("channels", settings.get("channels"), f"{channels} (stereo needs interleave_stereo_codebooks)")
    codebooks = settings.integer("transformer_lm.n_q")
    _check_pattern(settings, codebooks, channels)
    return {
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_hidden_layers": settings.integer("transformer_lm.num_layers"),
        "ffn_dim": int(scale * dim),
        "activation_function": settings.choice("transformer_lm.activation", ("gelu", "relu"), "gelu"),
        "vocab_size": card,
        "pad_token_id": card,
        "bos_token_id": card,
        "num_codebooks": codebooks,
        "audio_channels": channels,
    }


def refuse_melody(source):
    """Raise the error for models that listen to audio."""
    raise InputError(
        f"{source}: melody models are not supported from audiocraft files yet; use a text-to-music model such as "
        "facebook/musicgen-small"
    )


def _check_pattern(settings, codebooks, channels):
    """The delay pattern must be the one transformers builds from the number of codebooks and channels."""
    if codebooks % channels or codebooks > MAX_CODEBOOKS:
        settings.refuse(
            "transformer_lm.n_q", codebooks, f"a multiple of the {channels} channels, up to {MAX_CODEBOOKS}"
        )
    older = settings.get("transformer_lm.q_modeling")  # the setting's name before there were patterns
    modeling = settings.get("codebooks_pattern.modeling", older)
    if modeling != "delay":
        settings.refuse("codebooks_pattern.modeling", modeling, "delay")
    delays = [i // channels for i in range(codebooks)]
    found = settings.get("codebooks_pattern.delay.delays", list(range(codebooks)))
    if found != delays:
        settings.refuse("codebooks_pattern.delay.delays", found, delays)


def codec_sizes(settings):
    """Arguments of `EncodecConfig`.

    Args:
        settings (Settings): of compression_state_dict.bin.

    Returns:
        dict

    Raises:
        InputError: for codecs that EnCodec in transformers is not.
    """
    settings.require(CODEC)
    overrides = settings.get("seanet.decoder", {})
    if not isinstance(overrides, dict):
        settings.refuse("seanet.decoder", overrides, "a mapping")
    other = sorted(set(map(str, overrides)) - DECODER_OVERRIDES)
    if other:
        raise InputError(f"{settings.source}: xp.cfg sets seanet.decoder.{other[0][:60]}, which is not supported")
    ratios = settings.get("seanet.ratios")
    if not isinstance(ratios, list) or not 0 < len(ratios) < 16 or any(type(r) is not int or r < 1 for r in ratios):
        settings.refuse("seanet.ratios", ratios, "a short list of whole numbers above 0")
    trim = settings.get("seanet.decoder.trim_right_ratio", 1.0)
    if type(trim) not in (int, float) or not 0 <= trim <= 1:
        settings.refuse("seanet.decoder.trim_right_ratio", trim, "a number from 0 to 1")
    rate, bins = settings.integer("encodec.sample_rate"), settings.integer("rvq.bins")
    # An unnormalised convolution is one whose weight norm has been folded in; the loader reads both.
    settings.choice("seanet.norm", ("weight_norm", "none"))
    return {
        "audio_channels": settings.integer("encodec.channels"),
        "sampling_rate": rate,
        "normalize": False,
        "hidden_size": settings.integer("seanet.dimension"),
        "codebook_dim": settings.integer("seanet.dimension"),
        "num_filters": settings.integer("seanet.n_filters"),
        "num_residual_layers": settings.integer("seanet.n_residual_layers"),
        "upsampling_ratios": ratios,
        "norm_type": "weight_norm",
        "kernel_size": settings.integer("seanet.kernel_size"),
        "last_kernel_size": settings.integer("seanet.last_kernel_size"),
        "residual_kernel_size": settings.integer("seanet.residual_kernel_size"),
        "dilation_growth_rate": settings.integer("seanet.dilation_base"),
        "use_causal_conv": settings.choice("seanet.causal", (True, False), False),
        "pad_mode": settings.choice("seanet.pad_mode", ("reflect", "constant")),
        "compress": settings.integer("seanet.compress"),
        "num_lstm_layers": settings.integer("seanet.lstm"),
        "trim_right_ratio": float(trim),
        "codebook_size": bins,
        "use_conv_shortcut": not settings.choice("seanet.true_skip", (True, False), True),
        "target_bandwidths": [bandwidth(rate, math.prod(ratios), bins, settings.integer("rvq.n_q"))],
    }


def bandwidth(rate, hop, bins, quantizers):
    """Kilobits a second of a codec; transformers computes the number of quantizers back from it, rounding down."""
    bits = math.ceil(rate / hop) * math.ceil(math.log2(bins))  # a second for each quantizer
    value = bits * quantizers / 1000
    while bits and int(1000 * value // bits) < quantizers:
        value = math.nextafter(value, math.inf)
    return value
