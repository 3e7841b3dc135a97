"""What generate does beyond one text prompt: unconditional, audio prompts, sliding windows, streams, stopping."""

import threading

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import InputError
from mindmusicgen.generation.incremental_decoder import IncrementalDecoder


@pytest.fixture(scope="module")
def model(quad):
    """The golden model, with the parts of its codec uncompiled: they take seconds for every shape."""
    kept = quad.model.codec_graphs.eager
    quad.model.codec_graphs.eager = kept | {"pieces"}
    yield quad.model
    quad.model.codec_graphs.eager = kept


@pytest.fixture(scope="module")
def text(quad):
    return {"input_ids": quad["run.ids"], "attention_mask": quad["run.mask"]}


def codes(model, **arguments):
    return model.generate(return_dict_in_generate=True, **arguments).audio_codes.asnumpy()


def test_unconditional_inputs(model, text):
    inputs = model.get_unconditional_inputs(num_samples=2)
    assert inputs.guidance_scale == 1.0 and inputs["attention_mask"].shape == (2, 1)
    found = codes(model, **inputs, max_new_tokens=8, seed=1)
    null = {"input_ids": text["input_ids"], "attention_mask": np.zeros_like(text["attention_mask"])}
    np.testing.assert_array_equal(found, codes(model, **null, guidance_scale=1.0, max_new_tokens=8, seed=1))
    for bad in (0, -1, 1.5, True, None):
        with pytest.raises(InputError, match="num_samples"):
            model.get_unconditional_inputs(bad)
    with pytest.raises(AttributeError, match="input_ids"):
        inputs.input_ids  # noqa: B018


def test_several_pieces_for_each_prompt(model, text):
    found = codes(model, **text, num_return_sequences=2, max_new_tokens=8, seed=5)
    repeated = {name: np.repeat(value, 2, axis=0) for name, value in text.items()}
    np.testing.assert_array_equal(found, codes(model, **repeated, max_new_tokens=8, seed=5))
    assert (found[0] != found[1]).any() and (found[0] != found[2]).any()
    with pytest.raises(InputError, match="seed has 2 entries for 4 pieces"):
        codes(model, **text, num_return_sequences=2, seed=[1, 2])


def test_a_negative_prompt_stands_in_for_the_null_rows(model, text):
    other = np.array([[9, 8, 7, 1, 5, 4, 3, 2, 1, 8, 8]], np.int32)
    found = codes(model, **text, negative_input_ids=other, guidance_scale=3.0, max_new_tokens=8, seed=2)
    width = max(other.shape[1], text["input_ids"].shape[1])
    parts = [
        (text["input_ids"], text["attention_mask"]),
        (np.repeat(other, 2, axis=0), np.ones((2, other.shape[1]), np.int32)),
    ]
    ids, mask = (np.concatenate([np.pad(p[i], ((0, 0), (0, width - p[i].shape[1]))) for p in parts]) for i in (0, 1))
    states = model.text_encoder.construct(Tensor(ids), Tensor(mask))
    given = {"encoder_outputs": (states,), "attention_mask": mask, "guidance_scale": 3.0}
    np.testing.assert_array_equal(found, codes(model, **given, max_new_tokens=8, seed=2))
    assert (found != codes(model, **text, guidance_scale=3.0, max_new_tokens=8, seed=2)).any()


def test_guidance_that_changes(model, text):
    constant = codes(model, **text, guidance_scale=2.5, max_new_tokens=40, seed=2)
    np.testing.assert_array_equal(codes(model, **text, guidance_scale=(2.5, 2.5), max_new_tokens=40, seed=2), constant)
    falling = codes(model, **text, guidance_scale=(2.5, 1.0), max_new_tokens=40, seed=2)
    np.testing.assert_array_equal(falling[:, :1, 0], constant[:, :1, 0])  # the first column has the first scale
    assert (falling != constant).any()


def test_codes_are_continued(model, text):
    prompt = np.random.default_rng(0).integers(0, 64, (2, 4, 10)).astype(np.int32)
    found = codes(model, **text, audio_codes=prompt, max_new_tokens=20, seed=3)
    assert found.shape == (2, 4, 10 + 20 - 3)
    np.testing.assert_array_equal(found[:, :, :10], prompt)
    started = np.concatenate([np.full((8, 1), 64), prompt.reshape(8, 10)], axis=1)
    for ids in (prompt.reshape(8, 10), started):
        np.testing.assert_array_equal(found, codes(model, **text, decoder_input_ids=ids, max_new_tokens=20, seed=3))
    alone = codes(model, audio_codes=prompt, max_new_tokens=20, seed=3)  # without a text
    null = model.get_unconditional_inputs(2)
    np.testing.assert_array_equal(alone, codes(model, **null, audio_codes=prompt, max_new_tokens=20, seed=3))


