"""MindIR files: what they hold, that they make the same music, and that damaged ones are refused in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import soundfile
from mindspore import nn, ops

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import random_checkpoint  # noqa: E402

from mindmusicgen import InputError, MusicgenForConditionalGeneration, cli  # noqa: E402
from mindmusicgen.mindir.manifest import digest, foreign_operation  # noqa: E402
from mindmusicgen.musicgen.mindir.export import export, plan_sizes  # noqa: E402
from mindmusicgen.musicgen.mindir.runtime import LoadedGraphs, MindIRMusicgen  # noqa: E402

TEXTS = ["calm piano", "techno track with heavy bass", "dark jazz"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder, and the model in it."""
    folder = str(tmp_path_factory.mktemp("model"))
    random_checkpoint.build("tiny", folder)
    return folder, MusicgenForConditionalGeneration.from_pretrained(folder).run_eagerly()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """All pieces, for two prompts at a time."""
    folder = str(tmp_path_factory.mktemp("exported") / "files")
    export(model[0], folder, batch=2, text_length=32, duration=1.2, prompt_duration=0.4)
    return folder


@pytest.fixture(scope="module")
def loaded(exported):
    return MindIRMusicgen.from_pretrained(exported)


def same(found, expected):
    """Identical codes, and the same audio up to rounding."""
    np.testing.assert_array_equal(found.audio_codes.asnumpy(), expected.audio_codes.asnumpy())
    assert found.seeds == expected.seeds
    found, expected = found.audio_values.asnumpy(), expected.audio_values.asnumpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_manifest_describes_the_files(model, exported):
    manifest = json.loads(Path(exported, "manifest.json").read_text())
    assert set(manifest["graphs"]) == {
        *("text_encoder", "condition", "prefill", "step", "chunk"),
        *("codec_encoder", "codec_recurrent", "codec_convolutions"),
    }
    assert manifest["sizes"] == {
        "batch": 2,
        "text_length": 32,
        "cache_length": 64,
        "prompt_columns": 64,
        "prompt_samples": 12800,
        "chunk": 25,
    }
    on_disk = {os.path.relpath(path, exported) for path in Path(exported).rglob("*") if path.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    assert {"config.json", "generation_config.json", "tokenizer.json"} < on_disk
    inputs = {entry["name"]: entry for entry in manifest["graphs"]["chunk"]["inputs"]}
    assert inputs["uniforms"] == {"name": "uniforms", "shape": [25, 2, 4], "dtype": "float32"}
    assert inputs["key.0"]["shape"] == [4, 2, 64, 64] and inputs["value.2"]["dtype"] == "float32"
    for path in Path(exported).rglob("*.mindir"):
        assert b"_kernels" not in path.read_bytes(), f"{path} holds a C kernel of this machine"


@pytest.mark.parametrize("count", [1, 3])
def test_greedy_codes_are_those_of_the_model(model, loaded, count):
    inputs = loaded.processor(text=TEXTS[:count])
    options = {"do_sample": False, "guidance_scale": 3.0, "duration": 1.0, "seed": 1, "return_dict_in_generate": True}
    same(loaded.generate(**inputs, **options), model[1].generate(**inputs, **options))


def test_sampling_negative_prompts_and_copies(model, loaded):
    inputs = loaded.processor(text=TEXTS[:2], negative_text="bells")
    options = {"do_sample": True, "guidance_scale": (4, 2), "top_k": 100, "num_return_sequences": 2}
    options |= {"duration": 0.8, "seed": 5, "return_dict_in_generate": True}
    same(loaded.generate(**inputs, **options), model[1].generate(**inputs, **options))


def test_audio_and_code_prompts(model, loaded):
    audio = np.random.default_rng(0).standard_normal((2, 12800)).astype(np.float32) * 0.1
    inputs = loaded.processor(text=TEXTS[:2], audio=list(audio), sampling_rate=32000)
    options = {"do_sample": False, "duration": 0.7, "seed": 1, "return_dict_in_generate": True}
    same(loaded.generate(**inputs, **options), model[1].generate(**inputs, **options))
    codes = np.random.default_rng(1).integers(0, 2048, (1, 4, 7))
    options |= {"audio_codes": codes}
    same(loaded.generate(**options), model[1].generate(**options))


def test_step_by_step_is_the_same_as_a_chunk(loaded):
    import mindspore as ms
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    graphs = LoadedGraphs(loaded._load, loaded.manifest)
    graphs.condition(rng.standard_normal((4, 32, 64)).astype(np.float32), np.ones((4, 32), np.int32))
    start, empty = np.full((2, 4), 2048, np.int32), graphs.cache
    forced, uniforms = np.full((25, 2, 4), -1, np.int32), rng.random((25, 2, 4), np.float32)
    scales, filters = np.full(25, 3, np.float32), (np.ones(1, np.float32), np.array([50], np.int32))
    filters = (*map(Tensor, filters), Tensor(np.array([2], np.float32)))

    def chunk():
        graphs.cache = empty  # what was handed out is not written to by later calls
        position, steps = Tensor(np.zeros(1, np.int32)), Tensor(9, ms.int32)
        made = graphs.chunk(*map(Tensor, (start,)), position, steps, *map(Tensor, (forced, uniforms, scales)), filters)
        return made[0].asnumpy()[:9]

    expected = chunk()
    kept = [cache.asnumpy().copy() for cache in graphs.cache]
    last = graphs.cache
    ids, cache, step = start, empty, loaded._load("step")
    for i in range(9):
        numbers = map(Tensor, (forced[i], uniforms[i], scales[i : i + 1]))
        position = Tensor(np.array([i], np.int32))
        ids, _, *cache = step(Tensor(ids), position, *numbers, *filters, *graphs.state, *cache)
        ids = ids.asnumpy()
        np.testing.assert_array_equal(ids, expected[i])
    for one, other in zip(cache, kept, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other, atol=1e-4)
    np.testing.assert_array_equal(chunk(), expected)
    for one, other in zip(last, kept, strict=True):
        np.testing.assert_array_equal(one.asnumpy(), other)


def test_stereo_and_some_pieces(tmp_path, monkeypatch):
    sizes = random_checkpoint.SIZES["tiny"]
    wide = {**sizes, "decoder": {**sizes["decoder"], "num_codebooks": 8, "audio_channels": 2, "num_hidden_layers": 1}}
    monkeypatch.setitem(random_checkpoint.SIZES, "tiny", wide)
    random_checkpoint.build("tiny", str(tmp_path / "model"))
    pieces = ["text_encoder", "chunk", "codec_decoder"]
    export(str(tmp_path / "model"), str(tmp_path / "out"), pieces, text_length=32, duration=1.2, prompt_duration=0.4)
    ours = MindIRMusicgen(str(tmp_path / "out"))
    ordinary = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path / "model")).run_eagerly()
    inputs = ours.processor(text=TEXTS[:2])
    options = {"do_sample": False, "duration": 0.7, "seed": 1, "return_dict_in_generate": True}
    same(ours.generate(**inputs, **options), ordinary.generate(**inputs, **options))
    with pytest.raises(InputError, match="holds no prefill, which this needs; export again"):
        ours.generate(audio_codes=np.zeros((1, 8, 7)), duration=0.7)


