"""MusicLDM's MindIR files: that they make what diffusers makes, and that damaged ones are refused in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindmusicgen import MindIRBark, MindIRMusicLDM, MusicLDMPipeline, cli
from mindmusicgen.mindir.manifest import digest, exported_kind
from mindmusicgen.musicldm.mindir.export import export
from mindmusicgen.musicldm.schedulers import SCHEDULERS

ROOT = Path(__file__).resolve().parents[2]
CALL = {"num_inference_steps": 10}


@pytest.fixture(scope="module")
def exported(golden, tmp_path_factory):
    """The golden model's files, for half a second."""
    folder = str(tmp_path_factory.mktemp("golden") / "files")
    export(golden.folder, folder, duration=0.5)
    return folder


@pytest.fixture(scope="module")
def loaded(exported):
    return MindIRMusicLDM.from_pretrained(exported)


@pytest.fixture
def ddim(golden, loaded):
    """The files with the checkpoint's own scheduler."""
    loaded.scheduler = SCHEDULERS["DDIMScheduler"].from_config(golden.json("scheduler/scheduler_config.json"))
    return loaded


def test_the_manifest_describes_the_files(exported):
    manifest = json.loads(Path(exported, "manifest.json").read_text())
    assert set(manifest["graphs"]) == {"text_vector", "noise", "spectrogram", "waveform", "audio_vector"}
    assert manifest["kind"] == exported_kind(exported) == "musicldm" and manifest["dtype"] == "float32"
    assert manifest["sizes"] == {"batch": 1, "lines": 13, "samples": 8000, "text_length": 32}
    on_disk = {os.path.relpath(path, exported) for path in Path(exported).rglob("*") if path.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"} and "tokenizer/tokenizer.json" in on_disk
    inputs = {entry["name"]: entry for entry in manifest["graphs"]["noise"]["inputs"]}
    assert inputs["latents"]["shape"] == [2, 13, 16, 8] and inputs["vectors"]["shape"] == [2, 16]
    for path in Path(exported).rglob("*.mindir"):
        assert b"_kernels" not in path.read_bytes(), f"{path} holds a C kernel of this machine"


@pytest.mark.parametrize("name", ["ddim", "pndm", "lms", "euler", "dpm"])
def test_latents_of_every_scheduler(golden, loaded, near, name):
    made = golden.settings["schedulers"][name]
    loaded.scheduler = SCHEDULERS[made["class"]].from_config(made["config"])
    call = CALL | {"latents": golden["latents"], "negative_prompt": golden.negative}
    near(loaded(golden.prompts[0], output_type="latent", **call).audios, golden[f"{name}_final_latents"], 1e-5)


def test_audio_and_several_prompts_in_groups(golden, ddim, near):
    call = {"latents": golden["latents"], "negative_prompt": golden.negative, "return_dict": False}
    near(ddim(golden.prompts[0], **CALL, **call)[0], golden["audio_ddim"], 1e-5)
    call = CALL | {"latents": golden["latents_two"]}
    near(ddim(golden.prompts, guidance_scale=3.5, **call).audios, golden["audio_two_guided"], 1e-5)
    alone = ddim(golden.prompts, guidance_scale=1.0, output_type="latent", **call).audios
    near(alone, golden["latents_two_unguided"], 1e-5)


def test_ranking(golden, ddim, near):
    call = CALL | {"num_waveforms_per_prompt": 3, "latents": golden["latents_rank"]}
    made = ddim(golden.prompts[0], seed=[5, 6, 7], **call)
    order = golden["rank_order"]
    near(made.audios, golden["rank_audio_unranked"][order], 1e-5)
    assert made.seeds == tuple(np.array([5, 6, 7])[order]) and (np.diff(made.scores) <= 0).all()


def test_seeds_fresh_noise_and_shorter_pieces(ddim, capsys):
    call = {"num_inference_steps": 3, "eta": 1.0}
    both, alone = ddim(["a", "b"], seed=[7, 9], **call), ddim("b", generator=9, **call)
    np.testing.assert_allclose(alone.audios[0], both.audios[1], atol=1e-6)
    assert ddim("b", 0.52, seed=9, **call).audios.shape == (1, 8320) and "are kept" not in capsys.readouterr().err
    short = ddim("b", 0.3, seed=9, **call)
    np.testing.assert_allclose(short.audios[0], alone.audios[0, :4800], atol=1e-6)
    assert "make pieces of 0.5 s, of which the first 0.3 are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"audio_length_in_s": 0.6}, ("audio_length_in_s is 0.6", "export with --duration 0.6")),
        ({"audio_length_in_s": float("nan")}, ("audio_length_in_s is nan",)),
        ({"num_inference_steps": 0}, ("num_inference_steps is 0",)),
        ({"latents": np.zeros((1, 8, 12, 16))}, ("latents have shape (1, 8, 12, 16)", "(1, 8, 13, 16)")),
        ({"output_type": "pt"}, ("output_type is 'pt'",)),
    ],
)
def test_what_a_call_refuses(loaded, refused, call, words):
    refused(lambda: loaded("a", **call), *words)


