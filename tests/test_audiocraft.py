"""audiocraft's own files: the committed ones, written by torch.save, and others written here, all without torch."""

import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import audiocraft_files
import numpy as np
import pytest
from mindspore import Tensor
from safetensors.numpy import load_file, save_file

from mindmusicgen import InputError, MusicgenForConditionalGeneration
from mindmusicgen.checkpoint import source
from mindmusicgen.checkpoint.source import ModelFolder
from mindmusicgen.checkpoint.torch_file import open_torch_file
from mindmusicgen.musicgen.checkpoint import audiocraft
from mindmusicgen.musicgen.checkpoint.audiocraft_config import Settings, bandwidth
from mindmusicgen.musicgen.checkpoint.convert import convert as to_native
from mindmusicgen.musicgen.checkpoint.folder import load_config

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "audiocraft"
DECODER, CODEC = "state_dict.bin", "compression_state_dict.bin"
PROJECTION = "condition_provider.conditioners.description.output_proj.weight"
SIZES = {
    "text_encoder": "vocab_size d_model d_kv d_ff num_layers num_heads feed_forward_proj layer_norm_epsilon",
    "audio_encoder": "audio_channels sampling_rate normalize hidden_size codebook_dim codebook_size num_filters "
    "num_residual_layers upsampling_ratios norm_type kernel_size last_kernel_size residual_kernel_size "
    "dilation_growth_rate use_causal_conv pad_mode compress num_lstm_layers trim_right_ratio use_conv_shortcut",
    "decoder": "vocab_size hidden_size ffn_dim num_hidden_layers num_attention_heads num_codebooks audio_channels "
    "activation_function scale_embedding pad_token_id bos_token_id tie_word_embeddings",
}

sys.path.insert(0, str(ROOT / "scripts"))


def open_model(folder):
    return MusicgenForConditionalGeneration.from_pretrained(str(folder))


def same(model, other):
    first, second = (dict(network.parameters_and_names()) for network in (model, other))
    assert set(first) == set(second) and len(first) > 50
    for name in first:
        np.testing.assert_array_equal(first[name].asnumpy(), second[name].asnumpy(), err_msg=name)


def refused(folder, *words, call=audiocraft.open_checkpoint, **options):
    """Opening must raise one printable line with all the words."""
    with pytest.raises(InputError) as caught:
        call(str(folder), **options)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable(), message
    for word in words:
        assert str(word) in message, message


def write_t5(folder, golden):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(golden.config["text_encoder"]))
    prefix = "text_encoder."
    weights = {k.removeprefix(prefix): v for k, v in golden.weights.items() if k.startswith(prefix)}
    # A complete T5 has a decoder too.
    weights |= {"decoder.final_layer_norm.weight": np.ones(3, np.float32), "lm_head.weight": np.ones(3, np.float32)}
    save_file(weights, folder / "model.safetensors")
    return folder


def write_encodec(folder, golden):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(golden.config["audio_encoder"]))
    prefix = "audio_encoder."
    weights = {k.removeprefix(prefix): v for k, v in golden.weights.items() if k.startswith(prefix)}
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def written(quad, tmp_path_factory):
    """The golden model in audiocraft's files, with its T5 inside; the tests change copies."""
    folder = tmp_path_factory.mktemp("audiocraft") / "quad"
    write_t5(folder / "t5", quad)
    for name, content in audiocraft_files.packages(quad.weights, quad.config).items():
        audiocraft_files.write(folder / name, content)
    return folder


@pytest.fixture
def edit(quad, written, tmp_path):
    """A function that writes the files again after changing their contents."""

    def change(function, name=DECODER):
        folder = tmp_path / "edited"
        if not folder.exists():
            shutil.copytree(written, folder)
        content = audiocraft_files.packages(quad.weights, quad.config)[name]
        function(content)
        audiocraft_files.write(folder / name, content)
        return folder

    return change


def setting(old, new):
    """A change of the settings' text, which must hold the old one."""

    def change(content):
        assert content["xp.cfg"].count(old) == 1, old
        content["xp.cfg"] = content["xp.cfg"].replace(old, new)

    return change


def tensor(name, function):
    """A change of one tensor."""

    def change(content):
        content["best_state"][name] = function(content["best_state"][name])

    return change


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model():
    return open_model(GOLDEN)