def test_the_command_runs_from_the_files_alone(model, exported, tmp_path):
    words = ["generate", TEXTS[0], "--seed", "3", "--duration", "1", "--output"]
    assert cli.main([*words, str(tmp_path / "a.wav"), "--model", model[0]]) == 0
    code = (
        "import sys\nfrom mindmusicgen import cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "networks = ['models.t5', 'models.musicgen', 'models.encodec', 'composite', 'checkpoint.folder']\n"
        "assert not [name for name in networks if 'mindmusicgen.' + name in sys.modules]\n"
        "sys.exit(code)"
    )
    words = [sys.executable, "-c", code, *words, str(tmp_path / "b.wav"), "--mindir", exported]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    (found, _), (expected, _) = (soundfile.read(tmp_path / name, dtype="int16") for name in ("b.wav", "a.wav"))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"duration": 3.0}, "have room for 1.22 s; export with --duration 3"),
        ({"duration": 0.3}, "these files make at least 0.58 s"),
        ({"duration": 40.0}, "have room for 1.22 s"),
        ({"duration": 0.6, "audio_codes": np.zeros((1, 4, 63))}, "room for 1.22 s"),
        ({"duration": 0.6, "input_values": np.ones((1, 1, 6400))}, "exactly 0.4 s"),
        ({"duration": -1.0}, "duration is -1.0"),
        ({"loudness": 3}, "does not take 'loudness'"),
    ],
)
def test_what_does_not_fit_is_refused(loaded, options, words):
    text = {} if "audio_codes" in options else loaded.processor(text=TEXTS[0])
    with pytest.raises(InputError) as refused:
        loaded.generate(**text, **options)
    assert words in str(refused.value)


