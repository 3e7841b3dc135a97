"""Model folders: opening one, and writing one in Hugging Face's layout or in MindSpore's."""

import importlib
import os
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np

from ...checkpoint import huggingface
from ...checkpoint.config_file import check_sizes, check_weights, config_errors, config_from, quiet_transformers
from ...checkpoint.json_file import read_json
from ...checkpoint.safetensors_file import NAMES as DTYPE_NAMES
from ...checkpoint.safetensors_file import open_safetensors, read_metadata, write_safetensors
from ...checkpoint.shards import write_weights
from ...checkpoint.source import NATIVE, files_in, open_weights, resolve, weights_form
from ...checkpoint.writing import copy_companions, whole_folder
from ...errors import InputError, clip, shown
from ...habits import changed_config, opening, saving
from ...habits import dtype_name as common_name
from ...models.quantized import arena_for, quantised_parameters
from ...ops import packing
from ...ops.memory import release_free_memory, release_mapped
from ...runtime import device as devices
from ..int8 import quantization as quantizations
from .audiocraft import is_audiocraft, open_checkpoint, tokenizer_folder

MODELS = {  # model_type of config.json: the classes of config and model
    "musicgen": ("MusicgenConfig", "MusicgenForConditionalGeneration"),
    "musicgen_melody": ("MusicgenMelodyConfig", "MusicgenMelodyForConditionalGeneration"),
}
DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}
LOOKED = 100_000_000  # bytes of mapped weights that are looked through for NaN before their pages are given back


def model_type(folder):
    """What kind of model a folder says that it holds; one of `MODELS`, or something else.

    Raises:
        InputError: if config.json is missing or not JSON.
    """
    if is_audiocraft(folder):
        return "musicgen"
    kind = read_json(os.path.join(folder, "config.json")).get("model_type")
    return kind if isinstance(kind, str) or kind is None else clip(kind)


def model_class(folder):
    """The class whose `from_pretrained` opens a folder.

    Raises:
        InputError: if config.json is missing, not JSON, or not of a MusicGen model.
    """
    kind = model_type(folder)
    if kind not in MODELS:
        raise InputError(_not_ours(os.path.join(folder, "config.json"), kind))
    package = importlib.import_module(__package__.partition(".")[0])
    return getattr(package, MODELS[kind][1])


def check_class(cls, folder):
    """Refuse a folder whose model belongs to another class than `cls`.

    Raises:
        InputError: naming the class that opens it.
    """
    kind = model_type(folder)
    if kind in MODELS and kind != cls.model_type:
        raise InputError(f"{folder}/config.json describes a {kind!r} model; open it with {MODELS[kind][1]}")


def _not_ours(path, kind):
    return f"{path} describes a {kind!r} model; expected model_type {' or '.join(map(repr, MODELS))}"


def load_config(folder, cache_dir=None, local_files_only=False):
    """The config of a folder, `MusicgenConfig` or `MusicgenMelodyConfig`; audiocraft's files say it in their settings.

    Args:
        folder (str): the folder.
        cache_dir, local_files_only: as in `open_folder`.

    Raises:
        InputError: if config.json is missing, not JSON, or not of a MusicGen model.
    """
    if is_audiocraft(folder):
        return open_checkpoint(folder, cache_dir=cache_dir, local_files_only=local_files_only)[0]
    path, kind = os.path.join(folder, "config.json"), model_type(folder)
    if kind not in MODELS:
        raise InputError(_not_ours(path, kind))
    values = read_json(path)
    return config_from(MODELS[kind][0], values, path)


def load_generation_config(folder, config):
    """generation_config.json of a folder, or transformers' defaults if it has none."""
    if not os.path.isfile(os.path.join(folder, "generation_config.json")):
        return default_generation_config(config)
    path = os.path.join(folder, "generation_config.json")
    return config_from("GenerationConfig", read_json(path), path)


