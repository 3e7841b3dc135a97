"""Checkpoints: every layout and naming gives the same weights, what is damaged is named, nothing half-written stays."""

import io
import json
import os
import struct
import time
import tracemalloc

import mindspore as ms
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mindmusicgen import InputError, MusicgenForConditionalGeneration
from mindmusicgen.checkpoint import safetensors_file, shards
from mindmusicgen.checkpoint.names import BUFFERS
from mindmusicgen.checkpoint.safetensors_file import open_safetensors, write_safetensors
from mindmusicgen.checkpoint.source import NATIVE
from mindmusicgen.musicgen.checkpoint import folder as folder_module
from mindmusicgen.musicgen.checkpoint.convert import convert

QUERY = "decoder.model.decoder.layers.0.self_attn.q_proj.weight"
POSITIONS = "decoder.model.decoder.embed_positions.weights"
TIED = "text_encoder.encoder.embed_tokens.weight"


def open_model(folder, **arguments):
    return MusicgenForConditionalGeneration.from_pretrained(str(folder), **arguments)


def values(model):
    return {name: parameter.asnumpy() for name, parameter in model.parameters_and_names()}


def same(model, other, tolerance=0):
    first, second = values(model), values(other)
    assert set(first) == set(second) and len(first) > 50
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=tolerance, atol=tolerance, err_msg=name)


