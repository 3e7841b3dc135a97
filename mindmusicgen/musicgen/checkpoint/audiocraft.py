"""Reads the files that audiocraft exports, `state_dict.bin` and `compression_state_dict.bin`, without audiocraft.

Each is torch.save of {'best_state': tensors, 'xp.cfg': settings as YAML text, ...}; the second may only name another
codec: {'pretrained': 'facebook/encodec_32khz', ...}. This module renames and slices the tensors, unread, to what
Hugging Face calls them, and `huggingface.load` does the rest. Nothing in the files is executed.

The text encoder is not inside. It is looked for in the folder's subfolder `t5`, then under the name that the settings
give, such as t5-base, on the hub; a codec that is only named is looked for in the subfolder `encodec`, then on the hub.

audiocraft lets the decoder attend to the padding of shorter prompts in a batch; transformers masks it, and so do we.
"""

import json
import os
import re

from ...checkpoint.config_file import check_sizes, config_errors, config_from, quiet_transformers
from ...checkpoint.json_file import read_json
from ...checkpoint.source import AUDIOCRAFT, AUDIOCRAFT_LAYOUT, as_folder, open_weights, resolve
from ...checkpoint.torch_file import LazyTensor, read_torch_pickle
from ...errors import InputError
from .audiocraft_config import MELODY, Settings, codec_sizes, decoder_sizes, refuse_melody

DECODER_FILE, CODEC_FILE = AUDIOCRAFT
TEXT_FOLDER, CODEC_FOLDER = "t5", "encodec"
TOKENIZERS = ("tokenizer.json", "spiece.model")
SCRIPT = "scripts/convert_audiocraft.py"

CONDITIONER = "condition_provider.conditioners."
PROJECTION = CONDITIONER + "description.output_proj"
FINE_TUNED = CONDITIONER + "description.t5."  # present if the text encoder was trained too
TRAINING_ONLY = ("cfg_dropout.", "att_dropout.")
NORMS = {"norm1": "self_attn_layer_norm", "norm_cross": "encoder_attn_layer_norm", "norm2": "final_layer_norm"}

CODEC_NAMES = (
    (r"(encoder|decoder)\.model\.(\d+)\.(?:conv\.conv|convtr\.convtr)\.([\w.]+)", r"\1.layers.\2.conv.\3"),
    (r"(encoder|decoder)\.model\.(\d+)\.(block\.\d+|shortcut)\.conv\.conv\.([\w.]+)", r"\1.layers.\2.\3.conv.\4"),
    (r"(encoder|decoder)\.model\.(\d+)\.lstm\.(\w+)", r"\1.layers.\2.lstm.\3"),
    (r"quantizer\.vq\.layers\.(\d+)\._codebook\.(\w+)", r"quantizer.layers.\1.codebook.\2"),
)
STORED_AS = ("weight_v", "weight", "parametrizations.weight.original1")  # with weight norm, without, and renamed


def tokenizer_folder(folder, cache_dir=None, local_files_only=False, text_encoder=None):
    """Where the tokenizer of a model folder lies: in the folder, or for audiocraft's files with the text encoder.

    Args:
        folder (str): a model folder in any layout.
        cache_dir, local_files_only: as in `from_pretrained`.
        text_encoder (str): as in `open_checkpoint`.

    Raises:
        InputError: if the files are damaged, or the text encoder cannot be found.
    """
    folder = as_folder(folder)
    if folder.layout != AUDIOCRAFT_LAYOUT or any(folder.has(name) for name in TOKENIZERS):
        return folder
    settings, _ = _decoder_file(folder)
    return _text_folder(folder, settings, text_encoder, {"cache_dir": cache_dir, "local_files_only": local_files_only})


def audio_layout(folder):
    """Sampling rate and channels of the audio that the model of an audiocraft folder makes."""
    settings, _ = _decoder_file(as_folder(folder))
    channels = decoder_sizes(settings)["audio_channels"]
    return settings.integer("sample_rate", 32000), channels


