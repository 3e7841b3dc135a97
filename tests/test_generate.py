"""generate: transformers' greedy codes and audio, what it returns, when it compiles, and how it fails."""

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import InputError, MusicgenOutput
from mindmusicgen.generation import decode_loop

STRIDE = 11  # of a golden run's audio every 11th sample is kept

RUNS = [("quad", 7), ("plain", 2), ("eight", 2), ("stereo", 4)]


def text(golden):
    return Tensor(golden["run.ids"]), Tensor(golden["run.mask"])


def greedy(golden, **arguments):
    return golden.model.generate(*text(golden), do_sample=False, return_dict_in_generate=True, **arguments)


@pytest.mark.parametrize("name, index", [(name, i) for name, count in RUNS for i in range(count)])
def test_greedy_equals_transformers(goldens, close, monkeypatch, name, index):
    golden = goldens(name)
    if (name, index) in (("quad", 4), ("stereo", 2)):
        monkeypatch.setattr(golden.model.codec_graphs, "eager", frozenset())
    assert len(golden.runs) == dict(RUNS)[name]
    arguments = dict(golden.runs[index])
    if arguments.pop("prompt_frames", 0):
        arguments["decoder_input_ids"] = Tensor(golden[f"run{index}.prompt"])
    out = greedy(golden, **arguments)
    np.testing.assert_array_equal(out.audio_codes.asnumpy(), golden[f"run{index}.codes"])
    audio = out.audio_values.asnumpy()
    assert audio.shape[-1] == golden[f"run{index}.samples"]
    close(audio[..., ::STRIDE], golden[f"run{index}.audio"])


def test_the_golden_runs_cover_what_they_should(quad):
    """Both cache buckets, with and without guidance, delay and prompt; and codes that are not all the same."""
    tokens = [run["max_new_tokens"] for run in quad.runs]
    assert {5, 6, 7, 8, 40} <= set(tokens) and max(tokens) > decode_loop.CACHE_BUCKETS[0]
    assert {run["guidance_scale"] for run in quad.runs} == {1.0, 2.5, 3.0}
    assert len(np.unique(quad["run4.codes"])) > 10
    assert (quad["run4.codes"][0] != quad["run4.codes"][1]).mean() > 0.5


def test_return_types(quad):
    model = quad.model
    audio = model.generate(*text(quad), max_new_tokens=8, seed=1)
    assert isinstance(audio, Tensor) and audio.shape == (2, 1, 5 * 640) and str(audio.dtype) == "Float32"
    out = model.generate(*text(quad), max_new_tokens=8, seed=1, return_dict_in_generate=True)
    assert isinstance(out, MusicgenOutput) and out.sequences is out.audio_values and out.seeds == (1, 2)
    assert out.audio_codes.shape == (2, 4, 5) and str(out.audio_codes.dtype) == "Int32"
    np.testing.assert_array_equal(out.audio_values.asnumpy(), audio.asnumpy())
    codes = out.audio_codes.asnumpy()
    assert codes.min() >= 0 and codes.max() < 64
    np.testing.assert_array_equal(model.decode(codes).asnumpy(), audio.asnumpy())
    assert (model.sampling_rate, model.frame_rate, model.pad_code) == (32000, 50, 64)


def test_a_fresh_seed_is_reported_and_repeats_the_piece(quad):
    first = quad.model.generate(*text(quad), max_new_tokens=8, return_dict_in_generate=True)
    again = quad.model.generate(*text(quad), max_new_tokens=8, return_dict_in_generate=True)
    assert first.seeds != again.seeds
    for seed in (first.seeds[0], list(first.seeds)):
        repeated = quad.model.generate(*text(quad), max_new_tokens=8, seed=seed, return_dict_in_generate=True)
        np.testing.assert_array_equal(repeated.audio_codes.asnumpy(), first.audio_codes.asnumpy())
        assert repeated.seeds == first.seeds


def test_inputs_may_be_arrays_lists_and_tensors(quad):
    ids, mask = quad["run.ids"], quad["run.mask"]
    outs = [
        quad.model.generate(i, m, max_new_tokens=8, do_sample=False).asnumpy()
        for i, m in ((Tensor(ids), Tensor(mask)), (ids.astype(np.int64), mask == 1), (ids.tolist(), mask.tolist()))
    ]
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(outs[0], outs[2])


def test_an_absent_mask_means_all_tokens(quad):
    ids = quad["run.ids"]
    first = quad.model.generate(ids, max_new_tokens=8, do_sample=False).asnumpy()
    second = quad.model.generate(ids, np.ones_like(ids), max_new_tokens=8, do_sample=False).asnumpy()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_encoder_outputs_in_place_of_tokens(quad, scale):
    """With guidance the caller appends the null rows."""
    ids, mask = quad["run.ids"], quad["run.mask"]
    states = quad.model.text_encoder(Tensor(ids), Tensor(mask)).last_hidden_state.asnumpy()
    if scale > 1:
        states = np.concatenate([states, np.zeros_like(states)])
        mask = np.concatenate([mask, np.zeros_like(mask)])
    found = quad.model.generate(
        encoder_outputs=(Tensor(states),),
        attention_mask=mask,
        guidance_scale=scale,
        max_new_tokens=8,
        do_sample=False,
        return_dict_in_generate=True,
    )
    expected = greedy(quad, guidance_scale=scale, max_new_tokens=8)
    np.testing.assert_array_equal(found.audio_codes.asnumpy(), expected.audio_codes.asnumpy())


