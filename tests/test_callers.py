"""Several callers of one model: threads, streams side by side, stopping, forks, copies, and what must not poison it."""

import copy
import gc
import os
import pickle
import select
import signal
import threading
import time

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import EncodecModel, InputError, MusicgenForCausalLM, T5EncoderModel
from mindmusicgen.generation import graph_store
from mindmusicgen.runtime import callers, interrupt

TOKENS = {"max_new_tokens": 40, "seed": 5}


@pytest.fixture(scope="module")
def model(quad):
    """The golden model, with the codec uncompiled: it takes seconds for every shape."""
    kept = quad.model.codec_graphs.eager
    quad.model.codec_graphs.eager = frozenset({"encode", "decode", "pieces"})
    yield quad.model
    quad.model.codec_graphs.eager = kept


@pytest.fixture(scope="module")
def text(quad):
    return {"input_ids": quad["run.ids"], "attention_mask": quad["run.mask"]}


@pytest.fixture(scope="module")
def parts(quad, tmp_path_factory):
    """The networks alone: class -> opened."""
    folder = str(quad.write(tmp_path_factory.mktemp("whole")))
    opened = {cls: cls.from_pretrained(folder) for cls in (MusicgenForCausalLM, T5EncoderModel, EncodecModel)}
    opened[T5EncoderModel].folder = folder
    return opened


def codes(model, **arguments):
    return model.generate(return_dict_in_generate=True, **arguments).audio_codes.asnumpy()


def joined(stream):
    return np.concatenate([chunk.asnumpy() for chunk in stream], axis=2)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) <= 300, message
    for word in words:
        assert word in message, message


def in_threads(jobs, rounds=2):
    """Run every job in a thread of its own, all at once, several times over; what they returned or raised."""
    made = [[] for _ in jobs]

    def work(number):
        for _ in range(rounds):
            try:
                made[number].append(jobs[number]())
            except Exception as error:
                made[number].append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread waits for ever"
    return made


def the_jobs(model, text, parts, quad):
    """Everything that can be asked of a model and of its parts; each returns an array."""
    clip = np.random.default_rng(0).integers(0, 64, (1, 4, 30)).astype(np.int32)
    audio = (0.1 * np.random.default_rng(1).standard_normal((1, 1, 6400))).astype(np.float32)
    known = {"input_ids": Tensor(quad["decoder.ids"]), "attention_mask": Tensor(quad["decoder.mask"])}
    known["decoder_input_ids"] = Tensor(quad["decoder.codes"])
    decoder, encoder, codec = (parts[cls] for cls in (MusicgenForCausalLM, T5EncoderModel, EncodecModel))
    return [
        lambda: codes(model, **text, **TOKENS),
        lambda: joined(model.stream(**text, **TOKENS, chunk_seconds=0.2)),
        lambda: model.encode(audio).asnumpy(),
        lambda: model.decode(clip).asnumpy(),
        lambda: model(**known).logits.asnumpy(),
        lambda: decoder.generate(max_new_tokens=8, seed=1).asnumpy(),
        lambda: decoder(input_ids=clip.reshape(4, 30)).logits.asnumpy(),
        lambda: encoder(text["input_ids"], text["attention_mask"]).last_hidden_state.asnumpy(),
        lambda: codec(audio_codes=clip[None]).audio_values.asnumpy(),
        lambda: T5EncoderModel.from_pretrained(encoder.folder)(text["input_ids"]).last_hidden_state.asnumpy(),
    ]