@pytest.fixture(scope="module")
def apart(quad, tmp_path_factory):
    """audiocraft's files in one folder, and a T5 with a tokenizer in another."""
    from random_checkpoint import build_tokenizer

    root = tmp_path_factory.mktemp("apart")
    build_tokenizer().save_pretrained(write_t5(root / "text", quad))
    (root / "model").mkdir()
    for name, content in audiocraft_files.packages(quad.weights, quad.config).items():
        audiocraft_files.write(root / "model" / name, content)
    return root


class TestGolden:
    """The committed files, against what transformers computed with the same weights."""

    def test_config(self, model, expected):
        wanted = json.loads(str(expected["config"]))
        for part, names in SIZES.items():
            for name in names.split():
                assert getattr(getattr(model.config, part), name) == wanted[part][name], (part, name)
        generation = model.generation_config
        assert generation.do_sample and generation.guidance_scale == 3.0 and generation.max_length == 1500
        assert generation.bos_token_id == generation.pad_token_id == generation.decoder_start_token_id == 32

    def test_logits(self, model, expected, close):
        found = model.logits(*(Tensor(expected[name]) for name in ("ids", "mask", "codes")))
        close(found, expected["logits"])

    def test_codes_and_audio(self, model, expected, close):
        arguments = {"do_sample": False, "max_new_tokens": 12, "guidance_scale": 3.0, "return_dict_in_generate": True}
        out = model.generate(Tensor(expected["ids"]), Tensor(expected["mask"]), **arguments)
        np.testing.assert_array_equal(out.audio_codes.asnumpy(), expected["run_codes"])
        close(out.audio_values, expected["run_audio"])


class TestLayouts:
    """Every form the files come in gives the weights that the Hugging Face folder gives."""

    def test_plain(self, quad, written):
        model = open_model(written)
        same(model, quad.model)
        assert model.config.decoder.vocab_size == 64 and model.config.audio_encoder.num_quantizers == 6
        assert load_config(str(written)).to_dict() == model.config.to_dict()
        assert audiocraft.audio_layout(str(written)) == (32000, 1)

    def test_stereo_uses_a_codec_with_more_codebooks_than_each_side_has(self, quad, edit, tmp_path):
        def stereo(content):
            setting("channels: 1", "channels: 2")(content)
            setting("  use: false", "  use: true")(content)
            setting("[0, 1, 2, 3]\n    flatten_first", "[0, 0, 1, 1]\n    flatten_first")(content)

        model = open_model(edit(stereo))
        assert model.config.decoder.audio_channels == 2 and model.config.decoder.num_codebooks == 4
        assert audiocraft.audio_layout(str(tmp_path / "edited")) == (32000, 2)
        same(model, quad.model)

    def test_tensors_nested_under_model(self, quad, edit):
        def nest(content):
            content["best_state"] = {"model": content["best_state"]}

        edit(nest)
        same(open_model(edit(nest, CODEC)), quad.model)

    def test_attention_of_torch_and_dropout_entries(self, quad, edit):
        def rename(content):
            state = content["best_state"]
            for name in [name for name in state if "attn." in name or "attention." in name]:
                state[name.replace("_attn.", "_attn.mha.").replace("_attention.", "_attention.mha.")] = state.pop(name)
            state["cfg_dropout.p"] = np.zeros(1, np.float32)

        same(open_model(edit(rename)), quad.model)

    def test_a_fine_tuned_text_encoder_inside_goes_first(self, quad, edit):
        prefix = "condition_provider.conditioners.description.t5."

        def add(content):
            for name, value in quad.weights.items():
                if name.startswith("text_encoder."):
                    content["best_state"][prefix + name.removeprefix("text_encoder.")] = value

        folder = edit(add)
        path = folder / "t5" / "model.safetensors"
        save_file({name: value + 1 for name, value in load_file(path).items()}, path)
        same(open_model(folder), quad.model)

    def test_convolutions_without_weight_norm(self, quad, edit, close):
        def fold(content):
            setting("norm: weight_norm", "norm: none")(content)
            state = content["best_state"]
            for name in [name for name in state if name.endswith("weight_g")]:
                magnitude, direction = state.pop(name), state.pop(name[:-1] + "v")
                norm = np.sqrt((direction**2).sum(axis=(1, 2), keepdims=True))
                state[name[:-2]] = (magnitude * direction / norm).astype(np.float32)

        model = open_model(edit(fold, CODEC))
        for name, parameter in quad.model.audio_encoder.parameters_and_names():
            close(dict(model.audio_encoder.parameters_and_names())[name], parameter.asnumpy(), 1e-5)

    def test_the_codec_by_name_in_the_subfolder(self, quad, edit):
        def point(content):
            content.clear()
            content.update(pretrained="facebook/encodec_32khz", exported=True, version="1.4.0a1")

        folder = edit(point, CODEC)
        write_encodec(folder / "encodec", quad)
        same(open_model(folder), quad.model)
        (folder / CODEC).unlink()
        same(open_model(folder), quad.model)

    def test_the_codec_by_path_and_by_option(self, quad, written, edit, tmp_path):
        elsewhere = write_encodec(tmp_path / "elsewhere", quad)

        def point(content):
            content.clear()
            content.update(pretrained=str(elsewhere), exported=True)

        folder = edit(point, CODEC)
        same(open_model(folder), quad.model)
        shutil.rmtree(elsewhere)
        _, tensors = audiocraft.open_checkpoint(str(folder), compression=str(written))  # audiocraft's own layout
        assert tensors["audio_encoder.quantizer.layers.3.codebook.embed"].shape == (64, 12)

    def test_the_text_encoder_by_option(self, quad, written, tmp_path):
        folder = tmp_path / "no-t5"
        shutil.copytree(written, folder, ignore=shutil.ignore_patterns("t5"))
        _, tensors = audiocraft.open_checkpoint(str(folder), text_encoder=str(written / "t5"))
        assert tensors["text_encoder.shared.weight"].shape == (100, 24)
        assert not any(name.startswith(("text_encoder.decoder", "text_encoder.lm_head")) for name in tensors)

    def test_newer_weights_in_the_folder_go_first(self, quad, written, tmp_path):
        folder = tmp_path / "both"
        shutil.copytree(written, folder)
        quad.write(folder)
        assert ModelFolder(folder).layout == "transformers"
        (folder / DECODER).write_bytes(b"not looked at")
        same(open_model(folder), quad.model)

    def test_what_is_downloaded(self):
        files = ["README.md", DECODER, CODEC, "t5/model.safetensors", "t5/pytorch_model.bin", "other/model.safetensors"]
        assert source._weights(files, "") == [DECODER, CODEC, "t5/model.safetensors"]
        assert source._weights([*files, "model.safetensors"], "") == ["model.safetensors"]


