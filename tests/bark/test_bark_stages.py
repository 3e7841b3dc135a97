"""Generation: ids of suno's own program, rows that do not know of each other, sampling replayed, graphs counted."""

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.bark import settings as settings_of
from mindmusicgen.bark.codec import CodecWindows
from mindmusicgen.bark.codec_windows import WINDOW
from mindmusicgen.bark.stages import FINE, SEMANTIC, Stages, Windows, coarse_history, fine_windows, generators
from mindmusicgen.bark.submodels import BarkSemanticModel

WHOLE = ("p0_none", "p0_long", "p1_short", "p2_none", "p2_long", "p2_short")
ENDED = ("p0_none_mineos", "p0_short_mineos")
WINDOWED = ("p1_none_first150_h120_w30", "p1_long_first150_h120_w30")


def resolved(bark, rows=1, seed=0, **arguments):
    return settings_of.resolve(bark.config, bark.generation_config, arguments, rows, seed)


def go_on(done, steps):
    return True


def speak(bark, golden, run, **arguments):
    """The semantic tokens of one of suno's runs."""
    ids = golden[f"p{golden.runs[run]['prompt']}_text_ids"][None]
    voice = golden.voice(golden.runs[run]["preset"])
    chosen = resolved(bark, min_eos_p=golden.runs[run]["min_eos_p"], **arguments)
    return bark._stages.semantic(ids, np.ones_like(ids), [voice and voice["semantic_prompt"]], chosen, go_on)[0]


@pytest.mark.parametrize("run", WHOLE + ENDED)
def test_semantic_tokens_are_sunos(bark, golden, run):
    np.testing.assert_array_equal(speak(bark, golden, run), golden[f"{run}_semantic"])


@pytest.mark.parametrize("run", WHOLE + WINDOWED)
def test_coarse_codes_are_sunos(bark, golden, run):
    facts = golden.runs[run]
    windowed = {name: facts[name] for name in ("max_coarse_history", "sliding_window_len") if name in facts}
    tokens = golden[run.replace("_first150_h120_w30", "") + "_semantic"]
    voice = golden.voice(facts["preset"])
    history = voice and (voice["semantic_prompt"], voice["coarse_prompt"])
    chosen = resolved(bark, **windowed)
    found = bark._stages.coarse([tokens[:150] if windowed else tokens], [history], chosen, go_on)[0]
    np.testing.assert_array_equal(found, golden[f"{run}_coarse"])


@pytest.mark.parametrize("run", WHOLE)
def test_fine_codes_are_sunos(bark, golden, run):
    voice = golden.voice(golden.runs[run]["preset"])
    found = bark._stages.fine([golden[f"{run}_coarse"]], [voice and voice["fine_prompt"]], resolved(bark), go_on)[0]
    np.testing.assert_array_equal(found, golden[f"{run}_fine"])


@pytest.mark.parametrize("run", ["p2_none", "p1_short", "p0_long"])
def test_audio_is_transformers(bark, golden, close, run):
    close(bark.codec_decode(golden[f"{run}_fine"][None])[0], golden[f"{run}_audio"], 1e-5)


def test_the_whole_way(bark, processor, golden, close):
    inputs = processor(golden.texts[1], voice_preset=golden.preset("short"))
    out = bark.generate(**inputs, return_dict_in_generate=True)
    np.testing.assert_array_equal(out.audio_codes[0], golden["p1_short_fine"])
    np.testing.assert_array_equal(out.semantic_tokens[0], golden["p1_short_semantic"])
    close(out.audio_values[0], golden["p1_short_audio"], 1e-5)
    audio, lengths = bark.generate(**inputs, return_output_lengths=True)
    assert audio.shape == (1, 3352) and list(lengths) == [3352]


def test_a_row_in_a_batch_is_the_row_alone(bark, processor, golden):
    voices = [None, golden.preset("short"), golden.preset("long")]
    sampled = {"max_new_tokens": 45, "do_sample": True, "temperature": 0.8, "top_k": 30, "top_p": 0.95}
    sampled |= {"fine_temperature": 0.5, "return_dict_in_generate": True}
    texts = ["the rain", golden.texts[0], golden.texts[1]]
    out = bark.generate(**processor(texts, voice_preset=voices), seed=7, **sampled)
    assert out.audio_values.shape[0] == 3 and len(set(map(bytes, out.audio_codes))) == 3
    for row in range(3):
        alone = bark.generate(**processor(texts[row], voice_preset=voices[row]), seed=7 + row, **sampled)
        np.testing.assert_array_equal(alone.audio_codes[0], out.audio_codes[row])
        length = out.lengths[row]
        np.testing.assert_array_equal(alone.audio_values.asnumpy()[0], out.audio_values.asnumpy()[row, :length])
        assert not out.audio_values.asnumpy()[row, length:].any()


