"""Bark's MindIR files: what they hold, that they say the same, and that damaged ones are refused in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindmusicgen import BarkConfig, BarkModel, BarkProcessor, MindIRBark, MindIRMusicgen, cli
from mindmusicgen.bark.mindir.export import export
from mindmusicgen.mindir.manifest import digest, exported_kind
from mindmusicgen.runtime import files

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["hello world", "hello", "world hello world"]
STAGE = {"block_size": 256, "num_layers": 1, "num_heads": 1, "hidden_size": 8, "bias": True}
SMALL = {  # of other sizes than the golden model: biases, one head, heads of their own in the fine stage, other lengths
    "semantic_config": STAGE | {"input_vocab_size": 240, "output_vocab_size": 40},
    "coarse_acoustics_config": STAGE | {"input_vocab_size": 80, "output_vocab_size": 70},
    "fine_acoustics_config": STAGE
    | {"input_vocab_size": 18, "output_vocab_size": 20, "n_codes_total": 4, "tie_word_embeddings": False},
    "codec_config": {
        **{"num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16, "target_bandwidths": [2.4]},
        **{"sampling_rate": 2400, "upsampling_ratios": [4, 4], "num_lstm_layers": 1, "use_conv_shortcut": True},
        **{"use_causal_conv": True, "trim_right_ratio": 1.0, "norm_type": "weight_norm"},
    },
}
SETTINGS = {
    "semantic_config": {
        **{"eos_token_id": 32, "semantic_vocab_size": 32, "text_encoding_offset": 40, "text_pad_token": 238},
        **{"semantic_infer_token": 239, "max_input_semantic_length": 24, "max_new_tokens": 60},
        **{"do_sample": True, "temperature": 0.9, "semantic_rate_hz": 50},
    },
    "coarse_acoustics_config": {
        **{"coarse_semantic_pad_token": 72, "coarse_infer_token": 73, "max_coarse_input_length": 40},
        **{"max_coarse_history": 66, "sliding_window_len": 20, "do_sample": True, "top_k": 10, "coarse_rate_hz": 75},
    },
    "fine_acoustics_config": {
        **{"max_fine_history_length": 30, "max_fine_input_length": 60, "n_fine_codebooks": 4, "temperature": 0.8},
    },
}


@pytest.fixture(scope="module")
def exported(golden, tmp_path_factory):
    """The golden model's files, for two texts at a time and six seconds."""
    folder = str(tmp_path_factory.mktemp("golden") / "files")
    export(golden.folder, folder, batch=2, duration=6.0)
    return folder


@pytest.fixture(scope="module")
def loaded(exported):
    return MindIRBark.from_pretrained(exported)


@pytest.fixture(scope="module")
def small(golden, tmp_path_factory):
    """A folder with another model, and a voice by name."""
    folder = tmp_path_factory.mktemp("small") / "speaker"
    model = BarkModel(BarkConfig.from_dict(SMALL)).initialise(5, 0.4)
    for name, values in SETTINGS.items():
        setattr(model.generation_config, name, values)
    model.save_pretrained(folder)
    BarkProcessor.from_pretrained(golden.folder).save_pretrained(folder)
    rng, paths = np.random.default_rng(0), {}
    voice = {"semantic_prompt": rng.integers(0, 32, 50), "fine_prompt": rng.integers(0, 16, (4, 75))}
    voice["coarse_prompt"] = voice["fine_prompt"][:2]
    for name, values in voice.items():
        paths[name] = f"voices/{name}.npy"
        (folder / "voices").mkdir(exist_ok=True)
        np.save(folder / paths[name], values)
    (folder / "speaker_embeddings_path.json").write_text(json.dumps({"repo_or_path": ".", "ann": paths}))
    return str(folder)


@pytest.fixture(scope="module")
def pair(small, tmp_path_factory):
    """The other model, and the same out of its files, two texts at a time."""
    folder = str(tmp_path_factory.mktemp("small") / "files")
    export(small, folder, batch=2)
    return BarkModel.from_pretrained(small), MindIRBark(folder), folder


def same(found, expected):
    """Identical tokens and codes, and the same audio up to rounding."""
    for name in ("semantic_tokens", "audio_codes"):
        for one, other in zip(getattr(found, name), getattr(expected, name), strict=True):
            np.testing.assert_array_equal(one, other)
    assert found.seeds == expected.seeds and np.array_equal(found.lengths, expected.lengths)
    found, expected = found.audio_values.asnumpy(), expected.audio_values.asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max(initial=0))


