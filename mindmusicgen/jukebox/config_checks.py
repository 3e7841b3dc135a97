"""What a config of Jukebox may say: sizes that fit each other, and nothing that is not built here."""

from ..errors import InputError, clip, shown
from ..language import said
from ..runtime.telling import tell
from .config import PATTERNS, JukeboxConfig, JukeboxPriorConfig, JukeboxVQVAEConfig, check


def refuse(path, name, value, expected):
    """Raise the sentence that names a field, what it is and what is expected."""
    raise InputError(f"{path} sets {name} to {clip(repr(value), 60)}; expected {expected}")


def check_sizes(config, path):
    """Refuse numbers that are not whole or outside the limits of their field."""
    for name, (least, most) in config.sizes.items():
        value = getattr(config, name)
        if type(value) is not int or not least <= value <= most:
            refuse(path, name, value, f"{least} to {most}")


def _number(config, path, name, least, most):
    value = getattr(config, name)
    if type(value) not in (int, float) or not least <= value <= most:
        refuse(path, name, value, f"a number from {least:g} to {most:g}")


def _wholes(config, path, name, length, least, most):
    value = getattr(config, name)
    sound = isinstance(value, (list, tuple)) and length in (None, len(value))
    if not sound or any(type(one) is not int or not least <= one <= most for one in value):
        refuse(path, name, value, f"a list of {length or 'some'} whole numbers from {least} to {most}")


def _fixed(config, path, **wanted):
    """Fields that may only be what published models have."""
    for name, value in wanted.items():
        found = getattr(config, name)
        if found != value:
            refuse(path, name, found, f"{value!r}: nothing else is built here")


def check_vqvae(config, path):
    """Refuse a VQ-VAE that cannot be built."""
    if config.multipliers is None:
        config.multipliers = [1] * config.levels
    _fixed(config, path, act_fn="relu")
    for name, most in (("res_downs_t", 8), ("res_strides_t", 2), ("multipliers", 64)):
        _wholes(config, path, name, config.levels, 1, most)
    if list(config.res_strides_t) != [2] * config.levels:
        refuse(path, "res_strides_t", config.res_strides_t, "2 each: nothing else is built here")
    _check_dilation(config, path)
    _check_hops(config, path)


def _check_dilation(config, path):
    if config.res_dilation_cycle is not None and (
        type(config.res_dilation_cycle) is not int or not 1 <= config.res_dilation_cycle <= 64
    ):
        refuse(path, "res_dilation_cycle", config.res_dilation_cycle, "null, or a whole number from 1 to 64")


def _check_hops(config, path):
    hops = config.hop_fraction
    if not isinstance(hops, (list, tuple)) or any(type(n) not in (int, float) or not 0 < n <= 1 for n in hops):
        refuse(path, "hop_fraction", hops, "numbers above 0 and up to 1, one for each prior")


def check_prior(config, path, encoder=False):
    """Refuse a prior that cannot be built."""
    if not isinstance(config.attention_pattern, str) or config.attention_pattern not in PATTERNS:
        refuse(path, "attention_pattern", config.attention_pattern, f"one of {', '.join(PATTERNS)}")
    _fixed(config, path, act_fn="quick_gelu", spread=None)
    for name in ("attention_multiplier", "mlp_multiplier"):
        _number(config, path, name, 1e-3, 64)
    if encoder:
        return
    _fixed(config, path, metadata_conditioning=True)
    _number(config, path, "encoder_loss_fraction", 0, 1e6)
    _number(config, path, "min_duration", 0, 1e6)
    _number(config, path, "max_duration", 0, 1e6)
    if config.max_duration <= config.min_duration:
        refuse(path, "max_duration", config.max_duration, f"more than min_duration, {config.min_duration}")
    _wholes(config, path, "metadata_dims", 2, 1, 1 << 22)
    _wholes(config, path, "res_downs_t", None, 1, 8)
    _wholes(config, path, "res_strides_t", len(config.res_downs_t), 2, 2)
    _check_dilation(config, path)
    if config.is_encoder_decoder and not config.nb_relevant_lyric_tokens:
        refuse(path, "is_encoder_decoder", True, "false where nb_relevant_lyric_tokens is 0")
    if config.reads_lyrics:
        if not isinstance(config.encoder_config, JukeboxPriorConfig):
            refuse(path, "encoder_config", config.encoder_config, "the config of the network that reads the lyrics")
        check_sizes(config.encoder_config, path)
        check_prior(config.encoder_config, path, encoder=True)
        _check_shape(config.encoder_config, path, config.nb_relevant_lyric_tokens)
    _check_shape(config, path, config.positions)
    if "cross" in config.kinds and not config.reads_lyrics:
        refuse(path, "attention_pattern", config.attention_pattern, "one without cross attention: nothing reads lyrics")


def _check_shape(config, path, positions):
    """Rows, heads and widths that divide each other."""
    if positions % config.blocks:
        refuse(path, "blocks", config.blocks, f"a divisor of the {positions} positions of a window")
    if config.attention_width < 1 or config.attention_width % config.n_heads:
        refuse(path, "n_heads", config.n_heads, f"a divisor of the width of attention, {config.attention_width}")


def check_model(config, path):
    """Refuse parts that do not fit each other."""
    if not isinstance(config.vqvae_config, JukeboxVQVAEConfig) or not isinstance(config, JukeboxConfig):
        raise InputError(f"{path} is {shown(type(config).__name__)}; expected JukeboxConfig")
    check(config.vqvae_config, path)
    _check_hops(config, path)
    count = config.nb_priors
    if type(count) is not int or not 1 <= count <= config.vqvae_config.levels:
        refuse(path, "nb_priors", count, f"1 to {config.vqvae_config.levels}, the levels of the VQ-VAE")
    if len(config.prior_configs) != count or len(config.hop_fraction) < count:
        refuse(path, "nb_priors", count, f"{len(config.prior_configs)}, as there are configs of priors, and hops")
    for level, prior in enumerate(config.prior_configs):
        _mend_blocks(prior, path)
        check(prior, path)
        if list(prior.res_downs_t) != list(config.vqvae_config.res_downs_t):
            refuse(path, "res_downs_t", prior.res_downs_t, f"{config.vqvae_config.res_downs_t}, as the VQ-VAE has them")
        if prior.music_vocab_size != config.vqvae_config.nb_discrete_codes:
            refuse(path, "music_vocab_size", prior.music_vocab_size, "nb_discrete_codes of the VQ-VAE")
        ratio = 2 ** config.vqvae_config.res_downs_t[count - level] if level else 1
        if prior.n_ctx % ratio:
            refuse(path, "n_ctx", prior.n_ctx, f"a multiple of {ratio}, the codes for each of the level above")


def _mend_blocks(prior, path):
    """The hub's 5b model has 64 blocks in its config, and was trained with 128."""
    if (prior.n_ctx, prior.hidden_size, prior.blocks) == (8192, 4800, 64):
        prior.blocks = 128
        tell(said(f"{path} sets blocks to 64 for the 5b model, which was trained with 128; 128 are taken"), error=True)


def warn_of_defaults(config, level):
    """Say where a prior's config is that of transformers' defaults, which no published model has.

    Args:
        config (JukeboxPriorConfig): of a prior.
        level (int): its number.
    """
    if not config.mask:
        tell(said(f"prior {level} has mask=False, which no Jukebox was trained with; it is taken as True"), error=True)
    if config.merged_decoder and not config.reads_lyrics:
        tell(
            said(f"prior {level} has merged_decoder=True, which only the 5b model's top prior has; check the config"),
            error=True,
        )