class TestThreads:
    def test_any_mix_on_one_model_and_its_parts_is_as_one_after_the_other(self, model, text, parts, quad):
        jobs = the_jobs(model, text, parts, quad)
        expected = [job() for job in jobs]
        for number, results in enumerate(in_threads(jobs)):
            for found in results:
                assert isinstance(found, np.ndarray), (number, found)
                np.testing.assert_allclose(found, expected[number], rtol=1e-4, atol=1e-5, err_msg=str(number))

    def test_a_melody_model_and_a_text_model_at_once(self, model, text, goldens):
        golden = goldens("melody")
        tune = {"input_ids": golden["run.ids"], "input_features": golden["melody.features"]}
        jobs = [
            lambda: codes(model, **text, **TOKENS),
            lambda: codes(golden.model, **tune, max_new_tokens=8, seed=1),
        ] * 2
        expected = [job() for job in jobs]
        for number, results in enumerate(in_threads(jobs, 1)):
            np.testing.assert_array_equal(results[0], expected[number])

    def test_a_bad_call_in_one_thread_spoils_none_in_another(self, model, text):
        def bad():
            with pytest.raises(InputError):
                model.generate([[5, 10**6]], max_new_tokens=8)
            return "refused"

        expected = codes(model, **text, **TOKENS)
        good, bad = in_threads([lambda: codes(model, **text, **TOKENS), bad], 3)
        assert bad == ["refused"] * 3
        for found in good:
            np.testing.assert_array_equal(found, expected)

    def test_the_main_thread_waits_for_another_and_can_be_interrupted(self, model):
        entered, leave = threading.Event(), threading.Event()

        def hold():
            with callers.turn():
                entered.set()
                while interrupt._active is None:
                    time.sleep(0.01)
                interrupt._active.received.set()  # as by Ctrl-C; a real one may reach a thread of MindSpore's
                leave.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        entered.wait(60)
        try:
            with pytest.raises(KeyboardInterrupt):
                model.generate([[5, 6]], max_new_tokens=8)
        finally:
            leave.set()
            thread.join()
        assert model.generate([[5, 6]], max_new_tokens=8).shape == (1, 1, 3200)


class TestStreams:
    def test_several_streams_and_calls_side_by_side(self, model, text):
        """Each is what it is alone: its own seed, its own settings, its own buffers."""
        asked = [{**text, "max_new_tokens": 60, "seed": seed, "chunk_seconds": 0.2} for seed in (1, 2, 3)]
        expected = [joined(model.stream(**one)) for one in asked]
        whole = codes(model, **text, **TOKENS)
        streams, made = [model.stream(**one) for one in asked], [[], [], []]
        for _ in range(20):
            for stream, chunks in zip(streams, made, strict=True):
                chunk = next(stream, None)
                chunks += [] if chunk is None else [chunk.asnumpy()]
            if _ % 4 == 0:
                np.testing.assert_array_equal(codes(model, **text, **TOKENS), whole)
        for chunks, right in zip(made, expected, strict=True):
            np.testing.assert_allclose(np.concatenate(chunks, axis=2), right, atol=1e-6)

    def test_the_oldest_of_too_many_ends_with_a_sentence(self, model, text):
        streams = [model.stream(**text, max_new_tokens=80, chunk_seconds=0.2) for _ in range(graph_store.OPEN + 1)]
        for stream in streams:
            next(stream)
        refused(lambda: list(streams[0]), "were begun on this model", "finish a stream")
        assert joined(streams[-1]).shape[0] == 2  # the others go on

    def test_a_stream_that_was_left_holds_nothing(self, model, text, compiled):
        """Neither one that is dropped, nor one whose consumer failed, nor one that another thread began and forgot."""
        list(model.stream(**text, max_new_tokens=80, chunk_seconds=0.2))
        before, kept = compiled(), []

        def fails():
            for chunk in model.stream(**text, max_new_tokens=80, chunk_seconds=0.2):
                raise OSError(f"no room for {chunk.shape}")

        for _ in range(3):
            next(model.stream(**text, max_new_tokens=80, chunk_seconds=0.2))
            with pytest.raises(OSError, match="no room"):
                fails()
        gc.collect()
        assert len(model._generator.store.loans) == 0 and not model._unfinished.turns
        list(model.stream(**text, max_new_tokens=80, chunk_seconds=0.2))
        assert compiled() == before, "a stream that was left did not give its graphs back"
        thread = threading.Thread(target=lambda: kept.append(model.stream(**text, max_new_tokens=80)) or next(kept[0]))
        thread.start()
        thread.join()
        ((found,),) = in_threads([lambda: codes(model, **text, **TOKENS)], 1)
        assert isinstance(found, np.ndarray), found
        kept.clear()

    def test_a_stream_of_a_model_that_is_quantised_meanwhile(self, quad, text, tmp_path):
        from mindmusicgen import MusicgenForConditionalGeneration

        model = MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path))).run_eagerly()
        model.codec_graphs.eager |= {"pieces"}
        stream = model.stream(**text, max_new_tokens=80, chunk_seconds=0.2)
        next(stream)
        model.quantize()
        refused(lambda: list(stream), "quantised")
        assert codes(model, **text, max_new_tokens=8).shape == (2, 4, 5)


