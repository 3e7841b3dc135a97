"""From a Hugging Face checkpoint to a folder in the cells' own layout, which opens faster."""

import os

from ...auto import model_class
from ...checkpoint.config_file import check_sizes
from ...checkpoint.native import stored_quantization
from ...checkpoint.source import resolve
from ...checkpoint.writing import CONFIG, check_whole_folder
from ...dtypes import resolve_dtype
from ...errors import InputError
from ..int8 import quantization as quantizations
from .folder import filled, open_folder, save_native
from .info import parameter_counts


def convert(model, output, dtype="float32", revision=None, cache_dir=None, local_files_only=False, quantize=None):
    """Write config, tokenizer and `mindspore_model.safetensors` (fused and folded weights) into a folder.

    Args:
        model (str): Hugging Face folder or hub id.
        output (str): folder to write; not the model's own.
        dtype (str): float32 or float16, what the weights are stored as.
        revision, cache_dir, local_files_only: as in `from_pretrained`.
        quantize (str): "int8" or "int4" stores the decoder's weights in 8 or 4 bits.

    Raises:
        InputError: if the model cannot be opened or the folder cannot be written.
    """
    where = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    folder = resolve(model, revision, **where)
    if os.path.realpath(folder) == os.path.realpath(output):
        raise InputError(f"output {output!r} is the model's own folder; choose another")
    chosen = model_class(folder)
    quantizations.check(quantize, resolve_dtype(dtype), chosen.model_type)
    if quantize and (held := stored_quantization(folder)) not in (None, quantize):
        raise InputError(f"{folder} holds {held} weights; {quantize} is made of the float ones")
    config, tensors = open_folder(folder, **where)
    counts = parameter_counts(tensors)
    check_whole_folder(output, 0 if quantize else sum(counts.values()) * (2 if dtype == "float16" else 4))
    if quantize:
        check_sizes(config, folder.file(CONFIG))
        network = filled(chosen, config, tensors, resolve_dtype(dtype), folder, quantize)
    else:
        network = chosen.from_pretrained(folder, dtype=dtype, **where)
    save_native(network, output, companions=folder, **where)
