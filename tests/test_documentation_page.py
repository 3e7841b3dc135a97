"""transformers' pages of MusicGen and MusicGen Melody, call for call, on small models: what a reader types, works.

The calls are those of the pages of 4.57 and 5.x; the words around them are ours. What a page does with torch is here
done with NumPy or MindSpore, and nothing else is changed.
"""

import inspect

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import mindmusicgen
from mindmusicgen import (
    AutoConfig,
    AutoModelForTextToWaveform,
    AutoProcessor,
    EncodecConfig,
    EncodecModel,
    InputError,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForCausalLM,
    MusicgenMelodyForConditionalGeneration,
    MusicgenMelodyModel,
    MusicgenModel,
    T5Config,
    T5EncoderModel,
    set_seed,
)

PROMPTS = ["80s pop track with bassy drums and synth", "90s rock song with loud guitars and heavy drums"]
TEXT = {"vocab_size": 64, "d_model": 24, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 4}
CODEC = {
    "target_bandwidths": [1.2],
    "sampling_rate": 32000,
    "num_filters": 2,
    "hidden_size": 12,
    "codebook_dim": 12,
    "codebook_size": 64,
    "upsampling_ratios": [8, 5, 4, 4],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
DECODER = {
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "num_hidden_layers": 2,
    "ffn_dim": 32,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "pad_token_id": 64,
    "bos_token_id": 64,
}


def text_config():
    return MusicgenConfig.from_sub_models_config(
        T5Config(**TEXT), EncodecConfig(**CODEC), MusicgenDecoderConfig(**DECODER)
    )


def melody_config():
    parts = T5Config(**TEXT), EncodecConfig(**CODEC), MusicgenMelodyDecoderConfig(**DECODER)
    return MusicgenMelodyConfig.from_sub_models_config(*parts, chroma_length=6)


@pytest.fixture(scope="module")
def demo():
    return MusicgenForConditionalGeneration.from_pretrained("demo").run_eagerly()


@pytest.fixture(scope="module")
def melody():
    return MusicgenMelodyForConditionalGeneration(melody_config()).run_eagerly()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained("demo")


def ids(rows=2, length=5, seed=0):
    return Tensor(np.random.default_rng(seed).integers(3, 60, (rows, length)).astype(np.int32))


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    said = str(caught.value)
    assert len(said) <= 300 and "\n" not in said, said
    for word in words:
        assert word in said, (word, said)


class TestGeneration:
    def test_without_a_prompt(self, demo):
        unconditional = demo.get_unconditional_inputs(num_samples=1)
        audio = demo.generate(**unconditional, do_sample=True, max_new_tokens=12)
        assert demo.config.audio_encoder.sampling_rate > 0 and audio[0].numpy().ndim == 2 and audio.shape[0] == 1
        assert unconditional[0] is unconditional.encoder_outputs and len(unconditional[:2]) == 2

    def test_with_prompts(self, demo, processor):
        inputs = processor(text=PROMPTS, padding=True)
        audio = demo.generate(**inputs, do_sample=True, guidance_scale=3, max_new_tokens=12)
        assert audio.shape[0] == 2 and audio[0, 0].numpy().ndim == 1

    def test_the_generation_config(self, demo, processor):
        before = demo.generation_config.guidance_scale
        try:
            demo.generation_config.guidance_scale = 4.0
            assert demo.decoder.generation_config.guidance_scale == 4.0
            demo.generation_config.max_length = 16
            inputs = processor(text=PROMPTS[:1])
            assert demo.generate(**inputs, return_dict_in_generate=True).audio_codes.shape[2] == 12
        finally:
            demo.generation_config.guidance_scale = before
            demo.generation_config.max_length = 500

    def test_outputs_by_name_place_and_slice(self, demo, processor):
        out = demo.generate(**processor(text=PROMPTS[:1]), max_new_tokens=10, return_dict_in_generate=True)
        assert out[0] is out.audio_values is out.sequences is out["sequences"] is dict(out)["audio_values"]
        assert out[:2] == (out.audio_values, out.audio_codes) and len(out.to_tuple()) == 3

    def test_set_seed_repeats(self, demo, processor):
        inputs, made = processor(text=PROMPTS[:1]), []
        options = {"max_new_tokens": 10, "temperature": 3.0, "return_dict_in_generate": True}
        for seed in (lambda: set_seed(5), lambda: ms.set_seed(5), lambda: set_seed(6)):
            seed()
            made.append(demo.generate(**inputs, **options).audio_codes.asnumpy())
        np.testing.assert_array_equal(made[0], made[1])
        assert (made[0] != made[2]).any()
        refused(lambda: set_seed(-1), "seed is -1")

    def test_transformers_own_set_seed(self):
        import transformers

        seeds = []
        for _ in range(2):
            transformers.set_seed(3)
            seeds.append(mindmusicgen.musicgen.settings.resolve_seeds(None, 2))
        assert seeds[0] == seeds[1]

    def test_inputs_and_a_config_by_place(self, demo, processor):
        from transformers import GenerationConfig

        inputs, config = processor(text=PROMPTS[:1]), GenerationConfig(do_sample=False, max_new_tokens=10)
        kept = {"return_dict_in_generate": True}
        one = demo.generate(inputs.input_ids, config, **kept).audio_codes.asnumpy()
        two = demo.generate(inputs=inputs.input_ids, generation_config=config, **kept).audio_codes.asnumpy()
        np.testing.assert_array_equal(one, two)
        refused(lambda: demo.generate(inputs.input_ids, inputs=inputs.input_ids), "input_ids and inputs")


class Columns:
    """What a streamer of transformers is: `put` and `end`."""

    def __init__(self):
        self.got, self.ended = [], 0

    def put(self, value):
        self.got.append(value.asnumpy())

    def end(self):
        self.ended += 1


class TestStreamer:
    """An application's streamer joins the columns, takes the delay away and decodes, by these methods of the model."""

    def joined(self, demo, streamer):
        columns = np.concatenate([streamer.got[0], *(one[:, None] for one in streamer.got[1:])], axis=1)
        pad = demo.generation_config.pad_token_id
        _, pattern = demo.decoder.build_delay_pattern_mask(columns[:, :1], pad, max_length=columns.shape[1])
        codes = demo.decoder.apply_delay_pattern_mask(columns, pattern).asnumpy()
        return codes[codes != pad].reshape(len(codes) // demo.decoder.num_codebooks, demo.decoder.num_codebooks, -1)

    @pytest.mark.parametrize("length", [{"max_new_tokens": 30}, {"duration": 0.4}])
    def test_columns(self, demo, processor, length):
        streamer, inputs = Columns(), processor(text=PROMPTS)
        out = demo.generate(**inputs, **length, seed=1, streamer=streamer, return_dict_in_generate=True)
        assert streamer.ended == 1 and streamer.got[0].shape == (8, 1) and streamer.got[1].shape == (8,)
        np.testing.assert_array_equal(self.joined(demo, streamer), out.audio_codes.asnumpy())
        heard = demo.audio_encoder.decode(out.audio_codes[None], audio_scales=[None, None]).audio_values
        np.testing.assert_allclose(heard.asnumpy(), out.audio_values.asnumpy(), atol=1e-5)
        if "max_new_tokens" in length:
            assert len(streamer.got) == 1 + length["max_new_tokens"]

    def test_a_prompt_comes_first(self, demo, processor):
        known = np.random.default_rng(0).integers(0, 100, (1, 4, 6)).astype(np.int32)
        streamer, text = Columns(), processor(text=PROMPTS[:1])
        out = demo.generate(
            **text, audio_codes=known, max_new_tokens=12, streamer=streamer, return_dict_in_generate=True
        )
        assert streamer.got[0].shape == (4, 7)
        np.testing.assert_array_equal(self.joined(demo, streamer), out.audio_codes.asnumpy())

    def test_of_the_decoder_alone_and_in_a_stream(self, demo):
        streamer = Columns()
        codes = demo.decoder.generate(max_new_tokens=10, seed=2, streamer=streamer)
        np.testing.assert_array_equal(self.joined(demo, streamer), codes.asnumpy())
        streamer = Columns()
        list(demo.stream(**demo.get_unconditional_inputs(), max_new_tokens=20, seed=2, streamer=streamer))
        assert streamer.ended == 1 and len(streamer.got) == 21

    def test_what_is_no_streamer(self, demo):
        refused(lambda: demo.generate(**demo.get_unconditional_inputs(), streamer=3), "streamer is 3", "put")


class TestConfigs:
    def test_initialising_a_model(self, tmp_path):
        """Configs, a model with random weights, and back from its folder."""
        config = text_config()
        model = MusicgenForConditionalGeneration(config)
        assert model.config.text_encoder.d_model == 24 and model.config.audio_encoder.sampling_rate == 32000
        assert model.config.decoder.hidden_size == 32
        model.save_pretrained(str(tmp_path / "model"))
        again = MusicgenConfig.from_pretrained(str(tmp_path / "model"))
        loaded = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path / "model"), config=again)
        for (name, one), (_, two) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
            np.testing.assert_allclose(two.asnumpy(), one.asnumpy(), rtol=1e-5, atol=1e-7, err_msg=name)
        shown = loaded.generate(**loaded.get_unconditional_inputs(), max_new_tokens=8)
        assert np.isfinite(shown.asnumpy()).all()

    def test_zeros_load_too(self, tmp_path):
        MusicgenForConditionalGeneration(text_config(), empty=True).save_pretrained(str(tmp_path))
        loaded = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path))
        assert not loaded.audio_encoder.encoder.layers[0].conv.weight.asnumpy().any()

    def test_random_weights_differ_and_repeat(self):
        made = []
        for seed in (1, 1, 2):
            set_seed(seed)
            made.append(MusicgenForCausalLM(MusicgenDecoderConfig(**DECODER)).decoder.lm_heads.weight.asnumpy())
        np.testing.assert_array_equal(made[0], made[1])
        assert (made[0] != made[2]).any() and abs(made[0].std() - 0.02) < 0.002

    def test_two_ways_to_the_decoder(self, demo):
        config = AutoConfig.from_pretrained("demo").decoder
        codes = np.full((4, 1), config.vocab_size, np.int32)
        expected = demo.decoder(codes).logits.asnumpy()
        for more in ({**config}, config.to_dict(), {"config": config}, {"config": AutoConfig.from_pretrained("demo")}):
            decoder = MusicgenForCausalLM.from_pretrained("demo", **more)
            np.testing.assert_array_equal(decoder(codes).logits.asnumpy(), expected)

    @pytest.mark.parametrize("name", ["MusicgenConfig", "MusicgenDecoderConfig", "T5Config", "EncodecConfig"])
    def test_each_config_of_the_demo(self, name):
        kind = getattr(mindmusicgen, name)
        assert type(kind.from_pretrained("demo")) is kind

    def test_fields_that_are_changed(self, demo, processor):
        model = MusicgenForConditionalGeneration.from_pretrained("demo", output_attentions=True)
        out = model(**processor(text=PROMPTS[:1]), decoder_input_ids=np.full((4, 1), model.pad_code))
        assert out.decoder_attentions and out.encoder_attentions and not demo.config.output_attentions
        config, unused = AutoConfig.from_pretrained("demo", foo=1, return_unused_kwargs=True)
        assert unused == {"foo": 1} and config.model_type == "musicgen"
        for kind in (AutoConfig, MusicgenForConditionalGeneration, T5EncoderModel, MusicgenModel):
            refused(lambda kind=kind: kind.from_pretrained("demo", initialiser_factor=1), "initialiser_factor")
        refused(lambda: MusicgenMelodyConfig.from_pretrained("demo"), "'musicgen'", "'musicgen_melody'")
        refused(lambda: MusicgenForCausalLM.from_pretrained("demo", config=T5Config()), "'t5'")

    def test_the_class_is_found(self, tmp_path):
        assert type(AutoModelForTextToWaveform.from_pretrained("demo")) is MusicgenForConditionalGeneration
        made = AutoModelForTextToWaveform.from_config(melody_config())
        assert type(made) is MusicgenMelodyForConditionalGeneration
        made.save_pretrained(str(tmp_path))
        assert type(AutoModelForTextToWaveform.from_pretrained(str(tmp_path))) is type(made)
        refused(lambda: AutoModelForTextToWaveform.from_config(T5Config()), "'t5'")
        refused(lambda: AutoConfig.for_model("bert"), "'bert'")