class TestStop:
    def test_it_ends_the_piece_that_is_being_made_and_not_the_one_that_waits(self, model, text):
        whole, waiting = codes(model, **text, **TOKENS), []

        def see(done, total):
            if not waiting:
                waiting.append(threading.Thread(target=lambda: waiting.append(codes(model, **text, **TOKENS))))
                waiting[0].start()
                model.stop()

        stopped = codes(model, **text, **TOKENS, callback=see)
        waiting[0].join(60)
        assert stopped.shape[2] < whole.shape[2]
        np.testing.assert_array_equal(waiting[1], whole)

    def test_it_ends_the_stream_that_came_last_and_then_the_other(self, model, text):
        asked = {**text, "max_new_tokens": 80, "seed": 1, "chunk_seconds": 0.2}
        first, second = model.stream(**asked), model.stream(**asked)
        next(first), next(second)
        model.stop()
        assert joined(second).shape[2] < 77 * 640 - 2 * 6400
        codes(model, **text, max_new_tokens=8)  # a piece that is done is stopped by nothing
        model.stop()
        assert joined(first).shape[2] < 77 * 640 - 2 * 6400

    def test_with_nothing_to_stop_the_next_piece_is_whole(self, model, text):
        whole = codes(model, **text, **TOKENS)
        model.stop()
        np.testing.assert_array_equal(codes(model, **text, **TOKENS), whole)


class TestForks:
    def test_a_forked_child_gets_a_sentence_that_names_spawn(self, model, text, parts, quad):
        jobs = the_jobs(model, text, parts, quad)
        codes(model, **text, max_new_tokens=8)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for job in jobs:
                try:
                    job()
                    os.write(writer, b"it ran\n")
                except BaseException as error:
                    os.write(writer, f"{type(error).__name__}: {error}\n".encode())
            os._exit(0)
        os.close(writer)
        said = b""
        while select.select([reader], [], [], 60)[0] and (more := os.read(reader, 4096)):
            said += more
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines = said.decode().splitlines()
        assert len(lines) == len(jobs) and all("InputError" in line and "spawn" in line for line in lines), said

    def test_a_fork_before_anything_was_computed_is_harmless(self, monkeypatch):
        monkeypatch.setattr(callers, "_begun", False)
        monkeypatch.setattr(callers, "_lock", callers._lock)
        monkeypatch.setattr(callers, "_orphaned", False)
        callers._forked()
        with callers.turn():
            pass
        callers._forked()
        refused(lambda: callers.turn().__enter__(), "spawn")


class TestCopies:
    WAYS = (copy.copy, copy.deepcopy, pickle.dumps)
    CASTS = (
        lambda model: model.to_float(ms.float16),
        lambda model: model.to("cuda"),
        lambda model: model.to(dtype=ms.float16),
        lambda model: model.to(ms.bfloat16),
        lambda model: model.to("Ascend:1", ms.float32),
    )

    @pytest.mark.parametrize("way", WAYS)
    def test_copies_are_refused(self, model, parts, goldens, way):
        for one in (model, goldens("melody").model, *parts.values()):
            refused(lambda one=one: way(one), type(one).__name__, "cannot be copied or pickled", "from_pretrained")

    @pytest.mark.parametrize("cast", CASTS)
    def test_other_dtypes_and_devices_are_refused(self, model, text, parts, goldens, cast):
        for one in (model, goldens("melody").model, *parts.values()):
            refused(lambda one=one: cast(one), type(one).__name__, "when it is opened", "dtype=")
        assert codes(model, **text, max_new_tokens=8).shape == (2, 4, 5)

    def test_its_own_dtype_and_device_change_nothing(self, model):
        assert model.to("CPU") is model and model.to(ms.float32) is model and model.to_float(ms.float32) is model
        assert model.to(device="cpu", dtype="float32", non_blocking=True) is model


NOT_WHOLE = (np.nan, 2.5, np.inf, -np.inf, 1e300)


