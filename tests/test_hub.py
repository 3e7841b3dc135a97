"""The hub: one form of the weights is fetched, what came in part is not taken for the whole, reasons are the real ones.

A small stand-in for huggingface_hub keeps repositories in memory; no test reaches for the network.
"""

import errno
import fnmatch
import json
import os
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mindmusicgen import InputError, MusicgenProcessor
from mindmusicgen.checkpoint.source import AUDIOCRAFT, DEMO, NATIVE, resolve

SMALL = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "spiece.model")
SAFE = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
FP32 = [f"model.fp32-0000{i}-of-00002.safetensors" for i in (1, 2)]
BINS = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
OTHERS = ["tf_model.h5", "flax_model.msgpack", ".gitattributes", "README.md", "audio/sample.wav", "onnx/model.onnx"]


class Hub:
    """One repository, and its cache."""

    def __init__(self, folder):
        self.folder, self.files, self.fetched, self.after, self.error = folder, {}, [], None, None

    def add(self, *names):
        for name in names:
            self.files[name] = b"{}" if name.endswith(".json") else b"weights"

    def add_index(self, name, shards):
        self.add(*shards)
        self.files[name + ".index.json"] = json.dumps({"weight_map": dict(enumerate(shards))}).encode()

    def snapshot_download(self, model, allow_patterns=None, local_files_only=False, revision=None, cache_dir=None):
        if local_files_only:
            if not self.folder.is_dir():
                raise LocalEntryNotFoundError("nothing there")
            return str(self.folder)
        self.folder.mkdir(exist_ok=True)
        for name in self.files:
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                if self.after == len(self.fetched):
                    raise self.error
                (self.folder / name).parent.mkdir(exist_ok=True)
                (self.folder / name).write_bytes(self.files[name])
                self.fetched.append(name)
        return str(self.folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path / "snapshot")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: list(made.files))
    return made


def stereo(hub):
    hub.add("model.safetensors", "model.fp32.safetensors", "pytorch_model.bin", *AUDIOCRAFT)
    hub.add_index("model.safetensors", SAFE)
    hub.add_index("model.fp32.safetensors", FP32)
    return ["model.safetensors"]


def in_shards(hub):
    hub.add("model.fp32.safetensors", "pytorch_model.bin")
    hub.add_index("model.safetensors", SAFE)
    hub.add_index("model.fp32.safetensors", FP32)
    hub.add_index("pytorch_model.bin", BINS)
    return SAFE


def bins(hub):
    hub.add("model.fp32.safetensors", *AUDIOCRAFT)
    hub.add_index("pytorch_model.bin", BINS)
    return BINS


def one_bin(hub):
    hub.add("pytorch_model.bin", "state_dict.bin")
    return ["pytorch_model.bin"]


def native(hub):
    hub.add(NATIVE, "model.safetensors", "pytorch_model.bin")
    return [NATIVE]


def audiocraft(hub):
    hub.add(*AUDIOCRAFT, "t5/config.json", "t5/model.safetensors", "t5/pytorch_model.bin", "t5/tf_model.h5")
    hub.add("encodec/config.json", "encodec/pytorch_model.bin", "other/model.safetensors", "other/config.json")
    return [*AUDIOCRAFT, "t5/model.safetensors", "encodec/pytorch_model.bin"]


def diffusers(hub):
    hub.add("model_index.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json", "other/model.safetensors")
    hub.add("text_encoder/config.json", "vae/config.json", "vocoder/config.json")
    hub.add("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin", "vocoder/pytorch_model.bin")
    hub.add("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.bin", "unet/config.json")
    hub.add_index("vae/diffusion_pytorch_model.safetensors", ["vae/a.safetensors", "vae/b.safetensors"])
    del hub.files["vae/diffusion_pytorch_model.safetensors.index.json"]
    hub.files["vae/diffusion_pytorch_model.safetensors.index.json"] = b'{"weight_map": {"x": "a.safetensors"}}'
    del hub.files["config.json"]  # there is none beside a model_index.json
    vae = ["vae/a.safetensors"]
    return ["text_encoder/model.safetensors", "vocoder/pytorch_model.bin", "unet/diffusion_pytorch_model.bin", *vae]