class TestSubModels:
    def test_a_model_of_three_networks(self, demo):
        networks = {"text_encoder": demo.text_encoder, "audio_encoder": demo.audio_encoder, "decoder": demo.decoder}
        model = MusicgenForConditionalGeneration(**networks)
        assert model.decoder is demo.decoder and model.config.decoder.hidden_size == demo.config.decoder.hidden_size
        alone = {
            "audio_encoder": EncodecModel.from_pretrained("demo"),
            "decoder": MusicgenForCausalLM.from_pretrained("demo"),
        }
        model = MusicgenForConditionalGeneration(
            demo.config, text_encoder=T5EncoderModel.from_pretrained("demo"), **alone
        )
        codes = demo.encode(np.zeros((1, 1, 6400), np.float32) + 0.1)
        np.testing.assert_allclose(model.decode(codes).asnumpy(), demo.decode(codes).asnumpy(), atol=1e-6)

    def test_from_sub_models_pretrained(self, demo, tmp_path):
        made = MusicgenForConditionalGeneration.from_sub_models_pretrained(
            text_encoder_pretrained_model_name_or_path="demo",
            audio_encoder_pretrained_model_name_or_path="demo",
            decoder_pretrained_model_name_or_path="demo",
            decoder_output_attentions=True,
        )
        assert made.config.decoder.output_attentions
        made.save_pretrained(str(tmp_path / "ft"))
        opened = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path / "ft"))
        np.testing.assert_array_equal(
            opened.decoder.layer_norm.weight.asnumpy(), demo.decoder.layer_norm.weight.asnumpy()
        )

    def test_each_network_has_a_folder_of_its_own(self, demo, melody, tmp_path):
        melody.save_pretrained(str(tmp_path / "melody"))
        for kind, source in (
            (T5EncoderModel, "demo"),
            (EncodecModel, "demo"),
            (MusicgenForCausalLM, "demo"),
            (MusicgenModel, "demo"),
            (MusicgenMelodyForCausalLM, str(tmp_path / "melody")),
            (MusicgenMelodyModel, str(tmp_path / "melody")),
        ):
            model = kind.from_pretrained(source)
            model.save_pretrained(str(tmp_path / kind.__name__))
            again = kind.from_pretrained(str(tmp_path / kind.__name__))
            for (name, one), (_, two) in zip(model.named_parameters(), again.named_parameters(), strict=True):
                np.testing.assert_allclose(two.asnumpy(), one.asnumpy(), rtol=1e-5, atol=1e-7, err_msg=name)

    def test_refusals(self, demo, melody):
        make = MusicgenForConditionalGeneration
        refused(lambda: make(), "needs a config", "text_encoder and audio_encoder and decoder")
        refused(lambda: make(text_encoder=demo.text_encoder), "audio_encoder and decoder is not given")
        refused(lambda: make(text_config(), ms.float16), "text_encoder", "dtype=")
        refused(lambda: make(melody_config()), "MusicgenMelodyConfig", "MusicgenConfig")
        refused(
            lambda: make(text_config(), decoder=melody.decoder), "decoder is 'MelodyDecoder'", "MusicgenForCausalLM"
        )
        refused(lambda: make(text_config(), decoder=MusicgenModel(MusicgenDecoderConfig(**DECODER))), "no heads")
        half = T5EncoderModel(T5Config(**TEXT), ms.float16)
        refused(lambda: make(text_config(), text_encoder=half, dtype=ms.float32), "float16", "one dtype")
        refused(lambda: make.from_sub_models_pretrained("demo", "demo"), "decoder is not given")