def test_the_manifest_describes_the_files(exported):
    manifest = json.loads(Path(exported, "manifest.json").read_text())
    stages = [f"{stage}_{piece}" for stage in ("semantic", "coarse") for piece in ("prefill", "chunk")]
    assert set(manifest["graphs"]) == {*stages, "fine", "codec_decoder"}
    assert manifest["kind"] == exported_kind(exported) == "bark"
    wanted = {"batch": 2, "tokens": 299, "prompt": 513, "ids": 101, "coarse_prompt": 887, "codes": 64, "window": 1024}
    assert manifest["sizes"] == wanted | {"books": 8, "chunk": 30}
    assert manifest["semantic"] == {"layers": 2, "heads": 2, "head_size": 8, "positions": 576}
    on_disk = {os.path.relpath(path, exported) for path in Path(exported).rglob("*") if path.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    inputs = {entry["name"]: entry for entry in manifest["graphs"]["semantic_chunk"]["inputs"]}
    assert inputs["key.1"]["shape"] == [2, 2, 576, 8] and inputs["uniforms"]["shape"] == [30, 2]
    for path in Path(exported).rglob("*.mindir"):
        assert b"_kernels" not in path.read_bytes(), f"{path} holds a C kernel of this machine"


def test_codes_are_those_of_sunos_program(loaded, golden):
    """Of three texts in two groups, whose rows end in their own time; a preset's windows slide."""
    runs = ("p2_none", "p1_short", "p2_long")
    texts = [golden.texts[golden.runs[run]["prompt"]] for run in runs]
    voices = [golden.preset(golden.runs[run]["preset"]) for run in runs]
    with pytest.warns(UserWarning, match="its end is cut off"):
        inputs = loaded.processor(texts, voice_preset=voices)
    made = loaded.generate(**inputs, seed=1, return_dict_in_generate=True)
    for row, run in enumerate(runs):
        np.testing.assert_array_equal(made.semantic_tokens[row], golden[f"{run}_semantic"])
        np.testing.assert_array_equal(made.audio_codes[row], golden[f"{run}_fine"])
    audio = made.audio_values.asnumpy()
    for row in (0, 1):
        np.testing.assert_allclose(audio[row, : made.lengths[row]], golden[f"{runs[row]}_audio"], atol=1e-5)


def test_the_other_model_samples_the_same(pair):
    """Copies and voices, in groups of two of which the last is filled up."""
    model, ours, _ = pair
    texts, voices = [TEXTS[0]] * 2 + [TEXTS[1]] * 2 + [TEXTS[2]], ["ann", "ann", None, None, None]
    options = {"semantic_top_p": 0.9, "fine_temperature": 0.6, "min_eos_p": 0.2, "return_dict_in_generate": True}
    made = ours.generate(**ours.processor(texts, voice_preset=voices), seed=5, **options)
    for row, (text, voice) in enumerate(zip(texts, voices, strict=True)):
        expected = model.generate(**ours.processor(text, voice_preset=voice), seed=5 + row, **options)
        np.testing.assert_array_equal(made.semantic_tokens[row], expected.semantic_tokens[0])
        np.testing.assert_array_equal(made.audio_codes[row], expected.audio_codes[0])
        length = made.lengths[row]
        found, wanted = made.audio_values.asnumpy()[row, :length], expected.audio_values.asnumpy()[0]
        assert length == len(wanted) and np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert len({len(row) for row in made.semantic_tokens}) > 2
    inputs = ours.processor(TEXTS[:2], voice_preset=["ann", None])
    copies = ours.generate(**inputs, num_return_sequences=2, seed=5, **options)
    for row in range(4):
        np.testing.assert_array_equal(copies.audio_codes[row], made.audio_codes[row])
    np.testing.assert_array_equal(made.preset(1)["fine_prompt"], made.audio_codes[1])


def test_long_texts_and_dialogues(pair):
    model, ours, _ = pair
    text = "Ann: Hello world.\nBob: Hello."
    words = {"voices": {"Ann": "ann", "Bob": None}, "seed": 2}
    made, expected = (one.speak(ours.processor, text, **words).asnumpy() for one in (ours, model))
    assert made.shape == expected.shape and np.abs(made - expected).max() < 1e-4


@pytest.mark.parametrize("share", [0.05, 0.4, 0.7, 0.95])
def test_a_call_that_is_stopped_gives_what_can_be_heard(pair, share):
    model, ours, _ = pair
    options = {"seed": 3, "return_dict_in_generate": True, "callback": lambda done, total: done < share * total}
    inputs = ours.processor(TEXTS[0])
    made = ours.generate(**inputs, **options)
    same(made, model.generate(**inputs, **options))
    assert (made.lengths[0] == 0) == (share < 0.1)


def test_codes_become_audio(pair):
    model, ours, _ = pair
    codes, lengths = np.random.default_rng(1).integers(0, 16, (8, 4, 400)), [400, 193, 192, 11, 7, 6, 2, 1]
    made, expected = (one.codec_decode(codes, lengths) for one in (ours, model))
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": 300}, ("these files have room for 299; export with --duration 6.0",)),
        ({"max_new_tokens": 769}, ("expected at most 768",)),
        ({"coarse_max_new_tokens": 3}, ("coarse_max_new_tokens is not taken",)),
        ({"min_eos_p": 0}, ("min_eos_p",)),
        ({"num_beams": 2}, ("num_beams must be 1",)),
        ({"loudness": 3}, ("does not take 'loudness'",)),
        ({"history_prompt": {"semantic_prompt": [1]}}, ("lacks coarse_prompt",)),
        ({"seed": (1, 2)}, ("seed has 2 entries",)),
    ],
)
def test_what_generate_refuses(loaded, refused, options, words):
    refused(lambda: loaded.generate(**loaded.processor("hello"), **options), *words)