def open_checkpoint(folder, text_encoder=None, compression=None, cache_dir=None, local_files_only=False):
    """The config and the tensors of a folder with audiocraft's files, in Hugging Face's terms.

    Args:
        folder (str): with state_dict.bin and compression_state_dict.bin.
        text_encoder (str): T5 folder or hub id, in place of the one the settings name.
        compression (str): EnCodec folder or hub id, in Hugging Face's or audiocraft's layout, in place of the folder's.
        cache_dir, local_files_only: as in `from_pretrained`.

    Returns:
        transformers.MusicgenConfig, dict[str, LazyTensor]

    Raises:
        InputError: for a missing or damaged file, a model of another kind, a text encoder or codec that is not found
            or does not fit; always by name.
    """
    from transformers import MusicgenConfig, MusicgenDecoderConfig

    options = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    folder = as_folder(folder)
    path = folder.file(DECODER_FILE)
    settings, state = _decoder_file(folder)
    sizes = decoder_sizes(settings)
    codec_folder, codec, tensors = _open_codec(folder, compression, options)
    text_folder = _text_folder(folder, settings, text_encoder, options)
    text, text_tensors = _open_text_encoder(text_folder, state)
    text = config_from("T5Config", text, os.path.join(text_folder, "config.json"))
    codec = config_from("EncodecConfig", codec, codec_folder)
    with quiet_transformers(), config_errors(path, "used"):
        decoder = MusicgenDecoderConfig(**sizes)
    _check_codec_fits(settings, decoder, codec)
    _check_text_fits(path, state, decoder, text, text_folder)
    tensors |= text_tensors | _decoder_tensors(path, state, decoder, text.d_model)
    with quiet_transformers():
        parts = {"text_encoder": text, "audio_encoder": codec, "decoder": decoder}
        config = MusicgenConfig(**{name: part.to_dict() for name, part in parts.items()})
    check_sizes(config, path)
    return config, tensors


def convert(
    model,
    output,
    text_encoder=None,
    compression=None,
    dtype=None,
    revision=None,
    cache_dir=None,
    local_files_only=False,
):
    """Write a Hugging Face folder that this package and transformers open: configs, safetensors and tokenizer.

    Args:
        model (str): folder or hub id with audiocraft's files.
        output (str): folder to write; not the model's own.
        text_encoder, compression: as in `open_checkpoint`.
        dtype (str): how weights are stored, float32 (the default) or float16.
        revision, cache_dir, local_files_only: as in `from_pretrained`.

    Raises:
        InputError: as in `open_checkpoint`, and if the folder cannot be written or there is no tokenizer.
    """
    from ...checkpoint.writing import whole_folder
    from ...dtypes import resolve_dtype
    from ..model import MusicgenForConditionalGeneration
    from ..processing import LAYOUT as PROCESSOR_FILE
    from ..processing import audio_settings
    from .folder import build, save_huggingface

    options = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    folder = resolve(model, revision, **options)
    if folder.layout != AUDIOCRAFT_LAYOUT:
        raise InputError(f"{folder} is no audiocraft folder: expected {' and '.join(AUDIOCRAFT)}, and no other weights")
    if os.path.realpath(folder) == os.path.realpath(output):
        raise InputError(f"output {output!r} is the model's own folder; choose another")
    config, tensors = open_checkpoint(folder, text_encoder, compression, **options)
    tokenizer = tokenizer_folder(folder, text_encoder=text_encoder, **options)
    if not any(as_folder(tokenizer).has(name) for name in TOKENIZERS):
        raise InputError(f"{tokenizer} has no tokenizer: expected {' or '.join(TOKENIZERS)} beside config.json")
    network = build(MusicgenForConditionalGeneration, config, tensors, resolve_dtype("float32"), folder)
    with whole_folder(output) as partial:
        save_huggingface(network, partial, dtype, tokenizer)
        with open(os.path.join(partial, PROCESSOR_FILE), "w", encoding="utf-8") as file:
            json.dump(audio_settings(config.audio_encoder.sampling_rate, config.decoder.audio_channels), file, indent=2)


def _decoder_file(folder):
    """Settings and tensors of the larger file, which is opened once."""
    return folder.once(DECODER_FILE, lambda: _open(folder.file(DECODER_FILE)))


