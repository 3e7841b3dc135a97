"""What programs that were written for transformers or MindNLP say out of habit: with its meaning, or a sentence.

`opening`, `saving` and `refuse_unsupported` sort the arguments that `from_pretrained`, `save_pretrained` and `generate`
take there and not here; `torch_names` has the methods. docs/migration.md lists them all.
"""

import copy
import difflib

import numpy as np

from .errors import InputError, shown

LOADED_ANYWAY = (  # of from_pretrained: what they ask for is so in any case, or concerns torch alone
    "low_cpu_mem_usage",
    "use_safetensors",
    "trust_remote_code",
    "use_fast",
    "resume_download",
    "weights_only",
    "offload_folder",
    "offload_state_dict",
    "adapter_kwargs",
    "from_tf",
    "from_flax",
    "mirror",
    "_fast_init",
    "mindspore_dtype",
)
LOAD_INSTEAD = {
    "load_in_8bit": 'write quantization="int8"',
    "load_in_4bit": 'write quantization="int4"',
    "quantization_config": 'write quantization="int8" or "int4"',
    "force_download": "delete the model's folder in the hub's cache",
    "proxies": "set HTTPS_PROXY in the environment",
    "subfolder": "give the path of the subfolder as the model",
    "variant": "give a folder with the files of that variant",
    "gguf_file": "give a folder with safetensors",
    "state_dict": "call mindspore.load_param_into_net on the opened model",
    "key_mapping": "rename the tensors in the file",
    "ignore_mismatched_sizes": "give a config that the weights fit",
    "output_loading_info": "what is missing or left over is an error here, and named",
    "max_memory": "weights stay in the memory of one device",
    "tp_plan": "a model runs on one device",
    "use_flash_attention_2": "leave it out: the fastest attention of the device is chosen",
}
GENERATE_INSTEAD = {
    "logits_processor": "temperature, top_k, top_p and guidance_scale are what changes logits in the compiled step",
    "stopping_criteria": "callback= is called as frames are made, and stops by returning False",
    "prefix_allowed_tokens_fn": "temperature, top_k, top_p and guidance_scale are what changes logits",
    "assistant_model": "leave it out: there is no assisted decoding of several codebooks",
    "synced_gpus": "leave it out: each process makes its own pieces",
    "negative_prompt_ids": "write negative_input_ids=, or negative_text= in the processor",
    "negative_prompt_attention_mask": "write negative_attention_mask=",
    "custom_generate": "write a loop over model.stream(...)",
}
NOT_FIELDS = ("transformers_version", "architectures")  # of config.json, which say who wrote it
TORCH_DTYPES = {"half": "float16", "float": "float32", "double": "float64"}


def nearest(name, names):
    """ ", did you mean X?" or nothing."""
    found = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {found[0]}?" if found else ""


def opening(model, dtype, device, arguments):
    """Sort what `from_pretrained` was given.

    Args:
        model (str): the checkpoint, or None if it has another name.
        dtype, device: as in `from_pretrained`.
        arguments (dict): everything else; is not changed.

    Returns:
        model, dtype, device, and what is left: fields of the config.

    Raises:
        InputError: naming the argument, and what to write instead.
    """
    left = {name: value for name, value in arguments.items() if name not in LOADED_ANYWAY}
    model = left.pop("pretrained_model_name_or_path", None) if model is None else model
    if model is None:
        raise InputError("from_pretrained needs a model: a folder, a hub id such as facebook/musicgen-small, or demo")
    for name in ("torch_dtype", "ms_dtype"):
        asked = left.pop(name, None)
        dtype = asked if dtype is None else dtype
    for name, value in (("model", model), ("dtype", dtype), ("device", device)):
        if isinstance(getattr(value, "shape", None), tuple) or isinstance(value, (list, dict)):
            raise InputError(f"{name} is {shown(value)}; expected a name")
    if device is None:
        device = _mapped(left.pop("device_map", None))
    left.pop("device_map", None)
    attention = left.pop("attn_implementation", None)
    if attention is not None and str(attention) not in ("eager", "sdpa"):
        raise InputError(
            f"attn_implementation is {shown(attention)}; leave it out: the fastest of the device is chosen, and all "
            "give the same numbers"
        )
    for name in ("token", "use_auth_token"):
        if isinstance(left.pop(name, None), str):
            raise InputError(f"{name} is not taken here; set HF_TOKEN in the environment, or log in with hf auth login")
    for name, instead in LOAD_INSTEAD.items():
        if left.pop(name, None) not in (None, False):
            raise InputError(f"{name} is not taken here; {instead}")
    return model, dtype, device, left


