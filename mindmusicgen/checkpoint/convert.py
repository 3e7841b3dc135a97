"""From a Hugging Face checkpoint to a folder in the cells' own layout, which opens faster."""

import os

from ..errors import InputError
from .folder import save_native
from .source import resolve


def convert(model, output, dtype="float32", revision=None, cache_dir=None, local_files_only=False):
    """Write config, tokenizer and `mindspore_model.safetensors` (fused and folded weights) into a folder.

    Args:
        model (str): Hugging Face folder or hub id.
        output (str): folder to write; not the model's own.
        dtype (str): float32 or float16, what the weights are stored as.
        revision, cache_dir, local_files_only: as in `from_pretrained`.

    Raises:
        InputError: if the model cannot be opened or the folder cannot be written.
    """
    from ..composite import MusicgenForConditionalGeneration

    folder = resolve(model, revision, cache_dir, local_files_only)
    if os.path.realpath(folder) == os.path.realpath(output):
        raise InputError(f"output {output!r} is the model's own folder; choose another")
    network = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    save_native(network, output, companions=folder)