class TestConvert:
    def test_script(self, quad, apart, tmp_path, close):
        import convert_audiocraft
        from transformers import AutoProcessor

        output = tmp_path / "converted"
        arguments = ["--model", str(apart / "model"), "--output", str(output), "--text-encoder", str(apart / "text")]
        assert convert_audiocraft.main(arguments) == 0
        model = open_model(output)
        expected = dict(quad.model.parameters_and_names())
        for name, parameter in model.parameters_and_names():
            close(parameter, expected[name].asnumpy(), 1e-6)  # weight norm is folded and unfolded
        assert json.loads((output / "generation_config.json").read_text())["guidance_scale"] == 3.0
        processor = AutoProcessor.from_pretrained(output)
        assert processor.feature_extractor.sampling_rate == 32000
        assert processor(text="happy techno", return_tensors="np")["input_ids"][0, -1] == 1

    def test_half_the_size(self, apart, tmp_path):
        audiocraft.convert(
            str(apart / "model"), str(tmp_path / "half"), text_encoder=str(apart / "text"), dtype="float16"
        )
        tensors = load_file(tmp_path / "half" / "model.safetensors")
        assert tensors["enc_to_dec_proj.weight"].dtype == np.float16

    def test_refusals(self, quad, apart, written, tmp_path, capsys):
        import convert_audiocraft

        model, text = str(apart / "model"), str(apart / "text")
        for call, words in (
            (["--model", model, "--output", model, "--text-encoder", text], "own folder"),
            (["--model", text, "--output", str(tmp_path / "out")], DECODER),
            (["--model", str(written), "--output", str(tmp_path / "out")], "no tokenizer"),
        ):
            assert convert_audiocraft.main(call) == 2
            assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_where_the_tokenizer_is(self, apart, written, tmp_path):
        assert audiocraft.tokenizer_folder(str(written)) == str(written / "t5")
        assert audiocraft.tokenizer_folder(str(apart / "text")) == str(apart / "text")
        beside = tmp_path / "beside"
        shutil.copytree(written, beside)
        shutil.copy(apart / "text" / "tokenizer.json", beside)
        assert audiocraft.tokenizer_folder(str(beside)) == str(beside)

    def test_a_converted_model_in_this_packages_own_layout(self, quad, apart, written, tmp_path):
        folder = tmp_path / "model"
        shutil.copytree(written, folder)
        shutil.copy(apart / "text" / "tokenizer.json", folder / "t5")
        to_native(str(folder), str(tmp_path / "native"))
        assert (tmp_path / "native" / "tokenizer.json").is_file()
        same(open_model(tmp_path / "native"), quad.model)