def changed_config(found, given, changes, part=None):
    """The config to build from: the checkpoint's or one that was given in its place, some fields changed.

    Args:
        found (transformers.PretrainedConfig): of the checkpoint.
        given (transformers.PretrainedConfig): in its place, or None; of a whole model where `part` names a network.
        changes (dict): fields and values.
        part (str): the composite's name of the network, or None.

    Raises:
        InputError: if that is no config of this kind of model, or there is no such field.
    """
    if given is not None and part is not None:
        given = getattr(given, part, given)
    if given is not None and getattr(given, "model_type", None) != found.model_type:
        kind = getattr(given, "model_type", type(given).__name__)
        raise InputError(
            f"config is one of {shown(kind)}; expected {type(found).__name__}, model_type {found.model_type}"
        )
    config = found if given is None else given
    fields = config.to_dict()
    changes = {name: value for name, value in changes.items() if name not in fields or fields[name] != value}
    if not changes:
        return config
    config = copy.deepcopy(config)
    for name, value in changes.items():
        if name not in NOT_FIELDS and (name not in fields and not hasattr(config, name) or name == "model_type"):
            raise InputError(f"from_pretrained does not take {shown(name)}{nearest(name, fields)}")
        if name not in NOT_FIELDS:
            setattr(config, name, value)
    return config


def _mapped(places):
    """The device that a device_map says, or None."""
    if isinstance(places, dict):
        if len(set(map(str, places.values()))) > 1:
            raise InputError("device_map names several devices; a model runs on one, which device= chooses")
        places = next(iter(places.values()), None)
    if places is None or str(places) in ("auto", "balanced", "sequential"):
        return None
    if str(places).lower().partition(":")[0] not in ("cpu", "ascend", "npu"):
        raise InputError(f"device_map is {shown(places)}; write device=, which is CPU, Ascend, or Ascend:1")
    return str(places).replace("npu", "Ascend")


def dtype_name(dtype):
    """The name of a dtype, whoever's it is: torch.float16, numpy.float16 and mindspore.float16 are "float16"."""
    name = getattr(dtype, "__name__", None) if isinstance(dtype, type) else str(dtype)
    name = str(name).rpartition(".")[2].lower()
    return TORCH_DTYPES.get(name, name)


def saving(arguments):
    """Refuse what `save_pretrained` cannot do; what concerns torch alone is passed over.

    Returns:
        the largest size of a file, or None.

    Raises:
        InputError: naming the argument, and what to write instead.
    """
    left = dict(arguments)
    if not left.pop("safe_serialization", True):
        raise InputError("safe_serialization=False is not taken here; leave it out: weights are written as safetensors")
    if left.pop("push_to_hub", False):
        raise InputError("push_to_hub is not taken here; call huggingface_hub.upload_folder on the saved folder")
    if left.pop("state_dict", None) is not None or left.pop("variant", None) is not None:
        raise InputError("state_dict and variant are not taken here; the model's own weights are written")
    largest = left.pop("max_shard_size", None)
    for name in ("is_main_process", "save_function", "token", "save_peft_format", "save_original_format"):
        left.pop(name, None)
    for name in left:
        raise InputError(f"save_pretrained does not take {shown(name)}{nearest(name, ('max_shard_size', 'dtype'))}")
    return largest


def refuse_unsupported(arguments):
    """Refuse what `generate` takes in transformers and cannot here, and drop it where it asks for nothing.

    Args:
        arguments (dict): of the call; loses these names.

    Raises:
        InputError: naming the argument, and what to write instead.
    """
    for name, instead in GENERATE_INSTEAD.items():
        value = arguments.pop(name, None)
        if value is not None and value is not False and (not hasattr(value, "__len__") or len(value)):
            raise InputError(f"generate does not take {name}; {instead}")


def set_seed(seed):
    """Make what follows repeatable: `generate` without a seed of its own, and random weights.

    The seed goes to NumPy's and Python's own generators and to `mindspore.set_seed`, as transformers' function of this
    name does; so either of them works here too.

    Args:
        seed (int): a whole number from 0 to 4294967295.

    Raises:
        InputError: for anything else.
    """
    import random

    import mindspore as ms

    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 32:
        raise InputError(f"seed is {shown(seed)}; expected a whole number from 0 to {(1 << 32) - 1}")
    random.seed(int(seed))
    np.random.seed(int(seed))
    ms.set_seed(int(seed))
