"""MusicGen's model folders: opening one, and writing one in Hugging Face's layout or in this package's."""

import copy
import os

import numpy as np

from ...auto import kind_of, known_kind
from ...checkpoint.config_file import check_sizes, check_weights, config_errors, config_from, quiet_transformers
from ...checkpoint.native import load_native, open_tensors, stored_quantization, write_native
from ...checkpoint.shards import write_weights
from ...checkpoint.source import AUDIOCRAFT_LAYOUT, NATIVE, as_folder, resolve
from ...checkpoint.writing import CONFIG, copy_companions, whole_folder
from ...dtypes import resolve_dtype
from ...errors import InputError, shown
from ...families import KINDS
from ...habits import changed_config, opening, saving
from ...habits import dtype_name as common_name
from ...runtime import device as devices
from . import names


def check_class(cls, folder):
    """Refuse a folder whose model belongs to another class than `cls`.

    Raises:
        InputError: naming the class that opens it.
    """
    kind = kind_of(folder)
    if kind in KINDS and kind != cls.model_type:
        raise InputError(f"{folder}/config.json describes a {kind!r} model; open it with {KINDS[kind].model}")


def load_config(folder, cache_dir=None, local_files_only=False):
    """The config of a folder, `MusicgenConfig` or `MusicgenMelodyConfig`; audiocraft's files say it in their settings.

    Args:
        folder (ModelFolder | str): the folder.
        cache_dir, local_files_only: as in `open_folder`.

    Raises:
        InputError: if config.json is missing, not JSON, or not of a MusicGen model.
    """
    folder = as_folder(folder)
    if folder.layout == AUDIOCRAFT_LAYOUT:
        from .audiocraft import open_checkpoint

        return open_checkpoint(folder, cache_dir=cache_dir, local_files_only=local_files_only)[0]
    kind = known_kind(folder)
    found = folder.once("config", lambda: config_from(KINDS[kind].config, folder.json(CONFIG), folder.file(CONFIG)))
    return copy.deepcopy(found)


def load_generation_config(folder, decoder):
    """generation_config.json of a folder; what the published models ship if it has none.

    Args:
        folder (ModelFolder | str): the folder.
        decoder (transformers.MusicgenDecoderConfig): config of its decoder.
    """
    folder, name = as_folder(folder), "generation_config.json"
    if not folder.has(name):
        return default_generation_config(decoder)
    return config_from("GenerationConfig", folder.json(name), folder.file(name))


def default_generation_config(decoder):
    """What the published MusicGen models ship: sampling with guidance 3, up to 1,500 columns.

    Args:
        decoder (transformers.MusicgenDecoderConfig): config of the decoder.
    """
    from transformers import GenerationConfig

    start = getattr(decoder, "bos_token_id", None)
    start = decoder.vocab_size if start is None else start
    return GenerationConfig(
        do_sample=True,
        guidance_scale=3.0,
        max_length=1500,
        bos_token_id=start,
        pad_token_id=start,
        decoder_start_token_id=start,
    )


def load(
    cls, model, dtype, revision, cache_dir, local_files_only, quantization=None, device=None, given=None, habits=None
):
    """Build a composite and fill it; see `from_pretrained`."""
    model, dtype, device, changes = opening(model, dtype, device, habits or {})
    _check_quantization(quantization)
    devices.use(device)
    if dtype not in (None, "auto"):
        resolve_dtype(dtype)
    folder = resolve(model, revision, cache_dir, local_files_only)
    check_class(cls, folder)
    chosen = resolve_dtype(dtype, quantised=bool(quantization or stored_quantization(folder)))
    config, tensors = open_folder(folder, cache_dir, local_files_only)
    config = changed_config(config, given, changes)
    check_sizes(config, folder.file(CONFIG))
    return build(cls, config, tensors, chosen, folder, quantization)


