"""One network out of a checkpoint: from a folder of its own, or out of a whole model's; and back to a folder."""

import numpy as np

from ..auto import kind_of
from ..checkpoint import huggingface
from ..checkpoint.config_file import check_sizes, check_weights, config_errors, config_from, quiet_transformers
from ..checkpoint.native import load_native, stored_quantization
from ..checkpoint.shards import write_weights
from ..checkpoint.source import NATIVE, as_folder, open_weights, resolve
from ..checkpoint.writing import CONFIG, whole_folder
from ..dtypes import resolve_dtype
from ..errors import InputError, shown
from ..families import KINDS, PART_CONFIGS, room
from ..habits import changed_config, dtype_name, opening, saving
from ..runtime import device as devices


def open_part(folder, cls, cache_dir=None, local_files_only=False):
    """The config of one network, that of the whole model around it or None, and the unread tensors.

    Args:
        folder (ModelFolder | str): of a whole model in any layout, or of the network alone in Hugging Face's.
        cls (type): the network's `Submodel`.
        cache_dir, local_files_only: as in `from_pretrained`.

    Raises:
        InputError: if config.json is neither of that network nor of a whole model that has one, or files are missing
            or damaged.
    """
    folder = as_folder(folder)
    kind, wholes = kind_of(folder), [name for name in KINDS if KINDS[name].parts.get(cls.part) == cls.model_type]
    if kind in wholes:
        whole, tensors = room(kind, "checkpoint.folder").open_folder(folder, cache_dir, local_files_only)
        return getattr(whole, cls.part), whole, tensors
    file = folder.file(CONFIG)
    if kind != cls.model_type:
        expected = f"{cls.model_type!r}, or {wholes[0]!r}"
        raise InputError(f"{file} describes a {kind!r} model; expected model_type {expected}")
    config, tensors = config_from(PART_CONFIGS[kind], folder.json(CONFIG), file), open_weights(folder)
    check_weights(file, cls.count(config), tensors)
    return config, None, tensors


def load(cls, model, dtype, revision, cache_dir, local_files_only, device=None, given=None, habits=None):
    """Build a sub-model and fill it; see `submodels.base.Submodel.from_pretrained`."""
    model, dtype, device, changes = opening(model, dtype, device, habits or {})
    devices.use(device)
    chosen = resolve_dtype(dtype)
    folder = resolve(model, revision, cache_dir, local_files_only)
    config, whole, tensors = open_part(folder, cls, cache_dir, local_files_only)
    config = changed_config(config, given, changes, cls.part)
    check_sizes(config, folder.file(CONFIG))
    with config_errors(folder.file(CONFIG)):
        network = cls(config, chosen, empty=True)
    network.learn_from(folder, whole)
    plan, prefix = network.plan(), cls.part + "."
    if whole is None:
        rename = network.own_names(tensors)
        plan = {name: [piece.renamed(rename) for piece in plan[name]] for name in plan}
        prefix = ""
    wanted = {name: tensors[name] for name in tensors if name.startswith(prefix) and not cls.leaves_out(name)}
    native = folder.file(NATIVE)
    if whole is not None and cls.may_be_quantised and stored_quantization(folder):
        raise InputError(f"{native} holds a quantised decoder; open the folder it was converted from for this class")
    if whole is not None and folder.has(NATIVE):
        load_native(network, wanted, native)
    else:
        huggingface.load(network, wanted, folder, plan, network.without_meaning(folder))
    return network


def save(network, folder, dtype, habits):
    """Write a sub-model as a folder of its own; see `submodels.base.Submodel.save_pretrained`."""
    largest = saving(habits)
    dtype = dtype if dtype is None else dtype_name(dtype)
    if dtype not in (None, "float32", "float16"):
        raise InputError(f"dtype is {shown(dtype)}; a checkpoint is stored as float32 or float16")
    rename = network.own_names()
    entries = [
        (rename(name), shape, np.dtype(dtype or own), values)
        for name, shape, own, values in huggingface.stored_tensors(network, network.plan())
    ]
    with whole_folder(folder) as partial, quiet_transformers():
        network.config.architectures = [type(network).__name__]
        network.config.save_pretrained(partial)
        if hasattr(network, "generation_config"):
            network.generation_config.save_pretrained(partial)
        write_weights(partial, entries, largest)
