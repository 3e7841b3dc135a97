"""From a model's name to files on disk: a local folder, or a hub id that is downloaded once and cached."""

import contextlib
import copy
import errno
import glob
import os
import queue
import threading
from pathlib import Path

from ..errors import InputError, clip, shown
from ..language import said
from ..runtime.files import check_room
from ..runtime.interrupt import blocked
from ..runtime.progress import announce
from ..runtime.telling import tell
from .json_file import read_json
from .safetensors_file import open_safetensors
from .torch_file import open_torch_file

PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = {  # models that come with the package
    "demo": PACKAGE / "demo",
    "digits": PACKAGE / "bark" / "digits",
    "beats": PACKAGE / "musicldm" / "beats",
    "solfa": PACKAGE / "jukebox" / "solfa",
}
DEMO = SHIPPED["demo"]
NATIVE = "mindspore_model.safetensors"
SINGLE = ("model.safetensors", "pytorch_model.bin")
DIFFUSERS_INDEX = "model_index.json"  # instead of a config.json: each part has a folder of its own
DIFFUSERS_LAYOUT = "diffusers"
DIFFUSERS_PARTS = ("scheduler", "tokenizer", "feature_extractor", "text_encoder", "vae", "vocoder", "unet")
DIFFUSERS_SINGLE = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # of those of diffusers' own
INDEX = ".index.json"  # behind the name of one file: where its tensors lie if it was written in several, the shards
AUDIOCRAFT = ("state_dict.bin", "compression_state_dict.bin")
AUDIOCRAFT_LAYOUT = "audiocraft"  # what `ModelFolder.layout` calls it
SUNO = ("text.pt", "text_2.pt")  # beside coarse.pt and fine.pt; the second of the large model
SUNO_LAYOUT = "suno"
OPENAI = ("vqvae.pth.tar",)  # beside prior_level_0.pth.tar, ...
OPENAI_LAYOUT = "openai"
AUDIOCRAFT_PARTS = ("t5", "encodec")  # subfolders beside them, for what those files only name
SMALL_FILES = (".json", ".model", ".txt")
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
LARGE = 1e9  # bytes of a download that everybody is told of
PATIENCE = 7.0  # seconds for the hub's first answer; alone, its library tries for half a minute and more
MIRROR = "give a local folder, or set HF_ENDPOINT to a mirror such as https://hf-mirror.com"


class ModelFolder(str):
    """The path of a model's folder, which is looked at once: what is asked a second time is remembered.

    Args:
        path (str): where it is.
        hub (dict): what huggingface_hub would find its further files by, if it came from there: repo_id, revision, ...
    """

    def __new__(cls, path, hub=None):
        self = super().__new__(cls, os.fspath(path))
        self._known, self.hub = {}, hub
        return self

    def __reduce__(self):  # another process looks for itself
        return ModelFolder, (str(self), self.hub)

    def once(self, what, find):
        """What a function finds here, called the first time only.

        Args:
            what (hashable): names it.
            find (callable): without arguments; what it raises is not remembered.
        """
        if what not in self._known:
            self._known[what] = find()
        return self._known[what]

    @property
    def layout(self):
        """How weights are laid out: "mindspore", "transformers", "audiocraft", "suno", "openai" or "diffusers";
        transformers' without any."""
        return self.once("layout", self._layout)

    def _layout(self):
        names = files_in(self)
        if DIFFUSERS_INDEX in names and "config.json" not in names:
            return DIFFUSERS_LAYOUT
        form = weights_form(names)
        if form is None:
            foreign = {AUDIOCRAFT_LAYOUT: AUDIOCRAFT, OPENAI_LAYOUT: OPENAI}
            foreign[SUNO_LAYOUT] = () if "config.json" in names else SUNO
            found = (layout for layout, files in foreign.items() if any(name in names for name in files))
            return next(found, "transformers")
        return "mindspore" if form == NATIVE else "transformers"

    def file(self, name):
        """Path of a file in it."""
        return os.path.join(self, name)

    def has(self, name):
        """Whether a file is in it."""
        return os.path.isfile(self.file(name))

    def json(self, name):
        """The object in a JSON file, as a copy that may be changed.

        Raises:
            InputError: if it is missing or damaged.
        """
        return copy.deepcopy(self.once(name, lambda: read_json(self.file(name))))


def as_folder(folder):
    """A `ModelFolder` of a path; one that is one already stays."""
    return folder if isinstance(folder, ModelFolder) else ModelFolder(folder)