def test_audio_is_coded_and_continued(model, text, monkeypatch):
    audio = 0.3 * np.random.default_rng(1).standard_normal((2, 1, 2000)).astype(np.float32)
    audio[0, :, :900] = 7.0  # behind the padding mask
    mask = np.ones((2, 2000), np.int32)
    mask[0, :900] = 0
    monkeypatch.setattr(model.codec_graphs, "eager", model.codec_graphs.eager | {"encode"})
    found = codes(model, **text, input_values=audio, padding_mask=mask, max_new_tokens=12, seed=3)
    expected = model.encode(audio * mask[:, None]).asnumpy()
    assert expected.shape == (2, 4, 4)
    np.testing.assert_array_equal(found[:, :, :4], expected)


def test_beyond_the_window_the_last_part_is_the_prompt(model, text):
    """2.5 s of window, 0.5 s of it new each time: every window is what a call of its own would make."""
    found = codes(model, **text, duration=3.2, extend_stride=0.5, do_sample=False)
    assert found.shape == (2, 4, 160)
    expected = codes(model, **text, max_new_tokens=128, do_sample=False)
    assert expected.shape[2] == 125
    while expected.shape[2] < 160:
        context = expected[:, :, -100:]
        new = min(25, 160 - expected.shape[2])
        more = codes(model, **text, audio_codes=context, max_new_tokens=new + 3, do_sample=False)
        expected = np.concatenate([expected, more[:, :, 100:]], axis=2)
    np.testing.assert_array_equal(found, expected)


def test_a_short_duration_is_an_ordinary_call(model, text):
    found = codes(model, **text, duration=0.5, seed=4)
    np.testing.assert_array_equal(found, codes(model, **text, max_new_tokens=28, seed=4))


def test_callbacks_see_progress_and_stop(model, text):
    whole, seen = codes(model, **text, max_new_tokens=80, seed=1), []
    assert whole.shape[2] == 77
    np.testing.assert_array_equal(
        whole, codes(model, **text, max_new_tokens=80, seed=1, callback=lambda *frames: seen.append(frames))
    )
    assert seen == [(22, 77), (47, 77), (72, 77), (77, 77)]
    stopped = codes(model, **text, max_new_tokens=80, seed=1, callback=lambda done, total: done < 40)
    np.testing.assert_array_equal(stopped, whole[:, :, :47])


def test_callbacks_count_the_prompt(model, text):
    prompt, seen = np.zeros((2, 4, 30), np.int32), []
    options = {"audio_codes": prompt, "max_new_tokens": 20, "seed": 1}
    found = codes(model, **text, **options, callback=lambda *frames: seen.append(frames))
    assert seen[0] == (30, 47) and seen[-1] == (47, 47) and found.shape == (2, 4, 47)
    stopped = codes(model, **text, **options, callback=lambda done, total: False)
    np.testing.assert_array_equal(stopped, prompt)


def test_a_second_thread_stops(model, text):
    whole = codes(model, **text, max_new_tokens=80, seed=1)

    def from_elsewhere(done, total):
        thread = threading.Thread(target=model.stop)
        thread.start()
        thread.join()

    stopped = codes(model, **text, max_new_tokens=80, seed=1, callback=from_elsewhere)
    np.testing.assert_array_equal(stopped, whole[:, :, :22])
    np.testing.assert_array_equal(codes(model, **text, max_new_tokens=80, seed=1), whole)  # the next call runs on


@pytest.mark.parametrize(("name", "seconds"), [("quad", 0.5), ("stereo", 0.2)])
def test_streamed_chunks_joined_are_the_whole(goldens, name, seconds, monkeypatch):
    model = goldens(name).model
    monkeypatch.setattr(model.codec_graphs, "eager", frozenset({"decode", "pieces"}))
    golden = goldens(name)
    text = {"input_ids": golden["run.ids"], "attention_mask": golden["run.mask"]}
    options = {**text, "max_new_tokens": 80, "seed": 1}
    whole = model.generate(**options).asnumpy()
    made, seen = [], []
    for chunk in model.stream(**options, chunk_seconds=seconds, callback=lambda done, total: seen.append(done)):
        made.append((chunk.asnumpy(), seen[-1]))
    chunk = round(seconds * model.frame_rate)
    hop = model.config.audio_encoder.hop_length
    assert {audio.shape[2] for audio, _ in made[:-1]} == {chunk * hop}
    assert made[0][1] < 77, "the first chunk came after everything was generated"
    joined = np.concatenate([audio for audio, _ in made], axis=2)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=2e-6 * np.abs(whole).max() + 1e-7)


