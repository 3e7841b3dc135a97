"""Suno's own files, written as torch.save writes them: opened with the codec beside them, and one sentence if not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from audiocraft_files import write
from safetensors.numpy import load_file, save_file

from mindmusicgen.bark.checkpoint.suno_files import FILES, renamed
from mindmusicgen.bark.model import BarkModel

SUNO = (  # transformers' names and suno's, the first that fits
    ("layernorm_1", "ln_1"),
    ("layernorm_2", "ln_2"),
    ("layernorm_final", "ln_f"),
    ("input_embeds_layer", "wte"),
    ("layers.", "h."),
    ("position_embeds_layer", "wpe"),
    ("att_proj", "c_attn"),
    ("out_proj", "c_proj"),
    ("in_proj", "c_fc"),
)


def suno_name(name):
    for ours, theirs in SUNO:
        name = name.replace(ours, theirs)
    return "_orig_mod." + ("" if name.startswith("lm_head") else "transformer.") + name


@pytest.fixture
def files(golden, tmp_path):
    """A folder with the golden model in suno's files, and one with its codec."""
    weights = load_file(f"{golden.folder}/model.safetensors")
    config = json.loads((Path(golden.folder) / "config.json").read_text())
    own, codec = tmp_path / "suno", tmp_path / "codec"
    own.mkdir(), codec.mkdir()
    for stage, file in FILES.items():
        sizes = config[f"{stage}_config"]
        state = {suno_name(n[len(stage) + 1 :]): v for n, v in weights.items() if n.startswith(f"{stage}.")}
        state |= {f"_orig_mod.transformer.h.{i}.attn.bias": np.ones((1, 1, 4, 4), np.float32) for i in range(2)}
        arguments = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 1024, "bias": False, "dropout": 0}
        if stage == "fine_acoustics":
            table = weights["fine_acoustics.input_embeds_layers.1.weight"]
            state["_orig_mod.lm_heads.0.weight"] = table
            arguments |= {"vocab_size": 72, "n_codes_total": 8, "n_codes_given": 1}
        else:
            arguments |= {name: sizes[name] for name in ("input_vocab_size", "output_vocab_size")}
        write(own / f"{file}.pt", {"model": state, "model_args": arguments, "best_val_loss": np.float32(2.5)})
    (codec / "config.json").write_text(json.dumps(config["codec_config"]))
    save_file({n[12:]: v for n, v in weights.items() if n.startswith("codec_model.")}, codec / "model.safetensors")
    return own, codec


def test_names_go_back_and_forth(golden):
    for name in load_file(f"{golden.folder}/model.safetensors"):
        stage, _, own = name.partition(".")
        assert stage not in FILES or renamed(suno_name(own)) == own


def test_suno_files_are_the_same_model(bark, files):
    own, codec = map(str, files)
    model = BarkModel.from_pretrained(own, codec=codec)
    for (name, one), (_, other) in zip(bark.parameters_and_names(), model.parameters_and_names(), strict=True):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy(), err_msg=name)
    stored = model.generation_config
    assert stored.semantic_config["temperature"] == 0.7 and stored.semantic_config["min_eos_p"] == 0.2
    assert stored.fine_acoustics_config["temperature"] == 0.5 and stored.sample_rate == 600


def test_large_files_have_another_name(files):
    own, codec = files
    for file in FILES.values():
        (own / f"{file}.pt").rename(own / f"{file}_2.pt")
    assert BarkModel.from_pretrained(str(own), codec=str(codec)).semantic.config.hidden_size == 16


def test_what_suno_files_refuse(files, golden, tmp_path, refused):
    own, codec = files

    def opened(codec=codec):
        return lambda: BarkModel.from_pretrained(str(own), codec=str(codec), local_files_only=True)

    refused(opened(codec=golden.folder), "codec", "encodec_24khz")
    refused(opened(codec=tmp_path / "hub id"), "hub id")
    shutil.copy(own / "text.pt", own / "text_2.pt")
    BarkModel.from_pretrained(str(own), codec=str(codec))
    for name in ("coarse", "fine"):
        shutil.copy(own / f"{name}.pt", own / f"{name}_2.pt")
    refused(opened(), "two sizes")
    for name in ("text_2", "coarse_2", "fine_2", "fine"):
        (own / f"{name}.pt").unlink()
    refused(opened(), "text.pt", "fine.pt")
    write(own / "fine.pt", {"weights": {}})
    refused(opened(), "fine.pt", "model_args")
    write(own / "fine.pt", {"model": {"a": "b"}, "model_args": {}})
    refused(opened(), "fine.pt", "no tensor")
    (own / "fine.pt").write_bytes(b"\x80\x02nothing")
    refused(opened(), "fine.pt")
