"""What is kept and what is let go: graphs of models that are gone, of shapes not used lately; windows of any length."""

import gc
import weakref

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.generation import graph_store
from mindmusicgen.generation.codec_graphs import SHORTEST, CodecGraphs
from mindmusicgen.models.encodec import Encodec
from mindmusicgen.models.layers import Linear
from mindmusicgen.runtime import compiled
from mindmusicgen.runtime.callers import turn


@pytest.fixture(scope="module")
def windows(quad):
    """The golden codec in windows, their functions uncompiled, and small enough that a short clip has several."""
    codec = quad.model.audio_encoder
    graphs = CodecGraphs(codec)
    graphs.graphs = {name: getattr(codec, name) for name in graphs.graphs}
    graphs.sizes = [4, 10, 20]
    return codec, graphs


@pytest.mark.parametrize("frames", [SHORTEST - 1, SHORTEST, 24, 41])
def test_clips_of_any_length_are_decoded_as_a_whole(windows, frames):
    codec, graphs = windows
    codes = Tensor(np.random.default_rng(frames).integers(0, 64, (2, 4, frames)).astype(np.int32))
    expected, found = codec.to_audio(codes).asnumpy(), graphs.decode(codes).asnumpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("frames, less", [(1, 0), (SHORTEST, 1), (26, 0), (27, 3), (41, -1)])
def test_recordings_of_any_length_are_encoded_as_a_whole(windows, frames, less):
    """Lengths that no frame divides too: every strided convolution then reflects a little more."""
    codec, graphs = windows
    hop = codec.config.hop_length
    sound = 0.3 * np.random.default_rng(frames).standard_normal((2, 1, frames * hop)).astype(np.float32)
    audio = Tensor(sound[:, :, : frames * hop - less % hop].copy())
    (expected, _), (found, scale) = codec.to_codes(audio, 4), graphs.encode(audio, 4)
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())
    assert (scale.asnumpy() == 1).all() and scale.shape == (2, 1)


def test_windows_of_one_size_hold_shorter_ones(windows):
    """What a stream asks for: the last window of a short clip."""
    codec, graphs = windows
    width = codec.decoder.layers[1].lstm.hidden_size
    for frames in (SHORTEST, 11, 30):
        x = Tensor(np.random.default_rng(frames).standard_normal((1, frames, width)).astype(np.float32))
        expected = codec.decode_convolutions(x).asnumpy()
        found = graphs.convolutions(x).asnumpy()
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_a_codec_that_cannot_be_cut_is_compiled_whole(quad):
    config = type(quad.model.audio_encoder.config)(**quad.config["audio_encoder"] | {"norm_type": "time_group_norm"})
    codec = Encodec(config)
    assert set(CodecGraphs(codec).graphs) == {"to_codes", "to_audio"}


def live():
    """Names of the graphs that MindSpore has now, garbage collected."""
    gc.collect()
    return set(compiled._names())


def run(layer, rows):
    layer(Tensor(np.ones((rows, 4), np.float32)))


def test_a_function_keeps_the_graphs_it_used_last(monkeypatch):
    monkeypatch.setattr(compiled, "MOST", 2)
    layer, before = compiled.compiled(Linear(4, 3).construct), len(live())
    for rows in (1, 2, 1, 3):
        run(layer, rows)
    kept = live()
    assert len(kept) == before + 2
    run(layer, 1)
    assert live() == kept, "of the two that were kept, one was the last but one"
    run(layer, 2)
    assert live() != kept and len(live()) == before + 2
    layer.release()
    assert len(live()) == before
    run(layer, 2)
    assert len(live()) == before + 1


def test_graphs_go_with_what_calls_them():
    gc.collect()
    compiled.release_abandoned()  # what tests before left
    layer, before = Linear(4, 3), len(live())
    layer.fast = compiled.compiled(layer.construct)  # a circle, as in a model
    run(layer.fast, 1)
    assert len(live()) == before + 1
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None and len(live()) == before


def test_models_and_shapes_that_are_dropped_leave_nothing(quad, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_store, "KEPT", 1)
    folder = str(quad.write(tmp_path / "quad"))
    before = len(live())
    model = MusicgenForConditionalGeneration.from_pretrained(folder).run_eagerly()
    tokens = np.random.default_rng(1).integers(3, 30, (2, 9)).astype(np.int32)
    for rows in (1, 2):
        model.generate(tokens[:rows], max_new_tokens=4)
        gc.collect()
        assert len(live()) == before + 2, "of one shape: condition and chunk"
    gone = weakref.ref(model)
    with turn():  # while something computes, the graphs are only noted
        del model
        gc.collect()
        assert gone() is None and len(live()) == before + 2
    assert len(live()) == before
