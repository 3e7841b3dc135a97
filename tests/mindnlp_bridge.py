"""The bridge to MindNLP: its models, its processor's tensors, and its own `generate`, against transformers' numbers.

Not among the ordinary tests: it needs an environment of its own, `pip install -e ".[test,mindnlp]"`, and is run by
name, `pytest tests/mindnlp_bridge.py`.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest

import mindmusicgen
from mindmusicgen import InputError, from_mindnlp, patch_mindnlp
from mindmusicgen.musicgen.mindnlp_bridge import _Weight

patch_mindnlp()  # imports MindNLP, which has to come before transformers' models
import torch  # noqa: E402, MindNLP's
from mindnlp.transformers import (  # noqa: E402
    AutoProcessor,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from random_checkpoint import build  # noqa: E402

P, FREE = 64, -1  # padding code of the golden model


@pytest.fixture(scope="module")
def theirs(quad, tmp_path_factory):
    """The golden model, loaded by MindNLP."""
    return MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path_factory.mktemp("quad")))).eval()


@pytest.fixture(scope="module")
def ours(theirs):
    return from_mindnlp(theirs)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with the published layout, processor and all."""
    folder = str(tmp_path_factory.mktemp("tiny"))
    build("tiny", folder)
    return folder


def test_it_is_minds_torch():
    assert "mindtorch" in torch.__file__


def test_weights_and_configs_are_those_of_the_file(theirs, ours, quad, tmp_path):
    opened = mindmusicgen.MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path)))
    expected = {name: value.asnumpy() for name, value in opened.parameters_and_names()}
    found = {name: value.asnumpy() for name, value in ours.parameters_and_names()}
    assert list(found) == list(expected)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert ours.config is not theirs.config
    assert ours.generation_config is not theirs.generation_config
    assert ours.generation_config.guidance_scale == theirs.generation_config.guidance_scale == 3.0


def test_a_copy_has_its_own_weights(theirs, ours):
    name, weight = next((name, w) for name, w in theirs.named_parameters() if name.endswith("fc1.weight"))
    found = dict(ours.parameters_and_names())[name.replace("decoder.model.decoder.", "decoder.")]
    assert not np.shares_memory(weight.asnumpy(), found.asnumpy())


def greedy(model, quad, run, **arguments):
    """Codes and audio of a run of the golden file."""
    settings = {name: value for name, value in quad.runs[run].items() if name != "prompt_frames"}
    ids, mask = torch.tensor(quad["run.ids"].astype(np.int64)), torch.tensor(quad["run.mask"].astype(np.int64))
    return model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, return_dict_in_generate=True, **settings, **arguments
    )


@pytest.mark.parametrize("run", [0, 2, 4])
@pytest.mark.parametrize("which", ["theirs", "ours"])
def test_greedy_codes_and_audio_are_those_of_transformers(request, quad, close, which, run):
    """`theirs` is patched, so that the call is MindNLP's and the result ours."""
    out = greedy(request.getfixturevalue(which), quad, run)
    np.testing.assert_array_equal(out.audio_codes.asnumpy(), quad[f"run{run}.codes"])
    assert out.audio_values.shape[2] == int(quad[f"run{run}.samples"])


def test_codes_to_continue(theirs, quad):
    prompt = torch.tensor(quad["run6.prompt"].astype(np.int64))
    out = greedy(theirs, quad, 6, decoder_input_ids=prompt)
    np.testing.assert_array_equal(out.audio_codes.asnumpy(), quad["run6.codes"])


def own_generate(model, **arguments):
    """MindNLP's own `generate`, and the codes that it decodes."""
    seen, decode = [], model.audio_encoder.decode

    def recording(codes, *rest, **named):
        seen.append(codes[0].asnumpy())
        return decode(codes, *rest, **named)

    model.audio_encoder.decode = recording
    try:
        audio = type(model).generate.__wrapped__(model, **arguments)
    finally:
        del model.audio_encoder.decode
    return seen[0], audio


@pytest.mark.parametrize("run", [0, 2])
def test_the_mended_mask_lets_mindnlps_own_generate_run(theirs, quad, run):
    settings = quad.runs[run]
    ids, mask = torch.tensor(quad["run.ids"].astype(np.int64)), torch.tensor(quad["run.mask"].astype(np.int64))
    codes, _ = own_generate(theirs, input_ids=ids, attention_mask=mask, do_sample=False, **settings)
    np.testing.assert_array_equal(codes, quad[f"run{run}.codes"])


@pytest.mark.parametrize(
    "length, start, rows",
    [
        (8, 1, "P....PPP PP....PP PPP....P PPPP...."),
        (9, 3, "Pab...PPP PPcd...PP PPPef...P PPPPgh..."),
        (5, 3, ". . . ."),
    ],
)
def test_the_mask(theirs, length, start, rows):
    """As in transformers, which returns a short sequence as it came, and everything free."""
    letters = np.array([[ord(c) for c in row] for row in ("ab", "cd", "ef", "gh")])[:, : start - 1]
    ids = np.concatenate([np.full((4, 1), P), letters], axis=1)
    known, mask = theirs.decoder.build_delay_pattern_mask(torch.tensor(ids), P, length)
    drawn = [[P if c == "P" else FREE if c == "." else ord(c) for c in row.ljust(length, ".")] for row in rows.split()]
    np.testing.assert_array_equal(mask.asnumpy(), drawn)
    np.testing.assert_array_equal(known.asnumpy(), mask.asnumpy()[:, :start] if length > 5 else ids)


