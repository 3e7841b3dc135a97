"""From a model's name to files on disk: a local folder, or a hub id that is downloaded once and cached."""

import json
import os
import sys
from pathlib import Path

from ..errors import InputError
from ..progress import someone_watches
from .safetensors_file import open_safetensors
from .torch_file import open_torch_file

DEMO = Path(__file__).resolve().parents[1] / "demo"  # ships with the package
NATIVE = "mindspore_model.safetensors"
SINGLE = ("model.safetensors", "pytorch_model.bin")
AUDIOCRAFT = ("state_dict.bin", "compression_state_dict.bin")
SMALL_FILES = ("*.json", "*.model", "*.txt")


def resolve(model, revision=None, cache_dir=None, local_files_only=False):
    """The local folder of a model.

    Args:
        model (str): a folder, a hub id such as facebook/musicgen-small, or "demo", the model in this package.
        revision (str): branch, tag or commit on the hub.
        cache_dir (str): where downloads are kept; the hub library's own cache if None.
        local_files_only (bool): use the cache alone.

    Returns:
        str: path of a folder.

    Raises:
        InputError: if there is no such folder, or the hub cannot be reached or does not know the id.
    """
    model = os.fspath(model)
    if model == "demo":
        return str(DEMO)
    if os.path.isdir(model):
        return model
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise InputError(
            f"model {model!r} is neither an existing folder, nor a hub id such as facebook/musicgen-small, nor demo"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    options = {"revision": revision, "cache_dir": cache_dir}
    reason = "local_files_only is set"
    if not local_files_only:
        try:
            return _download(model, options)
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
            where = f" at revision {revision!r}" if revision else ""
            raise InputError(
                f"the hub has no model {model!r}{where}; check the name, or give a local folder"
            ) from error
        except Exception as error:  # each version of the hub library raises its own network errors
            reason = f"the hub cannot be reached: {type(error).__name__}"
    try:
        return snapshot_download(model, local_files_only=True, **options)
    except Exception as error:
        raise InputError(
            f"model {model!r} is not in the local cache and {reason}; give a local folder, or set HF_ENDPOINT to a "
            "mirror such as https://hf-mirror.com"
        ) from error


def _download(model, options):
    """Fetch the small files and one form of the weights; what is cached already is not fetched again."""
    from huggingface_hub import HfApi, snapshot_download

    if someone_watches():  # an unreachable hub takes half a minute of silent retries
        print(f"asking the hub for {model}", file=sys.stderr)
    files = HfApi().list_repo_files(model, revision=options["revision"])
    return snapshot_download(model, allow_patterns=[*SMALL_FILES, *_weights(files)], **options)


def _weights(files):
    """The weight files to download, the first complete form in order of preference."""
    for stem, ending in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        chosen = [name for name in files if name.startswith(stem) and name.endswith(ending)]
        if chosen:
            return chosen
    return [name for name in files if name in AUDIOCRAFT or name.startswith(("t5/", "encodec/"))]


def open_weights(folder):
    """The tensors of a Hugging Face folder, unread.

    Args:
        folder (str): with model.safetensors, pytorch_model.bin, or either in shards behind an index.

    Returns:
        dict[str, LazyTensor]

    Raises:
        InputError: if there are no weights, a shard is missing, or a file is damaged.
    """
    for name in SINGLE:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return open_file(path)
        if os.path.isfile(path + ".index.json"):
            return _open_shards(folder, path + ".index.json")
    raise InputError(f"{folder} holds no weights: expected {' or '.join(SINGLE)}, whole or in shards")


def open_file(path):
    """The tensors of one .safetensors or .bin file."""
    return open_safetensors(path) if str(path).endswith(".safetensors") else open_torch_file(path)


def _open_shards(folder, index):
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{index} is not a shard index: expected a weight_map of tensor names to file names")
    tensors = {}
    for name in sorted(set(files.values())):
        path = os.path.join(folder, name)
        if os.path.basename(name) != name or not os.path.isfile(path):
            raise InputError(f"{index} names the shard {name}, which is not in {folder}; download it again")
        tensors.update(open_file(path))
    lost = sorted(set(files) - set(tensors))
    if lost:
        raise InputError(f"{index} promises {lost[0]}, which {files[lost[0]]} does not hold; download the shards again")
    return tensors


def read_json(path):
    """The object in a JSON file.

    Raises:
        InputError: if the file is missing or not a JSON object.
    """
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a model folder with that file") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON; download it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} does not hold a JSON object; download it again")
    return value