class TestNetworks:
    """A model's networks are transformers' modules to whoever calls them."""

    def test_the_text_encoder(self, demo, processor):
        inputs = processor(text=PROMPTS)
        out = demo.text_encoder(**inputs, output_hidden_states=True)
        assert out[0] is out.last_hidden_state and len(out.hidden_states) == demo.config.text_encoder.num_layers + 1
        by_place = demo.get_text_encoder()(inputs.input_ids, inputs.attention_mask, return_dict=False)
        np.testing.assert_array_equal(by_place[0].asnumpy(), out[0].asnumpy())
        states = demo.generate(
            encoder_outputs=(out[0],), attention_mask=inputs.attention_mask, guidance_scale=1, max_new_tokens=8
        )
        assert states.shape[0] == 2

    def test_the_codec(self, demo):
        audio = Tensor(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 6400)).astype(np.float32))
        coded = demo.audio_encoder.encode(audio, Tensor(np.ones((1, 6400), np.int32)))
        assert coded.audio_codes.shape[:3] == (1, 1, demo.decoder.num_codebooks) and coded[0] is coded["audio_codes"]
        heard = demo.audio_encoder.decode(coded.audio_codes, coded.audio_scales)
        there_and_back = demo.audio_encoder(audio)
        np.testing.assert_array_equal(heard.audio_values.asnumpy(), there_and_back.audio_values.asnumpy())
        np.testing.assert_array_equal(demo.encode(audio).asnumpy(), coded.audio_codes[0].asnumpy())

    def test_the_decoder(self, demo):
        start = np.full((demo.decoder.num_codebooks, 1), demo.generation_config.decoder_start_token_id, np.int32)
        out = demo.decoder(input_ids=start, use_cache=False)
        assert out.logits.shape == (4, 1, demo.config.decoder.vocab_size) and list(out) == ["logits"]
        assert demo.get_decoder().generate(start, max_new_tokens=8).shape == (1, 4, 5)

    def test_the_whole(self, demo, processor):
        inputs = processor(text=PROMPTS, padding=True)
        pad = demo.generation_config.pad_token_id
        start = np.ones((inputs.input_ids.shape[0] * demo.decoder.num_codebooks, 1), np.int32) * pad
        assert demo(**inputs, decoder_input_ids=start).logits.shape == (8, 1, demo.config.decoder.vocab_size)
        assert demo.forward(inputs.input_ids, inputs.attention_mask, None, None, start)[:1][0].shape[0] == 8
        refused(
            lambda: demo(**inputs, decoder_inputs_ids=start), "decoder_inputs_ids", "did you mean decoder_input_ids"
        )

    def test_a_quantised_decoder(self, processor):
        model = MusicgenForConditionalGeneration.from_pretrained("demo", quantization="int8")
        assert model.decoder.num_codebooks == 4 and model.decoder(np.full((4, 1), model.pad_code)).logits.shape[0] == 4