def resolve(model, revision=None, cache_dir=None, local_files_only=False, weights=True):
    """The local folder of a model.

    Args:
        model (str | ModelFolder): a folder, a hub id such as facebook/musicgen-small, or the name of a model in
            this package: "demo" plays music, "digits" says digits, "beats" drums, "solfa"
            sings do re mi.
        revision (str): branch, tag or commit on the hub.
        cache_dir (str): where downloads are kept; the hub library's own cache if None.
        local_files_only (bool): use the cache alone.
        weights (bool): whether the weights are wanted too, or configs and tokenizer alone.

    Returns:
        ModelFolder

    Raises:
        InputError: if there is no such folder, the hub cannot be reached or does not know the id, or its files have
            not all arrived.
    """
    if isinstance(model, ModelFolder):
        return model
    model = os.fspath(model)
    if os.path.isdir(model) and model != "demo":
        return ModelFolder(model)
    if model in SHIPPED:
        return ModelFolder(SHIPPED[model])
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise InputError(
            f"model {shown(model)} is neither an existing folder, nor a hub id such as facebook/musicgen-small, nor "
            "demo"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    options = {"revision": revision, "cache_dir": cache_dir}
    reason, advice = "local_files_only is set", MIRROR
    if not local_files_only:
        try:
            return ModelFolder(_download(model, options, weights), {"repo_id": model, **options})
        except InputError:
            raise
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
            where = f" at revision {revision!r}" if revision else ""
            raise InputError(
                f"the hub has no model {model!r}{where}; check the name, or give a local folder"
            ) from error
        except Exception as error:  # each version of the hub library raises its own network errors
            reason, advice = _why_not(error)
    try:
        folder = snapshot_download(model, local_files_only=True, **options)
    except Exception as error:
        raise InputError(f"model {model!r} is not in the local cache and {reason}; {advice}") from error
    missing = missing_file(folder) if weights else None
    if missing:
        raise InputError(f"model {model!r} is in the local cache without {missing} and {reason}; {advice}")
    return ModelFolder(folder, {"repo_id": model, "local_files_only": True, **options})


def _why_not(error):
    """Why a download failed, and what would help."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for one in chain:
        number = getattr(one, "errno", None)
        for code in NOT_WRITABLE:  # the library's part in Rust puts the number into a text
            if number == code or f"(os error {code})" in str(one):
                return (
                    f"its files cannot be written ({os.strerror(code)})",
                    "make room, or name another folder with cache_dir",
                )
    return f"the hub cannot be reached: {type(chain[0]).__name__}", MIRROR


def _download(model, options, weights):
    """Fetch the small files, then of the weights the one form that is opened; what is cached is not fetched again.

    In this order, a folder that holds the weights holds everything.
    """
    from huggingface_hub import HfApi, snapshot_download

    announce(said(f"asking the hub for {model}"))
    names = _within(PATIENCE, lambda: HfApi().list_repo_files(model, revision=options["revision"]))

    def fetch(chosen):
        return snapshot_download(model, allow_patterns=list(map(glob.escape, chosen)), **options)

    diffusers = DIFFUSERS_INDEX in names and "config.json" not in names
    parts = ("", *(DIFFUSERS_PARTS if diffusers else AUDIOCRAFT_PARTS))
    folder = fetch([name for name in names if name.endswith(SMALL_FILES) and _parent(name) in parts])
    if diffusers and weights:
        chosen = [file for part in DIFFUSERS_PARTS for file in _weights(names, folder, part + "/")]
        _say_size(model, options["revision"], folder, chosen)
        fetch(chosen)
    elif weights or weights_form(names) is None:  # audiocraft's settings are in its weights
        chosen = _weights(names, folder)
        _say_size(model, options["revision"], folder, chosen)
        last = [name for name in chosen if not _parent(name) and name != AUDIOCRAFT[1]]
        if len(last) < len(chosen):  # what is opened first comes last
            fetch([name for name in chosen if name not in last])
        fetch(last)
    return folder


def _say_size(model, revision, folder, names):
    """Say how much is about to be downloaded, and refuse what the disk has no room for.

    Raises:
        InputError: if it has not.
    """
    from huggingface_hub import HfApi

    left, size = [name for name in names if not os.path.exists(os.path.join(folder, name))], 0
    with contextlib.suppress(Exception):  # a hub that does not say it may give the files all the same
        found = _within(PATIENCE, lambda: HfApi().get_paths_info(model, left, revision=revision))
        size = sum(one.size for one in found)
    if size >= LARGE:
        tell(said(f"downloading {model}: {size / 1e9:.1f} GB"), error=True)
    if size:
        check_room(folder, f"the download of {model}", size)


def _within(seconds, ask):
    """What a question to the hub gives, if that comes in time; the thread that waits on goes with the process.

    Raises:
        TimeoutError: if it did not come.
        Exception: what the question raised.
    """
    came = queue.SimpleQueue()

    def work():
        try:
            came.put((ask(), None))
        except BaseException as error:
            came.put((None, error))

    with blocked():
        threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = came.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return answer


def _parent(name):
    return name.rpartition("/")[0]


def weights_form(names):
    """Which of a folder's files is opened: one with all weights, or an index of shards; None if there is neither."""
    for name in (NATIVE, SINGLE[0], DIFFUSERS_SINGLE[0], SINGLE[1], DIFFUSERS_SINGLE[1]):
        for form in (name, name + INDEX):
            if form in names:
                return form
    return None


def _weights(names, folder, below=""):
    """The weight files to fetch of a repository's names; its indices lie in the folder already."""
    inside = [name[len(below) :] for name in names if name.startswith(below)]
    form = weights_form(inside)
    if form is not None:
        return [below + name for name in _files_of(os.path.join(folder, below), form)]
    chosen = [below + name for name in AUDIOCRAFT if name in inside]
    for part in () if below else AUDIOCRAFT_PARTS:
        chosen += _weights(names, folder, part + "/")
    return chosen


def _files_of(folder, form):
    """The files that a form of the weights consists of, beside its index."""
    return sorted(set(shards(os.path.join(folder, form)).values())) if form.endswith(INDEX) else [form]


def files_in(folder):
    """Names of the files in a folder; a link counts if what it leads to is there."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); expected a model folder") from error


def missing_file(folder):
    """The first file that a downloaded model lacks; None if all that it is opened from has arrived."""
    names = files_in(folder)
    form = weights_form(names)
    if DIFFUSERS_INDEX in names and "config.json" not in names:
        return _missing_of_parts(folder)
    if form is None and any(name in names for name in AUDIOCRAFT):
        needed = [AUDIOCRAFT[0], *([] if os.path.isdir(os.path.join(folder, "encodec")) else AUDIOCRAFT[1:])]
    elif form is None:
        needed = ["config.json", SINGLE[0]]
    else:
        needed = ["config.json", *_files_of(folder, form)]
    return next((name for name in needed if name not in names), None)


def _missing_of_parts(folder):
    """The same of a folder in diffusers' layout; its small files came before any weights."""
    for part in DIFFUSERS_PARTS[3:]:
        inside = os.path.join(folder, part)
        names = files_in(inside) if os.path.isdir(inside) else []
        form = weights_form(names)
        needed = ["config.json", *(_files_of(inside, form) if form else DIFFUSERS_SINGLE[:1])]
        found = next((f"{part}/{name}" for name in needed if name not in names), None)
        if found:
            return found
    return None


def open_weights(folder):
    """The tensors of a Hugging Face folder, unread.

    Args:
        folder (str): with model.safetensors, pytorch_model.bin, or either in shards behind an index.

    Returns:
        dict[str, LazyTensor]

    Raises:
        InputError: if there are no weights, a shard is missing, or a file is damaged.
    """
    form = weights_form([name for name in files_in(folder) if not name.startswith(NATIVE)])
    if form is not None:
        path = os.path.join(folder, form)
        return open_shards(folder, path) if form.endswith(INDEX) else open_file(path)
    raise InputError(f"{folder} holds no weights: expected {' or '.join(SINGLE)}, whole or in shards")


def open_file(path):
    """The tensors of one .safetensors or .bin file."""
    return open_safetensors(path) if str(path).endswith(".safetensors") else open_torch_file(path)


def shards(index):
    """The files that an index names: dict of tensor name to file name.

    Raises:
        InputError: if it is no index, or names files elsewhere.
    """
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{index} is not a shard index: expected a weight_map of tensor names to file names")
    for name in files.values():
        if os.path.basename(name) != name or name in ("", ".", "..") or "\0" in name:
            raise InputError(f"{index} names the shard {clip(name)!r}, which is no file beside it; download it again")
    return files


def open_shards(folder, index):
    """The tensors of the shards that an index in a folder names; errors as in `open_weights`."""
    files, tensors = shards(index), {}
    for name in sorted(set(files.values())):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise InputError(f"{index} names the shard {clip(name)!r}, which is not in {folder}; download it again")
        found = open_file(path)
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise InputError(f"{path} holds {clip(twice[0])}, which another shard holds too; download the shards again")
        lost = sorted(tensor for tensor, file in files.items() if file == name and tensor not in found)
        if lost:
            raise InputError(f"{index} promises {clip(lost[0])}, which {name} does not hold; download it again")
        tensors.update(found)
    return tensors