def test_long_prompts(golden, exported, tmp_path, refused, capsys):
    ours = MindIRMusicLDM(exported)
    ours.tokenizer("a long prompt of more than thirty-two bytes, which is all that fits")
    assert "first 32 count" in capsys.readouterr().err
    ours.tokenizer.length = 16  # as files of --text-length 16 have
    ids, mask = ours.tokenizer("twelve")
    assert ids.shape == mask.shape == (1, 16)
    refused(lambda: ours.tokenizer("more than sixteen bytes"), "have room for 16; export with --text-length")


def test_some_pieces_and_other_families(golden, exported, tmp_path, refused):
    export(golden.folder, str(tmp_path / "out"), ["text_encoder", "vocoder"], batch=3, text_length=9)
    ours = MindIRMusicLDM(str(tmp_path / "out"))
    assert not ours.can_rank and ours.encode_prompt("a").shape == (1, 16)
    assert ours.manifest["sizes"] == {"batch": 3, "lines": 32, "samples": 20480, "text_length": 16}
    refused(lambda: ours("a", seed=1), "holds no noise", "with all --pieces")
    refused(lambda: MindIRBark(exported), "holds the files of a 'musicldm' model; expected those of 'bark'")
    refused(lambda: MusicLDMPipeline.from_pretrained(exported), "model.safetensors")


