"""Bark's model folders: opening one, and writing one that transformers opens too.

The names of parameters are those of Hugging Face's tensors but for the fine stage, whose codebooks' tables are one
parameter here, and the codec: see `checkpoint.names`. Tensors of stages that are not wanted stay unread.
"""

import os
import re

import numpy as np
from mindspore import Tensor

from ...checkpoint import huggingface, names
from ...checkpoint.config_file import check_weights, config_errors, config_from, quiet_transformers
from ...checkpoint.shards import write_weights
from ...checkpoint.source import SUNO_LAYOUT, as_folder, open_weights, resolve
from ...checkpoint.writing import whole_folder
from ...errors import InputError, shown
from ...habits import dtype_name, saving
from ..config import STAGES, open_config, parameters
from ..gpt import CausalGpt, FineGpt
from . import suno_files

GENERATION_CONFIG = "generation_config.json"
CAUSAL_MASK = re.compile(r"(.*\.)?layers\.\d+\.attn\.bias$")  # 1 MB a layer, of which nothing needs to be read
TIED_HEADS = re.compile(r"(fine_acoustics\.)?lm_heads\.\d+\.weight$")


def open_folder(folder, cache_dir=None, local_files_only=False, codec=suno_files.CODEC_OF_BARK):
    """The config, the generation config and the unread tensors of a model.

    Args:
        folder (ModelFolder | str): in Hugging Face's layout, or with suno's own files.
        cache_dir, local_files_only: as in `from_pretrained`.
        codec (str): folder or hub id of the codec that suno's files lack.

    Returns:
        BarkConfig, transformers.GenerationConfig, dict[str, LazyTensor]

    Raises:
        InputError: if files are missing, damaged, or of another kind of model.
    """
    folder = as_folder(folder)
    if folder.layout != SUNO_LAYOUT:
        config = open_config(folder)[0]
        return config, load_generation_config(folder, config), open_weights(folder)
    beside = resolve(codec, None, cache_dir, local_files_only)
    values, path = beside.json("config.json"), beside.file("config.json")
    if values.get("model_type") != "encodec":
        wanted = suno_files.CODEC_OF_BARK
        raise InputError(f"codec {shown(codec)} is no EnCodec; give a folder or hub id of {wanted}")
    config, tensors = suno_files.open_suno(folder, config_from("EncodecConfig", values, path))
    tensors |= suno_files.codec_tensors(open_weights(beside))
    return config, default_generation_config(config, suno_files.GENERATION), tensors


def load_config(folder, cache_dir=None, local_files_only=False):
    """The config of a folder; of suno's files, whose sizes are in them, with the codec that belongs to them.

    Args:
        folder (ModelFolder | str): as in `open_folder`.
        cache_dir, local_files_only: as in `open_folder`.

    Raises:
        InputError: as `open_folder`.
    """
    if as_folder(folder).layout == SUNO_LAYOUT:
        return open_folder(folder, cache_dir, local_files_only)[0]
    return open_config(folder)[0]


def load_generation_config(folder, config):
    """generation_config.json of a folder, or the defaults if it has none.

    Args:
        folder (ModelFolder | str): the folder.
        config (BarkConfig): of its model.
    """
    folder = as_folder(folder)
    if folder.layout == SUNO_LAYOUT:
        return default_generation_config(config, suno_files.GENERATION)
    if not folder.has(GENERATION_CONFIG):
        return default_generation_config(config)
    return config_from("GenerationConfig", folder.json(GENERATION_CONFIG), folder.file(GENERATION_CONFIG))


def default_generation_config(config, stages=None):
    """Greedy unless `stages` say otherwise, with the ids and lengths of the published models."""
    from transformers import GenerationConfig

    with quiet_transformers():
        return GenerationConfig(
            **{f"{stage}_config": (stages or {}).get(f"{stage}_config", {}) for stage in STAGES},
            sample_rate=config.codec_config.sampling_rate,
            codebook_size=config.codec_config.codebook_size,
        )


