"""Checkpoints: Hugging Face folders in all forms, the original program's files, and what does not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mindmusicgen.jukebox.checkpoint import openai_files
from mindmusicgen.jukebox.model import JukeboxModel


@pytest.fixture
def copied(both, tmp_path):
    """A copy of the 1b folder that a test may spoil: its path, and a function that changes its tensors."""
    shutil.copytree(both["1b"].folder, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"

    def change(edit):
        tensors = load_file(path)
        edit(tensors)
        save_file(tensors, path, {"format": "pt"})

    return str(tmp_path / "model"), change


def same_weights(one, other):
    for level in range(3):
        pairs = zip(one.priors[level].parameters_and_names(), other.priors[level].parameters_and_names(), strict=True)
        for (name, left), (_, right) in pairs:
            assert np.array_equal(left.asnumpy(), right.asnumpy()), name
    for left, right in zip(one.vqvae.get_parameters(), other.vqvae.get_parameters(), strict=True):
        assert np.array_equal(left.asnumpy(), right.asnumpy())


@pytest.mark.parametrize("opened", [False, True])
def test_a_saved_model_is_the_model(golden, tmp_path, opened):
    """Written from open networks, and straight from the files of those that are not."""
    model = JukeboxModel.from_pretrained(golden.folder)
    if opened:
        list(model.priors)
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) >= 2 and (tmp_path / "artists.json").exists()
    again = JukeboxModel.from_pretrained(str(tmp_path))
    assert again.config == model.config
    same_weights(model, again)
    stored = load_file(golden.folder + "/model.safetensors")
    names = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(names) == set(stored)


def test_a_model_of_a_config_alone(both, tmp_path):
    config = both["1b"].model.config
    model = JukeboxModel(config)
    model.save_pretrained(tmp_path)
    again = JukeboxModel.from_pretrained(str(tmp_path))
    same_weights(model, again)
    norm = model.priors[0].prior.layers[0].layer_norm_0.weight.asnumpy()
    assert (norm == 1).all() and model.tokenizer is None


def test_one_prior_of_a_large_model_is_in_memory(both, monkeypatch):
    model = JukeboxModel.from_pretrained(both["1b"].folder)
    monkeypatch.setattr("mindmusicgen.jukebox.priors.SMALL", 1)
    for level in (0, 1, 2, 0):
        assert model.priors[level].level == level and list(model.priors.found) == [level]


def test_a_field_may_be_changed(both):
    model = JukeboxModel.from_pretrained(both["1b"].folder, min_duration=0)
    assert [one.min_duration for one in model.config.prior_configs] == [0, 0, 0]


def test_tensors_that_do_not_fit_are_named(copied, refused):
    folder, change = copied
    change(lambda tensors: tensors.update({"priors.1.prior.colour": np.zeros(3, np.float32)}))
    refused(lambda: JukeboxModel.from_pretrained(folder).priors[1], "priors.1.prior.colour")
    change(lambda tensors: tensors.pop("priors.1.prior.colour"))
    change(lambda tensors: tensors.update({"colour": np.zeros(3, np.float32)}))
    refused(lambda: JukeboxModel.from_pretrained(folder), "holds colour")
    change(lambda tensors: tensors.pop("colour"))
    change(lambda tensors: tensors.update({"priors.3.x": np.zeros(3, np.float32)}))
    refused(lambda: JukeboxModel.from_pretrained(folder), "priors.3")


def test_missing_and_misshapen_tensors_are_named(copied, refused):
    folder, change = copied
    name = "priors.2.conditioner_blocks.layer_norm.weight"
    change(lambda tensors: tensors.update({name: np.zeros(3, np.float32)}))
    refused(lambda: JukeboxModel.from_pretrained(folder).priors[2], name, "(3,), expected (16,)")
    change(lambda tensors: tensors.pop(name))
    refused(lambda: JukeboxModel.from_pretrained(folder).priors[2], f"lacks {name}")
    change(lambda tensors: tensors.pop("vqvae.decoders.0.out.bias"))
    refused(lambda: JukeboxModel.from_pretrained(folder), "lacks vqvae.decoders.0.out.bias")


def test_a_shared_head_must_be_shared(copied, refused):
    folder, change = copied
    change(lambda tensors: tensors.update({"priors.0.prior.fc_proj_out.weight": np.zeros((111, 16), np.float32)}))
    refused(lambda: JukeboxModel.from_pretrained(folder).priors[0], "differs from embed_tokens", "merged_decoder")
    change(lambda tensors: tensors.pop("priors.0.prior.fc_proj_out.weight"))
    assert JukeboxModel.from_pretrained(folder).priors[0].level == 0


def test_a_config_of_a_larger_model_is_refused_before_memory_is_taken(copied, refused):
    folder, _ = copied
    path = Path(folder) / "config.json"
    values = json.loads(path.read_text())
    values["prior_config_list"][1] |= {"hidden_size": 8192}
    path.write_text(json.dumps(values))
    refused(lambda: JukeboxModel.from_pretrained(folder).priors[1], "describes a model of", "M parameters")


NAMES = {
    "encoders.1.level_blocks.0.model.2.0.weight": "encoders.1.level_blocks.0.downsample_block.4.weight",
    "encoders.1.level_blocks.0.model.2.1.model.3.model.1.bias": (
        "encoders.1.level_blocks.0.downsample_block.5.resnet_block.3.conv1d_1.bias"
    ),
    "encoders.2.level_blocks.1.model.2.weight": "encoders.2.level_blocks.1.proj_out.weight",
    "decoders.0.level_blocks.0.model.0.weight": "decoders.0.level_blocks.0.proj_in.weight",
    "decoders.0.level_blocks.0.model.1.0.model.7.model.3.weight": (
        "decoders.0.level_blocks.0.upsample_block.0.resnet_block.7.conv1d_2.weight"
    ),
    "decoders.0.level_blocks.0.model.3.1.bias": "decoders.0.level_blocks.0.upsample_block.5.bias",
    "decoders.2.out.weight": "decoders.2.out.weight",
    "bottleneck.level_blocks.1.k": "bottleneck.level_blocks.1.codebook",
    "conditioner_blocks.0.x_emb.weight": "conditioner_blocks.embed_tokens.weight",
    "conditioner_blocks.0.cond.model.0.bias": "conditioner_blocks.upsampler.proj_in.bias",
    "conditioner_blocks.0.cond.model.2.0.model.15.model.1.weight": (
        "conditioner_blocks.upsampler.upsample_block.2.resnet_block.15.conv1d_1.weight"
    ),
    "conditioner_blocks.0.ln.weight": "conditioner_blocks.layer_norm.weight",
    "y_emb.bow_genre_emb.emb.weight": "metadata_embedding.bow_genre_emb.weight",
    "y_emb.total_length_emb.emb.weight": "metadata_embedding.total_length_emb.emb.weight",
    "prior.x_emb.weight": "prior.embed_tokens.weight",
    "prior.x_out.weight": "prior.fc_proj_out.weight",
    "prior.transformer._attn_mods.15.attn.c_attn.w": "prior.transformer._attn_mods.15.attn.c_attn.weight",
    "prior.transformer._attn_mods.0.ln_1.bias": "prior.transformer._attn_mods.0.layer_norm_1.bias",
    "prior.transformer._attn_mods.18.attn.c_enc_kv.b": "prior.transformer._attn_mods.18.attn.c_enc_kv.bias",
    "prime_prior.x_emb.weight": "encoder.embed_tokens.weight",
    "prime_prior.start_token": "encoder.start_token",
    "prime_state_proj.w": "encoder.proj_in.weight",
    "prime_state_ln.bias": "encoder.final_layer_norm.bias",
    "prime_x_out.weight": "encoder.lm_head.weight",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_original_program(name):
    assert openai_files.hugging_face_name(name) == NAMES[name]


def test_a_folder_of_other_files(both, refused, tmp_path):
    (tmp_path / "vqvae.pth.tar").write_bytes(b"PK nothing")
    refused(lambda: JukeboxModel.from_pretrained(str(tmp_path)), "vqvae.pth.tar")
    shutil.copytree(both["1b"].folder, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "bark"}')
    refused(lambda: JukeboxModel.from_pretrained(str(tmp_path / "m")), "'bark' model; expected model_type 'jukebox'")