def choose(logits, uniform, temperature, top_k):
    """The order of choice with NumPy alone."""
    logits = logits.astype(np.float64) / temperature
    logits[logits < np.sort(logits)[-top_k]] = -np.inf
    mass = np.cumsum(np.exp(logits - logits.max()))
    return int((mass <= uniform * mass[-1]).sum())


def test_sampling_is_replayed_with_numpy(bark, golden):
    """Every choice of the semantic stage from its logits, a call without a cache, and the row's own uniforms."""
    ids = golden["p1_text_ids"][None]
    chosen = resolved(bark, seed=3, max_new_tokens=12, do_sample=True, temperature=0.9, top_k=20)
    tokens = bark._stages.semantic(ids, np.ones_like(ids), [None], chosen, go_on)[0]
    text = np.pad(ids + 128, ((0, 0), (0, 256 - ids.shape[1])), constant_values=235)
    table = bark.semantic.get_input_embeddings()
    prompt = table(Tensor(text)).asnumpy() + table(Tensor(np.full((1, 256), 100, np.int32))).asnumpy()
    after = np.array([[239, *tokens[:-1]]], np.int32)
    known = np.concatenate([prompt, table(Tensor(after)).asnumpy()], 1)
    logits = bark.semantic(input_embeds=Tensor(known)).logits.asnumpy()[0, 256:, :101]
    uniforms = generators((3,), SEMANTIC)[0].random(12, np.float32)
    assert [choose(row, u, 0.9, 20) for row, u in zip(logits, uniforms, strict=True)] == list(tokens)
    assert len(set(tokens)) > 3


def test_fine_sampling_is_replayed_with_numpy(bark, golden):
    coarse = golden["p0_none_coarse"][:, :1024]
    found = bark._stages.fine([coarse], [None], resolved(bark, seed=5, fine_temperature=0.7), go_on)[0]
    generator, different = generators((5,), FINE)[0], 0
    for book in range(2, 8):
        known = np.where(np.arange(8) < book, found.T, 64)[None].astype(np.int32)
        logits = bark.fine_acoustics(book, Tensor(known)).logits.asnumpy()[0, :, :64]
        uniforms = generator.random(1024, np.float32)
        chosen = np.array([choose(row, u, 0.7, 64) for row, u in zip(logits, uniforms, strict=True)])
        different += (chosen != found[book]).sum()
    assert different <= 3  # of 6,144, where a uniform lies on the border of two codes


def test_nothing_is_compiled_at_the_second_call(golden, processor, compiled):
    from mindmusicgen.bark.model import BarkModel

    model, before = BarkModel.from_pretrained(golden.folder), compiled()
    model.generate(**processor("the rain"), max_new_tokens=40)
    made = compiled() - before
    assert made <= 6
    model.generate(
        **processor(golden.texts[0], voice_preset=golden.preset("long")),
        max_new_tokens=260, do_sample=True, temperature=0.6, top_k=9, top_p=0.9, min_eos_p=0.9, fine_temperature=0.5,
        max_coarse_history=100, sliding_window_len=31, seed=1,
    )  # fmt: skip
    assert compiled() - before == made


def test_the_cache_is_as_good_as_a_prefill(bark, golden, monkeypatch):
    """The exact saving: without it, every window would be prefilled again."""
    tokens, chosen = golden["p0_none_semantic"][:100], resolved(bark, sliding_window_len=25)
    saved = bark._stages.coarse([tokens], [None], chosen, go_on)[0]
    moved = []
    monkeypatch.setattr(Windows, "moves", lambda self, done: moved.append(done) or True)
    np.testing.assert_array_equal(bark._stages.coarse([tokens], [None], chosen, go_on)[0], saved)
    assert len(moved) > 5


def test_windows_move_when_they_must(bark):
    windows = Windows(resolved(bark), 0, 0)
    assert [done for done in range(0, 1200, 60) if windows.moves(done)][0] == 660
    long = Windows(resolved(bark), 209, 626)
    assert not long.moves(0) and long.moves(60)


