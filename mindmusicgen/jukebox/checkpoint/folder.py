"""Jukebox's model folders: opening one, a network at a time, and writing one that transformers opens too."""

import math
import os
import re

import numpy as np

from ...checkpoint import huggingface
from ...checkpoint.config_file import check_weights, config_errors
from ...checkpoint.shards import write_weights
from ...checkpoint.source import OPENAI_LAYOUT, as_folder, open_weights, resolve
from ...checkpoint.writing import whole_folder
from ...errors import InputError, clip, shown
from ...habits import changed_config, dtype_name, opening, saving
from ..config import JukeboxConfig, JukeboxVQVAEConfig
from . import openai_files
from .names import plan

TIED = re.compile(r"(priors\.\d+\.)?prior\.fc_proj_out\.weight$")
STATISTICS = re.compile(r".*\.level_blocks\.\d+\.codebook_(sum|elem)$")  # of training


def open_folder(folder):
    """The config and the unread tensors of a whole model.

    Args:
        folder (ModelFolder | str): in Hugging Face's layout, or with the original program's files.

    Returns:
        JukeboxConfig, dict[str, LazyTensor]

    Raises:
        InputError: if files are missing, damaged, or of another kind of model.
    """
    folder = as_folder(folder)
    if folder.layout == OPENAI_LAYOUT:
        return openai_files.open_original(folder)
    config, tensors = load_config(folder), open_weights(folder)
    parts = re.compile(r"(vqvae|priors\.\d+)\.")
    extra = [name for name in sorted(tensors) if not parts.match(name)]
    extra += [f"priors.{n}.*" for n in _numbers(tensors) if n >= config.nb_priors]
    if extra:
        raise InputError(f"{folder} holds {clip(extra[0])}, which the model config.json describes does not have")
    return config, tensors


def load_config(folder, cache_dir=None, local_files_only=False):
    """The config of a whole model; arguments as in `open_folder`, the others are not used."""
    folder = as_folder(folder)
    if folder.layout == OPENAI_LAYOUT:
        return openai_files.open_original(folder)[0]
    path, values = folder.file("config.json"), folder.json("config.json")
    if values.get("model_type") != JukeboxConfig.model_type:
        kind = clip(values.get("model_type"))
        raise InputError(f"{path} describes a {kind!r} model; expected model_type {JukeboxConfig.model_type!r}")
    with config_errors(path, "used"):
        return JukeboxConfig.from_dict(values, path)


def _numbers(tensors):
    found = (re.match(r"priors\.(\d+)\.", name) for name in tensors)
    return sorted({int(one[1]) for one in found if one})


def open_vqvae(cls, model, revision, cache_dir, local_files_only, habits):
    """`JukeboxVQVAE.from_pretrained`: out of a whole model's folder, or one of its own."""
    model, _, _, changes = opening(model, None, None, habits)
    folder = as_folder(resolve(model, revision, cache_dir, local_files_only))
    original = folder.layout == OPENAI_LAYOUT
    kind = None if original else folder.json("config.json").get("model_type")
    if kind == JukeboxVQVAEConfig.model_type:
        path = folder.file("config.json")
        config, tensors, prefix = (
            JukeboxVQVAEConfig.from_dict(folder.json("config.json"), path),
            open_weights(folder),
            "",
        )
    else:
        whole, tensors = open_folder(folder)
        config, prefix = whole.vqvae_config, "vqvae."
    made = cls(changed_config(config, None, changes), empty=True)
    fill(made, tensors, prefix, folder)
    return made


def fill(network, tensors, prefix, source, stores=None):
    """Fill a prior or the VQ-VAE with its weights.

    Args:
        network (nn.Cell): the network.
        tensors (dict[str, LazyTensor]): of the whole model.
        prefix (str): what its tensors' names begin with, such as "priors.0."; others stay unread.
        source (str): the folder, for errors.
        stores (dict): as in `huggingface.load`.

    Raises:
        InputError: for a missing, left-over or misshapen tensor, by name, or a head that is not the table it should be.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    expected = sum(math.prod(one.shape) for one in network.get_parameters())
    check_weights(os.path.join(source, "config.json"), expected, own)
    _check_head(network, own, prefix, source)

    def left_out(name, tensor):
        return bool(STATISTICS.match(name)) or bool(TIED.match(name)) and network.prior.tied

    huggingface.load(network, own, source, plan(network, prefix), left_out, stores)


def _check_head(network, tensors, prefix, source):
    """Refuse a head that is stored, differs from the table, and would not be read."""
    head, table = (tensors.get(f"{prefix}prior.{name}.weight") for name in ("fc_proj_out", "embed_tokens"))
    if head is None or table is None or not network.prior.tied:
        return
    if tuple(head.shape) != tuple(table.shape) or not np.array_equal(head.read(), table.read()):
        raise InputError(
            f"{source} holds {prefix}prior.fc_proj_out.weight, which differs from embed_tokens; with "
            "merged_decoder=false the two are one, so set merged_decoder to true in config.json"
        )


def entries_of(network, prefix, dtype):
    """The tensors of a network that is open, in the form `write_weights` takes; shared heads twice."""
    found = huggingface.stored_tensors(network, plan(network, prefix))
    head = [(name, *rest) for name, *rest in found if name == f"{prefix}prior.embed_tokens.weight"]
    if head and network.prior.tied:  # transformers asks for both
        found.append((f"{prefix}prior.fc_proj_out.weight", *head[0][1:]))
    return [(name, shape, np.dtype(dtype or own), values) for name, shape, own, values in found]


def entries_unread(tensors, prefix, dtype):
    """The same of a network that is not: its tensors as they lie in their files."""
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix) and not STATISTICS.match(name)}
    table, head = (f"{prefix}prior.{name}.weight" for name in ("embed_tokens", "fc_proj_out"))
    if table in own:
        own.setdefault(head, own[table])
    return [(name, tuple(one.shape), np.dtype(dtype), one.read) for name, one in own.items()]


def save(model, folder, dtype, habits):
    """Write a whole model as a folder that transformers opens; see `JukeboxModel.save_pretrained`."""
    if model.quantization:
        raise InputError("a quantised model has no Hugging Face layout; save the float one")
    largest = saving(habits)
    dtype = dtype if dtype is None else dtype_name(dtype)
    if dtype not in (None, "float32", "float16"):
        raise InputError(f"dtype is {shown(dtype)}; a checkpoint is stored as float32 or float16")
    entries = entries_of(model.vqvae, "vqvae.", dtype)
    for level in range(model.config.nb_priors):
        prior, prefix = model.priors.opened(level), f"priors.{level}."
        unread = dtype or dtype_name(model.dtype)
        entries += entries_unread(model.tensors, prefix, unread) if prior is None else entries_of(prior, prefix, dtype)
    with whole_folder(folder) as partial, config_errors(folder, "written"):
        model.config.save_pretrained(partial)
        write_weights(partial, entries, largest)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(partial)
