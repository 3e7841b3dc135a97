"""Melody models: chroma, processor, generation with a prefix, checkpoints, the command line, and refusals."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mindspore import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from random_checkpoint import CODEC, build_tokenizer
from transformers import EncodecConfig, T5Config

from mindmusicgen import (
    AutoProcessor,
    InputError,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    MusicgenMelodyProcessor,
    MusicgenProcessor,
    T5EncoderModel,
    cli,
)
from mindmusicgen.musicgen.melody.chroma import chroma_features, chroma_filters
from mindmusicgen.musicgen.training.finetune import finetune

STRIDE = 11  # of a golden run's audio every 11th sample is kept
RATE = 32000
NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
PROMPT = "80s pop track with bassy drums and synth"


def tone(frequency, seconds=2.0, rate=RATE):
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def refusal(call, *words):
    """The call must raise one printable line with all the words."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable(), message
    for word in words:
        assert word in message, message


class TestChroma:
    @pytest.mark.parametrize(("note", "frequency"), [("C", 261.63), ("A", 440.0), ("F#", 92.5), ("D", 1174.66)])
    def test_a_sine_lands_in_its_class(self, note, frequency):
        found = chroma_features(tone(frequency), RATE)
        assert found.shape == (1 + 64000 // 4096, 12) and found.dtype == np.float32
        np.testing.assert_array_equal(found.argmax(axis=1), NOTES.index(note))
        np.testing.assert_array_equal(found.sum(axis=1), 1)

    def test_a_tune(self):
        """Half a second each of A, C and E; the frames between two notes may be either."""
        found = chroma_features(np.concatenate([tone(f, 1.024) for f in (440.0, 523.25, 659.26)]), RATE).argmax(axis=1)
        for start, note in ((1, "A"), (9, "C"), (17, "E")):
            np.testing.assert_array_equal(found[start : start + 6], NOTES.index(note))

    def test_silence_is_c_and_short_audio_is_enough(self):
        np.testing.assert_array_equal(chroma_features(np.zeros(9), RATE).argmax(axis=1), 0)
        assert chroma_features(tone(440)[:100], RATE).shape == (5, 12)

    def test_long_audio_in_pieces(self):
        audio = np.random.default_rng(0).standard_normal(RATE * 40)
        found = chroma_features(audio, RATE)
        np.testing.assert_array_equal(found[4:200], chroma_features(audio[: RATE * 30], RATE)[4:200])
        assert len(found) == 1 + len(audio) // 4096 > 256

    def test_filters_have_the_width_of_a_class(self):
        filters = chroma_filters(RATE)
        assert filters.shape == (12, 8193) and not filters.flags.writeable
        bins = np.rint(np.array([440.0, 466.16]) * 16384 / RATE).astype(int)
        assert (filters[:, bins].argmax(axis=0) == [9, 10]).all()


@pytest.fixture(scope="module")
def processor():
    return MusicgenMelodyProcessor(tokenizer=build_tokenizer())


class TestProcessor:
    def test_text_and_melody(self, processor):
        found = processor(text=[PROMPT, "techno"], audio=tone(440), sampling_rate=RATE)
        assert set(found) == {"input_ids", "attention_mask", "input_features"}
        assert isinstance(found["input_features"], Tensor) and found["input_features"].shape == (1, 16, 12)
        assert set(processor(text="techno")) == {"input_ids", "attention_mask"}
        assert set(processor(audio=tone(440), sampling_rate=RATE)) == {"input_features"}

    def test_files_rates_and_channels(self, processor, tmp_path):
        sides = np.stack([tone(440, 2, 44100), tone(880, 2, 44100)], axis=1)
        soundfile.write(tmp_path / "a.wav", sides, 44100)
        for audio in ({"audio": str(tmp_path / "a.wav")}, {"audio": sides, "sampling_rate": 44100}):
            found = processor(**audio, return_tensors="np")["input_features"]
            assert found.shape == (1, 16, 12) and (found.argmax(axis=2) == 9).all()

    def test_several_are_padded_with_silence(self, processor):
        found = processor(audio=[tone(440, 1), tone(440, 2)], sampling_rate=RATE, return_tensors="np")
        chroma = found["input_features"].argmax(axis=2)
        assert (chroma[1] == 9).all() and (chroma[0, :7] == 9).all() and (chroma[0, 10:] == 0).all()
        refusal(
            lambda: processor(audio=[tone(440, 1), tone(440)], sampling_rate=RATE, padding=False), "differ in length"
        )

    def test_stems(self, processor):
        stems = np.zeros((1, 4, 2, 64000), np.float32)
        stems[0, 1], stems[0, 2] = tone(261.63), tone(440)
        found = processor(audio=stems, sampling_rate=RATE, return_tensors="np")["input_features"]
        assert (found.argmax(axis=2) == 9).all()
        refusal(lambda: processor(audio=stems[:, :2], sampling_rate=RATE), "2 stems", "Demucs")

    def test_audio_to_continue_stands_beside_the_melody(self, processor):
        found = processor(text="techno", audio=tone(440), audio_prompt=tone(220, 1), sampling_rate=RATE)
        assert found["input_values"].shape == (1, 1, RATE) and found["input_features"].shape == (1, 16, 12)

    def test_what_the_model_does_not_hear(self, processor):
        long = tone(440, 31)
        with pytest.warns(UserWarning, match="melody 1 has 31.0 s and the model hears 30 s"):
            assert processor(audio=long, sampling_rate=RATE)["input_features"].shape[1] == 235
        assert processor(audio=long, sampling_rate=RATE, truncation=False)["input_features"].shape[1] == 243

    def test_refusals(self, processor, tmp_path):
        soundfile.write(tmp_path / "still.wav", np.zeros(RATE), RATE)
        refusal(lambda: processor(audio=str(tmp_path / "still.wav")), "still.wav", "silent")
        refusal(lambda: processor(audio=[tone(440), np.zeros(99)], sampling_rate=RATE), "melody 2 is silent")
        refusal(lambda: processor(audio=np.full(999, np.nan), sampling_rate=RATE), "not finite")
        refusal(lambda: processor(audio=str(tmp_path / "no.wav")), "no.wav", "cannot be read")
        refusal(lambda: processor(audio=tone(440)), "sampling_rate is not given")
        refusal(lambda: processor(audio=[], sampling_rate=RATE), "empty list")
        refusal(lambda: processor(), "needs text, audio or both")
        refusal(lambda: processor(audio=tone(440), negative_text="noise", sampling_rate=RATE), "needs a prompt")
        refusal(lambda: processor(audio=tone(440), sampling_rate=RATE, return_tensors="pt"), "return_tensors")
        refusal(lambda: processor.get_unconditional_inputs(0), "num_samples is 0")

    def test_saved_and_opened_again(self, processor, tmp_path):
        processor.save_pretrained(str(tmp_path))
        again = AutoProcessor.from_pretrained(str(tmp_path))
        assert type(again) is MusicgenMelodyProcessor and again.feature_extractor == processor.feature_extractor
        refusal(lambda: MusicgenProcessor.from_pretrained(str(tmp_path)), "MusicgenMelodyProcessor")
        layout = json.loads((tmp_path / "preprocessor_config.json").read_text())
        assert layout["feature_extractor_type"] == "MusicgenMelodyFeatureExtractor" and layout["n_samples"] == 960000
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(layout | {"hop_length": 0}))
        refusal(lambda: AutoProcessor.from_pretrained(str(tmp_path)), "preprocessor_config.json", "above 0")

    def test_a_text_model_has_the_other_processor(self, tmp_path):
        MusicgenProcessor(tokenizer=build_tokenizer()).save_pretrained(str(tmp_path))
        assert type(AutoProcessor.from_pretrained(str(tmp_path))) is MusicgenProcessor
        refusal(lambda: MusicgenMelodyProcessor.from_pretrained(str(tmp_path)), "no melody model")


