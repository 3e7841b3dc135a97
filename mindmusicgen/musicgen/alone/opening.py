"""One network out of a checkpoint: from a folder of its own, or out of a composite one; and back to a folder."""

import os
from types import SimpleNamespace

import numpy as np

from ...checkpoint.config_file import check_sizes, check_weights, config_errors, config_from
from ...checkpoint.json_file import read_json
from ...checkpoint.shards import write_weights
from ...checkpoint.source import NATIVE, open_weights, resolve
from ...dtypes import resolve_dtype
from ...errors import InputError, shown
from ...habits import changed_config, dtype_name, opening, saving
from ...runtime import device as devices
from ..checkpoint import folder as whole
from ..checkpoint import names
from ..checkpoint.sizes import part_parameters

# model_type of a config of its own: the config's class, what the composite calls the network, and which composites.
OWN_CONFIGS = {
    "t5": ("T5Config", "text_encoder", tuple(whole.MODELS)),
    "encodec": ("EncodecConfig", "audio_encoder", tuple(whole.MODELS)),
    "musicgen_decoder": ("MusicgenDecoderConfig", "decoder", ("musicgen",)),
    "musicgen_melody_decoder": ("MusicgenMelodyDecoderConfig", "decoder", ("musicgen_melody",)),
}


def open_part(path, own, cache_dir=None, local_files_only=False):
    """The config of one network, that of the composite around it or None, and the unread tensors.

    Args:
        path (str): a folder of a composite in any layout, or of the network alone in Hugging Face's.
        own (str): its model_type, one of `OWN_CONFIGS`.
        cache_dir, local_files_only: as in `from_pretrained`.

    Raises:
        InputError: if config.json is neither of that network nor of a composite that has one, or files are missing or
            damaged.
    """
    file, (name, part, composites) = os.path.join(path, "config.json"), OWN_CONFIGS[own]
    kind = whole.model_type(path)
    if kind in composites:
        composite, tensors = whole.open_folder(path, cache_dir, local_files_only)
        return getattr(composite, part), composite, tensors
    if kind != own:
        raise InputError(f"{file} describes a {kind!r} model; expected model_type {own!r}, or {composites[0]!r}")
    config, tensors = config_from(name, read_json(file), file), open_weights(path)
    check_weights(file, part_parameters(config), tensors)
    return config, None, tensors


def load(cls, model, dtype, revision, cache_dir, local_files_only, device=None, given=None, habits=None):
    """Build a sub-model and fill it; see `submodels.base.Submodel.from_pretrained`."""
    model, dtype, device, changes = opening(model, dtype, device, habits or {})
    devices.use(device)
    chosen = resolve_dtype(dtype)
    path = resolve(model, revision, cache_dir, local_files_only)
    config, composite, tensors = open_part(path, cls.model_type, cache_dir, local_files_only)
    file = os.path.join(path, "config.json")
    config = changed_config(config, given, changes, cls.part)
    check_sizes(config, file)
    with config_errors(file):
        network = cls(config, chosen, empty=True)
    network.learn_from(path, composite)
    plan, prefix = names.pieces(network), cls.part + "."
    if composite is None:
        plan = {name: [piece.renamed(own_name(cls.part, tensors)) for piece in plan[name]] for name in plan}
        own = [name for name in tensors if not _of_another_part(cls.part, name)]
    else:
        own = [name for name in tensors if name.startswith(prefix)]
    wanted = {name: tensors[name] for name in own if not cls.leaves_out(name)}
    native = os.path.join(path, NATIVE)
    if composite is not None and cls.part == "decoder" and whole.stored_quantization(path):
        raise InputError(f"{native} holds a quantised decoder; open the folder it was converted from for this class")
    if composite is not None and os.path.isfile(native):
        whole.load_native(network, wanted, native)
    else:
        names.load(network, wanted, path, plan, getattr(config, "hidden_size", None))
    return network


def save(network, folder, dtype, habits):
    """Write a sub-model as a folder of its own; see `submodels.base.Submodel.save_pretrained`."""
    largest = saving(habits)
    dtype = dtype if dtype is None else dtype_name(dtype)
    if dtype not in (None, "float32", "float16"):
        raise InputError(f"dtype is {shown(dtype)}; a checkpoint is stored as float32 or float16")
    rename = own_name(network.part, () if network.leaves_out("lm_heads.") else ("model.decoder.",))
    entries = [
        (rename(name), shape, np.dtype(dtype or own), values)
        for name, shape, own, values in names.stored_tensors(network)
    ]
    with whole.whole_folder(folder) as partial, whole.quiet_transformers():
        network.config.architectures = [type(network).__name__]
        network.config.save_pretrained(partial)
        if hasattr(network, "generation_config"):
            network.generation_config.save_pretrained(partial)
        write_weights(partial, entries, largest)


def own_name(part, tensors):
    """A function from a tensor's name in a composite checkpoint to its name in a checkpoint of the part alone."""
    prefix = part + "."
    if part == "decoder" and not any(name.startswith("model.decoder.") for name in tensors):
        # Saved from transformers' MusicgenModel, which has no heads and one level less.
        return lambda name: name[len(prefix) :].replace("model.decoder.", "decoder.", 1)
    return lambda name: name[len(prefix) :]


def _of_another_part(part, name):
    """Whether a tensor of a T5 folder belongs to T5's own decoder, which an encoder does not have."""
    return part == "text_encoder" and name.startswith(("decoder.", "lm_head."))


def load_generation_config(path, config):
    """generation_config.json of a folder, or what the published models ship."""
    return whole.load_generation_config(path, SimpleNamespace(decoder=config))


def default_generation_config(config):
    """The same for a decoder that is built from a config alone."""
    return whole.default_generation_config(SimpleNamespace(decoder=config))
