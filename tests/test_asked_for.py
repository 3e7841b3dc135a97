"""Whatever is asked for is done or refused by name: generation configs, arguments without their partners, configs."""

import copy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from transformers import GenerationConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from mindmusicgen import EncodecModel, InputError, MusicgenForCausalLM, MusicgenModel, MusicgenOutput, T5EncoderModel
from mindmusicgen.musicgen.generation_config import HONOURED, WITHOUT_EFFECT, check_generation_config


@pytest.fixture(scope="module")
def text(quad):
    return {"input_ids": quad["run.ids"], "attention_mask": quad["run.mask"]}


@pytest.fixture(scope="module")
def tune(goldens):
    golden = goldens("melody")
    return {"input_ids": golden["run.ids"], "input_features": golden["melody.features"]}


@pytest.fixture(scope="module")
def folder(quad, tmp_path_factory):
    return str(quad.write(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def decoder(folder):
    return MusicgenForCausalLM.from_pretrained(folder)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) <= 300, message
    for word in words:
        assert str(word) in message, message


UNSUPPORTED = {
    "repetition_penalty": 1.3,
    "min_new_tokens": 10,
    "min_length": 5,
    "bad_words_ids": [[1, 2]],
    "no_repeat_ngram_size": 3,
    "suppress_tokens": [7] * 500,
    "forced_eos_token_id": 0,
    "eos_token_id": 0,
    "max_time": 3.0,
    "min_p": 0.1,
    "typical_p": 0.5,
    "output_scores": True,
    "output_attentions": True,
    "renormalize_logits": True,
    "stop_strings": ["end"],
    "num_beam_groups": 2,
    "penalty_alpha": 0.6,
}


class TestGenerationConfig:
    @pytest.mark.parametrize("field", UNSUPPORTED)
    def test_what_is_not_supported_is_refused_by_name(self, quad, goldens, text, tune, decoder, field):
        config = GenerationConfig(max_new_tokens=8)
        setattr(config, field, UNSUPPORTED[field])
        for call in (
            lambda: quad.model.generate(**text, generation_config=config),
            lambda: next(quad.model.stream(**text, generation_config=config)),
            lambda: goldens("melody").model.generate(**tune, generation_config=config),
            lambda: decoder.generate(generation_config=config),
        ):
            refused(call, field, "not supported")

    def test_the_models_own_config_is_asked_as_well(self, quad, text, monkeypatch):
        monkeypatch.setattr(quad.model, "generation_config", copy.deepcopy(quad.model.generation_config))
        quad.model.generation_config.repetition_penalty = 1.1
        refused(lambda: quad.model.generate(**text, max_new_tokens=8), "repetition_penalty", "1.1")

    def test_defaults_of_every_version_and_what_changes_nothing_pass(self):
        check_generation_config(GenerationConfig(), 64)
        values = dict.fromkeys(vars(GenerationConfig())) | {"use_cache": False, "cache_implementation": "static"}
        version_4 = {"repetition_penalty": 1.0, "length_penalty": 1.0, "num_beam_groups": 1, "output_scores": False}
        version_4 |= {"eos_token_id": 64, "typical_p": 1.0, "min_length": 0, "no_repeat_ngram_size": 0}
        for fields in (values, version_4):
            config = GenerationConfig()
            for name, value in fields.items():
                setattr(config, name, value)
            check_generation_config(config, 64)
        assert not HONOURED & WITHOUT_EFFECT

    @pytest.mark.parametrize("value", [{"do_sample": True}, "config", 3])
    def test_what_is_no_generation_config(self, quad, text, value):
        refused(lambda: quad.model.generate(**text, generation_config=value), "generation_config", type(value).__name__)

    def test_what_is_honoured(self, quad, goldens, text, tune, decoder):
        asked = {"max_new_tokens": 8, "do_sample": True, "return_dict_in_generate": True, "num_return_sequences": 2}
        config = GenerationConfig(**asked)
        for model, inputs in ((quad.model, text), (goldens("melody").model, tune)):
            found = model.generate(**inputs, generation_config=config, seed=3)
            assert isinstance(found, MusicgenOutput)
            expected = model.generate(**inputs, generation_config=GenerationConfig(), **asked, seed=3)
            np.testing.assert_array_equal(found.audio_codes.asnumpy(), expected.audio_codes.asnumpy())
            assert found.audio_codes.shape[0] == 2 * len(inputs["input_ids"])
            one = model.generate(
                **inputs, generation_config=config, num_return_sequences=1, return_dict_in_generate=False
            )
            assert one.shape[0] == len(inputs["input_ids"])
        refused(lambda: decoder.generate(generation_config=config), "return_dict_in_generate")
        config.return_dict_in_generate = False
        assert decoder.generate(generation_config=config).shape == (2, 4, 5)
        refused(lambda: next(quad.model.stream(**text, return_dict_in_generate=True)), "return_dict_in_generate")


class TestTopP:
    def test_nothing_left_is_the_most_likely_code(self, quad, goldens, text, tune, decoder):
        """audiocraft's top_p of 0 is greedy here, whoever makes the choice; int8 is in test_sampling's operator."""
        for generate in (
            lambda **more: quad.model.generate(**text, **more),
            lambda **more: goldens("melody").model.generate(**tune, **more),
            lambda **more: decoder.generate(**more),
        ):
            greedy = generate(do_sample=False, max_new_tokens=12).asnumpy()
            for top_p in (0, 0.0, 1e-300):
                found = generate(do_sample=True, top_p=top_p, max_new_tokens=12, seed=1).asnumpy()
                np.testing.assert_allclose(found, greedy, atol=1e-6)  # another code would differ by a thousandth

    def test_in_eight_bits(self, quad, folder, text):
        from mindmusicgen import MusicgenForConditionalGeneration

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the kernels cannot run
            model = MusicgenForConditionalGeneration.from_pretrained(folder, quantization="int8").run_eagerly()
        greedy = model.generate(**text, do_sample=False, max_new_tokens=12).asnumpy()
        for settings in ({"top_p": 0}, {"temperature": 1e-18}):
            found = model.generate(**text, do_sample=True, max_new_tokens=12, seed=1, **settings).asnumpy()
            np.testing.assert_array_equal(found, greedy)


class TestPartners:
    def test_of_generate(self, quad, goldens, text, tune, decoder):
        mask, clip = text["attention_mask"], np.full((2, 4, 9), 3)
        refused(lambda: quad.model.generate(**text, max_new_tokens=8, extend_stride=5), "extend_stride", "duration")
        refused(lambda: decoder.generate(extend_stride=5), "extend_stride", "duration")
        refused(lambda: goldens("melody").model.generate(**tune, extend_stride=5), "extend_stride", "duration")
        refused(lambda: quad.model.generate(attention_mask=mask, audio_codes=clip), "attention_mask", "input_ids")
        negative = {"negative_attention_mask": mask, "guidance_scale": 3.0}
        refused(lambda: quad.model.generate(**text, **negative), "negative_attention_mask", "negative_input_ids")
        refused(
            lambda: goldens("melody").model.generate(attention_mask=mask, input_features=tune["input_features"]),
            "attention_mask",
            "input_ids",
        )
        refused(
            lambda: decoder.generate(encoder_attention_mask=mask), "encoder_attention_mask", "encoder_hidden_states"
        )

    def test_of_calls(self, quad, goldens, text, folder, decoder):
        codes, mask = np.zeros((4, 2)), np.ones((1, 3))
        refused(lambda: decoder(codes, encoder_attention_mask=mask), "encoder_attention_mask", "encoder_hidden_states")
        factors = np.ones((decoder.config.num_hidden_layers, decoder.config.num_attention_heads))
        refused(lambda: decoder(codes, cross_attn_head_mask=factors), "cross_attn_head_mask", "encoder_hidden_states")
        refused(
            lambda: quad.model(**text, decoder_input_ids=np.zeros((8, 2)), padding_mask=np.ones((2, 9))),
            "padding_mask",
            "input_values",
        )
        melody, clip = goldens("melody"), np.zeros((4, 2))
        features, states = melody["melody.features"][:1], np.zeros((1, 3, melody.model.config.decoder.hidden_size))
        refused(
            lambda: melody.model(attention_mask=mask, input_features=features, decoder_input_ids=clip),
            "attention_mask",
            "input_ids",
        )
        given = {"encoder_hidden_states": states.astype(np.float32), "decoder_input_ids": clip}
        refused(lambda: melody.model(input_features=features, **given), "encoder_hidden_states")
        codec = EncodecModel.from_pretrained(folder)
        coded = np.zeros((1, 1, 2, 3))
        refused(lambda: codec(audio_codes=coded, bandwidth=2.2), "bandwidth", "input_values")
        refused(lambda: codec(np.zeros((1, 1, 640)), audio_scales=[None]), "audio_scales", "audio_codes")

    @pytest.mark.parametrize("settings", [{"temperature": 0.5}, {"top_k": 9}, {"top_p": 0.9, "temperature": 2.0}])
    def test_sampling_settings_without_sampling_are_warned_of(self, quad, text, decoder, settings):
        for generate in (lambda **more: quad.model.generate(**text, **more), decoder.generate):
            with pytest.warns(UserWarning, match=" change nothing") as caught:
                generate(do_sample=False, max_new_tokens=8, **settings)
            assert all(name in str(caught[0].message) for name in settings)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                generate(do_sample=False, max_new_tokens=8, temperature=1.0, top_p=1)
                generate(do_sample=True, max_new_tokens=8, **settings)

    def test_a_greedy_config_that_holds_sampling_settings(self, quad, text):
        config = GenerationConfig(do_sample=False, max_new_tokens=8)
        config.temperature = 0.3
        with pytest.warns(UserWarning, match="without sampling temperature change nothing"):
            quad.model.generate(**text, generation_config=config)


class TestConfigsOfTheNetworks:
    """A field of an inner config counts, as for the network alone."""

    @pytest.fixture
    def changed(self, quad, monkeypatch):
        config = copy.deepcopy(quad.model.config)
        monkeypatch.setattr(quad.model, "config", config)
        return config

    def call(self, quad, **more):
        known = {"input_ids": quad["decoder.ids"], "attention_mask": quad["decoder.mask"]}
        return quad.model(**known, decoder_input_ids=quad["decoder.codes"], **more)

    def test_of_the_decoder(self, quad, changed):
        changed.decoder.output_attentions = True
        out = self.call(quad)
        layers = changed.decoder.num_hidden_layers
        assert len(out.decoder_attentions) == len(out.cross_attentions) == layers and "encoder_attentions" not in out
        assert "decoder_attentions" not in self.call(quad, output_attentions=False)

    def test_of_the_text_encoder(self, quad, changed):
        changed.text_encoder.output_hidden_states = True
        out = self.call(quad)
        assert len(out.encoder_hidden_states) == changed.text_encoder.num_layers + 1
        assert "decoder_hidden_states" not in out

    def test_of_the_whole(self, quad, changed):
        changed.output_hidden_states = True
        out = self.call(quad)
        assert "decoder_hidden_states" in out and "encoder_hidden_states" in out

    @pytest.mark.parametrize("cls", [MusicgenForCausalLM, MusicgenModel, T5EncoderModel, EncodecModel])
    def test_plain_tuples(self, folder, quad, text, cls):
        network = cls.from_pretrained(folder)
        network.config.return_dict = False
        arguments = {
            T5EncoderModel: text,
            EncodecModel: {"input_values": np.full((1, 1, 640), 0.1, np.float32)},
        }.get(cls, {"input_ids": np.zeros((4, 2))})
        assert type(network(**arguments)) is tuple
        assert type(network(**arguments, return_dict=True)) is not tuple
        if cls is EncodecModel:
            assert type(network.encode(**arguments)) is tuple

    def test_plain_tuples_of_the_whole(self, quad, changed):
        changed.return_dict = False
        assert type(self.call(quad)) is tuple