class TestPoison:
    @pytest.mark.parametrize("value", NOT_WHOLE)
    def test_codes_and_ids_are_whole_numbers(self, model, text, parts, value):
        """Whatever is refused, the next call is as the one before."""
        clip = np.full((2, 4, 12), 3.0)
        before = codes(model, **text, audio_codes=clip, **TOKENS), model.decode(clip).asnumpy()
        bad = clip.copy()
        bad[0, 1, 2] = value
        ids = np.array(text["input_ids"], np.float64)
        ids[0, 1] = value
        labels = np.full((1, 6, 4), 3.0)
        labels[0, 1, 2] = value
        decoder, encoder, codec = (parts[cls] for cls in (MusicgenForCausalLM, T5EncoderModel, EncodecModel))
        for call in (
            lambda: model.decode(bad),
            lambda: model.generate(**text, audio_codes=bad, **TOKENS),
            lambda: model.generate(**text, decoder_input_ids=bad.reshape(8, 12), **TOKENS),
            lambda: model.generate(ids, **TOKENS),
            lambda: model.generate(**text, negative_input_ids=ids, **TOKENS),
            lambda: model(ids, decoder_input_ids=clip.reshape(8, 12)),
            lambda: model(text["input_ids"], decoder_input_ids=bad.reshape(8, 12)),
            lambda: decoder.generate(bad, **TOKENS),
            lambda: decoder(labels=labels),
            lambda: encoder(ids),
            lambda: codec.decode(bad[None]),
        ):
            refused(call)
        after = codes(model, **text, audio_codes=clip, **TOKENS), model.decode(clip).asnumpy()
        for found, expected in zip(after, before, strict=True):
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("value", [np.nan, 0.5, -1, 2])
    def test_masks_hold_ones_and_zeros(self, model, text, parts, value):
        mask = np.array(text["attention_mask"], np.float64)
        mask[0, 0] = value
        audio = np.full((2, 1, 900), 0.1, np.float32)
        padding = np.ones((2, 900))
        padding[0, 0] = value
        states = np.zeros((4, 3, 24), np.float32)
        heard = np.ones((4, 3))
        heard[0, 0] = value
        for call in (
            lambda: model.generate(text["input_ids"], mask, max_new_tokens=8),
            lambda: model.generate(**text, negative_input_ids=text["input_ids"], negative_attention_mask=mask),
            lambda: model.generate(encoder_outputs=(states,), attention_mask=heard, max_new_tokens=8),
            lambda: model.generate(**text, input_values=audio, padding_mask=padding, max_new_tokens=8),
            lambda: parts[T5EncoderModel](text["input_ids"], mask),
            lambda: parts[EncodecModel].encode(audio, padding),
        ):
            refused(call, "mask holds", "expected 1 where something counts")

    @pytest.mark.parametrize("value", [[[[1, 2], [3]]], [[["a"]]], np.full((1, 4, 9), 1j), [[[None]]]])
    def test_what_is_no_array_of_numbers(self, model, text, value):
        refused(lambda: model.decode(value), "codes", "axes of numbers")
        refused(lambda: model.generate(**text, audio_codes=value), "audio_codes", "axes of numbers")

    def test_a_graph_that_failed_is_compiled_again(self, quad, model, monkeypatch):
        """Codes beyond the codebook end a compiled decode, which afterwards fails for good ones as well."""
        monkeypatch.setattr(model.codec_graphs, "eager", frozenset())
        clip = np.full((1, 4, 30), 3, np.int32)
        right = model.audio_encoder.to_audio(Tensor(clip)).asnumpy()
        np.testing.assert_allclose(model.decode(clip).asnumpy(), right, atol=1e-5)
        with pytest.raises(Exception, match=r"."):
            model.codec_graphs.decode(Tensor(clip + 10**6)).asnumpy()
        np.testing.assert_allclose(model.decode(clip).asnumpy(), right, atol=1e-5)

    @pytest.mark.parametrize("step", ["condition", "prefill", "chunk"])
    def test_buffers_and_graphs_go_with_an_exception(self, model, text, monkeypatch, step):
        prompt = {"audio_codes": np.full((2, 4, 9), 3)}
        before = codes(model, **text, **prompt, **TOKENS)
        kept = model._generator.store.graphs
        old = kept[next(reversed(kept))]

        def fails(*arguments):
            raise RuntimeError("the operator failed")

        monkeypatch.setattr(old, step, fails)
        with pytest.raises(RuntimeError, match="the operator failed"):
            codes(model, **text, **prompt, **TOKENS)
        assert old not in kept.values()
        np.testing.assert_array_equal(codes(model, **text, **prompt, **TOKENS), before)