@pytest.fixture(scope="module")
def golden(goldens):
    golden = goldens("melody")
    golden.model.codec_graphs.eager |= {"pieces"}  # compiling them takes seconds
    return golden


@pytest.fixture(scope="module")
def model(golden):
    return golden.model


def codes(model, **arguments):
    return model.generate(return_dict_in_generate=True, **arguments).audio_codes.asnumpy()


class TestGolden:
    def test_logits(self, golden, close):
        ids, mask, known = (Tensor(golden[f"decoder.{name}"]) for name in ("ids", "mask", "codes"))
        chroma = Tensor(golden["melody.features"])
        close(golden.model(ids, mask, chroma, known).logits, golden["melody.logits"])
        close(golden.model.logits(ids, mask, known, chroma), golden["melody.logits"])
        close(golden.model(ids, mask, decoder_input_ids=known).logits, golden["melody.null"])

    @pytest.mark.parametrize("index", range(3))
    def test_greedy(self, golden, close, index):
        arguments = dict(golden.runs[index])
        if arguments.pop("melody", False):
            arguments["input_features"] = golden["melody.features"]
        if arguments.pop("prompt_frames", 0):
            arguments["decoder_input_ids"] = golden[f"run{index}.prompt"]
        text = {"input_ids": golden["run.ids"], "attention_mask": golden["run.mask"]}
        out = golden.model.generate(**text, do_sample=False, return_dict_in_generate=True, **arguments)
        np.testing.assert_array_equal(out.audio_codes.asnumpy(), golden[f"run{index}.codes"])
        assert out.audio_values.shape[1:] == (2, golden[f"run{index}.samples"])
        close(out.audio_values.asnumpy()[..., ::STRIDE], golden[f"run{index}.audio"])


