"""MusicLDM's folders: what is opened, what is refused in a sentence, and what is written."""

import json
import shutil

import numpy as np
import pytest

from mindmusicgen import AutoProcessor, MusicLDMPipeline
from mindmusicgen.checkpoint.fingerprint import fingerprint
from mindmusicgen.checkpoint.safetensors_file import open_safetensors, write_safetensors
from mindmusicgen.checkpoint.source import ModelFolder, missing_file
from mindmusicgen.clap.prompts import PromptTokenizer
from mindmusicgen.musicldm.checkpoint.folder import WEIGHTS


@pytest.fixture
def copy(golden, tmp_path):
    """A copy of the folder that may be changed."""
    return shutil.copytree(golden.folder, tmp_path / "model", ignore=shutil.ignore_patterns("expected.npz"))


def change(path, **fields):
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def rewrite(path, change):
    entries = [(name, t.shape, t.read().dtype, t.read) for name, t in open_safetensors(path).items()]
    write_safetensors(path, change(entries), {"format": "pt"})


def no_unet(folder):
    shutil.rmtree(folder / "unet")


def another_pipeline(folder):
    change(folder / "model_index.json", _class_name="AudioLDM2Pipeline")


def another_scheduler(folder):
    change(folder / "scheduler/scheduler_config.json", _class_name="HeunDiscreteScheduler")


def another_prediction(folder):
    change(folder / "scheduler/scheduler_config.json", prediction_type="sample")


def missing_tensor(folder):
    rewrite(folder / "unet/diffusion_pytorch_model.safetensors", lambda entries: entries[1:])


def extra_tensor(folder):
    extra = ("encoder_hid_proj.weight", (1,), np.dtype(np.float32), lambda: np.zeros(1, np.float32))
    rewrite(folder / "unet/diffusion_pytorch_model.safetensors", lambda entries: [*entries, extra])


def extra_in_text_encoder(folder):
    extra = ("lm_head.weight", (1,), np.dtype(np.float32), lambda: np.zeros(1, np.float32))
    rewrite(folder / "text_encoder/model.safetensors", lambda entries: [*entries, extra])


def infinite(folder):
    def spoil(entries):
        name, shape, dtype, _ = entries[0]
        return [(name, shape, dtype, lambda: np.full(shape, np.inf, dtype)), *entries[1:]]

    rewrite(folder / "vocoder/model.safetensors", spoil)


def far_too_large(folder):
    change(folder / "unet/config.json", block_out_channels=[8000, 16000, 16000, 16000], norm_num_groups=8)
    change(folder / "unet/config.json", cross_attention_dim=[8000, 16000, 16000, 16000])


def other_vector(folder):
    change(folder / "unet/config.json", projection_class_embeddings_input_dim=24)


def no_weights(folder):
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()


def no_tokenizer(folder):
    (folder / "tokenizer/tokenizer.json").unlink()


def truncated(folder):
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage, words",
    [
        (no_unet, ("lacks the folder unet",)),
        (another_pipeline, ("an AudioLDM2Pipeline; expected MusicLDMPipeline or AudioLDMPipeline",)),
        (another_scheduler, ("HeunDiscreteScheduler", "DDIMScheduler")),
        (another_prediction, ("prediction_type", "epsilon")),
        (missing_tensor, ("unet", "lacks")),
        (extra_tensor, ("unet", "encoder_hid_proj.weight")),
        (extra_in_text_encoder, ("text_encoder", "lm_head.weight")),
        (infinite, ("vocoder", "NaN or infinite")),
        (far_too_large, ("unet/config.json",)),
        (other_vector, ("unet",)),
        (no_weights, ("vae", "no weights")),
        (no_tokenizer, ("tokenizer.json", "merges.txt")),
        (truncated, ("vae",)),
    ],
)
def test_damaged_folders(copy, refused, damage, words):
    damage(copy)
    refused(lambda: MusicLDMPipeline.from_pretrained(str(copy)), *words)


def test_what_is_missing_of_a_download(copy):
    assert missing_file(copy) is None
    (copy / "vocoder/model.safetensors").unlink()
    assert missing_file(copy).startswith("vocoder/")
    shutil.rmtree(copy / "text_encoder")
    assert missing_file(copy) == "text_encoder/config.json"


def test_saved_is_what_was_opened(golden, copy, tmp_path, refused):
    pipe = MusicLDMPipeline.from_pretrained(golden.folder)
    target = tmp_path / "saved"
    for _ in range(2):  # the second time over the first
        pipe.save_pretrained(str(target))
    for part, file in WEIGHTS.items():
        old, new = (open_safetensors(f"{folder}/{part}/{file}") for folder in (golden.folder, target))
        assert set(old) == set(new)
        assert all(np.array_equal(old[name].read(), new[name].read()) for name in old)
    small = [path.relative_to(golden.folder) for path in copy_of_small(golden.folder)]
    assert small and all((target / path).is_file() for path in small)
    assert fingerprint(target) == fingerprint(target)
    assert MusicLDMPipeline.from_pretrained(str(target)).tokenizer.longest == pipe.tokenizer.longest
    pipe.save_pretrained(str(target), dtype="float16")
    assert open_safetensors(target / "unet/diffusion_pytorch_model.safetensors")["conv_in.bias"].dtype == "F16"
    refused(lambda: pipe.save_pretrained(str(target), dtype="int8"), "dtype is 'int8'")
    refused(lambda: pipe.save_pretrained(str(target), max_shard_size="1GB"), "max_shard_size")
    assert fingerprint(target) != fingerprint(golden.folder)


def copy_of_small(folder):
    from pathlib import Path

    return [path for path in Path(folder).glob("*/*") if path.suffix in (".json", ".txt")]


def test_tokens(golden, copy):
    tokenizer = PromptTokenizer(f"{golden.folder}/tokenizer", 32)
    (copy / "tokenizer/tokenizer.json").unlink()
    (copy / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    for made in (tokenizer, PromptTokenizer(copy / "tokenizer", 32)):
        for name, text in (("prompt0", golden.prompts[0]), ("negative", golden.negative), ("empty", "")):
            ids, mask = made(text)
            count = golden[f"{name}_mask"].sum()
            assert np.array_equal(ids[0, :count], golden[f"{name}_ids"][:count]) and mask.sum() == count
            assert ids.shape[1] in (16, 32) and (ids[0, count:] == 1).all()
    assert len(tokenizer("x" * 100)[0][0]) == 32


def test_it_needs_no_processor(golden, refused):
    refused(lambda: AutoProcessor.from_pretrained(golden.folder), "MusicLDMPipeline", "no processor")
    assert ModelFolder(golden.folder).layout == "diffusers"
