"""Names from habit, each with its meaning or a sentence; and what a sentence may be: short, and without arrays."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from test_documentation_page import PROMPTS, TEXT, refused, text_config

from mindmusicgen import (
    AutoConfig,
    AutoProcessor,
    EncodecFeatureExtractor,
    InputError,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    MusicgenMelodyFeatureExtractor,
    MusicgenMelodyProcessor,
    MusicgenModel,
    MusicgenProcessor,
    T5Config,
    T5EncoderModel,
    set_seed,
)
from mindmusicgen.errors import shown


@pytest.fixture(scope="module")
def demo():
    return MusicgenForConditionalGeneration.from_pretrained("demo").run_eagerly()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained("demo")


class TestHabits:
    def test_opening(self, demo):
        opened = MusicgenForConditionalGeneration.from_pretrained(
            pretrained_model_name_or_path="demo",
            torch_dtype="float32",
            device_map="auto",
            attn_implementation="sdpa",
            low_cpu_mem_usage=True,
            use_safetensors=True,
            trust_remote_code=False,
            token=None,
        )
        assert opened.dtype == ms.float32 == MusicgenModel.from_pretrained("demo", ms_dtype=ms.float32).dtype
        assert T5EncoderModel.from_pretrained("demo", dtype=np.float16, device_map={"": "cpu"}).dtype == ms.float16

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"device_map": "cuda"}, ("device_map is 'cuda'", "Ascend")),
            ({"device_map": {"a": 0, "b": 1}}, ("several devices",)),
            ({"attn_implementation": "flash_attention_2"}, ("attn_implementation", "leave it out")),
            ({"token": "secret-token"}, ("token", "HF_TOKEN")),
            ({"load_in_8bit": True}, ("load_in_8bit", 'quantization="int8"')),
            ({"quantization_config": object()}, ("quantization_config", "int8")),
            ({"variant": "fp16"}, ("variant",)),
            ({"torch_dtype": "int4"}, ("dtype is 'int4'", "float16")),
            ({"dtypes": "float16"}, ("'dtypes'",)),
        ],
    )
    @pytest.mark.parametrize("kind", [MusicgenForConditionalGeneration, MusicgenForCausalLM])
    def test_opening_refused(self, kind, arguments, words):
        refused(lambda: kind.from_pretrained("demo", **arguments), *words)
        with pytest.raises(InputError) as caught:
            kind.from_pretrained("demo", **arguments)
        assert "secret" not in str(caught.value)
        refused(lambda: kind.from_pretrained(), "needs a model")

    def test_a_torch_module_would_answer(self, demo):
        assert demo.eval() is demo.train() is demo.float() is demo.cpu() is demo
        assert demo.to("cpu") is demo.to(ms.float32) is demo and demo.decoder.to(demo.decoder.device) is demo.decoder
        assert demo.device == "CPU" == demo.decoder.device == demo.audio_encoder.device
        assert demo.can_generate() and demo.decoder.can_generate() and not demo.text_encoder.can_generate()
        counted = sum(int(np.prod(p.shape)) for p in demo.parameters())
        assert demo.num_parameters() == counted > demo.num_parameters(exclude_embeddings=True)
        assert demo.get_input_embeddings() is demo.text_encoder.shared
        assert demo.get_output_embeddings() is demo.decoder.lm_heads
        assert dict(demo.named_parameters()).keys() == demo.parameters_dict().keys()
        refused(demo.half, "float32", 'dtype="float16"')
        refused(demo.bfloat16, "float32", "bfloat16")
        refused(demo.cuda, "Ascend")
        for place in ("cuda:0", ms.float16, "npu"):
            refused(lambda place=place: demo.to(place), "from_pretrained", "device=")
        refused(demo.resize_token_embeddings, "vocab_size")

    def test_freezing(self):
        model = MusicgenForConditionalGeneration(text_config())
        everything = model.num_parameters(only_trainable=True)
        model.freeze_text_encoder()
        without_text = model.num_parameters(only_trainable=True)
        model.freeze_audio_encoder()
        assert everything > without_text > model.num_parameters(only_trainable=True) > 0
        assert not any(p.requires_grad for p in model.audio_encoder.parameters())

    def test_saving(self, tmp_path):
        model = MusicgenForConditionalGeneration(text_config())
        model.save_pretrained(
            save_directory=str(tmp_path), safe_serialization=True, max_shard_size="20KB", push_to_hub=False
        )
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 2 and not (tmp_path / "model.safetensors").exists()
        loaded = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path))
        np.testing.assert_array_equal(loaded.decoder.lm_heads.weight.asnumpy(), model.decoder.lm_heads.weight.asnumpy())
        model.save_pretrained(str(tmp_path), max_shard_size=10**9)
        assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"push_to_hub": True}, ("push_to_hub", "upload_folder")),
            ({"safe_serialization": False}, ("safe_serialization", "safetensors")),
            ({"max_shard_size": "big"}, ("max_shard_size is 'big'", "5GB")),
            ({"max_shard_size": 0}, ("max_shard_size is 0",)),
            ({"max_shards": 3}, ("'max_shards'",)),
            ({"dtype": "int8"}, ("dtype is 'int8'",)),
        ],
    )
    def test_saving_refused(self, demo, tmp_path, arguments, words):
        for model in (demo, T5EncoderModel(T5Config(**TEXT))):
            refused(lambda model=model: model.save_pretrained(str(tmp_path / "new"), **arguments), *words)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        "name", ["logits_processor", "stopping_criteria", "assistant_model", "negative_prompt_ids"]
    )
    def test_generate_refused(self, demo, name):
        for call in (demo.generate, demo.decoder.generate):
            refused(lambda call=call: call(max_new_tokens=5, **{name: [1]}), f"generate does not take {name}")
        demo.decoder.generate(max_new_tokens=8, **{name: None})


class TestProcessor:
    """A processor of a feature extractor and a tokenizer, called as transformers' are."""

    rate = 32000
    tone = (0.3 * np.sin(np.arange(32000) / 20)).astype(np.float32)

    def test_made_of_its_two_halves(self, processor, tmp_path):
        made = MusicgenProcessor(processor.feature_extractor, processor.tokenizer)
        made.save_pretrained(save_directory=str(tmp_path), push_to_hub=False)
        again = MusicgenProcessor.from_pretrained(str(tmp_path), use_fast=True, padding_side="right")
        assert again.feature_extractor.padding_side == "right" and again.sampling_rate == self.rate
        assert again.channels == 1 and "padding_mask" in again.model_input_names
        assert MusicgenProcessor(EncodecFeatureExtractor(2, 24000), processor.tokenizer).channels == 2
        refused(lambda: MusicgenProcessor(processor.tokenizer), "EncodecFeatureExtractor", "tokenizer behind it")
        refused(
            lambda: MusicgenProcessor.from_pretrained(str(tmp_path), padding_sides=1),
            "'padding_sides'",
            "padding_side?",
        )

    def test_audio_comes_first(self, processor):
        by_place = processor(self.tone, sampling_rate=self.rate, text=PROMPTS[:1])
        by_name = processor(audio=self.tone, sampling_rate=self.rate, text=PROMPTS[:1])
        assert set(by_place) == set(by_name) == {"input_ids", "attention_mask", "input_values", "padding_mask"}
        np.testing.assert_array_equal(by_place.input_values.asnumpy(), by_name.input_values.asnumpy())
        assert set(processor(PROMPTS)) == {"input_ids", "attention_mask"}
        assert set(processor("jazz", self.tone, sampling_rate=self.rate)) == set(by_place)
        refused(lambda: processor("jazz", text="jazz"), "text twice")
        refused(lambda: processor(self.tone, self.tone), "audio twice")
        refused(lambda: processor(*PROMPTS, self.tone), "3 arguments")
        refused(lambda: processor("jazz", return_tensors="pt"), "'pt'", '"ms"')
        refused(lambda: processor("jazz", sampling_rates=1), "'sampling_rates'", "sampling_rate?")
        refused(lambda: processor("jazz", truncation=False), "truncation=False")

    def test_ids_back_to_text(self, processor):
        ids = processor(PROMPTS[:1]).input_ids
        for given in (ids, ids.asnumpy(), ids.asnumpy().tolist()):
            assert processor.batch_decode(given, skip_special_tokens=True) == PROMPTS[:1]
        assert processor.decode(ids[0], skip_special_tokens=True) == PROMPTS[0]
        assert processor.batch_decode(sequences=ids) == [PROMPTS[0] + "</s>"]

    def test_audio_without_its_padding(self, processor):
        inputs = processor([self.tone, self.tone[:20000]], sampling_rate=self.rate)
        for mask in ({"padding_mask": inputs.padding_mask}, {"attention_mask": inputs.padding_mask}):
            clips = processor.batch_decode(inputs.input_values, **mask)
            assert [clip.shape for clip in clips] == [(1, 32000), (1, 20000)]
        assert len(processor.batch_decode(audio=inputs.input_values)) == 2
        refused(lambda: processor.batch_decode(), "audio of generate")

    def test_the_feature_extractor_alone(self, processor):
        inputs = processor.feature_extractor([self.tone, self.tone[:20000]], sampling_rate=self.rate)
        assert isinstance(inputs["input_values"], Tensor) and inputs["padding_mask"].asnumpy().sum() == 52000
        assert EncodecFeatureExtractor.from_pretrained("demo").to_dict() == processor.feature_extractor.to_dict()
        refused(lambda: processor.feature_extractor(self.tone, sampling_rate=24000), "24000", "resamples")
        refused(lambda: processor.feature_extractor(np.zeros((2, 3, 4))), "raw_audio")

    def test_of_melodies(self, processor, tmp_path):
        extractor = MusicgenMelodyFeatureExtractor()
        made = MusicgenMelodyProcessor(extractor, processor.tokenizer)
        inputs = made(self.tone, sampling_rate=self.rate, text=PROMPTS[:1], padding=True)
        assert set(inputs) == {"input_ids", "attention_mask", "input_features"}
        alone = extractor(self.tone, sampling_rate=self.rate).input_features.asnumpy()
        np.testing.assert_array_equal(alone, inputs.input_features.asnumpy())
        made.save_pretrained(str(tmp_path))
        assert AutoProcessor.from_pretrained(str(tmp_path)).feature_extractor == extractor
        assert made.get_unconditional_inputs(num_samples=2).input_ids.shape == (2, 1)
        refused(lambda: MusicgenMelodyFeatureExtractor.from_pretrained("demo"), "no melody model")