def default_generation_config(config):
    """What the published MusicGen models ship: sampling with guidance 3, up to 1,500 columns."""
    from transformers import GenerationConfig

    start = getattr(config.decoder, "bos_token_id", None)
    start = config.decoder.vocab_size if start is None else start
    return GenerationConfig(
        do_sample=True,
        guidance_scale=3.0,
        max_length=1500,
        bos_token_id=start,
        pad_token_id=start,
        decoder_start_token_id=start,
    )


def resolve_dtype(dtype=None, quantised=False):
    """A MindSpore dtype for a name, checked against what the device can compute with.

    Args:
        dtype (str | mindspore.dtype): float32, float16, bfloat16; None or "auto": float16 on Ascend, else float32.
        quantised (bool): whether weights have 8 bits, which go with float32 everywhere.
    """
    if dtype in (None, "auto"):
        return ms.float16 if devices.is_ascend() and not quantised else ms.float32
    chosen = DTYPES.get(common_name(dtype))
    if chosen is None:
        raise InputError(f"dtype is {shown(dtype)}; expected auto or one of {', '.join(DTYPES)}")
    if chosen == ms.bfloat16 and not devices.is_ascend():
        raise InputError("dtype bfloat16 has no CPU kernels in MindSpore; use float32 (or float16) on a CPU")
    return chosen


def dtype_name(dtype=None, quantised=False):
    """The same as a name: float32, float16 or bfloat16."""
    return str(resolve_dtype(dtype, quantised)).lower()


def load(
    cls, model, dtype, revision, cache_dir, local_files_only, quantization=None, device=None, given=None, habits=None
):
    """Build a composite and fill it; see `from_pretrained`."""
    model, dtype, device, changes = opening(model, dtype, device, habits or {})
    quantizations.check(quantization)
    devices.use(device)
    if dtype not in (None, "auto"):
        resolve_dtype(dtype)
    folder = resolve(model, revision, cache_dir, local_files_only)
    check_class(cls, folder)
    chosen = resolve_dtype(dtype, quantised=bool(quantization or stored_quantization(folder)))
    config, tensors = open_folder(folder, cache_dir, local_files_only)
    config = changed_config(config, given, changes)
    check_sizes(config, os.path.join(folder, "config.json"))
    return build(cls, config, tensors, chosen, folder, quantization)


def open_folder(folder, cache_dir=None, local_files_only=False):
    """The config and the unread tensors of a folder in any layout: this package's, Hugging Face's or audiocraft's.

    Args:
        folder (str): the folder.
        cache_dir, local_files_only: for the networks that audiocraft's files only name; as in `from_pretrained`.

    Returns:
        transformers.MusicgenConfig or MusicgenMelodyConfig, dict[str, LazyTensor]

    Raises:
        InputError: if something is missing, damaged, or of another kind of model.
    """
    if is_audiocraft(folder):
        config, tensors = open_checkpoint(folder, cache_dir=cache_dir, local_files_only=local_files_only)
    else:
        config, tensors = load_config(folder), _open_tensors(folder)
    from .sizes import parameters  # whose configs need this module

    check_weights(os.path.join(folder, "config.json"), sum(parameters(config).values()), tensors)
    return config, tensors


def _open_tensors(folder):
    """The unread tensors of a folder in this package's layout or in Hugging Face's."""
    names = files_in(folder)
    other = weights_form([name for name in names if name != NATIVE])
    if NATIVE in names and other:
        raise InputError(f"{folder} holds {NATIVE} and {other}: one of them is of another model; remove that one")
    return open_safetensors(os.path.join(folder, NATIVE)) if NATIVE in names else open_weights(folder)


def build(cls, config, tensors, dtype, folder, quantization=None):
    """A composite filled with the tensors of a folder, from `open_folder`; `dtype` is MindSpore's."""
    quantizations.check(quantization, dtype, cls.model_type)
    stored = stored_quantization(folder)
    quantizations.check(stored, dtype, cls.model_type)
    with config_errors(os.path.join(folder, "config.json")):
        generation_config = load_generation_config(folder, config)
        network = cls(config, dtype=dtype, generation_config=generation_config, quantization=stored, empty=True)
    native = os.path.join(folder, NATIVE)
    if os.path.isfile(native):
        load_native(network, tensors, native)
    else:
        huggingface.load(network, tensors, folder)
    if quantization and not stored:
        network.quantize(quantization)
    quantizations.expand_without_kernels(network)
    return network