def refused(call, *words):
    """The call must raise one printable line with all the words."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable(), message
    for word in words:
        assert str(word) in message, message


@pytest.fixture(scope="module")
def plain(goldens):
    """The smallest golden model."""
    return goldens("plain")


class TestNames:
    def test_every_parameter_is_filled(self, quad):
        """No parameter is left at the zeros it starts with."""
        for name, array in values(quad.model).items():
            assert np.abs(array).max() > 0, name

    @pytest.mark.parametrize("shared", [True, False])
    @pytest.mark.parametrize("both", [True, False])
    def test_tied_text_embedding(self, plain, tmp_path, shared, both):
        weights = {k: v for k, v in plain.weights.items() if k not in (TIED, "text_encoder.shared.weight")}
        table = plain.weights.get("text_encoder.shared.weight", plain.weights.get(TIED))
        if shared or both:
            weights["text_encoder.shared.weight"] = table
        if both or not shared:
            weights[TIED] = table.copy()
        same(open_model(plain.write(tmp_path, weights)), plain.model)

    def test_old_weight_norm_names(self, plain, tmp_path):
        weights = {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): value
            for name, value in plain.weights.items()
        }
        assert any(name.endswith("weight_g") for name in weights)
        same(open_model(plain.write(tmp_path, weights)), plain.model)

    def test_folded_weights(self, plain, tmp_path):
        weights = dict(plain.weights)
        for name in list(weights):
            if name.endswith("original0"):
                stem = name[: -len("parametrizations.weight.original0")]
                magnitude, direction = weights.pop(name), weights.pop(name[:-1] + "1")
                norm = np.sqrt((direction.astype(np.float64) ** 2).sum(axis=(1, 2), keepdims=True))
                weights[stem + "weight"] = (magnitude * direction / norm).astype(np.float32)
        same(open_model(plain.write(tmp_path, weights)), plain.model, 1e-6)

    def test_stored_positions(self, plain, tmp_path):
        width = plain.config["decoder"]["hidden_size"]
        table = np.zeros((5, width), np.float32)
        same(open_model(plain.write(tmp_path / "right", plain.weights | {POSITIONS: table})), plain.model)
        wrong = plain.write(tmp_path / "wrong", plain.weights | {POSITIONS: table[:, 1:].copy()})
        refused(lambda: open_model(wrong), POSITIONS, width - 1, width)

    def test_training_buffers_are_dropped(self, plain, tmp_path):
        stem = "audio_encoder.quantizer.layers.0.codebook."
        without = {name: v for name, v in plain.weights.items() if not BUFFERS.match(name)}
        extra = {stem + "inited": np.ones(1, np.float32), stem + "cluster_size": np.ones(32, np.float32)}
        assert len(without) < len(plain.weights)
        same(open_model(plain.write(tmp_path / "without", without)), plain.model)
        same(open_model(plain.write(tmp_path / "more", plain.weights | extra)), plain.model)

    def test_missing(self, plain, tmp_path):
        weights = {name: value for name, value in plain.weights.items() if name != QUERY}
        folder = plain.write(tmp_path, weights)
        refused(lambda: open_model(folder), folder, QUERY)

    def test_left_over(self, plain, tmp_path):
        folder = plain.write(tmp_path, plain.weights | {"decoder.lm_heads.2.weight": np.zeros((32, 36), np.float32)})
        refused(lambda: open_model(folder), folder, "decoder.lm_heads.2.weight")

    def test_misshapen(self, plain, tmp_path):
        folder = plain.write(tmp_path, plain.weights | {QUERY: np.zeros((36, 35), np.float32)})
        refused(lambda: open_model(folder), QUERY, "(36, 35)", "(36, 36)")

    @pytest.mark.parametrize("shape", [(36,), (36, 1), (1, 36), ()])
    def test_a_shape_that_would_broadcast(self, plain, tmp_path, shape):
        folder = plain.write(tmp_path, plain.weights | {QUERY: np.zeros(shape, np.float32)})
        refused(lambda: open_model(folder), QUERY)

    def test_whole_numbers(self, plain, tmp_path):
        folder = plain.write(tmp_path, plain.weights | {QUERY: np.zeros((36, 36), np.int32)})
        refused(lambda: open_model(folder), QUERY, "int32")

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1,), (8, 1), (8, 1, 3), (), (9, 1, 1)], ids=str)
    def test_weight_norm_magnitudes_of_another_shape(self, plain, tmp_path, shape):
        name = next(name for name in plain.weights if name.endswith("original0") and plain.weights[name].shape[0] == 8)
        folder = plain.write(tmp_path, plain.weights | {name: np.ones(shape, np.float32)})
        refused(lambda: open_model(folder), name, shape, "(8, 1, 1)")

    @pytest.mark.parametrize("part", ["original0", "original1"])
    def test_weight_norm_of_whole_numbers(self, plain, tmp_path, part):
        name = next(name for name in plain.weights if name.endswith(part))
        folder = plain.write(tmp_path, plain.weights | {name: plain.weights[name].astype(np.int8)})
        refused(lambda: open_model(folder), name, "int8", "floating-point")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", [QUERY, "text_encoder.encoder.final_layer_norm.weight", "original0", "original1"])
    def test_weights_that_are_no_numbers(self, plain, tmp_path, name, value):
        name = next(tensor for tensor in plain.weights if tensor.endswith(name))
        broken = plain.weights[name].copy()
        broken.flat[-1] = value
        folder = plain.write(tmp_path, plain.weights | {name: broken})
        refused(lambda: open_model(folder), folder, "NaN or infinite", name.rpartition(".original")[0] or name)

    def test_a_direction_of_zeros(self, plain, tmp_path):
        """Dividing by its length gives NaN."""
        name = next(name for name in plain.weights if name.endswith("original1"))
        folder = plain.write(tmp_path, plain.weights | {name: np.zeros_like(plain.weights[name])})
        refused(lambda: open_model(folder), "NaN or infinite")

    def test_large_weights_are_no_infinity(self, plain, tmp_path):
        huge = np.full_like(plain.weights[QUERY], 3e38)
        model = open_model(plain.write(tmp_path, plain.weights | {QUERY: huge}))
        np.testing.assert_array_equal(values(model)["decoder.layers.0.self_attn.qkv_proj.weight"][:36], huge)


class TestDtypes:
    def test_stored_float16(self, plain, tmp_path):
        weights = {name: value.astype(np.float16) for name, value in plain.weights.items()}
        model = open_model(plain.write(tmp_path, weights))
        assert model.decoder.layer_norm.weight.dtype == ms.float32
        expected = weights[QUERY].astype(np.float32)
        np.testing.assert_array_equal(values(model)["decoder.layers.0.self_attn.qkv_proj.weight"][:36], expected)

    def test_stored_bfloat16(self, plain, tmp_path):
        folder = plain.write(tmp_path, files=False)
        header, body, expected = {}, b"", {}
        for name, value in plain.weights.items():
            bits = (value.view(np.uint32) >> 16).astype(np.uint16)
            header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [len(body), len(body) + bits.nbytes]}
            body += bits.tobytes()
            expected[name] = (bits.astype(np.uint32) << 16).view(np.float32)
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
        same(open_model(folder), open_model(plain.write(tmp_path / "float32", expected)))

    def test_float16_model(self, plain, tmp_path):
        model = open_model(plain.write(tmp_path), dtype="float16")
        assert model.decoder.lm_heads.weight.dtype == ms.float16
        found, expected = values(model)["decoder.lm_heads.weight"], values(plain.model)["decoder.lm_heads.weight"]
        np.testing.assert_array_equal(found, expected.astype(np.float16))
        assert model.decoder.layer_norm.weight.dtype == model.audio_encoder.quantizer.embed.dtype == ms.float32

    @pytest.mark.parametrize("dtype", ["float64", "int8", "double", 16, "bfloat16"])
    def test_unusable_dtype(self, plain, dtype):
        refused(lambda: open_model(plain.write(plain.folder / "dtype"), dtype=dtype), "dtype")


class TestRoundTrips:
    @pytest.mark.parametrize("name", ["quad", "plain", "eight", "stereo", "stereo48"])
    def test_save_pretrained(self, goldens, tmp_path, name):
        golden = goldens(name)
        golden.model.save_pretrained(str(tmp_path / "saved"))
        again = open_model(tmp_path / "saved")
        same(again, golden.model, 1e-6)
        assert again.generation_config.to_dict() == golden.model.generation_config.to_dict()
        stored = load_file(tmp_path / "saved" / "model.safetensors")
        for tensor, array in golden.weights.items():
            if "original" in tensor or BUFFERS.match(tensor) or tensor in (TIED, POSITIONS):
                continue
            np.testing.assert_array_equal(stored[tensor], array, err_msg=tensor)
        assert set(golden.weights) - {TIED, POSITIONS} == set(stored) - {TIED, POSITIONS}

    def test_native(self, plain, tmp_path):
        source = plain.write(tmp_path / "source")
        (source / "tokenizer.json").write_text("{}")
        convert(str(source), str(tmp_path / "native"))
        assert sorted(os.listdir(tmp_path / "native")) == [
            "config.json",
            "generation_config.json",
            NATIVE,
            "tokenizer.json",
        ]
        same(open_model(tmp_path / "native"), plain.model)
        read = ms.load_checkpoint(str(tmp_path / "native" / NATIVE), format="safetensors")
        for name, array in values(plain.model).items():
            np.testing.assert_array_equal(read[name].asnumpy(), array)

    def test_native_float16(self, plain, tmp_path):
        convert(str(plain.write(tmp_path / "source")), str(tmp_path / "native"), dtype="float16")
        half = open_model(tmp_path / "native", dtype="float16")
        same(half, open_model(tmp_path / "source", dtype="float16"))
        assert open_model(tmp_path / "native").decoder.lm_heads.weight.dtype == ms.float32

    def test_native_damage(self, plain, tmp_path):
        for change, words in (
            (lambda t: t.pop("decoder.lm_heads.weight"), ["decoder.lm_heads.weight"]),
            (lambda t: t.update(other=np.zeros(3, np.float32)), ["other"]),
            (lambda t: t.update({"decoder.lm_heads.weight": np.zeros((3, 3), np.float32)}), ["(3, 3)", "(64, 36)"]),
            (lambda t: t.update({"decoder.lm_heads.weight": np.zeros((64, 36), np.int32)}), ["I32", "floating-point"]),
            (lambda t: t.update({"decoder.lm_heads.weight": np.zeros((64, 36), np.uint8)}), ["U8", "floating-point"]),
            (lambda t: t.update({"decoder.lm_heads.weight": np.zeros((64, 36), bool)}), ["BOOL", "floating-point"]),
            (lambda t: t["decoder.lm_heads.weight"].fill(np.nan), ["decoder.lm_heads.weight", "NaN or infinite"]),
        ):
            folder = plain.write(tmp_path, files=False)
            tensors = {name: array.copy() for name, array in values(plain.model).items()}
            change(tensors)
            save_file(tensors, folder / NATIVE)
            refused(lambda folder=folder: open_model(folder), NATIVE, *words)

    def test_converting_onto_itself(self, plain, tmp_path):
        folder = str(plain.write(tmp_path))
        refused(lambda: convert(folder, folder + "/../" + os.path.basename(folder)), "output")
        same(open_model(folder), plain.model)


class TestShards:
    @pytest.fixture
    def sharded(self, plain, tmp_path):
        folder = plain.write(tmp_path, files=False)
        names, index = sorted(plain.weights), {}
        for number in range(3):
            file = f"model-0000{number + 1}-of-00003.safetensors"
            part = {name: plain.weights[name] for name in names[number::3]}
            save_file(part, folder / file)
            index |= dict.fromkeys(part, file)
        self.write_index(folder, index)
        return folder, index

    def write_index(self, folder, index):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))

    def test_opens(self, plain, sharded):
        same(open_model(sharded[0]), plain.model)

    def test_missing_shard(self, sharded):
        folder, _ = sharded
        (folder / "model-00002-of-00003.safetensors").unlink()
        refused(lambda: open_model(folder), "model-00002-of-00003.safetensors")

    def test_promised_but_absent(self, sharded):
        folder, index = sharded
        self.write_index(folder, index | {"nowhere": "model-00002-of-00003.safetensors"})
        refused(lambda: open_model(folder), "nowhere")

    def test_a_tensor_in_two_shards(self, plain, sharded):
        folder, index = sharded
        (_, file), twice = next(iter(index.items())), next(iter(index))
        other = next(name for name in set(index.values()) if name != file)
        part = {name: plain.weights[name] for name in index if index[name] == other}
        save_file(part | {twice: plain.weights[twice] + 1}, folder / other)
        refused(lambda: open_model(folder), twice, "another shard")

    def test_a_tensor_in_another_shard_than_the_index_says(self, sharded):
        folder, index = sharded
        name, file = next(iter(index.items()))
        other = next(one for one in index.values() if one != file)
        self.write_index(folder, index | {name: other})
        refused(lambda: open_model(folder), name, other)

    @pytest.mark.parametrize("escape", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", ".."])
    def test_shards_stay_in_the_folder(self, sharded, escape):
        folder, index = sharded
        save_file({QUERY: np.zeros((36, 36), np.float32)}, folder.parent / "outside.safetensors")
        self.write_index(folder, index | {QUERY: escape})
        refused(lambda: open_model(folder), escape)

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}'])
    def test_bad_index(self, sharded, text):
        folder, _ = sharded
        (folder / "model.safetensors.index.json").write_text(text)
        refused(lambda: open_model(folder), "index.json")


def header(entries, length=None):
    text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
    return struct.pack("<Q", len(text) if length is None else length) + text


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class TestDamagedFiles:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x01\x02",
            b"<html>not found</html>" * 20,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            header({}, 2**63),
            header({}, 99_999_999),
            header(b"not json"),
            header(b"\xff\xfe\x00"),
            header(b"[1, 2]"),
            header(b"3"),
            header({"w": 3}) + b"\0" * 8,
            header({"w": {"dtype": "F32", "shape": [2]}}) + b"\0" * 8,
            header({"w": entry(shape=3)}) + b"\0" * 8,
            header({"w": entry(shape=(2.0,))}) + b"\0" * 8,
            header({"w": entry(shape=("2",))}) + b"\0" * 8,
            header({"w": entry(shape=(-2, -1))}) + b"\0" * 8,
            header({"w": entry(begin=-8, end=0)}) + b"\0" * 8,
            header({"w": entry(shape=(3,))}) + b"\0" * 12,
            header({"w": entry(begin=8, end=0)}) + b"\0" * 8,
            header({"w": entry(end=12, shape=(3,))}) + b"\0" * 8,
            header({"w": entry(dtype="F8_E4M3")}) + b"\0" * 8,
            header({"w": entry(dtype=["F32"])}) + b"\0" * 8,
            header({"a": entry(), "b": entry()}) + b"\0" * 8,  # one tensor's bytes for two
            header({"a": entry(), "b": entry(4, 12)}) + b"\0" * 12,
            header({"a": entry(), "b": entry(12, 20)}) + b"\0" * 20,  # a gap
            header({"a": entry(8, 16)}) + b"\0" * 16,  # a gap in front
            header({"a": entry()}) + b"\0" * 9,  # bytes behind the last
            header({}) + b"\0" * 8,
            header(b'{"w":%s,"w":%s}' % ((json.dumps(entry()).encode(),) * 2)) + b"\0" * 8,
            header(b'{"w":{"dtype":"F32","shape":[2],"shape":[1,2],"data_offsets":[0,8]}}') + b"\0" * 8,
            header(json.dumps({"w": entry()}).encode() + b"    ", 75) + b"\0" * 8,  # three of four spaces
            header(json.dumps({"w": entry()}).encode("utf-16")) + b"\0" * 8,
            header({"w": entry(shape=(True, 2))}) + b"\0" * 8,
            header({"w": entry(shape=(1,) * 40 + (2,))}) + b"\0" * 8,
            header({"w": entry(0, 0, (0, 2**62))}),
            header({"w": entry(0, 0, (0, 2**39, 2**39))}),
            header({"w": entry(), "__metadata__": {"format": 1}}) + b"\0" * 8,
            header({"w": entry(), "__metadata__": ["format"]}) + b"\0" * 8,
            header(b'{"w\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}') + b"\0" * 8,
            header(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}') + b"\0" * 8,
            header(b"[" * 100_000 + b"]" * 100_000),
            header(b'{"w":' * 100_000 + b"1" + b"}" * 100_000),
            header(b" " * 10_000_001),
        ],
        ids=range(43),
    )
    def test_refused(self, tmp_path, content):
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        refused(lambda: open_safetensors(str(path)), path)

    @pytest.mark.parametrize("bit", range(64))
    def test_one_bit_of_the_length(self, tmp_path, bit):
        path = tmp_path / "x.safetensors"
        write_safetensors(str(path), [("w", (2,), np.float32, lambda: np.ones(2, np.float32))], {})
        content = bytearray(path.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        refused(lambda: open_safetensors(str(path)), path)

    def test_a_folder_in_the_place_of_a_file(self, tmp_path):
        refused(lambda: open_safetensors(str(tmp_path)), tmp_path)
        refused(lambda: open_safetensors(str(tmp_path / "nothing")), "nothing", "No such file")

    def test_a_file_that_shrinks_while_it_is_open(self, tmp_path):
        path = tmp_path / "x.safetensors"
        save_file({"w": np.ones(2000, np.float32)}, path)
        tensor = open_safetensors(str(path))["w"]
        os.truncate(path, 4000)
        refused(tensor.read, path)
        refused(tensor.map, path)
        path.unlink()
        refused(tensor.read, path)

    def test_sound_header_for_comparison(self, tmp_path):
        path = tmp_path / "model.safetensors"
        path.write_bytes(header({"w": entry()}) + np.array([1, 2], "<f4").tobytes())
        np.testing.assert_array_equal(open_safetensors(str(path))["w"].read(), [1, 2])

    def test_weights_of_two_layouts(self, plain, tmp_path):
        convert(str(plain.write(tmp_path / "source")), str(tmp_path / "native"))
        plain.write(tmp_path / "native")
        refused(lambda: open_model(tmp_path / "native"), NATIVE, "model.safetensors", "another model")

    @pytest.mark.parametrize("keep", [0.001, 0.5, 0.9999])
    def test_truncated(self, plain, tmp_path, keep):
        folder = plain.write(tmp_path)
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: int(len(content) * keep)])
        refused(lambda: open_model(folder), "model.safetensors")


class TestFolders:
    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
    def test_config_is_not_json(self, plain, tmp_path, text):
        folder = plain.write(tmp_path)
        (folder / "config.json").write_text(text)
        refused(lambda: open_model(folder), "config.json")

    def test_config_is_missing(self, plain, tmp_path):
        folder = plain.write(tmp_path)
        (folder / "config.json").unlink()
        refused(lambda: open_model(folder), "config.json")

    @pytest.mark.parametrize("kind", ["encodec", "musicgen_melody", None])
    def test_other_model(self, plain, tmp_path, kind):
        folder = plain.write(tmp_path)
        (folder / "config.json").write_text(json.dumps(plain.config | {"model_type": kind}))
        refused(lambda: open_model(folder), "config.json", repr(kind), "musicgen")

    @pytest.mark.parametrize(
        "part, change",
        [
            ("decoder", {"num_attention_heads": 0}),
            ("decoder", {"num_attention_heads": 5}),
            ("decoder", {"hidden_size": "wide"}),
            ("decoder", {"num_hidden_layers": None}),
            ("decoder", {"activation_function": "swish7"}),
            ("text_encoder", {"feed_forward_proj": "gated-what-else"}),
            ("text_encoder", {"num_heads": -1}),
            ("audio_encoder", {"upsampling_ratios": 3}),
            ("audio_encoder", {"upsampling_ratios": [0, 2]}),
            ("audio_encoder", {"compress": 0}),
            ("decoder", {"hidden_size": 10**9}),
            ("decoder", {"num_hidden_layers": 10**6}),
            ("decoder", {"hidden_size": 65536, "num_hidden_layers": 256}),
            ("decoder", {"max_position_embeddings": 10**12}),
            ("decoder", {"ffn_dim": 2.5}),
            ("decoder", {"num_codebooks": True}),
            ("decoder", {"vocab_size": 4_000_000}),
            ("decoder", {"to_dict": 3}),
            ("text_encoder", {"num_layers": 10**6}),
            ("text_encoder", {"d_ff": 1 << 18, "num_layers": 200}),
            ("text_encoder", {"layer_norm_epsilon": "small"}),
            ("text_encoder", {"relative_attention_num_buckets": 10**9}),
            ("audio_encoder", {"upsampling_ratios": [8] * 1000}),
            ("audio_encoder", {"upsampling_ratios": [10**9]}),
            ("audio_encoder", {"target_bandwidths": []}),
            ("audio_encoder", {"target_bandwidths": [1e300]}),
            ("audio_encoder", {"num_filters": 65536}),
            ("audio_encoder", {"sampling_rate": 0}),
            ("audio_encoder", {"codebook_dim": 1 << 40}),
            ("audio_encoder", {"num_lstm_layers": 10**8}),
            ("text_encoder", {"model_type": "mt5", "num_layers": 10**6}),
            ("text_encoder", {"model_type": "bert", "d_ff": "wide"}),
            ("decoder", {"model_type": "opt", "vocab_size": "many"}),
        ],
        ids=str,
    )
    def test_nonsense_sizes(self, plain, tmp_path, part, change):
        folder = plain.write(tmp_path)
        config = json.loads(json.dumps(plain.config))
        config[part] |= change
        (folder / "config.json").write_text(json.dumps(config))
        tracemalloc.start()
        try:
            refused(lambda: open_model(folder), folder, "config.json")
            assert tracemalloc.get_traced_memory()[1] < 1 << 28
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("config.json", "[" * 100_000),
            ("config.json", '{"model_type":' * 100_000),
            ("config.json", '{"model_type": "musicgen", "model_type": "musicgen_melody"}'),
            ("config.json", '{"model_type": ["musicgen"]}'),
            ("config.json", '{"model_type": {}}'),
            ("config.json", '{"model_type": "\\ud800"}'),
            ("config.json", '{"model_type": "musicgen", "decoder": ' + "9" * 5000 + "}"),
            ("config.json", " " * 10_000_001),
            ("generation_config.json", '{"a":' * 100_000),
            ("generation_config.json", "[1]"),
            ("generation_config.json", '{"to_dict": 1}'),
            ("generation_config.json", '{"max_length": {"a": []}, "cache_implementation": 3}'),
        ],
        ids=range(12),
    )
    def test_json_that_no_model_has(self, plain, tmp_path, name, text):
        folder = plain.write(tmp_path)
        (folder / name).write_text(text)
        refused(lambda: open_model(folder), name)

    @pytest.mark.parametrize(
        "change", [{"model_type": ["musicgen"]}, {"to_dict": 3}, {"keys": []}, {"decoder": {"from_dict": 1}}], ids=str
    )
    def test_configs_alone(self, plain, tmp_path, change):
        from mindmusicgen import AutoConfig

        folder = plain.write(tmp_path, files=False)
        (folder / "config.json").write_text(json.dumps(plain.config | change))
        refused(lambda: AutoConfig.from_pretrained(str(folder)), "config.json")

    def test_configs_of_one_network(self, plain, tmp_path):
        """The same limits where a network has a folder of its own."""
        from mindmusicgen import EncodecModel, MusicgenForCausalLM, T5EncoderModel

        for cls, part, change in (
            (T5EncoderModel, "text_encoder", {"num_layers": 10**6}),
            (T5EncoderModel, "text_encoder", {"d_model": 65536, "num_layers": 256}),
            (EncodecModel, "audio_encoder", {"num_filters": 65536}),
            (MusicgenForCausalLM, "decoder", {"hidden_size": 1 << 16, "num_hidden_layers": 256}),
            (MusicgenForCausalLM, "decoder", {"hidden_size": "wide"}),
        ):
            (tmp_path / "config.json").write_text(json.dumps(plain.config[part] | change))
            save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
            refused(lambda cls=cls: cls.from_pretrained(str(tmp_path)), tmp_path, "config.json")

    def test_no_weights(self, plain, tmp_path):
        folder = plain.write(tmp_path, files=False)
        refused(lambda: open_model(folder), folder, "model.safetensors", "pytorch_model.bin")

    @pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "nowhere", "~/nowhere", "a/b/c"])
    def test_no_folder(self, name):
        refused(lambda: open_model(name), name, "folder")

    def test_without_generation_config(self, plain, tmp_path):
        folder = plain.write(tmp_path)
        (folder / "generation_config.json").unlink()
        found = open_model(folder).generation_config
        assert (found.do_sample, found.guidance_scale, found.max_length) == (True, 3.0, 1500)
        assert found.decoder_start_token_id == 32

    def test_unknown_id_offline(self, monkeypatch):
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        refused(lambda: open_model("someone/no-such-model"), "someone/no-such-model", "folder", "HF_ENDPOINT", "mirror")

    def test_unreachable_hub(self, tmp_path):
        """In a process of its own, as the hub library reads its environment once."""
        import subprocess
        import sys

        program = (
            "from mindmusicgen.checkpoint.source import resolve\n"
            "from mindmusicgen.errors import InputError\n"
            "try: resolve('someone/no-such-model')\n"
            "except InputError as error: print(error)\n"
        )
        environment = os.environ | {
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=90
        )
        assert "someone/no-such-model" in done.stdout and "HF_ENDPOINT" in done.stdout, done.stdout + done.stderr
        assert time.monotonic() - began < 60


class TestWriting:
    def test_an_interrupted_save_leaves_nothing(self, plain, tmp_path, monkeypatch):
        written = []

        def stop(*arguments):
            write_safetensors(*arguments)
            written.append(arguments[0])
            raise KeyboardInterrupt

        monkeypatch.setattr(shards, "write_safetensors", stop)
        with pytest.raises(KeyboardInterrupt):
            plain.model.save_pretrained(str(tmp_path / "saved"))
        assert written and os.listdir(tmp_path) == []

    def test_an_interrupted_file_is_removed(self, tmp_path):
        def stop():
            raise KeyboardInterrupt

        path = tmp_path / "x.safetensors"
        path.write_bytes(b"the old one")
        good = ("a", (2,), np.float32, lambda: np.zeros(2, np.float32))
        with pytest.raises(KeyboardInterrupt):
            write_safetensors(str(path), [good, ("b", (2,), np.float32, stop)], {})
        assert os.listdir(tmp_path) == ["x.safetensors"] and path.read_bytes() == b"the old one"

    def test_a_file_in_the_way(self, plain, tmp_path):
        (tmp_path / "file").write_text("mine")
        for target in (tmp_path / "file", tmp_path / "file" / "below"):
            refused(lambda target=target: plain.model.save_pretrained(str(target)), target)
        assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"

    def test_saving_over_an_older_model(self, plain, tmp_path):
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "notes.txt").write_text("mine")
        plain.model.save_pretrained(str(tmp_path / "saved"))
        plain.model.save_pretrained(str(tmp_path / "saved"))
        same(open_model(tmp_path / "saved"), plain.model, 1e-6)
        assert (tmp_path / "saved" / "notes.txt").read_text() == "mine"
        assert os.listdir(tmp_path) == ["saved"]

    def test_a_full_disk(self, plain, tmp_path, monkeypatch):
        import errno

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(shards, "write_safetensors", full)
        refused(lambda: plain.model.save_pretrained(str(tmp_path / "saved")), tmp_path, "No space left")
        assert os.listdir(tmp_path) == []

    def test_other_readers_agree(self, tmp_path):
        arrays = {
            "a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.arange(3, dtype=np.float16),
            "c": np.zeros((0, 4), np.float32),
            "d": np.array(7, np.float32),
        }
        entries = [(name, x.shape, x.dtype, lambda x=x: x) for name, x in arrays.items()]
        write_safetensors(str(tmp_path / "x"), entries, {"format": "pt"})
        found = load_file(tmp_path / "x")
        lazy = open_safetensors(str(tmp_path / "x"))
        for name, array in arrays.items():
            for other in (found[name], lazy[name].read()):
                assert other.dtype == array.dtype
                np.testing.assert_array_equal(other, array)


class TestLaziness:
    def test_opening_reads_no_tensor_and_reading_only_its_own_bytes(self, tmp_path, monkeypatch):
        path = tmp_path / "x"
        arrays = {str(i): np.full(1000, i, np.float32) for i in range(50)}
        save_file(arrays, path)
        read = []

        class Counting(io.FileIO):
            def readinto(self, memory):
                read.append(len(memory) // 4)
                return super().readinto(memory)

        monkeypatch.setattr(safetensors_file, "open", lambda path, *_, **__: Counting(path), raising=False)
        tensors = open_safetensors(str(path))
        assert not read
        np.testing.assert_array_equal(tensors["7"].read(), arrays["7"])
        assert read == [1000]

    def test_a_mapped_tensor_is_not_written_back(self, tmp_path):
        path, array = tmp_path / "x", np.arange(12, dtype=np.float32).reshape(3, 4)
        save_file({"first": np.zeros(5, np.float32), "w": array, "none": np.zeros((0, 2), np.float32)}, path)
        before = path.read_bytes()
        mapped = open_safetensors(str(path))["w"].map()
        np.testing.assert_array_equal(mapped, array)
        mapped[...] = 9
        assert path.read_bytes() == before
        assert open_safetensors(str(path))["none"].map().shape == (0, 2)

    def test_a_converted_model_survives_its_folder(self, plain, tmp_path):
        """Its weights are backed by the file: saving over it or deleting it must not change an open model."""
        convert(str(plain.write(tmp_path / "source")), str(tmp_path / "native"))
        model = open_model(tmp_path / "native")
        folder_module.save_native(model, str(tmp_path / "native"))
        same(model, plain.model)
        same(open_model(tmp_path / "native"), plain.model)
        (tmp_path / "native" / NATIVE).unlink()
        same(model, plain.model)

    def test_loading_holds_few_tensors_at_a_time(self, plain, tmp_path, monkeypatch):
        """Two threads read, and weight norm reads a pair; nothing else of the file is alive at the same moment."""
        import weakref

        class Counted(np.ndarray):
            """Plain arrays can be referred to weakly too, but their views would keep their bases alive unseen."""

        references, most = [], []
        read = safetensors_file.LazyTensor.read

        def counting(tensor):
            array = read(tensor).view(Counted)
            references.append(weakref.ref(array))
            most.append(sum(reference() is not None for reference in references))
            return array

        monkeypatch.setattr(safetensors_file.LazyTensor, "read", counting)
        same(open_model(plain.write(tmp_path)), plain.model)
        assert len(most) > 60 and max(most) <= 4, max(most)
