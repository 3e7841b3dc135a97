"""The original program's files, a whole tiny set of them: opened, converted, and refused where they are damaged."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_torch_file import mapping, number
from test_torch_legacy import HUGE, save, tensor

from mindmusicgen import AutoConfig, JukeboxModel, cli
from mindmusicgen.audio import write_audio
from mindmusicgen.auto import kind_of
from mindmusicgen.checkpoint.source import ModelFolder
from mindmusicgen.codes_file import load_codes
from mindmusicgen.jukebox.checkpoint.openai_files import hugging_face_name

THEIRS = (  # Hugging Face's names and the original's, each in turn
    (r"^conditioner_blocks\.embed_tokens\.", "conditioner_blocks.0.x_emb."),
    (r"^conditioner_blocks\.layer_norm\.", "conditioner_blocks.0.ln."),
    (r"^conditioner_blocks\.upsampler\.", "conditioner_blocks.0.cond."),
    (r"^metadata_embedding\.(bow_genre_emb|artist_emb)\.", r"y_emb.\1.emb."),
    (r"^metadata_embedding\.", "y_emb."),
    (r"^encoder\.proj_in\.weight", "prime_state_proj.w"),
    (r"^encoder\.proj_in\.bias", "prime_state_proj.b"),
    (r"^encoder\.final_layer_norm\.", "prime_state_ln."),
    (r"^encoder\.lm_head\.", "prime_x_out."),
    (r"^encoder\.", "prime_prior."),
    (r"\.embed_tokens\.", ".x_emb."),
    (r"fc_proj_out", "x_out"),
    (r"\.layer_norm_(\d)\.", r".ln_\1."),
    (r"\.codebook$", ".k"),
    (r"(c_attn|c_proj|c_fc|c_enc_kv)\.weight$", r"\1.w"),
    (r"(c_attn|c_proj|c_fc|c_enc_kv)\.bias$", r"\1.b"),
    (r"resnet_block\.(\d+)\.conv1d_1", r"model.\1.model.1"),
    (r"resnet_block\.(\d+)\.conv1d_2", r"model.\1.model.3"),
    (r"downsample_block\.(\d+)", lambda found: f"model.{int(found[1]) // 2}.{int(found[1]) % 2}"),
    (r"upsample_block\.(\d+)", lambda found: f"model.{int(found[1]) // 2 + 1}.{int(found[1]) % 2}"),
    (r"(cond|decoders\.\d\.level_blocks\.\d)\.proj_in\.", r"\1.model.0."),
)


def original(name, halvings):
    for pattern, theirs in THEIRS:
        name = re.sub(pattern, theirs, name)
    last = re.match(r"(encoders\.\d\.level_blocks\.(\d))\.proj_out\.(.*)", name)
    return f"{last[1]}.model.{halvings[int(last[2])]}.{last[3]}" if last else name


def write(path, state, prefix=""):
    """As the original program's checkpoints are: {'model': ..., 'step': ...}, in torch's format before 1.6."""
    arrays = {f"{i:05d}": np.ascontiguousarray(one) for i, one in enumerate(state.values())}
    made = {
        prefix + name: tensor(key, one.size, one.shape) for name, (key, one) in zip(state, arrays.items(), strict=True)
    }
    save(path, mapping({"model": mapping(made), "step": number(3)}), arrays)


@pytest.fixture(scope="module", params=("1b", "5b"))
def files(request, both, tmp_path_factory):
    """A golden model in the original program's files, with its config and lists, which the published sizes need not."""
    golden, folder = both[request.param], tmp_path_factory.mktemp("openai") / "files"
    folder.mkdir()
    halvings = golden.model.config.vqvae_config.res_downs_t
    parts = {f"priors.{level}.": f"prior_level_{2 - level}.pth.tar" for level in range(3)}
    stored = load_file(golden.folder + "/model.safetensors")
    for prefix, file in (parts | {"vqvae.": "vqvae.pth.tar"}).items():
        own = {name[len(prefix) :]: one for name, one in stored.items() if name.startswith(prefix)}
        state = {original(name, halvings): one for name, one in own.items()}
        assert [hugging_face_name(name) for name in state] == list(own)
        write(folder / file, state, "module." if prefix == "priors.1." else "")
    for name in ("config.json", "artists.json", "genres.json", "lyrics.json", "tokenizer_config.json"):
        shutil.copy(f"{golden.folder}/{name}", folder)
    return golden, folder