def open_folder(folder, cache_dir=None, local_files_only=False):
    """The config and the unread tensors of a folder in any layout: this package's, Hugging Face's or audiocraft's.

    Args:
        folder (ModelFolder | str): the folder.
        cache_dir, local_files_only: for the networks that audiocraft's files only name; as in `from_pretrained`.

    Returns:
        transformers.MusicgenConfig or MusicgenMelodyConfig, dict[str, LazyTensor]

    Raises:
        InputError: if something is missing, damaged, or of another kind of model.
    """
    folder = as_folder(folder)
    if folder.layout == AUDIOCRAFT_LAYOUT:
        from .audiocraft import open_checkpoint

        config, tensors = open_checkpoint(folder, cache_dir=cache_dir, local_files_only=local_files_only)
    else:
        config, tensors = load_config(folder), open_tensors(folder)
    from .sizes import parameters  # whose configs need this module

    counts = parameters(config)
    if stored_quantization(folder) == "int4":
        counts["decoder"] //= 2  # two to a byte
    check_weights(folder.file(CONFIG), sum(counts.values()), tensors)
    return config, tensors


def build(cls, config, tensors, dtype, folder, quantization=None):
    """A composite filled with the tensors of a folder, from `open_folder`; `dtype` is MindSpore's."""
    network = filled(cls, config, tensors, dtype, folder, quantization)
    if network.quantization:
        from ..int8.quantization import expand_without_kernels

        expand_without_kernels(network)
    return network


def filled(cls, config, tensors, dtype, folder, quantization=None):
    """`build` without a look at whether this machine can compute with quantised weights."""
    folder = as_folder(folder)
    _check_quantization(quantization, dtype, cls.model_type)
    stored = stored_quantization(folder)
    _check_quantization(stored, dtype, cls.model_type)
    if stored and quantization not in (None, stored):
        raise InputError(f"{folder} holds {stored} weights; {quantization} is made of the float ones")
    with config_errors(folder.file(CONFIG)):
        generation_config = load_generation_config(folder, config.decoder)
        kind, asked = stored or quantization, {"generation_config": generation_config, "empty": True}
        network = cls(config, dtype=dtype, quantization=kind, **asked)
    stores = None
    if quantization and not stored:  # a tensor at a time: the float decoder, 1.5 GB of small, is never there as a whole
        from ...checkpoint.rounding import rounding

        stores = rounding(network, {"decoder.": network.decoder})
    if folder.has(NATIVE):
        load_native(network, tensors, folder.file(NATIVE), stores)
    else:
        names.load(network, tensors, folder, stores=stores)
    return network


def _check_quantization(quantization, *with_what):
    """`int8.quantization.check`, loaded where there is something to check."""
    if quantization is not None:
        from ..int8.quantization import check

        check(quantization, *with_what)


def save_huggingface(network, folder, dtype=None, companions=None, habits=None):
    """Write config, generation config and weights as transformers expects them; see `save_pretrained`.

    Args:
        network (MusicgenForConditionalGeneration): the model.
        folder (str): where to write.
        dtype (str): float32 or float16; None keeps the model's own.
        companions (str): folder to copy tokenizer and processor files from.
        habits (dict): what else `save_pretrained` was given.
    """
    largest = saving(habits or {})
    dtype = dtype if dtype is None else common_name(dtype)
    if dtype not in (None, "float32", "float16"):
        raise InputError(f"dtype is {shown(dtype)}; a checkpoint is stored as float32 or float16")
    if network.quantization:
        raise InputError(
            "a quantised model has no Hugging Face layout; save the float one, or use mindmusicgen convert"
        )
    entries = [
        (name, shape, np.dtype(dtype or own), values) for name, shape, own, values in names.stored_tensors(network)
    ]
    with whole_folder(folder) as partial:
        _save_configs(network, partial)
        if companions:
            copy_companions(companions, partial)
        write_weights(partial, entries, largest)


def save_native(network, folder, companions=None, cache_dir=None, local_files_only=False):
    """Write the weights in the cells' own layout; `mindspore.load_checkpoint(file, format="safetensors")` reads it too.

    Args:
        network (MusicgenForConditionalGeneration): the model.
        folder (str): where to write.
        companions (str): folder to copy tokenizer and processor files from.
        cache_dir, local_files_only: as in `open_folder`.
    """
    from .audiocraft import tokenizer_folder

    with whole_folder(folder) as partial:
        _save_configs(network, partial)
        if companions:
            copy_companions(tokenizer_folder(companions, cache_dir, local_files_only), partial)
        write_native(network, os.path.join(partial, NATIVE), network.quantization)


def _save_configs(network, folder):
    with quiet_transformers():
        network.config.architectures = [KINDS[network.config.model_type].model]
        network.config.save_pretrained(folder)
        network.generation_config.save_pretrained(folder)