@pytest.fixture(scope="module")
def given(golden):
    text = {"input_ids": golden["run.ids"], "attention_mask": golden["run.mask"]}
    return text | {"input_features": golden["melody.features"]}


class TestGenerate:
    def test_the_melody_is_heard(self, model, given):
        found = codes(model, **given, max_new_tokens=12, seed=1)
        np.testing.assert_array_equal(found, codes(model, **given, max_new_tokens=12, seed=1))
        other = given | {"input_features": np.roll(given["input_features"], 5, axis=2)}
        assert (found != codes(model, **other, max_new_tokens=12, seed=1)).any()

    def test_one_melody_for_all(self, model, given):
        one = given["input_features"][:1]
        found = codes(model, **given | {"input_features": one}, max_new_tokens=8, seed=1)
        both = given | {"input_features": np.repeat(one, 2, axis=0)}
        np.testing.assert_array_equal(found, codes(model, **both, max_new_tokens=8, seed=1))

    def test_several_pieces_for_each_prompt(self, model, given):
        found = codes(model, **given, num_return_sequences=2, max_new_tokens=8, seed=5)
        repeated = {name: np.repeat(value, 2, axis=0) for name, value in given.items()}
        np.testing.assert_array_equal(found, codes(model, **repeated, max_new_tokens=8, seed=5))

    def test_a_negative_prompt(self, model, given):
        other = np.array([[9, 8, 7, 1]], np.int32)
        found = codes(model, **given, negative_input_ids=other, guidance_scale=3.0, max_new_tokens=8, seed=2)
        assert (found != codes(model, **given, guidance_scale=3.0, max_new_tokens=8, seed=2)).any()
        alone = {"input_features": given["input_features"], "negative_input_ids": other, "max_new_tokens": 8}
        refusal(lambda: codes(model, **alone, guidance_scale=3.0), "input_ids")

    def test_steps_follow_what_all_columns_at_once_say(self, model, given, close):
        """Greedy codes are the most likely of the logits for themselves, undelayed: 3 columns are too few to delay."""
        made = codes(model, **given, do_sample=False, guidance_scale=1.0, max_new_tokens=1)[:, :, 0]
        start = np.full((8, 1), model.config.decoder.vocab_size, np.int32)
        logits = model(**given, decoder_input_ids=start).logits.asnumpy()
        np.testing.assert_array_equal(logits[:, -1].argmax(axis=-1).reshape(2, 4), made)

    def test_a_second_call_compiles_nothing(self, model, given, compiled):
        codes(model, **given, max_new_tokens=9, seed=1)
        before = compiled()
        changed = given | {"input_ids": given["input_ids"][:, :7], "attention_mask": given["attention_mask"][:, :7]}
        codes(model, **changed, max_new_tokens=11, seed=2, guidance_scale=2.0, temperature=0.7)
        assert compiled() == before

    def test_further_windows_hear_the_melody_from_where_they_lie(self, model, given, monkeypatch):
        """The model has 128 positions; 9 + 9 of them are the prefix. Each window is what a call of its own makes."""
        monkeypatch.setattr("mindmusicgen.musicgen.melody.inputs.HOP_LENGTH", 160)  # 12.5 frames a second
        text = {name: given[name][:1] for name in ("input_ids", "attention_mask")}
        tune = np.eye(12, dtype=np.float32)[np.random.default_rng(3).integers(0, 12, (1, 31))]
        arguments = text | {"do_sample": False, "guidance_scale": 3.0}
        found = codes(model, **arguments, input_features=tune, duration=3.0, extend_stride=0.8)
        assert found.shape == (1, 4, 150)
        window = 128 - 18 - 1
        expected = codes(model, **arguments, input_features=tune, max_new_tokens=window + 1)
        assert expected.shape[2] == window
        while expected.shape[2] < 150:
            begin = expected.shape[2] - (window - 40)
            new = min(40, 150 - expected.shape[2])
            heard = np.roll(tune, -round(begin * 0.25), axis=1)
            known = {"audio_codes": expected[:, :, begin:], "max_new_tokens": new + 1}
            more = codes(model, **arguments, input_features=heard, **known)
            expected = np.concatenate([expected, more[:, :, -new:]], axis=2)
        np.testing.assert_array_equal(found, expected)

    def test_a_stream_is_the_same_music(self, model, given, close):
        arguments = given | {"duration": 1.0, "seed": 3}
        chunks = [chunk.asnumpy() for chunk in model.stream(**arguments, chunk_seconds=0.4)]
        assert len(chunks) == 3
        close(np.concatenate(chunks, axis=2), model.generate(**arguments).asnumpy())

    def test_without_anything(self, model):
        assert codes(model, **model.get_unconditional_inputs(2), max_new_tokens=6, seed=1).shape == (2, 4, 5)
        assert codes(model, audio_codes=np.zeros((1, 4, 3), int), max_new_tokens=4, seed=1).shape == (1, 4, 6)

    def test_refusals(self, model, given):
        chroma = given["input_features"]

        def call(**arguments):
            return lambda: codes(model, **given | {"max_new_tokens": 5} | arguments)

        refusal(call(input_features=chroma[:, :, :7]), "input_features has shape (2, 4, 7)", "12")
        refusal(call(input_features=chroma[:, :0]), "input_features has shape (2, 0, 12)")
        refusal(call(input_features=chroma[0]), "expected 3 axes")
        refusal(call(input_features=chroma * np.nan), "input_features holds numbers that are not finite")
        refusal(call(input_features=np.repeat(chroma, 2, axis=0)), "4 melodies for 2 prompts")
        refusal(lambda: codes(model, max_new_tokens=5), "input_ids or input_features")
        refusal(call(max_new_tokens=111), "at most 110")
        long = {"input_ids": np.ones((1, 118), int), "attention_mask": np.ones((1, 118), int)}
        refusal(lambda: codes(model, **long, max_new_tokens=5), "118 tokens", "no room", "128 positions")
        refusal(lambda: model(**given, decoder_input_ids=np.zeros((8, 120), int)), "138 positions")