LONG, LISTS, WORDS = np.zeros((40, 50)), list(range(5000)), "y" * 5000
SETTINGS = ("guidance_scale", "max_new_tokens", "max_length", "temperature", "top_k", "top_p", "duration", "seed")
SETTINGS += ("num_return_sequences", "extend_stride", "streamer", "x" * 900)


def bad_calls(demo):
    """Calls with an array, or something long, in the place of every kind of argument: (what, call)."""
    start, null = np.full((4, 1), demo.pad_code), dict(demo.get_unconditional_inputs())
    del null["guidance_scale"]
    processor = AutoProcessor.from_pretrained("demo")
    for value in (LONG, LISTS, WORDS, Tensor(LONG.astype(np.float32))):
        for name in SETTINGS:
            more = {"duration": 40} if name == "extend_stride" else {"max_new_tokens": 8}
            more = {} if name in ("max_new_tokens", "duration", "max_length") else more
            yield name, lambda n=name, v=value, m=more: demo.generate(**null, **m, **{n: v})
        for name in ("encoder_outputs", "audio_codes", "input_values", "num_samples"):
            yield name, lambda n=name, v=value: demo.generate(**{n: v}, max_new_tokens=8)
        for name in ("attention_mask", "labels", "past_key_values"):
            yield name, lambda n=name, v=value: demo.decoder(start, **{n: v})
        for name in ("dtype", "config", "quantization", "device", "attn_implementation", "device_map", "n" * 800):
            yield name, lambda n=name, v=value: MusicgenForConditionalGeneration.from_pretrained("demo", **{n: v})
        yield "model", lambda v=value: MusicgenForConditionalGeneration.from_pretrained(v)
        yield "num_samples", lambda v=value: demo.get_unconditional_inputs(v)
        yield "seed", lambda v=value: set_seed(v)
        yield "max_shard_size", lambda v=value: demo.save_pretrained("nowhere", max_shard_size=v)
        yield "model_type", lambda v=value: AutoConfig.for_model(v)
        yield "bandwidth", lambda v=value: demo.audio_encoder.encode(np.zeros((1, 1, 6400), np.float32), bandwidth=v)
        yield "chunk_seconds", lambda v=value: next(demo.stream(**null, chunk_seconds=v, max_new_tokens=8))
        yield "return_tensors", lambda v=value: processor("jazz", return_tensors=v)
        if value is not WORDS:
            yield "text", lambda v=value: processor(text=v)


def test_no_message_is_long_or_prints_an_array(demo):
    calls = list(bad_calls(demo))
    for what, call in calls:
        with pytest.raises(InputError) as caught:
            call()
        said = str(caught.value)
        assert len(said) <= 300 and "\n" not in said, (what, said)
        assert not any(part in said for part in ("2, 3, 4", "0. 0.", "0., 0.", "array([", "Tensor(")), (what, said)
    assert len(calls) > 100


def test_a_sentence_of_any_length_and_value():
    """What is right stands at the end of a sentence, so that the middle is what is cut."""
    long = InputError(f"folder {'a/' * 300} holds nothing; expected config.json")
    assert len(str(long)) <= 300 and str(long).startswith("folder a/") and str(long).endswith("expected config.json")
    assert str(InputError("two\nlines")) == "two lines"
    assert (
        shown(LONG) == shown(Tensor(LONG)) == "an array of shape (40, 50)" and shown(LISTS) == "a list of 5000 entries"
    )
    assert len(shown(WORDS)) == 60 and shown("abc") == "'abc'" and shown(2.5) == "2.5"