REPOSITORIES = [diffusers, stereo, in_shards, bins, one_bin, native, audiocraft]


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_one_form_of_the_weights_is_fetched_and_it_is_the_one_that_is_opened(hub, repository):
    hub.add(*SMALL, *OTHERS)
    expected = repository(hub)
    folder = resolve("someone/model")
    weights = [name for name in hub.fetched if not name.endswith((".json", ".model", ".txt"))]
    assert sorted(weights) == sorted(expected)
    assert set(SMALL) & set(hub.files) < set(hub.fetched) and not set(OTHERS) & set(hub.fetched)
    assert not any(name.startswith("other/") for name in hub.fetched)
    assert min(map(hub.fetched.index, expected)) > max(map(hub.fetched.index, set(SMALL) & set(hub.files))), (
        "the weights come last"
    )
    assert resolve("someone/model", local_files_only=True) == folder


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_what_came_in_part_is_not_the_cache(hub, repository):
    """Whatever file it was that the connection broke at."""
    hub.add(*SMALL)
    repository(hub)
    resolve("someone/model")
    whole = len(hub.fetched)
    for after in range(whole):
        for name in list(hub.fetched):
            (hub.folder / name).unlink(missing_ok=True)
        hub.fetched, hub.after, hub.error = [], after, ConnectionError("broken")
        for options, reason in (({}, "cannot be reached: ConnectionError"), ({"local_files_only": True}, "is set")):
            with pytest.raises(InputError, match="without .* and .*" + reason):
                resolve("someone/model", **options)
    hub.after = None
    resolve("someone/model")
    assert len(hub.fetched) > 0 and resolve("someone/model", local_files_only=True)


def test_a_link_to_nothing_is_not_there(hub):
    hub.add(*SMALL)
    stereo(hub)
    resolve("someone/model")
    (hub.folder / "model.safetensors").unlink()
    (hub.folder / "model.safetensors").symlink_to(hub.folder / "blob")
    for name in (*SAFE, "model.safetensors.index.json"):
        (hub.folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="without model.safetensors and local_files_only is set"):
        resolve("someone/model", local_files_only=True)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "full"), "No space left on device"),
        (OSError(errno.EDQUOT, "quota"), "quota"),
        (PermissionError(errno.EACCES, "no"), "Permission denied"),
        (OSError(errno.EROFS, "ro"), "Read-only"),
        (RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"), "No space left"),
        (caused(RuntimeError("download failed"), OSError(errno.ENOSPC, "full")), "No space left"),
    ],
    ids=str,
)
def test_a_full_disk_is_not_an_unreachable_hub(hub, error, words):
    hub.add(*SMALL, "model.safetensors")
    hub.after, hub.error = 3, error
    with pytest.raises(InputError) as caught:
        resolve("someone/model")
    message = str(caught.value)
    assert words in message and "cache_dir" in message
    assert "reached" not in message and "mirror" not in message


@pytest.mark.parametrize("error", [ConnectionError("no"), TimeoutError(), OSError("nothing known"), ValueError("what")])
def test_other_failures_are_the_hubs(hub, error):
    hub.add(*SMALL, "model.safetensors")
    hub.after, hub.error = 0, error
    with pytest.raises(InputError, match=f"reached: {type(error).__name__}.*mirror"):
        resolve("someone/model")


def test_a_processor_fetches_no_weights(hub):
    hub.add(*SMALL, "model.safetensors")
    for name in os.listdir(DEMO):
        if name in SMALL:
            hub.files[name] = (DEMO / name).read_bytes()
    assert MusicgenProcessor.from_pretrained("someone/model").sampling_rate == 32000
    assert set(hub.fetched) == set(SMALL)
    assert MusicgenProcessor.from_pretrained("someone/model", local_files_only=True)


class TestSizes:
    """How much is downloaded is said before it begins."""

    @pytest.fixture
    def sized(self, hub, monkeypatch):
        in_shards(hub)

        def sizes(_, model, paths, revision=None):
            return [SimpleNamespace(path=path, size=7 * 10**9) for path in paths]

        monkeypatch.setattr(huggingface_hub.HfApi, "get_paths_info", sizes)
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
        return hub

    def test_it_is_told(self, sized, capsys):
        resolve("openai/jukebox-1b-lyrics")
        assert "downloading openai/jukebox-1b-lyrics: 14.0 GB" in capsys.readouterr().err

    def test_what_is_there_already_does_not_count(self, sized, capsys):
        sized.folder.mkdir()
        (sized.folder / SAFE[0]).write_bytes(b"weights")
        resolve("some/model")
        assert "downloading some/model: 7.0 GB" in capsys.readouterr().err

    def test_too_little_room_is_told_before(self, sized, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9))
        with pytest.raises(InputError, match="the download of some/model needs 14000 MB and .* has 1000 left"):
            resolve("some/model")
        assert not set(SAFE) & set(sized.fetched)

    def test_a_hub_that_does_not_say_gives_its_files(self, hub, capsys):
        in_shards(hub)
        resolve("some/model")
        assert set(SAFE) <= set(hub.fetched) and "downloading" not in capsys.readouterr().err
