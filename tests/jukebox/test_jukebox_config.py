"""Configs: the fields and defaults of transformers' page, what is wrong with them, and what no model has."""

import json

import pytest

from mindmusicgen.jukebox.checkpoint.openai_files import published
from mindmusicgen.jukebox.config import JukeboxConfig, JukeboxPriorConfig, JukeboxVQVAEConfig, check
from mindmusicgen.jukebox.config_checks import warn_of_defaults


def test_the_kinds_of_attention_of_the_published_models():
    one, five = published(2048).prior_configs[0], published(4800).prior_configs[0]
    kinds = one.kinds
    assert [i for i, kind in enumerate(kinds) if kind == "prime"] == [15, 31, 63] and kinds.index("dense") == 47
    assert kinds[:3] == ["row", "column", "previous"] and one.prime_length == 448 and one.positions // one.blocks == 102
    assert [i for i, kind in enumerate(five.kinds) if kind == "cross"] == list(range(18, 79, 10))
    assert five.attention_width // five.n_heads == 150 and published(2048).vqvae_config.hops == [8, 32, 128]


@pytest.mark.parametrize("width", [2048, 4800])
def test_the_published_configs_are_sound(width, capsys):
    config = published(width)
    check(config)
    for level, prior in enumerate(config.prior_configs):
        warn_of_defaults(prior, level)
    assert capsys.readouterr().err == ""


def test_the_pages_defaults_are_kept_and_warned_of(capsys):
    config = JukeboxConfig()
    check(config)
    warn_of_defaults(config.prior_configs[0], 0)
    said = capsys.readouterr().err
    assert "prior 0 has mask=False" in said and "prior 0 has merged_decoder=True" in said


def test_fields_of_the_whole_take_the_place_of_each_priors():
    config = JukeboxConfig.from_configs(
        [JukeboxPriorConfig(timing_dims=3)], JukeboxVQVAEConfig(embed_dim=8), timing_dims=9
    )
    assert config.prior_configs[0].timing_dims == 9 and config.vqvae_config.embed_dim == 8 and config.nb_priors == 1


def test_a_config_is_written_and_read_again(golden, tmp_path):
    config = JukeboxConfig.from_pretrained(golden.folder)
    config.save_pretrained(tmp_path)
    assert JukeboxConfig.from_pretrained(str(tmp_path)) == config
    assert JukeboxPriorConfig.from_pretrained(golden.folder, level=1) == config.prior_configs[1]
    assert JukeboxVQVAEConfig.from_pretrained(golden.folder) == config.vqvae_config
    assert JukeboxConfig.from_pretrained(golden.folder, max_duration=2.0).max_duration == 2.0
    assert JukeboxConfig.from_pretrained(golden.folder, max_duration=2.0).prior_configs[0].max_duration == 2.0
    changed = JukeboxPriorConfig.from_pretrained(golden.folder, level=1, max_duration=2.0)
    assert changed.max_duration == 2.0 and changed.num_layers == config.prior_configs[1].num_layers


def test_prior_0_to_2_as_older_files_have_them(golden):
    values = JukeboxConfig.from_pretrained(golden.folder).to_dict()
    singly = {f"prior_{i}": one for i, one in enumerate(values.pop("prior_config_list"))}
    singly["prior_1"] = singly["prior_1"] | {"depth": singly["prior_1"].pop("num_layers")}
    assert JukeboxConfig.from_dict(values | singly) == JukeboxConfig.from_pretrained(golden.folder)


def test_the_hubs_5b_is_mended(capsys):
    values = published(4800).to_dict()
    values["prior_config_list"][0]["blocks"] = 64
    assert JukeboxConfig.from_dict(values).prior_configs[0].blocks == 128
    assert "128 are taken" in capsys.readouterr().err


WRONG = [
    ("n_heads", 3, "n_heads"),
    ("blocks", 5, "a divisor of the 44 positions"),
    ("attention_pattern", "diagonal", "attention_pattern"),
    ("act_fn", "relu", "quick_gelu"),
    ("spread", 4, "nothing else is built here"),
    ("hidden_size", 1 << 40, "hidden_size"),
    ("metadata_dims", [1, 2, 3], "metadata_dims"),
    ("max_duration", 0.05, "min_duration"),
    ("res_strides_t", [2, 3, 2], "res_strides_t"),
    ("num_layers", True, "num_layers"),
]


@pytest.mark.parametrize("name, value, words", WRONG)
def test_wrong_fields_of_a_prior_are_named(both, refused, name, value, words):
    values = JukeboxConfig.from_pretrained(both["1b"].folder).to_dict()
    values["prior_config_list"][0][name] = value
    if name == "max_duration":
        values["max_duration"] = value
    refused(lambda: JukeboxConfig.from_dict(values, "config.json"), "config.json sets", words)


def test_wrong_fields_of_the_whole_are_named(both, refused, tmp_path):
    values = JukeboxConfig.from_pretrained(both["1b"].folder).to_dict()
    refused(lambda: JukeboxConfig.from_dict(values | {"nb_priors": 2}), "nb_priors")
    refused(lambda: JukeboxConfig.from_dict(values | {"hop_fraction": [2.0, 1, 1]}), "hop_fraction")
    refused(lambda: JukeboxConfig.from_dict(values | {"vqvae_config": 3}), "vqvae_config")
    refused(lambda: JukeboxConfig(layers=3), "no field 'layers'")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bark"}))
    refused(lambda: JukeboxConfig.from_pretrained(str(tmp_path)), "'bark' model; expected model_type 'jukebox'")


def test_unknown_fields_of_a_file_are_told(both, capsys):
    values = JukeboxConfig.from_pretrained(both["1b"].folder).to_dict()
    JukeboxConfig.from_dict(values | {"colour": "blue"}, "config.json")
    assert "config.json sets 'colour', which this version does not know" in capsys.readouterr().err