def edited(folder, **changes):
    path = Path(folder, "manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def changed(folder, group, **changes):
    values = json.loads(Path(folder, "manifest.json").read_text())[group]
    edited(folder, **{group: values | changes})


def rewritten(folder, name, **changes):
    """A file changed together with what the manifest says of it."""
    path = Path(folder, name)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    changed(folder, "files", **{name: digest(path)})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: os.remove(folder / "manifest.json"), "manifest.json cannot be read (No such file"),
        (lambda folder: edited(folder, format=2), "has format 2, this version reads 1; export again"),
        (lambda folder: edited(folder, kind="musicgen"), "--steps is for models such as"),
        (lambda folder: edited(folder, sizes=None), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", batch=0), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", batch=2), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", lines=14), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", samples=8321), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", text_length="32"), "manifest.json is damaged"),
        (lambda folder: changed(folder, "graphs", sound=None), "manifest.json is damaged"),
        (
            lambda folder: rewritten(folder, "unet/config.json", projection_class_embeddings_input_dim=24),
            "manifest.json is damaged",
        ),
        (lambda folder: rewritten(folder, "vocoder/config.json", model_in_dim=32), "manifest.json is damaged"),
        (lambda folder: rewritten(folder, "vae/config.json", norm_num_groups=5), "norm_num_groups"),
        (
            lambda folder: rewritten(folder, "scheduler/scheduler_config.json", prediction_type="sample"),
            "prediction_type",
        ),
        (lambda folder: (folder / "a.so").write_bytes(b"x"), "holds a.so, which manifest.json does not"),
        (lambda folder: (folder / "noise" / "a.so").write_bytes(b"x"), "holds noise/a.so, which"),
        (lambda folder: os.remove(folder / "tokenizer" / "tokenizer.json"), "tokenizer.json is missing"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{}"), "is not the file that manifest.json"),
        (lambda folder: os.remove(folder / "noise" / "graph.mindir"), "noise/graph.mindir is missing"),
        (lambda folder: (folder / "text_vector" / "graph.mindir").write_bytes(b"x"), "graph.mindir is not the"),
    ],
)
def test_damaged_folders_are_one_sentence(exported, tmp_path, capsys, damage, words):
    folder = tmp_path / "files"
    shutil.copytree(exported, folder)
    damage(folder)
    output = str(tmp_path / "a.wav")
    assert cli.main(["generate", "calm piano", "--steps", "1", "--mindir", str(folder), "--output", output]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    assert not os.path.exists(output)


def test_the_command_runs_from_the_files_alone(golden, exported, loaded, tmp_path):
    words = ["generate", "calm piano", "--seed", "3", "--steps", "4", "--scheduler", "dpm", "--negative", "noise"]
    words += ["--candidates", "2", "--mindir", exported, "--output", str(tmp_path / "a.wav")]
    code = (
        "import sys\nfrom mindmusicgen import cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "networks = ['musicldm.unet', 'musicldm.vae', 'musicldm.model', 'musicldm.checkpoint', 'clap.text', 'bark']\n"
        "assert not [name for name in networks if 'mindmusicgen.' + name in sys.modules]\n"
        "sys.exit(code)"
    )
    run = [sys.executable, "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0 and "fits best" in done.stderr, done.stderr
    loaded.scheduler = SCHEDULERS["DPMSolverMultistepScheduler"].from_config(loaded.scheduler.config)
    made = loaded("calm piano", num_inference_steps=4, negative_prompt="noise", num_waveforms_per_prompt=2, seed=3)
    assert f"seed {made.seeds[0]} fits best" in done.stderr
    found, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 16000 and np.abs(found.astype(int) - np.round(made.audios[0] * 32767)).max() <= 1


def test_words_that_files_refuse(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for more, words in (
        (["-o", "-"], "--mindir makes files"),
        (["--dtype", "float16"], "leave --model and --dtype out"),
        (["-d", "10"], "export with --duration 10"),
        (["--voice", "ann"], "--voice is for models of codes"),
        (["--steps", "0"], "num_inference_steps is 0"),
    ):
        assert cli.main(["generate", "calm piano", "--mindir", exported, *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("mindmusicgen: error: ") == 1, said
    assert not os.path.exists("out.wav")


def test_bad_exports_are_one_sentence(golden, tmp_path, capsys):
    new = str(tmp_path / "new")
    for more, words in (
        (["--pieces", "chunk"], "pieces holds 'chunk'; expected some of text_encoder, unet, vae, vocoder, scorer"),
        (["--output", str(tmp_path)], "exists already"),
        (["--batch", "0"], "batch is 0"),
        (["--batch", "257"], "batch is 257; expected at most 256 waveforms"),
        (["--duration", "61"], "duration is 61"),
        (["--duration", "nan"], "duration is nan"),
        (["--text-length", "33"], "text_length is 33; expected at most 32"),
        (["--prompt-duration", "1"], "prompt_duration is for models that continue recordings"),
        (["--dtype", "int8"], "dtype is 'int8'"),
    ):
        (tmp_path / "kept").touch()
        assert cli.main(["export", "--model", golden.folder, "--output", new, *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    assert os.listdir(tmp_path) == ["kept"]


def test_a_model_that_cannot_rank(golden, tmp_path, refused):
    folder = shutil.copytree(golden.folder, tmp_path / "model", ignore=shutil.ignore_patterns("expected.npz"))
    shutil.rmtree(folder / "feature_extractor")
    refused(lambda: export(str(folder), str(tmp_path / "out"), ["scorer"]), "has nothing that ranks", "out of --pieces")