def test_another_family_is_refused(exported, refused, tmp_path):
    refused(lambda: MindIRMusicgen(exported), "holds the files of a 'bark' model; expected those of 'musicgen'")
    other = tmp_path / "files"
    shutil.copytree(exported, other)
    edited(other, kind="musicgen")
    refused(lambda: MindIRBark(str(other)), "holds the files of a 'musicgen' model; expected those of 'bark'")


def test_some_pieces(small, tmp_path, refused):
    export(small, str(tmp_path / "out"), ["semantic", "codec_decoder"], duration=0.5)
    ours = MindIRBark(str(tmp_path / "out"))
    assert ours.generation_config.semantic_config["max_new_tokens"] == 25
    refused(lambda: ours.generate(**ours.processor("hello"), seed=1), "holds no coarse_prefill", "with all --pieces")


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
        (lambda folder: (folder / "manifest.json").write_text("[]"), "does not hold a JSON object"),
        (lambda folder: edited(folder, kind=3), "manifest.json is of kind 3; expected one of musicgen"),
        (lambda folder: edited(folder, format=2), "has format 2, this version reads 1; export again"),
        (lambda folder: edited(folder, mindspore="9.1.0"), "was exported with MindSpore 9.1.0 and this is"),
        (lambda folder: changed(folder, "sizes", batch=0), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", tokens="9"), "manifest.json is damaged"),
        (lambda folder: changed(folder, "sizes", codes=17), "manifest.json is damaged"),
        (lambda folder: changed(folder, "coarse", layers=3), "manifest.json is damaged"),
        (lambda folder: changed(folder, "semantic", positions=1 << 15), "manifest.json is damaged"),
        (lambda folder: changed(folder, "codec", window=191), "manifest.json is damaged"),
        (lambda folder: edited(folder, semantic=None), "manifest.json is damaged"),
        (lambda folder: rewritten(folder, "generation_config.json", codebook_size=15), "manifest.json is damaged"),
        (lambda folder: (folder / "a.so").write_bytes(b"x"), "holds a.so, which manifest.json does not"),
        (lambda folder: (folder / "fine" / "a.so").write_bytes(b"x"), "holds fine/a.so, which"),
        (lambda folder: os.remove(folder / "tokenizer.json"), "tokenizer.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json is not the file that manifest.json"),
        (
            lambda folder: np.save(folder / "speaker_embeddings" / "ann_fine_prompt.npy", np.zeros((4, 75), int)),
            "speaker_embeddings/ann_fine_prompt.npy is not the file that manifest.json describes",
        ),
        (
            lambda folder: os.remove(folder / "semantic_chunk" / "graph.mindir"),
            "semantic_chunk/graph.mindir is missing",
        ),
        (lambda folder: (folder / "semantic_prefill" / "graph.mindir").write_bytes(b"x"), "graph.mindir is not the"),
    ],
)
def test_damaged_folders_are_one_sentence(pair, tmp_path, capsys, damage, words):
    folder = tmp_path / "files"
    shutil.copytree(pair[2], folder)
    damage(folder)
    output = str(tmp_path / "a.wav")
    assert cli.main(["generate", "hello", "--mindir", str(folder), "--output", output]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    assert not os.path.exists(output)


def test_the_command_runs_from_the_files_alone(pair, small, tmp_path):
    words = ["generate", *TEXTS[:2], "--seed", "3", "--voice", "ann", "--temperature", "0.8", "--output"]
    assert cli.main([*words, str(tmp_path / "a.wav"), "--model", small]) == 0
    code = (
        "import sys\nfrom mindmusicgen import cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "networks = ['bark.gpt', 'bark.model', 'bark.submodels', 'bark.checkpoint', 'models.encodec', 'musicgen']\n"
        "assert not [name for name in networks if 'mindmusicgen.' + name in sys.modules]\n"
        "sys.exit(code)"
    )
    run = [sys.executable, "-c", code, *words, str(tmp_path / "b.wav"), "--mindir", pair[2]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("1", "2"):
        (found, _), (expected, _) = (soundfile.read(tmp_path / f"{x}-{name}.wav", dtype="int16") for x in "ba")
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_command_has_bark_words(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = pair[2]
    assert cli.main(["voices", files]) == 0 and capsys.readouterr().out == "ann\n"
    piece = ["generate", "hello", "--mindir", files, "-s", "4"]
    assert cli.main([*piece, "-o", "a.wav", "--codes", "a.npz", "--save-voice", "v.npz", "-d", "0.7"]) == 0
    assert np.load("a.npz")["codes"].shape[1] == 4 and soundfile.info("a.wav").duration <= 0.7
    assert cli.main(["generate", "--like", "a.wav", "--mindir", files, "-o", "b.wav"]) == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    talk = ["generate", "Ann: Hello.\nBob: World.", "--mindir", files, "--long", "-s", "1", "-o", "c.wav"]
    assert cli.main([*talk, "--voice", "Ann=ann", "--voice", "Bob="]) == 0
    capsys.readouterr()
    for more, words in (
        (["-o", "-"], "--mindir makes files"),
        (["--quantization", "int8"], "--mindir makes files"),
        (["--guidance-scale", "3"], "--guidance-scale is for models of music"),
        (["-d", "10"], "max_new_tokens is 500"),
        (["--voice", "bob"], "voice preset 'bob' is not known; this model has 1, such as ann"),
    ):
        assert cli.main([*piece, *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("mindmusicgen: error: ") == 1, said
    assert not os.path.exists("out.wav")


def test_bad_exports_are_one_sentence(small, golden, tmp_path, capsys):
    new = str(tmp_path / "new")
    for more, words in (
        (["--pieces", "chunk"], "pieces holds 'chunk'; expected some of semantic, coarse, fine, codec_decoder"),
        (["--output", str(tmp_path)], "exists already"),
        (["--batch", "0"], "batch is 0"),
        (["--batch", "257"], "batch is 257; expected at most 256 texts"),
        (["--duration", "5"], "duration is 5.0; expected more than 0 and at most 4.64 s"),
        (["--duration", "nan"], "duration is nan"),
        (["--text-length", "64"], "text_length is for models of music"),
        (["--prompt-duration", "1"], "prompt_duration is for models of music"),
        (["--dtype", "int8"], "dtype is 'int8'"),
    ):
        (tmp_path / "kept").touch()
        assert cli.main(["export", "--model", small, "--output", new, *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize(
    "changes",
    [{"use_causal_conv": False}, {"residual_kernel_size": 5}, {"last_kernel_size": 17}],
)
def test_a_codec_that_needs_a_graph_for_each_length_is_refused(small, tmp_path, refused, changes):
    folder = tmp_path / "model"
    shutil.copytree(small, folder)
    config = json.loads((folder / "config.json").read_text())
    config["codec_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    refused(
        lambda: export(str(folder), str(tmp_path / "out")), "no graph of this model's codec", "leave codec_decoder out"
    )


def test_a_full_disk_is_said_before_the_model_is_opened(small, tmp_path, refused, monkeypatch):
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    monkeypatch.setattr(BarkModel, "from_pretrained", None)
    refused(lambda: export(small, str(tmp_path / "out")), "output needs", "make room")
    assert os.listdir(tmp_path) == []