def _read(path):
    """The outermost dict of a file."""
    if not os.path.isfile(path):
        raise InputError(f"{path} is missing; a folder of audiocraft's has {' and '.join(AUDIOCRAFT)}")
    try:
        package = read_torch_pickle(path)
    except InputError as error:
        if "omegaconf." not in str(error):
            raise
        raise InputError(f"{error}: this is a training checkpoint; export it with audiocraft.utils.export") from error
    if not isinstance(package, dict):
        raise InputError(f"{path} holds a {type(package).__name__}; expected what audiocraft.utils.export writes")
    return package


def _open(path, package=None):
    """The settings and the tensors by name of an exported file, without reading the tensors."""
    package = _read(path) if package is None else package
    state = package.get("best_state")
    if isinstance(state, dict) and isinstance(state.get("model"), dict):  # as in training checkpoints
        state = state["model"]
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path} has no tensors: expected them in an entry best_state, as audiocraft exports")
    for name, value in state.items():
        if type(name) is not str or not isinstance(value, LazyTensor):
            raise InputError(f"{path} holds {str(name)[:60]!r} in best_state, which is not a tensor; export it again")
    return Settings(package.get("xp.cfg"), path), dict(state)


def _find(name, place, what, option, options):
    """The local folder of a network that is named and not inside."""
    try:
        return resolve(name, **options)
    except InputError as error:
        raise InputError(
            f"{what} is not part of audiocraft's files, and {str(error).partition(';')[0][:90]}; put it into {place}, "
            f"or give {option} to {SCRIPT}"
        ) from error


def _text_folder(folder, settings, text_encoder, options):
    """The folder of the text encoder and its tokenizer."""
    inside = os.path.join(folder, TEXT_FOLDER)
    if text_encoder is None and os.path.isdir(inside):
        return inside
    name = settings.get("conditioners.description.t5.name") if text_encoder is None else os.fspath(text_encoder)
    if type(name) is not str or not name:
        settings.refuse("conditioners.description.t5.name", name, "the name of a T5 model")
    if "/" not in name and not os.path.isdir(name):
        name = f"google-t5/{name}"  # where the hub keeps what audiocraft calls t5-base
    return _find(name, inside, "the text encoder", "--text-encoder", options)


def _open_text_encoder(folder, state):
    """Values of the T5 config, and the tensors; those of the decoder half of a complete T5 are left out."""
    path = os.path.join(folder, "config.json")
    values = read_json(path)
    if values.get("model_type") != "t5":
        raise InputError(f"{path} describes a {values.get('model_type')!r} model; expected a text encoder of type 't5'")
    tensors = {name[len(FINE_TUNED) :]: value for name, value in state.items() if name.startswith(FINE_TUNED)}
    tensors = tensors or open_weights(folder)
    encoder = ("shared.", "encoder.")
    return values, {f"text_encoder.{name}": value for name, value in tensors.items() if name.startswith(encoder)}


def _open_codec(folder, compression, options):
    """The codec's folder, arguments of its config, and its tensors."""
    path, inside = os.path.join(folder, CODEC_FILE), os.path.join(folder, CODEC_FOLDER)
    if compression is None and os.path.isfile(path):
        package = _read(path)
        if "pretrained" not in package:
            return folder, *_audiocraft_codec(path, package)
        compression = inside if os.path.isdir(inside) else package["pretrained"]
        if type(compression) is not str or not compression:
            raise InputError(f"{path} has an entry 'pretrained' that is not a name; fetch it again")
    elif compression is None:
        if not os.path.isdir(inside):
            raise InputError(
                f"{path} is missing, which holds or names the codec; fetch it, put an EnCodec folder into {inside}, "
                f"or give --compression to {SCRIPT}"
            )
        compression = inside
    found = _find(os.fspath(compression), inside, "the codec", "--compression", options)
    path = os.path.join(found, CODEC_FILE)
    if os.path.isfile(path):
        package = _read(path)
        if "pretrained" in package:
            raise InputError(f"{path} holds no codec but the name {str(package['pretrained'])[:60]!r}; give that one")
        return found, *_audiocraft_codec(path, package)
    values = read_json(os.path.join(found, "config.json"))
    if values.get("model_type") != "encodec":
        raise InputError(f"{found} holds a {values.get('model_type')!r} model; expected a codec of type 'encodec'")
    return found, values, {f"audio_encoder.{name}": tensor for name, tensor in open_weights(found).items()}