def test_long_prompts_are_refused(loaded):
    with pytest.raises(InputError, match="more than 32 tokens.*--text-length 128"):
        loaded.generate(**loaded.processor(text="bright strings and bells " * 4), duration=0.7)


def edited(folder, **changes):
    path = Path(folder, "manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


SIZES = {"batch": 2, "text_length": 32, "cache_length": 64, "prompt_columns": 64, "prompt_samples": 12800, "chunk": 25}
CACHE = {"layers": 3, "heads": 2, "head_size": 64}


def listed(folder, name):
    """Let the manifest describe a file as it is now: whoever can change the one can change the other."""
    files = json.loads(Path(folder, "manifest.json").read_text())["files"]
    edited(folder, files=files | {name: digest(os.path.join(folder, name))})


def with_custom(folder, name):
    """A graph of MindSpore's own making that calls a library."""

    class Calls(nn.Cell):
        def __init__(self):
            super().__init__()
            library = f"{folder}/kernels.so:Attack"
            self.call = ops.Custom(library, lambda x: x, lambda x: x, func_type="aot")

        def construct(self, x):
            return self.call(x)

    ms.export(Calls(), ms.Tensor([1.0]), file_name=str(folder / name / "graph"), file_format="MINDIR")
    listed(folder, f"{name}/graph.mindir")


def with_bytes(folder, data):
    with open(folder / "chunk" / "graph.mindir", "r+b") as file:
        content = file.read()
        file.seek(len(content) - 3)  # across the end of what was read at a time, once files are larger
        file.write(data + content[-3:])
    listed(folder, "chunk/graph.mindir")


@pytest.mark.parametrize("at", [0, (1 << 20) - 3, 1 << 20, (1 << 21) - 1])
def test_operations_are_found_across_the_blocks_that_are_read(tmp_path, at):
    path = tmp_path / "graph.mindir"
    path.write_bytes(b"\0" * at + b"Custom" + b"\0" * 100)
    assert foreign_operation(path) == "Custom"
    path.write_bytes(b"\0" * at + b"Custo" + b"\0" * (1 << 20))
    assert foreign_operation(path) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: os.remove(folder / "manifest.json"), "manifest.json cannot be read (No such file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is not valid JSON"),
        (lambda folder: (folder / "manifest.json").write_text('{"a":' * 10**5), "manifest.json is not valid JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "does not hold a JSON object"),
        (lambda folder: edited(folder, sizes={"batch": "2"}), "manifest.json is damaged"),
        (lambda folder: edited(folder, files={"../x": {"bytes": 1, "sha256": ""}}), "manifest.json is damaged"),
        (lambda folder: edited(folder, cache=None), "manifest.json is damaged"),
        (
            lambda folder: edited(folder, cache={"layers": 10**9, "heads": 2, "head_size": 64}),
            "manifest.json is damaged",
        ),
        (lambda folder: edited(folder, cache=CACHE | {"layers": 4}), "manifest.json is damaged"),
        (lambda folder: edited(folder, sizes={**SIZES, "batch": 1 << 30}), "manifest.json is damaged"),
        (lambda folder: edited(folder, codec={}), "manifest.json is damaged"),
        (lambda folder: edited(folder, model=None), "manifest.json is damaged"),
        (lambda folder: edited(folder, dtype="int4"), "manifest.json is damaged"),
        (lambda folder: edited(folder, pad_code=1 << 20), "manifest.json is damaged"),
        (lambda folder: edited(folder, graphs={"chunk": {"file": "config.json"}}), "manifest.json is damaged"),
        (lambda folder: (folder / "kernels.so").write_bytes(b"x"), "holds kernels.so, which manifest.json does not"),
        (
            lambda folder: (folder / "chunk" / "a.so").write_bytes(b"x"),
            "holds chunk/a.so, which",
        ),
        (lambda folder: (folder / "more").symlink_to(folder / "chunk"), "holds more, which manifest.json does not"),
        (lambda folder: with_custom(folder, "chunk"), "chunk/graph.mindir has an operation Custom"),
        (lambda folder: with_custom(folder, "text_encoder"), "text_encoder/graph.mindir has an operation Custom"),
        (lambda folder: with_bytes(folder, b"\x22\x09PyExecute"), "has an operation PyExecute"),
        (lambda folder: with_bytes(folder, b"\x22\x0aTensorDump"), "has an operation TensorDump"),
        (lambda folder: edited(folder, kind="musicgen_melody"), "the files of a 'musicgen_melody' model"),
        (lambda folder: edited(folder, kind="jazz"), "manifest.json is of kind 'jazz'; expected one of musicgen"),
        (lambda folder: edited(folder, kind=["bark"]), "manifest.json is of kind ['bark']"),
        (lambda folder: edited(folder, format=2), "has format 2, this version reads 1; export again"),
        (lambda folder: edited(folder, mindspore="9.1.0"), "was exported with MindSpore 9.1.0 and this is"),
        (lambda folder: os.remove(folder / "tokenizer.json"), "tokenizer.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json is not the file that manifest.json"),
        (lambda folder: os.remove(folder / "chunk" / "graph.mindir"), "graph.mindir is missing"),
        (lambda folder: (folder / "chunk" / "graph.mindir").write_bytes(b"x"), "graph.mindir is not the file"),
    ],
)
def test_damaged_folders_are_one_sentence(exported, tmp_path, capsys, damage, words):
    folder = tmp_path / "files"
    shutil.copytree(exported, folder)
    damage(folder)
    output = str(tmp_path / "a.wav")
    assert cli.main(["generate", TEXTS[0], "--mindir", str(folder), "--duration", "1", "--output", output]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    assert not os.path.exists(output)


def test_bad_exports_are_one_sentence(model, exported, tmp_path, capsys):
    new = str(tmp_path / "new")
    for more, words in (
        (["--pieces", "chunk,vocoder"], "pieces holds 'vocoder'; expected some of text_encoder"),
        (["--output", exported], "exists already"),
        (["--output", str(tmp_path / "no" / "where")], "cannot be written to"),
        (["--batch", "0"], "batch is 0"),
        (["--batch", "257"], "batch is 257; expected at most 256"),
        (["--text-length", "513"], "at most 512 tokens"),
        (["--duration", "31"], "duration is 31.0; expected more than 0 and at most 30 s"),
        (["--duration", "nan"], "duration is nan"),
        (["--prompt-duration", "10"], "expected less than the 10 s"),
        (["--dtype", "int8"], "dtype is 'int8'"),
    ):
        assert cli.main(["export", "--model", model[0], "--output", new, *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("mindmusicgen: error: ") == 1 and "Traceback" not in said, said
    assert os.listdir(tmp_path) == []
    for more in (["--output", "-"], ["--quantization", "int8"], ["--melody", "a.wav"]):
        assert cli.main(["generate", TEXTS[0], "--mindir", exported, *more]) == 2
        assert "--mindir makes files" in capsys.readouterr().err
    for more in (["--model", "demo"], ["--dtype", "float16"]):
        assert cli.main(["generate", TEXTS[0], "--mindir", exported, *more]) == 2
        assert "leave --model and --dtype out" in capsys.readouterr().err


def test_sizes_are_rounded_up_to_buckets():
    sizes = plan_sizes(random_checkpoint.build_config("tiny"), 3, 20, 30.0, 12.0)
    assert sizes | {"batch": 3} == {
        "batch": 3,
        "text_length": 32,
        "cache_length": 1536,
        "prompt_columns": 640,
        "prompt_samples": 384000,
        "chunk": 25,
    }


def test_a_manifest_that_names_no_kind_is_musicgens(exported, tmp_path):
    """As those were that were written before there was another kind."""
    folder = tmp_path / "files"
    shutil.copytree(exported, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("kind") == "musicgen"
    path.write_text(json.dumps(manifest))
    assert MindIRMusicgen.from_pretrained(folder).manifest["model"] == manifest["model"]