class TestMelody:
    def test_the_whole(self, melody):
        start = np.full((8, 1), melody.generation_config.pad_token_id, np.int32)
        out = melody(input_ids=ids(), decoder_input_ids=start)
        assert out.logits.shape == (8, 6 + 5 + 1, 64) and out.encoder_hidden_states.shape == (2, 11, 32)
        chroma = np.eye(12, dtype=np.float32)[None, :4].repeat(2, 0)
        kept = {"output_attentions": True, "output_hidden_states": True}
        out = melody(ids(), None, Tensor(chroma), start, np.ones((2, 1)), **kept)
        assert len(out.attentions) == 2 and out.attentions[0].shape == (2, 4, 12, 12) and len(out.hidden_states) == 3
        assert melody(input_features=Tensor(chroma), decoder_input_ids=start).logits.shape[1] == 7  # no text, no place
        audio = melody.generate(input_ids=ids(), input_features=Tensor(chroma), max_new_tokens=8)
        assert audio.shape[0] == 2

    def test_the_cache_holds_the_prefix(self, melody, close):
        codes = np.random.default_rng(0).integers(0, 64, (8, 4)).astype(np.int32)
        whole = melody(ids(), decoder_input_ids=codes).logits.asnumpy()
        first = melody(ids(), decoder_input_ids=codes[:, :2])
        prefix = first.encoder_hidden_states
        second = melody.decoder(codes[:, 2:], past_key_values=first.past_key_values)
        close(second.logits, whole[:, -2:])
        close(melody.decoder(codes[:, 2:], cache=first.cache).logits, whole[:, -2:])
        close(melody(encoder_hidden_states=prefix, decoder_input_ids=codes).logits, whole)

    def test_its_decoder_alone(self, melody, close, tmp_path):
        melody.save_pretrained(str(tmp_path))
        config = AutoConfig.from_pretrained(str(tmp_path)).decoder
        decoder = MusicgenMelodyForCausalLM.from_pretrained(str(tmp_path), **config.to_dict())
        states = MusicgenMelodyModel.from_pretrained(str(tmp_path), config=config)
        codes = np.zeros((8, 3), np.int32)
        prefix = Tensor(np.random.default_rng(1).standard_normal((2, 5, 32)).astype(np.float32))
        mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        arguments = {"encoder_hidden_states": prefix, "encoder_attention_mask": mask}
        masked, plain = decoder(codes, **arguments), melody.decoder(codes, encoder_hidden_states=prefix)
        close(masked.logits[:4], plain.logits[:4].asnumpy())
        assert np.abs(masked.logits[4:].asnumpy() - plain.logits[4:].asnumpy()).max() > 1e-4
        assert states(codes, **arguments).last_hidden_state.shape == (2, 8, 32)
        labels = np.zeros((2, 3, 4), np.int32)
        assert float(decoder(labels=labels, encoder_hidden_states=prefix).loss.asnumpy()) > 0
        refused(lambda: decoder.generate(max_new_tokens=5), "melody", "whole model")
        refused(lambda: decoder(codes, attention_mask=np.ones((2, 9))), "attention_mask has shape (2, 9)")