def _audiocraft_codec(path, package):
    settings, state = _open(path, package)
    sizes = codec_sizes(settings)
    for stem, shape in _codec_convolutions(sizes):
        stored = [state[stem + ending] for ending in STORED_AS if stem + ending in state]
        _check_shape(path, stem + STORED_AS[0], stored[0] if stored else None, shape)
    quantizers = settings.integer("rvq.n_q")
    for stem, setting, expected in (
        ("_codebook.embed", "rvq.n_q", quantizers),
        (".lstm.weight_ih_l", "seanet.lstm", 2 * sizes["num_lstm_layers"]),  # the encoder's and the decoder's
    ):
        found = sum(re.fullmatch(r"[\w.]*" + re.escape(stem) + r"\d*", name) is not None for name in state)
        if found != expected:
            raise InputError(f"{path} holds {found} tensors *{stem}, {expected} are expected from {setting} in xp.cfg")
    table = (sizes["codebook_size"], sizes["codebook_dim"])
    for i in range(quantizers):
        name = f"quantizer.vq.layers.{i}._codebook.embed"
        _check_shape(path, name, state.get(name), table)
    return sizes, {f"audio_encoder.{_codec_name(path, name)}": tensor for name, tensor in state.items()}


def _codec_name(path, name):
    """Hugging Face's name of a codec tensor."""
    for pattern, replacement in CODEC_NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise InputError(f"{path} holds {name[:100]!r}, which an EnCodec of audiocraft's does not have")