def stored_quantization(folder):
    """How the decoder of a folder is quantised: "int8", or None for floats.

    Raises:
        InputError: if this version cannot read it.
    """
    native = os.path.join(folder, NATIVE)
    found = read_metadata(native) if os.path.isfile(native) else {}
    name, version = found.get("quantization"), found.get("quantization_version")
    if name is not None and (name not in quantizations.NAMES or version != packing.VERSION):
        raise InputError(
            f"{native} is quantised as {name}, version {version}; this version reads "
            f"{' or '.join(quantizations.NAMES)}, version {packing.VERSION}: convert the model again"
        )
    return name


def load_native(network, tensors, source):
    """Fill a network from a file in the cells' own layout: names and shapes are those of the parameters.

    Raises:
        InputError: for a missing, left-over or misshapen parameter, by name.
    """
    parameters = dict(network.parameters_and_names())
    for names, what in (
        (set(parameters) - set(tensors), "lacks"),
        (set(tensors) - set(parameters), "holds an unknown"),
    ):
        if names:
            raise InputError(f"{source} {what} {clip(min(names))}; convert the model again with this version")
    packed, mapped, arena, reads, looked = quantised_parameters(network), {}, None, [], []
    # What is mapped comes first: the zeros that it replaces are given back before the rest takes its memory.
    for name, parameter in sorted(parameters.items(), key=lambda entry: entry[0] in packed):
        found, expected = tuple(tensors[name].shape), tuple(parameter.shape)
        if found != expected:
            raise InputError(f"{source} does not fit its config: {name} has shape {found}, expected {expected}")
        if name in packed:
            if arena is None:
                release_mapped(looked)
                release_free_memory()
                arena = arena_for(network)
            values = arena.take(expected, parameter.asnumpy().dtype)
            if DTYPE_NAMES[values.dtype.str] != tensors[name].dtype:
                raise InputError(f"{source} holds {name} as {tensors[name].dtype}; convert the model again")
            reads.append((tensors[name], values))
        else:
            values = mapped[name] = tensors[name].map()
            if not np.issubdtype(values.dtype, np.floating):
                raise InputError(f"{source} holds {name} as {tensors[name].dtype}; expected floating-point weights")
            huggingface.check_finite(values, name, source)
            looked.append(values)
            if packed and sum(one.nbytes for one in looked) > LOOKED:
                release_mapped(looked)  # pages that the look has read; what is used comes back
                looked.clear()
        if values.dtype == parameter.asnumpy().dtype:
            parameter.assign_value(ms.Tensor.from_numpy(values))  # shares the mapped memory
        else:
            parameter.asnumpy()[...] = values
    with ThreadPoolExecutor(2) as pool:  # most of it is the system that finds pages, which two threads share
        list(pool.map(lambda read: read[0].read_into(read[1]), reads))
    if packed:
        network.mapped = mapped
        release_free_memory()


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
        (name, shape, np.dtype(dtype or own), values)
        for name, shape, own, values in huggingface.stored_tensors(network)
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
    entries, metadata = [], {"format": "mindspore"}
    if network.quantization:
        metadata |= {"quantization": network.quantization, "quantization_version": packing.VERSION}
    for name, parameter in network.parameters_and_names():
        values = parameter.asnumpy()
        entries.append((name, values.shape, values.dtype, lambda values=values: values))
    with whole_folder(folder) as partial:
        _save_configs(network, partial)
        if companions:
            copy_companions(tokenizer_folder(companions, cache_dir, local_files_only), partial)
        write_safetensors(os.path.join(partial, NATIVE), entries, metadata)


def _save_configs(network, folder):
    with quiet_transformers():
        network.config.architectures = [MODELS[network.config.model_type][1]]
        network.config.save_pretrained(folder)
        network.generation_config.save_pretrained(folder)