def tiny():
    """A melody model of 32 kHz with random weights."""
    text = T5Config(vocab_size=512, d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4)
    codec = EncodecConfig(**CODEC, num_filters=4, hidden_size=16, codebook_dim=16)
    decoder = MusicgenMelodyDecoderConfig(hidden_size=64, ffn_dim=128, num_hidden_layers=2, num_attention_heads=2)
    config = MusicgenMelodyConfig.from_sub_models_config(text, codec, decoder)
    assert config.chroma_length == 235
    return MusicgenMelodyForConditionalGeneration(config).initialise(1, std=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processor):
    path = str(tmp_path_factory.mktemp("melody"))
    tiny().save_pretrained(path)
    processor.save_pretrained(path)
    return path


class TestFolders:
    def test_converted_it_is_the_same(self, folder, tmp_path, capsys):
        assert cli.main(["convert", folder, "--output", str(tmp_path / "native")]) == 0
        first, second = (
            MusicgenMelodyForConditionalGeneration.from_pretrained(path) for path in (folder, str(tmp_path / "native"))
        )
        for (name, one), (other, two) in zip(first.parameters_and_names(), second.parameters_and_names(), strict=True):
            assert name == other
            np.testing.assert_array_equal(one.asnumpy(), two.asnumpy(), err_msg=name)
        assert not any("encoder_attn" in name for name, _ in first.parameters_and_names())
        capsys.readouterr()
        assert cli.main(["info", folder]) == 0
        said = capsys.readouterr().out
        assert "MusicGen with melody, mono" in said and "235 frames of 12 pitch classes" in said
        decoder = sum(p.size for n, p in first.parameters_and_names() if n.startswith(("decoder", "conditioner")))
        assert f"{decoder / 1e6:.1f} M parameters" in said

    def test_each_class_names_the_other(self, folder, quad, tmp_path):
        text = str(quad.write(tmp_path))
        refusal(
            lambda: MusicgenForConditionalGeneration.from_pretrained(folder),
            "open it with MusicgenMelodyForConditional",
        )
        refusal(
            lambda: MusicgenMelodyForConditionalGeneration.from_pretrained(text), "open it with MusicgenForConditional"
        )
        refusal(lambda: quad.model.generate(input_features=np.ones((1, 9, 12))), "melody", "text model")
        refusal(lambda: MusicgenForCausalLM.from_pretrained(folder), "'musicgen_melody'")
        refusal(lambda: finetune(str(tmp_path), folder, str(tmp_path / "run")), "'musicgen_melody'")
        assert not (tmp_path / "run").exists()
        assert T5EncoderModel.from_pretrained(folder).config.d_model == 64

    def test_a_missing_weight_is_named(self, golden, tmp_path):
        weights = dict(golden.weights)
        del weights["audio_enc_to_dec_proj.bias"]
        path = str(golden.write(tmp_path, weights))
        refusal(
            lambda: MusicgenMelodyForConditionalGeneration.from_pretrained(path), "lacks audio_enc_to_dec_proj.bias"
        )