def _codec_convolutions(sizes):
    """The convolutions between the residual blocks and the first inside one: the stem of their name, their shape.

    Their numbers and shapes depend on every size that decides how large the network is.
    """
    width, ratios, skip = sizes["num_filters"], sizes["upsampling_ratios"], sizes["num_residual_layers"] + 2
    channels, dim = sizes["audio_channels"], sizes["hidden_size"]
    first, last, widest = sizes["kernel_size"], sizes["last_kernel_size"], width * 2 ** len(ratios)
    end = len(ratios) * skip + 3  # after the blocks come the LSTM, an activation and the last convolution
    yield "encoder.model.0.conv.conv.", (width, channels, first)
    yield "encoder.model.1.block.1.conv.conv.", (width // sizes["compress"], width, sizes["residual_kernel_size"])
    for i, ratio in enumerate(reversed(ratios)):
        yield f"encoder.model.{(i + 1) * skip}.conv.conv.", (width * 2 ** (i + 1), width * 2**i, 2 * ratio)
    yield f"encoder.model.{end}.conv.conv.", (dim, widest, last)
    yield "decoder.model.0.conv.conv.", (widest, dim, first)
    for i, ratio in enumerate(ratios):
        yield f"decoder.model.{i * skip + 3}.convtr.convtr.", (widest >> i, widest >> (i + 1), 2 * ratio)
    yield f"decoder.model.{end}.conv.conv.", (channels, width, last)


def _check_shape(path, name, tensor, expected):
    if tensor is None:
        raise InputError(f"{path} lacks {name}; it is damaged, or its xp.cfg is another model's")
    found = tuple(tensor.shape)
    if found != tuple(expected):
        raise InputError(f"{path} does not fit its xp.cfg: {name} has shape {found}, expected {tuple(expected)}")


def _check_codec_fits(settings, decoder, codec):
    """The decoder must speak the codec's codes."""
    source, sides = settings.source, decoder.audio_channels
    if codec.audio_channels != 1:
        raise InputError(f"the codec of {source} has {codec.audio_channels} channels; MusicGen uses a mono codec")
    if codec.codebook_size != decoder.vocab_size:
        raise InputError(
            f"{source} predicts {decoder.vocab_size} codes but its codec has {codec.codebook_size}; they do not fit"
        )
    if decoder.num_codebooks // sides > codec.num_quantizers:
        raise InputError(
            f"{source} predicts {decoder.num_codebooks // sides} codebooks a channel but its codec has "
            f"{codec.num_quantizers}; they do not fit"
        )
    if settings.get("sample_rate", codec.sampling_rate) != codec.sampling_rate:
        settings.refuse("sample_rate", settings.get("sample_rate"), f"the codec's {codec.sampling_rate}")


def _check_text_fits(path, state, decoder, text, text_folder):
    projection = state.get(PROJECTION + ".weight")
    width = projection.shape[1] if projection is not None and len(projection.shape) == 2 else None
    if width is not None and width != text.d_model:
        raise InputError(
            f"the text encoder in {text_folder} is {text.d_model} wide, but {path} was trained with one of {width}; "
            "give the T5 that its xp.cfg names"
        )
    if text.d_model == decoder.hidden_size:
        raise InputError(
            f"{path} projects a text encoder that is as wide as the decoder ({text.d_model}); transformers has no "
            "place for that projection"
        )


def _decoder_layout(config, text_width):
    """For each of audiocraft's tensors its shape, and Hugging Face's names, which share its rows evenly.

    Returns:
        dict[str, tuple[tuple, tuple]]
    """
    dim, model = config.hidden_size, "decoder.model.decoder."
    layout = {
        PROJECTION + ".weight": ((dim, text_width), ("enc_to_dec_proj.weight",)),
        PROJECTION + ".bias": ((dim,), ("enc_to_dec_proj.bias",)),
        "out_norm.weight": ((dim,), (model + "layer_norm.weight",)),
        "out_norm.bias": ((dim,), (model + "layer_norm.bias",)),
    }
    for k in range(config.num_codebooks):
        layout[f"emb.{k}.weight"] = ((config.vocab_size + 1, dim), (f"{model}embed_tokens.{k}.weight",))
        layout[f"linears.{k}.weight"] = ((config.vocab_size, dim), (f"decoder.lm_heads.{k}.weight",))
    for i in range(config.num_hidden_layers):
        old, new = f"transformer.layers.{i}.", f"{model}layers.{i}."
        for attention, name in (("self_attn", "self_attn"), ("cross_attention", "encoder_attn")):
            stacked = tuple(f"{new}{name}.{part}_proj.weight" for part in "qkv")
            layout[f"{old}{attention}.in_proj_weight"] = ((3 * dim, dim), stacked)
            layout[f"{old}{attention}.out_proj.weight"] = ((dim, dim), (f"{new}{name}.out_proj.weight",))
        layout[old + "linear1.weight"] = ((config.ffn_dim, dim), (new + "fc1.weight",))
        layout[old + "linear2.weight"] = ((dim, config.ffn_dim), (new + "fc2.weight",))
        for norm, name in NORMS.items():
            for leaf in ("weight", "bias"):
                layout[f"{old}{norm}.{leaf}"] = ((dim,), (f"{new}{name}.{leaf}",))
    return layout


def _decoder_tensors(path, state, config, text_width):
    """The decoder's tensors under Hugging Face's names."""
    if any(name.startswith(CONDITIONER + MELODY) for name in state):
        refuse_melody(path)
    skipped = (*TRAINING_ONLY, FINE_TUNED)
    # Attention that was not audiocraft's own implementation keeps torch's module, one level down.
    state = {name.replace(".mha.", "."): value for name, value in state.items() if not name.startswith(skipped)}
    for stem, leaf, setting, expected in (
        ("transformer.layers.", ".norm1.weight", "transformer_lm.num_layers", config.num_hidden_layers),
        ("emb.", ".weight", "transformer_lm.n_q", config.num_codebooks),
    ):
        found = sum(name.startswith(stem) and name.endswith(leaf) for name in state)
        if found != expected:  # said here, before a layout of that many is made
            raise InputError(f"{path} holds {found} of {stem}N{leaf}, but its xp.cfg sets {setting} to {expected}")
    layout, tensors = _decoder_layout(config, text_width), {}
    extra = sorted(set(state) - set(layout))
    if extra:
        raise InputError(f"{path} holds {extra[0][:100]!r}, which a MusicGen that follows text does not have")
    for name, (shape, names) in layout.items():
        tensor = state.get(name)
        _check_shape(path, name, tensor, shape)
        rows = shape[0] // len(names)
        parts = [tensor] if len(names) == 1 else [tensor.rows(i * rows, (i + 1) * rows) for i in range(len(names))]
        tensors |= zip(names, parts, strict=True)
    return tensors