def test_patching_twice_changes_nothing():
    before = MusicgenForConditionalGeneration.generate, MusicgenForCausalLM.build_delay_pattern_mask
    patch_mindnlp()
    assert (MusicgenForConditionalGeneration.generate, MusicgenForCausalLM.build_delay_pattern_mask) == before
    assert not hasattr(before[0].__wrapped__, "compiled")


def test_changed_weights_are_noticed(theirs, quad):
    model = copy.deepcopy(theirs)
    first = greedy(model, quad, 0).audio_codes.asnumpy()
    with torch.no_grad():
        for head in model.decoder.lm_heads:
            head.weight.copy_(torch.tensor(-head.weight.asnumpy()))
    assert (greedy(model, quad, 0).audio_codes.asnumpy() != first).any()
    np.testing.assert_array_equal(greedy(theirs, quad, 0).audio_codes.asnumpy(), first)


def test_its_generation_config_is_used(theirs, quad):
    model = copy.deepcopy(theirs)
    model.generation_config.max_length, model.generation_config.do_sample = 12, False
    out = model.generate(torch.tensor(quad["run.ids"].astype(np.int64)), return_dict_in_generate=True)
    assert out.audio_codes.shape[2] == 8


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_what_its_processor_returns(tiny, kind):
    """Text alone and with audio of two lengths, back through its own `batch_decode`."""
    processor = AutoProcessor.from_pretrained(tiny)
    model = mindmusicgen.MusicgenForConditionalGeneration.from_pretrained(tiny)
    prompts = ["80s pop track", "calm piano"]
    inputs = processor(text=prompts, padding=True, return_tensors=kind)
    assert model.generate(**inputs, max_new_tokens=8).shape == (2, 1, 5 * 640)
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=n).astype(np.float32) / 9 for n in (6400, 5120)]
    inputs = processor(text=prompts, audio=clips, sampling_rate=32000, padding=True, return_tensors=kind)
    audio = model.generate(**inputs, max_new_tokens=10)
    assert audio.shape == (2, 1, 17 * 640)
    mask = inputs["padding_mask"]
    longer, shorter = processor.batch_decode(audio, padding_mask=mask if kind == "pt" else torch.tensor(mask))
    assert longer.shape == (1, 17 * 640) and shorter.shape == (1, 15 * 640)


def test_text_as_minds_tensors(tiny):
    processor = AutoProcessor.from_pretrained(tiny)
    model = MusicgenForConditionalGeneration.from_pretrained(tiny)
    audio = model.generate(**processor(text=["80s pop"], return_tensors="ms"), max_new_tokens=8, seed=1)
    assert audio[0, 0].asnumpy().shape == audio[0, 0].cpu().numpy().shape == (5 * 640,)
    again = model.generate(**processor(text=["80s pop"], return_tensors="pt"), max_new_tokens=8, seed=1)
    np.testing.assert_array_equal(audio.asnumpy(), again.asnumpy())


def test_unconditional_inputs_of_both(tiny):
    model = MusicgenForConditionalGeneration.from_pretrained(tiny)
    for inputs in (model.get_unconditional_inputs(2), from_mindnlp(model).get_unconditional_inputs(2)):
        assert model.generate(**inputs, max_new_tokens=8).shape == (2, 1, 5 * 640)


def test_melody_models(goldens, tmp_path):
    golden = goldens("melody")
    model = MusicgenMelodyForConditionalGeneration.from_pretrained(str(golden.write(tmp_path))).eval()
    converted = from_mindnlp(model)
    assert isinstance(converted, mindmusicgen.MusicgenMelodyForConditionalGeneration)
    opened = mindmusicgen.MusicgenMelodyForConditionalGeneration.from_pretrained(str(tmp_path))
    expected = dict(opened.parameters_and_names())
    for name, value in converted.parameters_and_names():
        np.testing.assert_array_equal(value.asnumpy(), expected[name].asnumpy(), err_msg=name)


def test_half_precision_weights(quad, tmp_path):
    model = MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path)), torch_dtype=torch.float16)
    found = dict(from_mindnlp(model).parameters_and_names())["decoder.layers.0.fc1.weight"].asnumpy()
    expected = quad.weights["decoder.model.decoder.layers.0.fc1.weight"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_read_as_float32():
    """MindNLP cannot load such a model on a CPU, but holds them on Ascend."""
    values = np.array([1.0, -2.5, 1024.0], np.float32)
    read = _Weight(torch.tensor(values).to(torch.bfloat16)).read()
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_refusals(theirs, quad):
    ids = torch.tensor(quad["run.ids"].astype(np.int64))
    with pytest.raises(InputError, match="logits_processor is not supported"):
        theirs.generate(ids, logits_processor=[print])
    with pytest.raises(InputError, match="Linear; expected a MusicgenForConditionalGeneration"):
        from_mindnlp(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="T5EncoderModel; expected"):
        from_mindnlp(theirs.text_encoder)
    with pytest.raises(InputError, match="dtype is 'int4'"):
        from_mindnlp(theirs, dtype="int4")