class TestCommand:
    def test_generate(self, folder, tmp_path, capsys):
        soundfile.write(tmp_path / "tune.wav", tone(440, 3), RATE)
        tune = ["--model", folder, "--melody", str(tmp_path / "tune.wav"), "--duration", "0.2"]
        assert cli.main(["generate", PROMPT, *tune, "--seed", "7", "--output", str(tmp_path / "a.wav")]) == 0
        assert soundfile.info(tmp_path / "a.wav").duration == pytest.approx(0.2)
        capsys.readouterr()
        assert cli.main(["info", str(tmp_path / "a.wav"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["melody"] == ["tune.wav"]
        more = ["--audio", str(tmp_path / "a.wav"), "--output", str(tmp_path / "b.wav")]  # and no words
        assert cli.main(["generate", *tune, *more]) == 0
        assert soundfile.info(tmp_path / "b.wav").duration == pytest.approx(0.4)

    def test_refusals(self, folder, quad, tmp_path, capsys):
        def said(model, *more):
            assert cli.main(["generate", PROMPT, "--model", model, "--duration", "0.4", *more]) == 2
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1, lines
            return lines[0]

        soundfile.write(tmp_path / "still.wav", np.zeros(RATE), RATE)
        soundfile.write(tmp_path / "tune.wav", tone(440, 1), RATE)
        soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
        tune = ["--melody", str(tmp_path / "tune.wav")]
        text = quad.write(tmp_path / "text")
        MusicgenProcessor(tokenizer=build_tokenizer()).save_pretrained(str(text))
        assert "--melody for a text model" in said(str(text), *tune)
        assert "still.wav' is silent" in said(folder, "--melody", str(tmp_path / "still.wav"))
        assert "nan.wav' holds samples that are not finite" in said(folder, "--melody", str(tmp_path / "nan.wav"))
        assert "no.wav' cannot be read" in said(folder, "--melody", "no.wav")
        assert "2 melodies for 1 prompts" in said(folder, *tune, *tune)