class TestRefusals:
    def test_missing_files(self, written, tmp_path):
        for name in (DECODER, CODEC):
            folder = tmp_path / name
            shutil.copytree(written, folder, ignore=shutil.ignore_patterns(name))
            refused(folder, folder / name, "missing")
            refused(folder, folder / name, call=open_model)

    def test_missing_text_encoder(self, written, tmp_path, monkeypatch):
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        folder = tmp_path / "no-t5"
        shutil.copytree(written, folder, ignore=shutil.ignore_patterns("t5"))
        words = ("google-t5/t5-base", folder / "t5", "--text-encoder", "convert_audiocraft.py")
        refused(folder, *words, call=open_model)
        refused(folder, *words, call=audiocraft.tokenizer_folder)
        refused(folder, "someone/else", text_encoder="someone/else")

    def test_settings_that_name_no_text_encoder(self, edit):
        folder = edit(setting("name: t5-base", "name: 5"))
        shutil.rmtree(folder / "t5")
        refused(folder, "conditioners.description.t5.name", "5")

    def test_a_pointer_to_nowhere(self, edit):
        for name, words in (("dac_44khz", "'dac_44khz'"), (False, "not a name"), ("", "not a name")):

            def point(content, name=name):
                content.clear()
                content.update(pretrained=name, exported=True)

            refused(edit(point, CODEC), words)
        folder = edit(point, CODEC)
        refused(folder, "holds no codec", compression=str(folder))

    def test_other_models_as_text_encoder_and_codec(self, quad, written, goldens, tmp_path):
        t5, codec = write_t5(tmp_path / "t5", quad), write_encodec(tmp_path / "codec", quad)
        refused(written, codec, "'encodec'", "'t5'", text_encoder=str(codec))
        refused(written, t5, "'t5'", "'encodec'", compression=str(t5))
        wide = write_t5(tmp_path / "wide", goldens("plain"))  # 36 wide
        refused(written, wide, 36, 24, text_encoder=str(wide))
        other = write_encodec(tmp_path / "other", goldens("plain"))  # 32 codes
        refused(written, "64", "32", compression=str(other))

    @pytest.mark.parametrize(
        "old, new, words",
        [
            ("norm_first: true", "norm_first: false", ["norm_first", "False"]),
            ("layer_scale: null", "layer_scale: 0.1", ["layer_scale"]),
            ("positional_embedding: sin", "positional_embedding: rope", ["rope", "sin"]),
            ("modeling: delay", "modeling: parallel", ["parallel", "delay"]),
            ("[0, 1, 2, 3]\n    flatten_first", "[0, 2, 4, 6]\n    flatten_first", ["delays", "[0, 1, 2, 3]"]),
            ("  use: false", "  use: true", ["channels", "2"]),
            ("lm_model: transformer_lm", "lm_model: transformer_lm_magnet", ["transformer_lm_magnet"]),
            ("model: t5\n", "model: lut\n", ["lut"]),
            ("cross:\n  - description", "cross: []", ["fuser.cross"]),
            ("activation: gelu", "activation: selu", ["selu", "gelu"]),
            ("sample_rate: 32000", "sample_rate: 16000", ["16000", "32000"]),
            ("dim: 48", "dim: 50", ["50"]),
            ("dim: 48", "dim: wide", ["transformer_lm.dim", "wide"]),
            ("dim: 48", "dim: 52", ["(48, 24)", "(52, 24)"]),
            ("  dim: 48\n", "", ["does not set transformer_lm.dim"]),
            ("dim: 48", "dim: ${transformer_lm.dim}", ["refers to itself"]),
            ("num_layers: 2", "num_layers: 1000000000", ["num_layers", "1000000000", "holds 2"]),
            ("n_q: 4", "n_q: 5", ["delays", "[0, 1, 2, 3, 4]"]),
            ("n_q: 4", "n_q: 2000000000", ["n_q", "2000000000"]),
            ("hidden_scale: 2", "hidden_scale: 4", ["linear1", "(96, 48)", "(192, 48)"]),
            ("card: 64", "card: 65", ["65", "64"]),
            ("lm_model: transformer_lm", "- [", ["YAML"]),
            ("lm_model: transformer_lm", "lm_model: !!python/object/apply:os.system ['true']", ["YAML"]),
            ("sum: []", "sum: &a []\n  prepend: *a", ["YAML"]),
            (
                "conditioners:\n",
                "conditioners:\n  self_wav: {model: chroma_stem}\n",
                ["melody models are not supported"],
            ),
            ("conditioners:\n", "conditioners:\n  artist: {model: lut}\n", ["'artist'"]),
        ],
    )
    def test_decoder_settings(self, edit, old, new, words):
        refused(edit(setting(old, new)), DECODER, *words)

    @pytest.mark.parametrize(
        "old, new, words",
        [
            ("renormalize: false", "renormalize: true", ["renormalize"]),
            ("pad_mode: reflect", "pad_mode: circular", ["circular", "reflect"]),
            ("norm: weight_norm", "norm: time_group_norm", ["time_group_norm"]),
            ("final_activation: null", "final_activation: Tanh", ["Tanh"]),
            ("decoder:\n", "decoder:\n    n_filters: 4\n", ["seanet.decoder.n_filters"]),
            ("encoder: {}", "encoder: {n_filters: 4}", ["seanet.encoder"]),
            ("ratios: [8, 5, 4, 4]", "ratios: [8, 5, 4]", ["encoder.model.6.", "(8, 4, 10)"]),
            ("ratios: [8, 5, 4, 4]", "ratios: 8", ["seanet.ratios", "8"]),
            ("n_filters: 2", "n_filters: 4", ["encoder.model.0.", "(2, 1, 7)", "(4, 1, 7)"]),
            ("lstm: 2", "lstm: 1000000000", ["holds 4", "seanet.lstm"]),
            ("residual_kernel_size: 3", "residual_kernel_size: 1000000000", ["encoder.model.1.block.1.", "(1, 2, 3)"]),
            ("n_residual_layers: 1", "n_residual_layers: 1000000000", ["encoder.model.1000000002."]),
            ("compress: 2", "compress: 1", ["(1, 2, 3)", "(2, 2, 3)"]),
            ("n_q: 6", "n_q: 5", ["rvq.n_q", "holds 6", "5"]),
            ("bins: 64", "bins: 32", ["(64, 12)", "(32, 12)"]),
            ("compression_model: encodec", "compression_model: dac", ["dac"]),
            ("channels: 1\n", "channels: 2\n", ["(2, 1, 7)", "(2, 2, 7)"]),
        ],
    )
    def test_codec_settings(self, edit, old, new, words):
        refused(edit(setting(old, new), CODEC), *words, call=open_model)

    @pytest.mark.parametrize(
        "change, words",
        [
            (lambda c: c.pop("best_state"), ["best_state"]),
            (lambda c: c.update(best_state={}), ["best_state"]),
            (lambda c: c.update(best_state="tensors"), ["best_state"]),
            (lambda c: c["best_state"].update(odd="text"), ["'odd'"]),
            (lambda c: c.pop("xp.cfg"), ["xp.cfg"]),
            (lambda c: c.update({"xp.cfg": False}), ["xp.cfg"]),
            (lambda c: c["best_state"].pop(PROJECTION), [PROJECTION]),
            (lambda c: c["best_state"].pop("emb.3.weight"), ["3 of emb.N.weight"]),
            (lambda c: c["best_state"].update(strange=np.ones(2, np.float32)), ["'strange'"]),
            (lambda c: c["best_state"].update({"fuser.w": np.ones(2, np.float32)}), ["'fuser.w'"]),
            (
                lambda c: c["best_state"].update(
                    {"condition_provider.conditioners.self_wav.output_proj.weight": np.ones(2, np.float32)}
                ),
                ["melody models are not supported from audiocraft files yet"],
            ),
            (
                tensor("transformer.layers.1.self_attn.in_proj_weight", lambda v: v[:-1]),
                ["in_proj_weight", "(143, 48)"],
            ),
            (tensor("out_norm.weight", lambda v: v[None]), ["out_norm.weight", "(1, 48)"]),
            (tensor(PROJECTION, lambda v: v[:, :-1]), ["24", "23"]),
        ],
    )
    def test_decoder_contents(self, edit, change, words):
        refused(edit(change), DECODER, *words)

    @pytest.mark.parametrize(
        "change, words",
        [
            (lambda c: c["best_state"].update(strange=np.ones(2, np.float32)), ["'strange'"]),
            (lambda c: c["best_state"].pop("encoder.model.13.lstm.bias_hh_l1"), ["13.lstm.bias_hh_l1"]),
            (lambda c: c["best_state"].pop("decoder.model.12.convtr.convtr.weight_v"), ["decoder.model.12.convtr"]),
            (lambda c: c["best_state"].pop("decoder.model.12.convtr.convtr.weight_g"), ["decoder.layers.12.conv"]),
        ],
    )
    def test_codec_contents(self, edit, change, words):
        refused(edit(change, CODEC), *words, call=open_model)

    def test_a_pickle_that_would_run_something(self, edit, tmp_path):
        class Harm:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "harmed"),)

        folder = edit(lambda content: None)
        for content in (Harm(), {"best_state": {}, "xp.cfg": Harm()}):
            with zipfile.ZipFile(folder / DECODER, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps(content, 2))
            refused(folder, DECODER, "posix.mkdir", call=open_model)
        assert not (tmp_path / "harmed").exists()

    def test_a_training_checkpoint(self, edit):
        folder = edit(lambda content: None)
        with zipfile.ZipFile(folder / DECODER, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02comegaconf.dictconfig\nDictConfig\n.")
        refused(folder, "omegaconf.dictconfig.DictConfig", "export it with audiocraft.utils.export")

    def test_a_text_encoder_as_wide_as_the_decoder(self, goldens, tmp_path):
        plain = goldens("plain")  # transformers has no projection there, audiocraft always has one
        weights = plain.weights | {
            "enc_to_dec_proj.weight": np.eye(36, dtype=np.float32),
            "enc_to_dec_proj.bias": np.zeros(36, np.float32),
        }
        write_t5(tmp_path / "t5", plain)
        for name, content in audiocraft_files.packages(weights, plain.config).items():
            audiocraft_files.write(tmp_path / name, content)
        refused(tmp_path, "as wide as the decoder")


def test_rows_of_a_tensor_are_read_alone(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    audiocraft_files.write(tmp_path / "file.bin", {"w": values})
    whole = open_torch_file(tmp_path / "file.bin")["w"]
    part = whole.rows(2, 5).rows(1, 3)
    assert part.shape == (2, 4) and whole.shape == (6, 4)
    np.testing.assert_array_equal(part.read(), values[3:5])
    np.testing.assert_array_equal(whole.read(), values)
    with pytest.raises(ValueError, match="rows 4 to 7"):
        whole.rows(4, 7)


def test_references_between_settings():
    settings = Settings("a: {b: '${c}'}\nc: '${d.e}'\nd: {e: 7, f: null}", "file")
    assert settings.get("a.b") == 7 and settings.get("d.f", 3) == 3 and settings.get("a.b.c.d") is None


def test_bandwidth_gives_the_number_of_codebooks_back():
    from transformers import EncodecConfig

    for rate, ratios in ((32000, [8, 5, 4, 4]), (16000, [8, 5, 4, 2]), (24000, [8, 5, 4, 2]), (44100, [8, 8, 5, 2])):
        for bins in (64, 1024, 2048):
            for quantizers in range(1, 33):
                value = bandwidth(rate, int(np.prod(ratios)), bins, quantizers)
                config = EncodecConfig(
                    sampling_rate=rate, upsampling_ratios=ratios, codebook_size=bins, target_bandwidths=[value]
                )
                assert config.num_quantizers == quantizers
    assert bandwidth(32000, 640, 2048, 4) == 2.2
