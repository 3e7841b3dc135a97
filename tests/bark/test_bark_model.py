"""The model's own face: folders, arguments and what they refuse."""

import json
import shutil

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.bark.config import BarkConfig
from mindmusicgen.bark.model import BarkModel
from mindmusicgen.bark.submodels import BarkCoarseModel, BarkSemanticModel
from mindmusicgen.checkpoint.safetensors_file import LazyTensor, open_safetensors

SIZES = {"block_size": 64, "num_layers": 1, "num_heads": 2, "hidden_size": 16}
TINY = {
    "semantic_config": SIZES | {"input_vocab_size": 64, "output_vocab_size": 24},
    "coarse_acoustics_config": SIZES | {"input_vocab_size": 56, "output_vocab_size": 52},
    "fine_acoustics_config": SIZES | {"input_vocab_size": 17, "output_vocab_size": 17},
    "codec_config": {"num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16},
}


@pytest.fixture
def folder(golden, tmp_path):
    made = tmp_path / "bark"
    shutil.copytree(golden.folder, made)
    return made


def test_a_model_is_made_from_a_config():
    config = BarkConfig(**TINY)
    model = BarkModel(config)
    assert model.config is config and model.semantic.config.num_layers == 1
    assert 0.01 < np.std(model.semantic.lm_head.weight.asnumpy()) < 0.03
    assert model.sampling_rate == model.generation_config.sample_rate == 24000
    assert model.eval() is model and model.to_bettertransformer() is model
    once, again = (model.initialise(seed=3).semantic.lm_head.weight.asnumpy().copy() for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_a_saved_folder_opens_again(bark, processor, tmp_path):
    bark.save_pretrained(str(tmp_path), max_shard_size="300KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    processor.save_pretrained(str(tmp_path))
    again = BarkModel.from_pretrained(str(tmp_path))
    for (name, one), (_, other) in zip(bark.parameters_and_names(), again.parameters_and_names(), strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-6, atol=1e-7, err_msg=name)
    assert again.generation_config.semantic_config == bark.generation_config.semantic_config
    half = tmp_path / "half"
    bark.save_pretrained(str(half), dtype="float16")
    assert open_safetensors(half / "model.safetensors")["semantic.lm_head.weight"].dtype == "F16"


def test_one_stage_is_opened_without_reading_the_others(golden, monkeypatch):
    read, before = [], LazyTensor.read
    monkeypatch.setattr(LazyTensor, "read", lambda self: read.append(self.offset) or before(self))
    BarkSemanticModel.from_pretrained(golden.folder)
    tensors = open_safetensors(f"{golden.folder}/model.safetensors")
    assert set(read) == {tensor.offset for name, tensor in tensors.items() if name.startswith("semantic.")}


def test_files_with_masks_and_tied_heads(folder):
    """A .bin holds what a safetensors file leaves out: both open."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    table = weights["fine_acoustics.input_embeds_layers.1.weight"]
    extra = {
        "fine_acoustics.lm_heads.0.weight": table.copy(),
        "semantic.layers.1.attn.bias": np.ones((1, 1, 9, 9), bool),
    }
    save_file(weights | extra, folder / "model.safetensors")
    BarkModel.from_pretrained(str(folder))


def test_folders_that_do_not_fit(folder, refused):
    from safetensors.numpy import load_file, save_file

    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())

    def opened(weights=weights, **changes):
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config | changes))
        return lambda: BarkModel.from_pretrained(str(folder))

    name = "coarse_acoustics.lm_head.weight"
    refused(opened({key: values for key, values in weights.items() if key != name}), "lacks", name)
    refused(opened(weights | {name: weights[name][:5]}), name, "(5, 16)")
    refused(opened(weights | {"semantic.extra.weight": weights[name]}), "semantic.extra.weight")
    refused(opened(weights | {name: np.full_like(weights[name], np.nan)}), "NaN")
    refused(opened(model_type="musicgen"), "'musicgen'", "'bark'")
    refused(opened(semantic_config=config["semantic_config"] | {"input_vocab_size": 4_000_000}), "M parameters")
    refused(opened(semantic_config=config["semantic_config"] | {"num_heads": 5}), "5 heads")
    refused(opened(codec_config={"model_type": "dac"}), "codec")
    refused(lambda: BarkCoarseModel.from_pretrained(str(folder), dtype="int4"), "dtype")
    opened()
    (folder / "model.safetensors").unlink()
    refused(lambda: BarkModel.from_pretrained(str(folder)), "no weights")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"min_eos_p": 0}, ("min_eos_p is 0", "above 0")),
        ({"min_eos_p": 1.5}, ("min_eos_p is 1.5",)),
        ({"max_new_tokens": 769}, ("769", "768", "sentence by sentence")),
        ({"semantic_max_new_tokens": 0}, ("max_new_tokens is 0",)),
        ({"coarse_max_new_tokens": 5}, ("coarse_max_new_tokens", "max_new_tokens")),
        ({"num_beams": 4}, ("num_beams",)),
        ({"temperature": 0}, ("temperature is 0",)),
        ({"coarse_temperature": -1}, ("coarse_temperature",)),
        ({"fine_temperature": "hot"}, ("fine_temperature",)),
        ({"top_k": -1}, ("top_k",)),
        ({"semantic_top_p": 2}, ("semantic_top_p",)),
        ({"do_sample": "yes"}, ("do_sample", "True or False")),
        ({"max_coarse_history": 59}, ("59", "60 to 630")),
        ({"max_coarse_history": 631}, ("631", "60 to 630")),
        ({"sliding_window_len": 200}, ("200", "630", "768")),
        ({"sliding_window_len": 0}, ("sliding_window_len",)),
        ({"seed": -1}, ("seed",)),
        ({"seed": [1, 2]}, ("2 entries for 1",)),
        ({"temprature": 1}, ("'temprature'", "did you mean temperature")),
        ({"guidance_scale": 3}, ("guidance_scale",)),
        ({"attention_mask": np.ones((1, 3))}, ("attention_mask",)),
        ({"attention_mask": np.zeros((1, 256))}, ("the text is empty",)),
        ({"input_ids": None}, ("BarkProcessor",)),
        ({"input_ids": np.full((1, 256), 5000)}, ("5000",)),
        ({"input_ids": np.zeros(256)}, ("input_ids",)),
        ({"history_prompt": [None, None]}, ("2 entries for 1",)),
        ({"history_prompt": "v2/en_speaker_6"}, ("dict",)),
    ],
)
def test_what_generate_refuses(bark, processor, refused, arguments, words):
    refused(lambda: bark.generate(**(dict(processor("rain")) | arguments)), *words)


def test_prefixes_win_over_names_without(bark):
    from mindmusicgen.bark.settings import resolve

    given = {"temperature": 0.5, "semantic_temperature": 0.7, "coarse_do_sample": True, "min_eos_p": 0.2, "top_k": 9}
    made = resolve(bark.config, bark.generation_config, given, 2, 4)
    assert [made.semantic.temperature, made.coarse.temperature, made.fine.temperature] == [0.7, 0.5, 0.5]
    assert [made.semantic.do_sample, made.coarse.do_sample, made.semantic.top_k] == [False, True, 9]
    assert made.semantic.min_eos_p == 0.2 and made.seeds == (4, 5)


def test_min_eos_p_of_the_generation_config_is_honoured(folder, golden, processor):
    path = folder / "generation_config.json"
    stored = json.loads(path.read_text())
    stored["semantic_config"]["min_eos_p"] = 0.2
    path.write_text(json.dumps(stored))
    from mindmusicgen.bark.settings import resolve

    model = BarkModel.from_pretrained(str(folder))
    assert resolve(model.config, model.generation_config, {}, 1, 0).semantic.min_eos_p == 0.2
    assert resolve(model.config, model.generation_config, {"min_eos_p": 0.5}, 1, 0).semantic.min_eos_p == 0.5


def test_codes_that_are_none(bark, refused):
    refused(lambda: bark.codec_decode(np.zeros((1, 17, 3))), "(1, 17, 3)")
    refused(lambda: bark.codec_decode(np.full((1, 8, 3), 64)), "64")
    refused(lambda: bark.codec_decode(np.zeros((1, 8, 3)), [4]), "output_lengths")
    assert [one.shape for one in bark.codec_decode(np.zeros((2, 8, 9)), [9, 3])] == [(72,), (24,)]
    refused(lambda: bark(Tensor(np.zeros((1, 3)))), "generate")


def test_offload_says_that_nothing_changes(bark, capsys, monkeypatch):
    bark.enable_cpu_offload()
    assert "changes nothing on a CPU; quantization='int8' takes a third" in capsys.readouterr().err
    monkeypatch.setattr(bark, "quantization", "int8")
    bark.enable_cpu_offload(accelerator_id=0)
    assert "8 bits are the least memory" in capsys.readouterr().err
    monkeypatch.setattr("mindmusicgen.runtime.device.current", lambda: ("Ascend", 0))
    bark.enable_cpu_offload()
    assert "graphs expect their weights in the NPU's memory" in capsys.readouterr().err
