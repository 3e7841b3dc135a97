"""One network out of a checkpoint: from a folder of its own, or out of a composite one."""

import os
from types import SimpleNamespace

from .. import device as devices
from ..errors import InputError
from . import folder as whole
from . import huggingface
from .config_file import check_weights, config_errors, config_from
from .json_file import read_json
from .sizes import part_parameters
from .source import NATIVE, open_weights, resolve

# The composite's name of each part: model_type and class of a config of its own.
OWN_CONFIGS = {
    "text_encoder": ("t5", "T5Config"),
    "audio_encoder": ("encodec", "EncodecConfig"),
    "decoder": ("musicgen_decoder", "MusicgenDecoderConfig"),
}


def open_part(path, part, cache_dir=None, local_files_only=False):
    """The config of one part, that of the composite or None, and the unread tensors.

    Args:
        path (str): a folder of a composite in any layout, or of the part alone in Hugging Face's.
        part (str): what the composite calls it.
        cache_dir, local_files_only: as in `from_pretrained`.

    Raises:
        InputError: if config.json is neither of that part nor of a composite, or files are missing or damaged.
    """
    file = os.path.join(path, "config.json")
    kind = whole.model_type(path)
    # The decoder of a melody model is another network.
    if kind in (("musicgen",) if part == "decoder" else whole.MODELS):
        composite, tensors = whole.open_folder(path, cache_dir, local_files_only)
        return getattr(composite, part), composite, tensors
    own, name = OWN_CONFIGS[part]
    if kind != own:
        raise InputError(f"{file} describes a {kind!r} model; expected model_type {own!r}, or 'musicgen'")
    config, tensors = config_from(name, read_json(file), file), open_weights(path)
    check_weights(file, part_parameters(config), tensors)
    return config, None, tensors


def load(cls, model, dtype, revision, cache_dir, local_files_only, device=None):
    """Build a sub-model and fill it; see `submodels.base.Submodel.from_pretrained`."""
    devices.use(device)
    chosen = whole.resolve_dtype(dtype)
    path = resolve(model, revision, cache_dir, local_files_only)
    config, composite, tensors = open_part(path, cls.part, cache_dir, local_files_only)
    with config_errors(os.path.join(path, "config.json")):
        network = cls(config, chosen)
    network.learn_from(path, composite)
    plan, prefix = huggingface.pieces(network), cls.part + "."
    if composite is None:
        plan = {name: [piece.renamed(own_name(cls.part, tensors)) for piece in plan[name]] for name in plan}
        names = [name for name in tensors if not _of_another_part(cls.part, name)]
    else:
        names = [name for name in tensors if name.startswith(prefix)]
    wanted = {name: tensors[name] for name in names if not cls.leaves_out(name)}
    native = os.path.join(path, NATIVE)
    if composite is not None and cls.part == "decoder" and whole.stored_quantization(path):
        raise InputError(f"{native} holds a quantised decoder; open the folder it was converted from for this class")
    if composite is not None and os.path.isfile(native):
        whole.load_native(network, wanted, native)
    else:
        huggingface.load(network, wanted, path, plan, getattr(config, "hidden_size", None))
    return network


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