FORWARDS = {
    "MusicgenModel": MusicgenModel,
    "MusicgenForCausalLM": MusicgenForCausalLM,
    "MusicgenForConditionalGeneration": MusicgenForConditionalGeneration,
    "MusicgenMelodyModel": MusicgenMelodyModel,
    "MusicgenMelodyForCausalLM": MusicgenMelodyForCausalLM,
    "MusicgenMelodyForConditionalGeneration": MusicgenMelodyForConditionalGeneration,
    "T5EncoderModel": T5EncoderModel,
    "EncodecModel": EncodecModel,
}
TEXT_ORDER = "input_ids attention_mask head_mask inputs_embeds output_attentions output_hidden_states return_dict"
DECODER_ORDER = (
    "input_ids attention_mask encoder_hidden_states encoder_attention_mask head_mask {} past_key_values inputs_embeds "
    "{} use_cache output_attentions output_hidden_states return_dict {} cache_position"
)
ORDERS = {
    "MusicgenModel": DECODER_ORDER.format("cross_attn_head_mask", "", ""),
    "MusicgenForCausalLM": DECODER_ORDER.format("cross_attn_head_mask", "labels", ""),
    "MusicgenForConditionalGeneration": "input_ids attention_mask input_values padding_mask decoder_input_ids "
    "decoder_attention_mask encoder_outputs past_key_values inputs_embeds decoder_inputs_embeds labels use_cache "
    "output_attentions output_hidden_states return_dict",
    "MusicgenMelodyModel": DECODER_ORDER.format("", "", ""),
    "MusicgenMelodyForCausalLM": DECODER_ORDER.format("", "", "labels"),
    "MusicgenMelodyForConditionalGeneration": "input_ids attention_mask input_features decoder_input_ids "
    "decoder_attention_mask past_key_values encoder_hidden_states inputs_embeds decoder_inputs_embeds labels use_cache "
    "output_attentions output_hidden_states return_dict",
    "T5EncoderModel": TEXT_ORDER,
    "EncodecModel": "input_values padding_mask bandwidth audio_codes audio_scales return_dict last_frame_pad_length",
}


@pytest.mark.parametrize("name", FORWARDS)
def test_signatures(name):
    """The arguments of 4.57, in its order; 5.x has fewer of them, and we have some more at the end."""
    for method in ("forward", "construct"):
        found = [p for p in inspect.signature(getattr(FORWARDS[name], method)).parameters if p not in ("self", "model")]
        expected = ORDERS[name].split()
        assert found[: len(expected)] == expected, method
    assert "InputError" in inspect.getdoc(FORWARDS[name].forward)
