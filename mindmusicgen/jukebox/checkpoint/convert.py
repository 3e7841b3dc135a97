"""From OpenAI's own files, or a Hugging Face folder, to a Hugging Face folder of safetensors in one place."""

import os

from ...checkpoint.source import resolve
from ...checkpoint.writing import check_whole_folder
from ...dtypes import dtype_name
from ...errors import InputError
from ..model import JukeboxModel
from .folder import load_config
from .info import prior_parameters

LARGEST = "5GB"  # of a file: what the hub takes, and what a copy that failed costs


def convert(model, output, dtype="float32", revision=None, cache_dir=None, local_files_only=False, quantize=None):
    """Write config, lists and weights into a folder; of the priors none is read as a whole.

    Args:
        model (str): Hugging Face folder or hub id, or a folder with OpenAI's own files.
        output (str): folder to write; not the model's own.
        dtype (str): float32 or float16, what the weights are stored as.
        revision, cache_dir, local_files_only: as in `from_pretrained`.
        quantize (str): must be None: 8 bits are chosen when a Jukebox is opened.

    Raises:
        InputError: if the model cannot be opened or the folder cannot be written.
    """
    if quantize:
        raise InputError("a Jukebox is not stored in 8 bits; choose --quantization int8 when it is opened")
    folder = resolve(model, revision, cache_dir, local_files_only)
    if os.path.realpath(folder) == os.path.realpath(output):
        raise InputError(f"output {output!r} is the model's own folder; choose another")
    dtype, config = dtype_name(dtype), load_config(folder)
    size = 2 if dtype == "float16" else 4
    check_whole_folder(output, size * sum(prior_parameters(config, level) for level in range(config.nb_priors)))
    JukeboxModel.from_pretrained(folder, dtype="float32").save_pretrained(output, dtype, max_shard_size=LARGEST)