def test_a_bucket_compiles_once(quad, compiled, monkeypatch):
    """In a bucket nothing compiles again: not for settings, seeds or prompts, nor for another length."""
    model = quad.model
    monkeypatch.setattr(model.codec_graphs, "eager", frozenset())
    model.generate(*text(quad), max_new_tokens=8)
    model.generate(*text(quad), max_new_tokens=9)
    before = compiled()
    assert before > 0
    for arguments in (
        {"seed": 9},
        {"temperature": 0.5, "top_k": 3, "top_p": 0.9},
        {"do_sample": False},
        {"guidance_scale": 1.7},
        {"top_k": 0, "max_new_tokens": 9},
    ):
        model.generate(*text(quad), **({"max_new_tokens": 8} | arguments))
    other = np.full((2, 14), 7, np.int32)  # still at most 16 tokens
    model.generate(other, max_new_tokens=8)
    assert compiled() == before, "a call of a known shape compiled"
    model.generate(np.full((2, 17), 7, np.int32), max_new_tokens=8)
    assert compiled() > before, "the counter does not count"


def test_running_eagerly_compiles_neither_text_nor_codec(goldens, compiled, tmp_path):
    from mindmusicgen import MusicgenForConditionalGeneration

    golden = goldens("plain")
    folder = str(golden.write(tmp_path))
    made, graphs = [], []
    for eager in (False, True):
        model = MusicgenForConditionalGeneration.from_pretrained(folder)
        model = model.run_eagerly() if eager else model
        before = compiled()
        made.append(model.generate(*text(golden), max_new_tokens=16, seed=1).asnumpy())  # 8 frames are not compiled for
        graphs.append(compiled() - before)
    assert graphs[1] <= graphs[0] - 2, graphs
    np.testing.assert_allclose(made[1], made[0], atol=1e-5 * np.abs(made[0]).max())


@pytest.mark.parametrize("length, expected", [(1, 64), (64, 64), (65, 256), (256, 256), (1503, 1536), (2049, 4096)])
def test_buckets(length, expected):
    assert decode_loop.bucket(length, decode_loop.CACHE_BUCKETS) == expected


def test_the_last_column_of_a_bucket_and_the_first_of_the_next(quad):
    """64 columns fill the cache of the first bucket to the brim; 65 need the second; both agree as far as both go."""
    first, second = (greedy(quad, max_new_tokens=n, guidance_scale=1.0).audio_codes.asnumpy() for n in (64, 65))
    assert first.shape[2] == 61 and second.shape[2] == 62
    np.testing.assert_array_equal(first[:, :, :59], second[:, :, :59])
    np.testing.assert_array_equal(second[:, :, :59], quad["run5.codes"][:, :, :59])


def in_place(parameter, values):
    parameter.copy_(Tensor(values))


def new_memory(parameter, values):
    parameter.set_data(Tensor(values))  # what load_param_into_net does


@pytest.mark.parametrize("value, frames, change", [(np.nan, 0, in_place), (np.inf, 9, new_memory)])
def test_broken_weights_are_reported_and_do_not_stick(quad, value, frames, change):
    """NaN must not come out as audio, and once the weights are mended the model works, without an old NaN."""
    model = quad.model
    prompt = {"decoder_input_ids": quad["run6.prompt"]} if frames else {}
    weight = model.decoder.layers[1].fc1.weight
    good = weight.asnumpy().copy()
    before = greedy(quad, max_new_tokens=8, **prompt).audio_codes.asnumpy()
    bad = good.copy()
    bad[3, 2] = value
    change(weight, bad)
    try:
        with pytest.raises(InputError, match="not finite"):
            greedy(quad, max_new_tokens=8, **prompt)
    finally:
        change(weight, good)
    np.testing.assert_array_equal(greedy(quad, max_new_tokens=8, **prompt).audio_codes.asnumpy(), before)


@pytest.mark.parametrize("change", [in_place, new_memory])
def test_new_weights_are_used_by_the_compiled_graphs(quad, change):
    """Loading other weights after a call: graphs with loops would go on with the old ones, or with freed memory."""
    weight = quad.model.decoder.lm_heads.weight
    good = weight.asnumpy().copy()
    before = greedy(quad, max_new_tokens=8).audio_codes.asnumpy()
    change(weight, -good)
    try:
        other = greedy(quad, max_new_tokens=8).audio_codes.asnumpy()
    finally:
        change(weight, good)
    assert (other != before).mean() > 0.5
    np.testing.assert_array_equal(greedy(quad, max_new_tokens=8).audio_codes.asnumpy(), before)


def test_progress_may_stop_the_run(quad, monkeypatch):
    """An interrupt reaches the caller, and the next call is not disturbed by the half-made one."""
    from mindmusicgen.musicgen import generator

    before = greedy(quad, max_new_tokens=40).audio_codes.asnumpy()

    class Interrupting(generator.Progress):
        def update(self, done):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generator, "Progress", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            greedy(quad, max_new_tokens=40)
    np.testing.assert_array_equal(greedy(quad, max_new_tokens=40).audio_codes.asnumpy(), before)


def test_old_buckets_are_dropped(quad, monkeypatch):
    from mindmusicgen.generation import graph_store

    monkeypatch.setattr(graph_store, "KEPT_BYTES", 0)
    quad.model._generator.store.graphs.clear()
    greedy(quad, max_new_tokens=8, guidance_scale=1.0)
    (first,) = quad.model._generator.store.graphs
    greedy(quad, max_new_tokens=8, guidance_scale=3.0)
    (second,) = quad.model._generator.store.graphs
    assert first != second