@pytest.fixture
def spoiled(files, tmp_path):
    shutil.copytree(files[1], tmp_path / "spoiled")
    return tmp_path / "spoiled"


def same(one, other):
    pairs = zip(one.parameters_and_names(), other.parameters_and_names(), strict=True)
    return all(np.array_equal(a.asnumpy(), b.asnumpy()) for (_, a), (_, b) in pairs)


def test_they_are_the_same_model(files):
    golden, folder = files
    assert ModelFolder(folder).layout == "openai" and kind_of(ModelFolder(folder)) == "jukebox"
    model = JukeboxModel.from_pretrained(str(folder))
    assert model.config == golden.model.config and model.tokenizer is not None
    assert same(model.vqvae, golden.model.vqvae)
    assert all(same(a, b) for a, b in zip(model.priors, golden.model.priors, strict=True))
    assert AutoConfig.from_pretrained(str(folder)) == model.config


def test_commands_read_them(files, tmp_path, monkeypatch, capsys):
    golden, folder = files
    monkeypatch.chdir(tmp_path)
    assert cli.main(["info", str(folder)]) == 0 and "OpenAI's own files" in capsys.readouterr().out
    write_audio("a.wav", 0.3 * np.sin(np.arange(900)[None] / 9, dtype=np.float32), 44100)
    assert cli.main(["convert", str(folder), "-o", "made"]) == 0
    for name, model in {"0": folder, "1": "made", "2": golden.folder}.items():
        assert cli.main(["encode", "a.wav", "-m", str(model), "-o", f"{name}.npz"]) == 0
    assert all(np.array_equal(load_codes(f"{name}.npz"), load_codes("0.npz")) for name in "12")
    assert set(load_file("made/model.safetensors")) == set(load_file(golden.folder + "/model.safetensors"))


def test_what_is_missing_or_damaged_is_named(spoiled, refused, capsys, tmp_path):
    def opened():
        return JukeboxModel.from_pretrained(str(spoiled)).priors[1]

    path = spoiled / "prior_level_1.pth.tar"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    refused(opened, "prior_level_1.pth.tar is truncated, damaged")
    words = ["generate", "-m", str(spoiled), "--artist", "mara stone", "-d", "0.1", "-o", str(tmp_path / "song")]
    assert cli.main(words) == 2 and "prior_level_1.pth.tar" in capsys.readouterr().err
    save(path, mapping({"model": mapping({"prior.x_emb.weight": tensor("0", HUGE, (HUGE,))})}), {}, keys=["0"])
    refused(opened, "prior_level_1.pth.tar is truncated, damaged")
    save(path, mapping({"weights": number(3)}), {})
    refused(opened, "has no entry 'model'")
    write(path, {"prior.colour": np.zeros((2, 3), np.float32)})
    refused(opened, "priors.1.")
    path.unlink()
    refused(opened, "no prior_level_1.pth.tar")
    path.write_bytes(raw)
    Path(spoiled, "config.json").unlink()
    refused(opened, "a top prior of width 16, neither 1b's nor 5b's; put its config.json there")


def test_lists_are_needed_for_names(spoiled, capsys, tmp_path):
    (spoiled / "genres.json").unlink()
    words = ["generate", "-m", str(spoiled), "--artist", "mara stone", "-d", "0.1", "-o", str(tmp_path / "song")]
    assert cli.main(words) == 2
    assert "holds no genres.json" in capsys.readouterr().err and not (tmp_path / "song").exists()
