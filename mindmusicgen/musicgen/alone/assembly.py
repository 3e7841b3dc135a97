"""A composite out of networks that exist already: given to its constructor, or opened one by one."""

import copy

import mindspore as ms
from mindspore import nn

from ...errors import InputError, shown
from ...submodels.base import Submodel

KINDS = {"text_encoder": "T5EncoderModel", "audio_encoder": "EncodecModel", "decoder": "MusicgenForCausalLM"}


def assembled(cls, config, given, dtype):
    """Check what a composite is to be made of.

    Args:
        cls (type): the composite's class.
        config (transformers.MusicgenConfig): or None.
        given (dict): text_encoder, audio_encoder, decoder: `Submodel`, a composite's own network, or None.
        dtype (mindspore.dtype): or None.

    Returns:
        dict of the networks that were given; the config, theirs in it; the dtype.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    made = {name: _network(cls, name, value) for name, value in given.items() if value is not None}
    if config is None and len(made) < len(given):
        missing = " and ".join(name for name in given if name not in made)
        raise InputError(f"{cls.__name__} needs a config, or all three networks; {missing} is not given")
    wanted = cls.config_kind()
    if config is None:
        parts = {f"{name}_config": network.config for name, network in made.items()}
        config = wanted.from_sub_models_config(**parts)
    elif getattr(config, "model_type", None) != cls.model_type:
        raise InputError(f"config is {shown(type(config).__name__)}; expected a {wanted.__name__}")
    elif made:
        config = copy.deepcopy(config)
    for name, network in made.items():
        setattr(config, name, network.config)
    dtypes = {str(network.dtype) for name, network in made.items() if name != "audio_encoder"}
    if len(dtypes) > 1 or dtype is not None and dtypes - {str(dtype)}:
        raise InputError(
            f"the networks have {' and '.join(sorted(dtypes)).lower()}; open them with one dtype, the model's"
        )
    if dtype is None:
        dtype = next((network.dtype for name, network in made.items() if name != "audio_encoder"), ms.float32)
    return made, config, dtype


def _network(cls, name, value):
    """The network that an argument of the constructor holds."""
    network = value.whole if isinstance(value, Submodel) else value
    expected = {"text_encoder": "t5", "audio_encoder": "encodec"}.get(name, cls.decoder_class.model_type)
    if not isinstance(network, nn.Cell) or getattr(network, "model_type", None) != expected:
        raise InputError(f"{name} is {shown(type(value).__name__)}; expected {_kind(cls, name)}, or dtype= by its name")
    if name == "decoder" and not hasattr(network, "lm_heads"):
        raise InputError(f"decoder is a {type(value).__name__}, which has no heads; expected {_kind(cls, name)}")
    return network


def _kind(cls, name):
    return cls.decoder_class.alone if name == "decoder" else KINDS[name]


def from_sub_models_pretrained(
    cls,
    text_encoder_pretrained_model_name_or_path=None,
    audio_encoder_pretrained_model_name_or_path=None,
    decoder_pretrained_model_name_or_path=None,
    *,
    dtype=None,
    device=None,
    **arguments,
):
    """Put a model together of a text encoder, a codec and a decoder, which are opened one by one.

    What brings the text to the decoder's width has random weights, as in transformers: it is to be trained.

    Args:
        text_encoder_pretrained_model_name_or_path (str): folder, hub id or "demo", of T5 or of a whole MusicGen.
        audio_encoder_pretrained_model_name_or_path (str): the same for EnCodec.
        decoder_pretrained_model_name_or_path (str): the same for the decoder.
        dtype, device: as in `from_pretrained`.
        **arguments: text_encoder_model, audio_encoder_model and decoder_model are networks in place of a name; others
            with these beginnings go to the `from_pretrained` of that network, all others to the composite's config.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    import mindmusicgen

    names = {
        "text_encoder": text_encoder_pretrained_model_name_or_path,
        "audio_encoder": audio_encoder_pretrained_model_name_or_path,
        "decoder": decoder_pretrained_model_name_or_path,
    }
    networks = {}
    for part, name in names.items():
        own = {key[len(part) + 1 :]: arguments.pop(key) for key in list(arguments) if key.startswith(f"{part}_")}
        networks[part] = own.pop("model", None)
        if networks[part] is None:
            if name is None:
                raise InputError(f"{part} is not given; give {part}_pretrained_model_name_or_path, or {part}_model")
            opened = getattr(mindmusicgen, _kind(cls, part))
            networks[part] = opened.from_pretrained(name, **{"dtype": dtype, "device": device} | own)
    configs = {f"{part}_config": network.config for part, network in networks.items()}
    return cls(cls.config_kind().from_sub_models_config(**configs, **arguments), **networks)
