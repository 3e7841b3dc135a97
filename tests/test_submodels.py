"""The sub-models without torch: where they load from, what they return, what they generate, and what they refuse."""

import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from safetensors.numpy import save_file

import mindmusicgen
from mindmusicgen import EncodecModel, InputError, MusicgenForCausalLM, MusicgenModel, T5EncoderModel

KINDS = {"decoder": "musicgen_decoder", "text_encoder": "t5", "audio_encoder": "encodec"}
CLASSES = {"decoder": MusicgenForCausalLM, "text_encoder": T5EncoderModel, "audio_encoder": EncodecModel}


def write_part(golden, folder, part, change=None):
    """A folder of one network alone, as transformers would write it; `change` edits the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(golden.config[part] | {"model_type": KINDS[part]}))
    weights = {name[len(part) + 1 :]: w for name, w in golden.weights.items() if name.startswith(part + ".")}
    if change is not None:
        change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


@pytest.fixture(scope="module")
def folder(quad, tmp_path_factory):
    return str(quad.write(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def decoder(folder):
    return MusicgenForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def inputs(quad):
    return {
        "input_ids": Tensor(quad["decoder.ids"]),
        "attention_mask": Tensor(quad["decoder.mask"]),
        "decoder_input_ids": Tensor(quad["decoder.codes"]),
    }


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert str(word) in str(caught.value), (word, str(caught.value))
    assert "\n" not in str(caught.value)


class TestLoading:
    @pytest.mark.parametrize("part", KINDS)
    def test_own_folder_composite_and_native_hold_the_same(self, quad, folder, tmp_path, part):
        from mindmusicgen.musicgen.checkpoint.folder import save_native

        save_native(quad.model, str(tmp_path / "native"))
        mine = write_part(quad, tmp_path / "own", part)
        expected = {n: p.asnumpy() for n, p in quad.model.parameters_and_names() if n.startswith(part + ".")}
        for where in (folder, mine, str(tmp_path / "native")):
            piece = CLASSES[part].from_pretrained(where)
            found = dict(piece.parameters_and_names())
            assert set(found) == set(expected)
            for name, parameter in found.items():
                np.testing.assert_array_equal(parameter.asnumpy(), expected[name], err_msg=name)

    def test_missing_and_left_over_weights_are_named(self, quad, tmp_path):
        query = "model.decoder.layers.1.self_attn.q_proj.weight"
        short = write_part(quad, tmp_path / "short", "decoder", lambda weights: weights.pop(query))
        refused(lambda: MusicgenForCausalLM.from_pretrained(short), short, "lacks " + query)
        headless = write_part(quad, tmp_path / "headless", "decoder", lambda weights: weights.pop("lm_heads.2.weight"))
        refused(lambda: MusicgenForCausalLM.from_pretrained(headless), "lacks lm_heads.2.weight")
        MusicgenModel.from_pretrained(headless)  # it has no heads to miss
        extra = write_part(quad, tmp_path / "more", "audio_encoder", lambda w: w.update(more=np.zeros(2, np.float32)))
        refused(lambda: EncodecModel.from_pretrained(extra), "holds more")

    def test_other_kinds_of_folders_are_refused(self, quad, tmp_path):
        text = write_part(quad, tmp_path / "text", "text_encoder")
        refused(lambda: MusicgenForCausalLM.from_pretrained(text), "'t5'", "'musicgen_decoder'", "'musicgen'")
        decoder = write_part(quad, tmp_path / "decoder", "decoder")
        refused(lambda: EncodecModel.from_pretrained(decoder), "'musicgen_decoder'", "'encodec'")

    def test_the_heads_take_no_memory_where_there_are_none(self, folder, decoder):
        without = dict(MusicgenModel.from_pretrained(folder).parameters_and_names())
        assert set(dict(decoder.parameters_and_names())) - set(without) == {"decoder.lm_heads.weight"}

    def test_half_precision(self, folder, inputs, decoder):
        half = MusicgenForCausalLM.from_pretrained(folder, dtype="float16")
        codes = inputs["decoder_input_ids"]
        found, expected = half(codes).logits, decoder(codes).logits.asnumpy()
        assert found.dtype == ms.float32 and half.decoder.lm_heads.weight.dtype == ms.float16
        assert np.abs(found.asnumpy() - expected).max() < 0.02 * np.abs(expected).max()


class TestConfigs:
    def test_from_sub_models_config(self, quad):
        from transformers import MusicgenConfig as Theirs

        parts = [
            getattr(mindmusicgen, name)(**{k: v for k, v in quad.config[part].items() if k != "model_type"})
            for name, part in (
                ("T5Config", "text_encoder"),
                ("EncodecConfig", "audio_encoder"),
                ("MusicgenDecoderConfig", "decoder"),
            )
        ]
        config = mindmusicgen.MusicgenConfig.from_sub_models_config(*parts)
        assert isinstance(config, Theirs) and config.decoder.hidden_size == quad.config["decoder"]["hidden_size"]
        model = mindmusicgen.MusicgenForConditionalGeneration(config)
        shapes = {name: p.shape for name, p in model.parameters_and_names()}
        assert shapes == {name: p.shape for name, p in quad.model.parameters_and_names()}

    def test_a_piece_from_a_config_alone(self, quad):
        config = mindmusicgen.MusicgenDecoderConfig(
            vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, num_codebooks=2
        )
        config.pad_token_id = config.bos_token_id = 16
        model = MusicgenForCausalLM(config).initialise(seed=1)
        logits = model(np.zeros((4, 3), np.int32)).logits.asnumpy()
        assert logits.shape == (4, 3, 16) and np.abs(logits).max() > 0


class TestCalls:
    def test_goldens(self, quad, inputs, close):
        """The same logits as the generation's own network, whole and put together of sub-models."""
        out = quad.model(**inputs)
        close(out.logits, quad["decoder.logits"])
        assert out[0] is out.logits and out["logits"] is out.logits and "loss" not in out
        assert set(out) == {"logits", "past_key_values", "encoder_last_hidden_state"}
        with pytest.raises(KeyError, match="logits, past_key_values"):
            out["loss"]

    def test_one_column_as_in_the_documentation(self, quad, inputs):
        decoder = quad.model.config.decoder
        start = np.full((2 * decoder.num_codebooks, 1), decoder.vocab_size, np.int32)
        out = quad.model(**(inputs | {"decoder_input_ids": start}), use_cache=False)
        assert out.logits.shape == (8, 1, decoder.vocab_size) and out.past_key_values is None

    def test_cache_without_text_given_again(self, decoder, inputs, close):
        """The cache keeps the text's keys, so the text need not be encoded again."""
        codes, states = inputs["decoder_input_ids"], np.ones((2, 3, decoder.config.hidden_size), np.float32)
        whole = decoder(codes, encoder_hidden_states=states).logits.asnumpy()
        first = decoder(codes[:, :2], encoder_hidden_states=states)
        second = decoder(codes[:, 2:], cache=first.cache)
        close(first.logits, whole[:, :2])
        close(second.logits, whole[:, 2:])
        assert np.abs(decoder(codes).logits.asnumpy() - whole).max() > 0.01

    def test_embeddings_are_those_of_the_codes(self, decoder, inputs, close):
        codes = inputs["decoder_input_ids"]
        embeds = decoder.decoder.embed_tokens(codes.reshape(2, 4, -1))
        close(decoder(inputs_embeds=embeds).logits, decoder(codes).logits.asnumpy())

    def test_a_context_in_graph_mode(self, decoder, inputs, close):
        expected = decoder(inputs["decoder_input_ids"]).logits.asnumpy()
        ms.set_context(mode=ms.GRAPH_MODE)
        try:
            close(decoder(inputs["decoder_input_ids"]).logits, expected)
        finally:
            ms.set_context(mode=ms.PYNATIVE_MODE)

    def test_the_whole_model_in_graph_mode(self, quad, inputs, close):
        ms.set_context(mode=ms.GRAPH_MODE)
        try:
            close(quad.model(**inputs).logits, quad["decoder.logits"])
        finally:
            ms.set_context(mode=ms.PYNATIVE_MODE)

    def test_labels_that_do_not_count(self, decoder):
        labels = np.full((1, 5, 4), -100, np.int32)
        labels[0, :, 1] = 3
        first = float(decoder(labels=labels).loss.asnumpy())
        labels[0, :, 0] = decoder.config.vocab_size
        assert float(decoder(labels=labels).loss.asnumpy()) == first > 0

    def test_codec_there_and_back(self, quad, folder, close):
        codec = EncodecModel.from_pretrained(folder)
        audio = (0.3 * np.random.default_rng(0).standard_normal((1, 1, 1300))).astype(np.float32)
        coded = codec.encode(audio)
        books = coded.audio_codes.shape[2]
        assert coded.audio_codes.shape == (1, 1, books, 3) and coded.audio_scales == [None]
        codes, _ = quad.model.audio_encoder.to_codes(Tensor(audio), books)
        np.testing.assert_array_equal(coded.audio_codes[0].asnumpy(), codes.asnumpy())
        close(codec.decode(coded.audio_codes).audio_values, quad.model.audio_encoder.to_audio(codes).asnumpy())
        assert codec(audio).audio_values.shape == (1, 1, 1300)