def test_a_stream_may_be_left(model, text):
    for chunk in model.stream(**text, max_new_tokens=80, seed=1, chunk_seconds=0.2):
        assert chunk.shape == (2, 1, 6400)
        break
    assert codes(model, **text, max_new_tokens=8).shape == (2, 4, 5)


def test_a_first_second_comes_after_a_second_and_a_half(model, text):
    seen = []
    stream = model.stream(**text, duration=2, callback=lambda done, total: seen.append(done))
    assert next(stream).shape == (2, 1, 32000)
    assert seen[-1] <= 75


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 12, 23, 24, 25, 61])
def test_pieces_of_any_clip_join_exactly(quad, frames):
    codec = quad.model.audio_encoder
    rng = np.random.default_rng(frames)
    clip = rng.integers(0, 64, (2, 4, frames)).astype(np.int32)
    expected = codec.to_audio(Tensor(clip)).asnumpy()
    decoder = IncrementalDecoder(codec, codec.to_audio, codec.decode_recurrent, codec.decode_convolutions, 10)
    pieces, start = [], 0
    while start < frames:  # codes arrive in portions of any size
        end = min(start + int(rng.integers(1, 9)), frames)
        pieces += decoder.push(clip[:, :, start:end], last=end == frames)
        start = end
    found = np.concatenate(pieces, axis=2)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_more_than_30_s_are_decoded_in_pieces(model, monkeypatch):
    clip = np.random.default_rng(0).integers(0, 64, (1, 4, 70)).astype(np.int32)
    whole = model.decode(clip).asnumpy()
    monkeypatch.setattr("mindmusicgen.musicgen.codec.settings.TRAINED_SECONDS", 1)
    monkeypatch.setattr("mindmusicgen.musicgen.codec.PIECE_SECONDS", 0.4)
    monkeypatch.setattr(model.codec_graphs, "decode", None)
    np.testing.assert_allclose(model.decode(clip).asnumpy(), whole, atol=1e-6 * np.abs(whole).max())


def test_what_makes_no_sense_is_refused(model, text):
    audio, clip = np.full((2, 1, 900), 0.1, np.float32), np.zeros((2, 4, 3), np.int32)
    for arguments, words in (
        ({"input_values": audio, "audio_codes": clip}, "input_values and audio_codes"),
        ({"audio_codes": clip, "padding_mask": np.ones((2, 900))}, "padding_mask belongs to input_values"),
        ({"input_values": audio, "padding_mask": np.ones((2, 899))}, r"padding_mask has shape \(2, 899\)"),
        ({"input_values": np.repeat(audio, 2, axis=1)}, "audio has 2 channels; this model has 1"),
        ({"input_values": audio * np.nan}, "not finite"),
        ({"input_values": np.stack([audio[0], 0 * audio[0]])}, "audio prompt 2 is silent"),
        ({"input_values": audio[:, 0]}, "input_values has shape"),
        ({"input_values": np.ones((2, 1, 80001), np.float32)}, "audio prompt has 2.52 s .* at most 2.48 s"),
        ({"audio_codes": clip[:, :3]}, "audio_codes has 3 codebooks; this model has 4"),
        ({"audio_codes": clip + 64}, "audio_codes must be codes 0 to 63"),
        ({"audio_codes": np.zeros((2, 4, 125))}, "audio prompt has 2.50 s"),
        ({"audio_codes": clip[:1]}, "audio holds 1 prompts and the text 2"),
        ({"negative_input_ids": [[1]], "guidance_scale": 1}, "guidance_scale above 1"),
        ({"negative_input_ids": [[1]] * 3}, "3 negative prompts for 2 prompts"),
        ({"negative_input_ids": [[1000]]}, "negative_input_ids must be 0 to 99"),
        ({"duration": 1, "max_new_tokens": 5}, "duration and max_new_tokens"),
    ):
        with pytest.raises(InputError, match=words):
            model.generate(**text, **arguments)
    melody = {"input_features": np.ones((2, 9, 12), np.float32)}
    for call in (model.generate, model, lambda **given: next(model.stream(**given))):
        with pytest.raises(InputError, match="input_features is a melody, which this text model cannot follow"):
            call(**text, **melody)
    for seconds in (0.1, 31, -1, None, "1"):
        with pytest.raises(InputError, match="chunk_seconds"):
            next(model.stream(**text, chunk_seconds=seconds))
    for bad in (clip[0], clip[:, :3], clip + 64, clip[:, :, :0]):
        with pytest.raises(InputError, match="codes has shape"):
            model.decode(bad)