def test_histories(bark, golden):
    chosen, voice = resolved(bark), golden.voice("long")
    tokens, ids = coarse_history((voice["semantic_prompt"], voice["coarse_prompt"]), chosen)
    assert (len(tokens), len(ids)) == (209, 626)
    assert ids[0] < 164 <= ids[1] and ids.max() < 228
    short = golden.voice("short")
    tokens, ids = coarse_history((short["semantic_prompt"], short["coarse_prompt"]), chosen)
    assert (len(tokens), len(ids)) == (30, 88)
    assert [len(part) for part in coarse_history(None, chosen)] == [0, 0]


@pytest.mark.parametrize(
    ("frames", "known", "expected"),
    [
        (36, 0, [(0, 0)]),
        (1024, 0, [(0, 0)]),
        (1025, 0, [(0, 0), (1, 512)]),
        (1154, 512, [(0, 512), (512, 1024), (642, 1154)]),
        (46, 46, [(0, 46)]),
    ],
)
def test_fine_windows(bark, frames, known, expected):
    assert fine_windows(frames, known, resolved(bark)) == expected


def test_a_call_reports_and_stops(bark, processor, golden):
    inputs, seen = processor(golden.texts[0]), []

    def note(done, total):
        seen.append((done, total))

    arguments = {"max_new_tokens": 200, "return_dict_in_generate": True}
    whole = bark.generate(**inputs, callback=note, **arguments)
    assert all(a[0] <= b[0] for a, b in zip(seen, seen[1:], strict=False)) and seen[-1][0] == seen[-1][1]
    at = {}
    for part in (0.001, 0.4, 0.8):
        at[part] = bark.generate(**inputs, callback=lambda done, total, part=part: done < part * total, **arguments)
    assert at[0.001].audio_values.shape == (1, 0) and len(at[0.001].semantic_tokens[0]) < 200
    rough = at[0.4].audio_codes[0]
    assert rough.shape[0] == 2 and 0 < rough.shape[1] < 300
    np.testing.assert_array_equal(rough, whole.audio_codes[0][:2, : rough.shape[1]])
    better = at[0.8].audio_codes[0]
    assert 2 < better.shape[0] < 8 and better.shape[1] == 300
    np.testing.assert_array_equal(better, whole.audio_codes[0][: len(better)])
    assert at[0.8].audio_values.shape == (1, 2400)


def test_a_stop_between_fine_windows_keeps_what_is_whole(bark, golden):
    counted = []

    def two_windows(done, steps):
        counted.append(done)
        return done < 8

    found = bark._stages.fine([golden["p0_none_coarse"]], [None], resolved(bark), two_windows)[0]
    np.testing.assert_array_equal(found, golden["p0_none_fine"][:, :512])


def test_an_end_at_once_is_a_sentence(bark, processor, refused):
    refused(lambda: bark.generate(**processor("the rain"), min_eos_p=1e-9), "no speech")


def test_weights_that_were_replaced_are_used(bark, golden):
    network = BarkSemanticModel.from_pretrained(golden.folder)
    stages, ids = Stages(semantic=network), golden["p0_text_ids"][None]
    chosen = resolved(bark, max_new_tokens=10)
    first = stages.semantic(ids, np.ones_like(ids), [None], chosen, go_on)[0]
    np.testing.assert_array_equal(stages.semantic(ids, np.ones_like(ids), [None], chosen, go_on)[0], first)
    head = network.lm_head.weight
    head.set_data(Tensor(-head.asnumpy()))
    assert list(stages.semantic(ids, np.ones_like(ids), [None], chosen, go_on)[0]) != list(first)


@pytest.fixture(scope="module")
def windows(bark):
    return CodecWindows(bark.codec_model)


@pytest.mark.parametrize("frames", [8, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 50])
def test_a_codec_in_windows_is_the_codec(bark, windows, close, frames):
    """What is carried over from window to window leaves no seam; one graph serves all lengths."""
    codes = np.random.default_rng(frames).integers(0, 16, (8, frames)).astype(np.int32)
    wanted = bark.codec_model.to_audio(Tensor(codes[None])).asnumpy()[0, 0]
    close(windows.decode(codes), wanted, 1e-5)
    assert len(windows.run.graphs) == 1


def test_what_windows_cannot_serve_is_decoded_whole(bark):
    from mindmusicgen.parts import Codec

    config = type(bark.config.codec_config)(**{**bark.config.codec_config.to_dict(), "use_causal_conv": False})
    ahead = CodecWindows(Codec(config))
    assert bark._windows.serves(8) and not bark._windows.serves(7) and not ahead.serves(400)
    codes = np.zeros((8, 20), np.int32)
    assert len(ahead.decode(codes)) == 20 * config.hop_length and not ahead.run.graphs