class TestGenerate:
    def greedy(self, model, **arguments):
        return model.generate(do_sample=False, max_new_tokens=8, **arguments).asnumpy()

    def test_no_text_is_the_null_text(self, quad, decoder):
        whole = quad.model.generate(
            **quad.model.get_unconditional_inputs(1), do_sample=False, max_new_tokens=8, return_dict_in_generate=True
        )
        found = self.greedy(decoder)
        np.testing.assert_array_equal(found, whole.audio_codes.asnumpy())
        np.testing.assert_array_equal(self.greedy(decoder, guidance_scale=3.0), found)
        assert found.shape == (1, 4, 5) and found.min() >= 0 and found.max() < decoder.config.vocab_size

    @pytest.mark.parametrize("scale", [1.0, 3.0])
    def test_text_as_the_composite_gives_it(self, quad, decoder, inputs, scale):
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        arguments = {"do_sample": True, "max_new_tokens": 8, "guidance_scale": scale, "seed": 5}
        whole = quad.model.generate(ids, mask, return_dict_in_generate=True, **arguments).audio_codes.asnumpy()
        states = quad.model.conditioner(quad.model.text_encoder.construct(ids, mask), mask)
        arguments |= {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        np.testing.assert_array_equal(decoder.generate(**arguments).asnumpy(), whole)

    def test_codes_to_continue(self, decoder):
        known = np.random.default_rng(0).integers(0, decoder.config.vocab_size, (2, 4, 3)).astype(np.int32)
        found = self.greedy(decoder, inputs=known)
        np.testing.assert_array_equal(found[:, :, :3], known)
        start = np.full((8, 1), decoder.pad_code, np.int32)
        again = self.greedy(decoder, input_ids=np.concatenate([start, known.reshape(8, 3)], axis=1))
        np.testing.assert_array_equal(again, found)
        assert self.greedy(decoder, inputs=start).shape == (2, 4, 5)

    def test_sampled_pieces_differ_and_repeat(self, decoder):
        arguments = {"do_sample": True, "max_new_tokens": 8, "seed": 3, "num_return_sequences": 2}
        first, second = (decoder.generate(**arguments).asnumpy() for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == (2, 4, 5) and (first[0] != first[1]).any()


BAD_CALLS = {
    "codes out of range": ({"input_ids": np.full((4, 2), 65)}, "input_ids", 65, 63),
    "rows": ({"input_ids": np.zeros((6, 2))}, "input_ids", "(6, 2)", "4"),
    "ids and embeds": (
        {"input_ids": np.zeros((4, 2)), "inputs_embeds": np.zeros((1, 2, 36))},
        "input_ids and inputs_embeds",
        "one",
    ),
    "nothing": ({}, "input_ids or inputs_embeds"),
    "labels' codebooks": ({"labels": np.zeros((1, 2, 3))}, "labels", "(1, 2, 3)", "4 codebooks"),
    "labels' range": ({"labels": np.full((1, 2, 4), -1)}, "labels", -100),
    "more labels than codes": ({"input_ids": np.zeros((4, 2)), "labels": np.zeros((1, 3, 4))}, "labels", "3 columns"),
    "head mask": ({"input_ids": np.zeros((4, 2)), "head_mask": np.ones((1, 4))}, "head_mask", "(1, 4)", "layers"),
    "cross mask": (
        {"input_ids": np.zeros((4, 2)), "cross_attn_head_mask": np.ones(3)},
        "cross_attn_head_mask",
        "encoder_hidden_states",
    ),
    "mask": ({"input_ids": np.zeros((4, 2)), "attention_mask": np.ones((1, 3))}, "attention_mask", "(1, 3)", "(1, 2)"),
    "mask values": ({"input_ids": np.zeros((4, 2)), "attention_mask": np.full((1, 2), 7)}, "attention_mask", 7),
    "width": ({"inputs_embeds": np.zeros((1, 2, 5))}, "inputs_embeds", "(1, 2, 5)"),
    "text rows": ({"input_ids": np.zeros((4, 2)), "encoder_hidden_states": np.zeros((3, 2, 36))}, "3 rows"),
    "cache": ({"input_ids": np.zeros((4, 2)), "past_key_values": ((1, 2),)}, "past_key_values"),
    "positions": ({"input_ids": np.zeros((4, 9999))}, "9999"),
}


class TestRefusals:
    @pytest.mark.parametrize("name", BAD_CALLS)
    def test_of_the_decoder(self, decoder, name):
        arguments, *words = BAD_CALLS[name]
        width = decoder.config.hidden_size
        arguments = {
            key: np.zeros((*value.shape[:2], width), np.float32)
            if getattr(value, "ndim", 0) == 3 and value.shape[2] == 36
            else value
            for key, value in arguments.items()
        }
        refused(lambda: decoder(**arguments), *words)

    def test_of_the_whole_model(self, quad, inputs):
        refused(lambda: quad.model(**(inputs | {"input_ids": None})), "input_ids or inputs_embeds or encoder_")
        refused(
            lambda: quad.model(**(inputs | {"decoder_input_ids": None})),
            "decoder_input_ids or decoder_inputs_embeds",
        )
        refused(lambda: quad.model(**inputs, head_mask=np.ones((1, 1))), "head_mask", "(1, 1)")
        states = (np.zeros((2, 7, 24), np.float32),)
        refused(lambda: quad.model(**inputs, encoder_outputs=states), "input_ids and encoder_outputs")
        tokens = inputs | {"input_ids": np.full((2, 7), 9999)}
        refused(lambda: quad.model(**tokens), "input_ids", "0 to 99")

    def test_of_the_codec(self, folder):
        codec = EncodecModel.from_pretrained(folder)
        audio = np.zeros((1, 1, 640), np.float32)
        refused(lambda: codec.encode(np.zeros((1, 3, 640))), "3 channels", "has 1")
        refused(lambda: codec.encode(audio * np.nan), "finite")
        refused(lambda: codec.encode(audio, bandwidth=7.5), "bandwidth", 7.5, codec.config.target_bandwidths[0])
        refused(lambda: codec.encode(audio, np.ones((1, 9))), "padding_mask", "640")
        refused(lambda: codec.decode(np.full((1, 1, 2, 3), 64)), "audio_codes", 64)
        refused(lambda: codec.decode(np.zeros((2, 1, 2, 3))), "2 chunks")
        refused(lambda: codec.decode(np.zeros((1, 2, 3))), "audio_codes", "(1, 2, 3)")
        refused(lambda: codec(), "input_values or audio_codes")

    def test_of_generate(self, decoder):
        codes = np.zeros((4, 3), np.int32)
        refused(lambda: decoder.generate(np.zeros((3, 2))), "inputs", "(3, 2)")
        delayed = np.array([[64, 1, 2], [64, 64, 1], [64, 64, 64], [64, 64, 64]])
        refused(lambda: decoder.generate(delayed), "inputs", 64, "without delay")
        states = np.zeros((3, 2, decoder.config.hidden_size), np.float32)
        refused(lambda: decoder.generate(codes, encoder_hidden_states=states), "3 rows", "1 pieces")
        refused(lambda: decoder.generate(max_new_tokens=0), "max_new_tokens")
        refused(lambda: decoder.generate(wrong=1), "'wrong'")
        refused(lambda: decoder.generate(codes, input_ids=codes), "inputs and input_ids")