def plan(cell, prefix=""):
    """Where the parameters of a stage, or of a whole `BarkModel`, lie.

    Args:
        cell (nn.Cell): the network.
        prefix (str): what a stage's tensors are called by, such as "semantic."; nothing in a folder of its own.

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    stacked = {}
    for _, one in cell.cells_and_names():
        if isinstance(one, FineGpt):
            books = one.config.n_codes_total
            stacked = {"input_embeds_layers": books, "lm_heads": books - one.config.n_codes_given}
    return names.plan(cell, ((r"^", prefix),), stacked)


def fill(cell, folder, prefix="", tensors=None, stores=None):
    """Fill a stage, or a whole model, with the weights of a folder.

    Args:
        cell (nn.Cell): the network.
        folder (str): in Hugging Face's layout.
        prefix (str): as in `plan`; tensors under other names are left alone.
        tensors (dict[str, LazyTensor]): in place of those of the folder.
        stores (dict): as in `huggingface.load`.

    Raises:
        InputError: for a missing, left-over or misshapen tensor, by name.
    """
    tensors = open_weights(folder) if tensors is None else tensors
    tied = all(one.tied for _, one in cell.cells_and_names() if isinstance(one, FineGpt))
    wanted = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not CAUSAL_MASK.match(name) and not (tied and TIED_HEADS.match(name))
    }
    stages = [one for _, one in cell.cells_and_names() if isinstance(one, (CausalGpt, FineGpt))]
    check_weights(os.path.join(folder, "config.json"), sum(parameters(one.config) for one in stages), wanted)
    pieces = plan(cell, prefix) | {name: [huggingface.Piece((prefix + name,))] for name in stores or ()}
    if stores:
        stores |= dict.fromkeys(_mapped(cell, wanted))
    huggingface.load(cell, wanted, folder, pieces, lambda name, tensor: bool(names.BUFFERS.match(name)), stores)


def _mapped(model, tensors):
    """Let the table of the semantic stage's ids stay in its file, which takes its tensor out of `tensors`: 0.4 GB, of
    which a text reads a few hundred rows. Names of the parameters that are filled thereby."""
    name = "semantic.input_embeds_layer.weight"
    parameter, tensor = model.semantic.input_embeds_layer.weight, tensors.get(name)
    if getattr(tensor, "dtype", None) != "F32" or tuple(tensor.shape) != tuple(parameter.shape):
        return []
    parameter.assign_value(Tensor.from_numpy(tensors.pop(name).map()))
    return [name]


def save(cell, folder, dtype, habits, generation_config=None):
    """Write a stage, or a whole model, as a folder that transformers opens; see `save_pretrained`.

    Raises:
        InputError: if the folder cannot be written, or the weights are to be of another kind.
    """
    if getattr(cell, "quantization", None):
        raise InputError("a quantised model has no Hugging Face layout; save the float one")
    largest = saving(habits)
    dtype = dtype if dtype is None else dtype_name(dtype)
    if dtype not in (None, "float32", "float16"):
        raise InputError(f"dtype is {shown(dtype)}; a checkpoint is stored as float32 or float16")
    entries = [
        (name, shape, np.dtype(dtype or own), values)
        for name, shape, own, values in huggingface.stored_tensors(cell, plan(cell))
    ]
    for name, one in cell.cells_and_names():
        if isinstance(one, CausalGpt):  # transformers reads its masks from the file
            side = one.config.block_size
            mask = np.tri(side, dtype=bool).reshape(1, 1, side, side)
            for i in range(one.config.num_layers):
                stored = f"{name}.layers.{i}.attn.bias".lstrip(".")
                entries.append((stored, mask.shape, mask.dtype, lambda mask=mask: mask))
    with whole_folder(folder) as partial, quiet_transformers(), config_errors(folder, "written"):
        cell.config.architectures = [type(cell).__name__]
        cell.config.save_pretrained(partial)
        if generation_config is not None:
            generation_config.save_pretrained(partial)
        write_weights(partial, entries, largest)
