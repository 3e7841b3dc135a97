"""Configs from files: values of the right kind, and no sizes that no model has, before anything is made of them."""

import contextlib
import math

from ..errors import InputError, clip
from ..runtime.quiet import unadvised

COUNT, WIDTH, TABLE = (1, 256), (1, 1 << 16), (1, 1 << 22)  # layers and the like; sizes of axes; entries of tables
SIZES = {  # by model_type of a config: the least and the most of each number that sizes something
    "t5": {
        "vocab_size": TABLE,
        "d_model": WIDTH,
        "d_kv": WIDTH,
        "d_ff": (1, 1 << 18),
        "num_layers": COUNT,
        "num_heads": WIDTH,
        "relative_attention_num_buckets": WIDTH,
        "relative_attention_max_distance": TABLE,
    },
    "encodec": {
        "audio_channels": (1, 2),
        "sampling_rate": (100, 1_000_000),
        "num_filters": WIDTH,
        "hidden_size": WIDTH,
        "codebook_size": TABLE,
        "codebook_dim": WIDTH,
        "num_residual_layers": (0, 64),
        "kernel_size": (1, 1024),
        "last_kernel_size": (1, 1024),
        "residual_kernel_size": (1, 1024),
        "dilation_growth_rate": (1, 64),
        "compress": WIDTH,
        "num_lstm_layers": (0, 64),
    },
    "musicgen_decoder": {
        "vocab_size": TABLE,
        "hidden_size": WIDTH,
        "ffn_dim": (1, 1 << 18),
        "num_hidden_layers": COUNT,
        "num_attention_heads": WIDTH,
        "num_codebooks": (1, 64),
        "audio_channels": (1, 2),
        "max_position_embeddings": TABLE,
    },
    "musicgen_melody": {"num_chroma": (1, 1024), "chroma_length": TABLE},
}
SIZES["musicgen_melody_decoder"] = SIZES["musicgen_decoder"]
FRACTIONS = {"t5": ("layer_norm_epsilon",), "encodec": ("trim_right_ratio",)}
PARTS = {"text_encoder": "t5", "audio_encoder": "encodec", "decoder": "musicgen_decoder"}  # of a composite


@contextlib.contextmanager
def quiet_transformers():
    """Keep transformers from warning about codes outside the text vocabulary, which are right for MusicGen, and from
    telling of an error what the exception says."""
    with unadvised():
        from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(50)  # critical
    try:
        yield
    finally:
        logging.set_verbosity(level)


@contextlib.contextmanager
def config_errors(path, what="built"):
    """Name a config file in whatever goes wrong while something is made of it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a malformed config can make transformers or a network raise anything
        reason = clip(f"{type(error).__name__}: {error}".splitlines()[0])
        raise InputError(f"the config {path} cannot be {what}: {reason}") from error


def config_from(cls, values, path):
    """A config object of transformers from the values of a file.

    Args:
        cls (str): the class, such as MusicgenConfig or GenerationConfig.
        values (dict): from `read_json`.
        path (str): the file, for errors.

    Raises:
        InputError: naming the value, if it has the wrong kind or is a size that no model has.
    """
    with quiet_transformers(), config_errors(path, "used"):
        import transformers

        made = getattr(transformers, cls)
        check_names(made, values, path)
        config = made.from_dict(values)
        check_sizes(config, path)
        return config


def check_names(cls, values, path):
    """Refuse settings under the names of methods, in whose place transformers would put them.

    Args:
        cls (type): the config's class.
        values (dict): from `read_json`.
        path (str): the file, for errors.
    """
    names = [name for part in (values, *values.values()) if isinstance(part, dict) for name in part]
    names = [name for name in names if isinstance(name, str)]  # labels of a config made in Python have numbers
    hidden = next((name for name in names if callable(getattr(cls, name, None))), None)
    if hidden is not None:
        raise InputError(f"{path} sets {clip(hidden)!r}, which is no setting; download it again")


def check_sizes(config, path, kind=None):
    """Refuse sizes that are no whole numbers, or beyond what any model has.

    Args:
        config (transformers.PretrainedConfig): of a composite or of one network.
        path (str): the file it came from, for errors.
        kind (str): of `SIZES`, what it is used as; None takes the config's word for it.

    Raises:
        InputError: naming the size.
    """
    kind = kind or getattr(config, "model_type", None)
    check_ranges(config, path, SIZES.get(kind, {}))
    for name in FRACTIONS.get(kind, ()):
        value = getattr(config, name, None)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise InputError(f"{path} sets {name} to {clip(repr(value), 40)}; expected 0 to 1")
    if kind == "encodec":
        _check_codec(config, path)
    for part, used_as in PARTS.items() if kind in ("musicgen", "musicgen_melody") else ():
        check_sizes(getattr(config, part), path, used_as)


def check_ranges(config, path, ranges):
    """Refuse numbers of a config that are not whole or outside {name: (least, most)}.

    Raises:
        InputError: naming the number.
    """
    for name, (least, most) in ranges.items():
        value = getattr(config, name, None)
        if type(value) is not int or not least <= value <= most:
            raise InputError(f"{path} sets {name} to {clip(repr(value), 40)}; expected {least} to {most}")


def _check_codec(config, path):
    ratios, rates = config.upsampling_ratios, config.target_bandwidths
    if not isinstance(ratios, (list, tuple)) or not 0 < len(ratios) <= 16:
        raise InputError(f"{path} sets upsampling_ratios to {clip(repr(ratios), 40)}; expected a list of 1 to 16")
    if any(type(ratio) is not int or not 1 <= ratio <= 1024 for ratio in ratios):
        raise InputError(f"{path} sets upsampling_ratios to {clip(repr(ratios), 40)}; expected numbers from 1 to 1024")
    sound = isinstance(rates, (list, tuple)) and 0 < len(rates) <= 64
    if not sound or any(type(rate) not in (int, float) or not 0 < rate < math.inf for rate in rates):
        raise InputError(f"{path} sets target_bandwidths to {clip(repr(rates), 40)}; expected numbers above 0")
    if not 1 <= config.num_quantizers <= 1024:
        raise InputError(f"{path} asks for {config.num_quantizers} codebooks of the codec; expected 1 to 1024")


def check_weights(path, expected, tensors):
    """Refuse weights that are far fewer than a config asks for, before the memory for it is taken.

    Args:
        path (str): the config's file.
        expected (int): parameters that it describes.
        tensors (dict[str, LazyTensor]): what there is; stored weight norm makes it a little more.

    Raises:
        InputError: if the config is not that of the weights.
    """
    found = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if expected > 1.5 * found + 1e6:
        raise InputError(
            f"{path} describes a model of {expected / 1e6:.0f} M parameters, and the weights beside it have "
            f"{found / 1e6:.0f} M; they are of different models, or parts are missing"
        )
