"""From suno's own files, or a Hugging Face folder, to a Hugging Face folder of safetensors, whole and in one place."""

import os

from ...checkpoint.source import SUNO_LAYOUT, resolve
from ...checkpoint.writing import check_whole_folder
from ...dtypes import dtype_name
from ...errors import InputError
from ..model import BarkModel
from ..processing import BarkProcessor
from .folder import load_config
from .info import parameter_counts


def convert(model, output, dtype="float32", revision=None, cache_dir=None, local_files_only=False, quantize=None):
    """Write configs, weights, and, where the model has them, tokenizer and voices into a folder.

    Args:
        model (str): Hugging Face folder or hub id, or a folder with suno's own files.
        output (str): folder to write; not the model's own.
        dtype (str): float32 or float16, what the weights are stored as.
        revision, cache_dir, local_files_only: as in `from_pretrained`.
        quantize (str): must be None: 8 bits are chosen when a Bark is opened.

    Raises:
        InputError: if the model cannot be opened or the folder cannot be written.
    """
    if quantize:
        raise InputError("a Bark is not stored in 8 bits; choose --quantization int8 when it is opened")
    where = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    folder = resolve(model, revision, **where)
    if os.path.realpath(folder) == os.path.realpath(output):
        raise InputError(f"output {output!r} is the model's own folder; choose another")
    dtype = dtype_name(dtype)
    size = 2 if dtype == "float16" else 4
    check_whole_folder(output, size * sum(parameter_counts(load_config(folder, **where)).values()))
    processor = None
    if folder.layout != SUNO_LAYOUT or folder.has("vocab.txt") or folder.has("tokenizer.json"):
        processor = BarkProcessor.from_pretrained(folder, **where)
    BarkModel.from_pretrained(folder, dtype="float32", **where).save_pretrained(output, dtype)
    if processor is not None:
        processor.save_pretrained(output)
