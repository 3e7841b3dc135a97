"""The examples of transformers' page of Bark, with the import and the kind of tensors changed, on a tiny folder."""

import numpy as np
import pytest
import scipy.io.wavfile

import mindmusicgen
from mindmusicgen import (
    AutoModelForTextToWaveform,
    AutoProcessor,
    BarkCoarseConfig,
    BarkCoarseModel,
    BarkConfig,
    BarkFineConfig,
    BarkFineModel,
    BarkModel,
    BarkProcessor,
    BarkSemanticConfig,
    BarkSemanticModel,
    EncodecConfig,
)

SHORT = {"semantic_max_new_tokens": 12}


def test_text_to_speech(golden, bark, tmp_path):
    processor = AutoProcessor.from_pretrained(golden.folder)
    inputs = processor("Hello, my dog is cute", voice_preset=golden.preset("short"))
    audio_array = bark.generate(**inputs, **SHORT)
    audio_array = audio_array.asnumpy().squeeze()
    sample_rate = bark.generation_config.sample_rate
    scipy.io.wavfile.write(tmp_path / "bark_out.wav", rate=sample_rate, data=audio_array)
    rate, samples = scipy.io.wavfile.read(tmp_path / "bark_out.wav")
    assert rate == sample_rate == bark.sampling_rate and np.array_equal(samples, audio_array)


@pytest.mark.parametrize(
    "text",
    [
        "惊人的！我会说中文",
        "Incroyable! Je peux générer du son.",
        "♪ Hello, my dog is cute ♪",
        "Hello uh ... [clears throat]",
    ],
)
def test_languages_songs_and_noises(bark, processor, text):
    inputs = processor(text)
    assert np.isfinite(bark.generate(**inputs, **SHORT).asnumpy()).all()


def test_a_batch_of_texts(bark, processor):
    inputs = processor(
        text=["Let's try generating speech, with Bark, a text-to-speech model", "Wow, batching is so great!"]
    )
    audio, lengths = bark.generate(**inputs, **SHORT, return_output_lengths=True)
    assert audio.shape[0] == len(lengths) == 2 and audio.shape[1] == max(lengths)


def test_ways_to_be_faster_and_smaller(golden, bark, processor):
    half = BarkModel.from_pretrained(golden.folder, torch_dtype="float16").to("cpu")
    assert "float16" in str(half.dtype).lower()
    assert bark.to_bettertransformer() is bark and bark.enable_cpu_offload() is None and bark.eval() is bark
    for name in ("eager", "sdpa", "flash_attention_2"):
        assert isinstance(BarkModel.from_pretrained(golden.folder, attn_implementation=name), BarkModel)


def test_arguments_for_one_stage(bark, processor):
    inputs = processor("Hello, my dog is cute")
    options = {"semantic_max_new_tokens": 12, "seed": 1, "return_dict_in_generate": True}
    all_stages = bark.generate(**inputs, **options, do_sample=True, temperature=0.7)
    one_stage = bark.generate(**inputs, **options, semantic_do_sample=True, semantic_temperature=0.7)
    assert np.array_equal(all_stages.semantic_tokens[0], one_stage.semantic_tokens[0])
    assert len(all_stages.semantic_tokens[0]) <= 12


def test_loaders(golden):
    assert isinstance(AutoModelForTextToWaveform.from_pretrained(golden.folder), BarkModel)
    assert isinstance(AutoProcessor.from_pretrained(golden.folder), BarkProcessor)
    assert isinstance(mindmusicgen.AutoConfig.from_pretrained(golden.folder), BarkConfig)
    for stage, kind in (("semantic", BarkSemanticConfig), ("coarse_acoustics", BarkCoarseConfig)):
        assert isinstance(mindmusicgen.AutoConfig.for_model(stage), kind)


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (BarkSemanticConfig, BarkSemanticModel),
        (BarkCoarseConfig, BarkCoarseModel),
        (BarkFineConfig, BarkFineModel),
    ],
)
def test_a_stage_from_its_config(config, model):
    configuration = config(
        num_layers=1, hidden_size=16, num_heads=2, block_size=32, input_vocab_size=50, output_vocab_size=50
    )
    made = model(configuration)
    assert made.config.hidden_size == 16 and made.config is configuration


def test_a_model_from_sub_configs():
    small = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "block_size": 1024}
    semantic_config = BarkSemanticConfig(**small)
    coarse_acoustics_config = BarkCoarseConfig(**small)
    fine_acoustics_config = BarkFineConfig(**small, input_vocab_size=1056, output_vocab_size=1056)
    codec_config = EncodecConfig(num_filters=4, codebook_size=1024)
    configuration = BarkConfig.from_sub_model_configs(
        semantic_config, coarse_acoustics_config, fine_acoustics_config, codec_config
    )
    model = BarkModel(configuration)
    configuration = model.config
    assert configuration.coarse_acoustics_config.hidden_size == 16
