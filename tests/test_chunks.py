"""A chunk of steps is one call, and how many steps it has changes nothing: greedy or sampled, float32 or int8."""

import importlib
import warnings

import mindspore as ms
import numpy as np
import pytest

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.generation import decode_loop
from mindmusicgen.ops import quantized
from mindmusicgen.runtime import device
from mindmusicgen.runtime.compiled import compiled as compile_function

NEW = 31  # columns that are made
SAMPLED = {"do_sample": True, "seed": 5, "temperature": 1.3, "top_k": 30}
GREEDY = {"do_sample": False}


@pytest.fixture(scope="module", params=["float32", "int8"])
def model(request, quad, tmp_path_factory):
    if request.param == "int8" and quantized.why_not():
        pytest.skip(quantized.why_not())
    folder = str(quad.write(tmp_path_factory.mktemp("chunks")))
    opened = MusicgenForConditionalGeneration.from_pretrained(
        folder, quantization="int8" if request.param == "int8" else None
    )
    return opened.run_eagerly()


class Watch:
    """The graphs of the bucket that the last piece was made in: counts calls of a chunk and waits for results."""

    def __init__(self, model, monkeypatch):
        self.graphs = next(reversed(model._generator.store.graphs.values()))
        self.calls, self.waits, self.within, self.inside = 0, 0, 0, False
        run, fetch = self.graphs.chunk, ms.Tensor.asnumpy

        def chunk(*arguments):
            self.calls, self.inside = self.calls + 1, True
            try:
                return run(*arguments)
            finally:
                self.inside = False

        def asnumpy(tensor, *arguments):
            self.waits += 1
            self.within += self.inside
            return fetch(tensor, *arguments)

        monkeypatch.setattr(self.graphs, "chunk", chunk)
        monkeypatch.setattr(ms.Tensor, "asnumpy", asnumpy)


def jit_module():
    """MindSpore's module that runs compiled functions."""
    for name in ("mindspore.graph.api", "mindspore.common.api"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(module, "_pynative_executor"):
            return module
    raise AssertionError("this MindSpore runs its graphs somewhere else; teach this function")


def make(model, quad, settings):
    """Codes [B, K, T] of the golden prompts."""
    ids, mask = ms.Tensor(quad["run.ids"]), ms.Tensor(quad["run.mask"])
    request, *_ = model._request(ids, mask, settings | {"max_new_tokens": NEW})
    return np.concatenate(list(model._generate_codes(request, None, False)), axis=2)


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_steps_in_a_call_change_nothing(model, quad, settings):
    expected = make(model, quad, settings)
    graphs = next(reversed(model._generator.store.graphs.values()))
    assert graphs.chunk_size == decode_loop.CHUNK == 25 and len(np.unique(expected)) > 5
    for size, calls in ((1, NEW), (5, 7), (25, 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graphs, "chunk_size", size)
            np.testing.assert_array_equal(make(model, quad, settings), expected)  # compiles, which looks at constants
            watch = Watch(model, patch)
            np.testing.assert_array_equal(make(model, quad, settings), expected)
            assert watch.graphs is graphs and watch.calls == calls
            # Of a call come the columns and the sum of the logits; of the whole piece, the text's mask and states.
            assert watch.within == 0 and watch.waits <= 2 * calls + 6


def test_a_chunk_is_one_graph(model, quad, monkeypatch):
    """MindSpore is asked to run a graph once a chunk, and runs no operation of its own in it."""
    make(model, quad, SAMPLED)
    watch, asked = Watch(model, monkeypatch), []
    executor = type(jit_module()._pynative_executor)

    def noted(name, run):
        def call(*arguments):
            asked.append((watch.inside, name))
            return run(*arguments)

        return call

    for name in ("grad_jit", "run_op_async"):
        monkeypatch.setattr(executor, name, noted(name, getattr(executor, name)))
    make(model, quad, SAMPLED)
    assert [entry for entry in asked if entry[0]] == [(True, "grad_jit")] * watch.calls and watch.calls == 2
    assert len(asked) > watch.calls, "what is counted is not what MindSpore calls"


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_chunk_without_a_loop_is_the_same(model, quad, settings):
    """What an NPU is to capture. 31 steps are six chunks of five, and one more of which a single step counts."""
    if model.quantization:
        pytest.skip("int8 is one operator, and for CPUs")
    expected = make(model, quad, settings)
    graphs = next(reversed(model._generator.store.graphs.values()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "chunk_size", 5)
        run = compile_function(decode_loop.UnrolledChunk(graphs).construct)
        patch.setattr(graphs, "chunk", lambda *arguments: run(*arguments[:-1], *arguments[-1]))
        make(model, quad, settings)
        watch = Watch(model, patch)
        np.testing.assert_array_equal(make(model, quad, settings), expected)
        assert watch.calls == 7 and watch.within == 0
    np.testing.assert_array_equal(make(model, quad, settings), expected)  # what went too far has left nothing behind


@pytest.mark.parametrize("real", [False, True])
def test_the_phase_that_mindspore_captures(model, quad, monkeypatch, real):
    """Graphs of the phase "increment" run, time and again; and where MindSpore refuses capture, the loop does."""
    if model.quantization:
        pytest.skip("int8 is one operator, and for CPUs")
    expected = make(model, quad, GREEDY)
    monkeypatch.setattr(device, "captures", lambda: True)
    if not real:
        monkeypatch.setattr(ms.runtime, "set_kernel_launch_capture", lambda on: None)
    model._generator.store.graphs.clear()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(2):
                np.testing.assert_array_equal(make(model, quad, GREEDY), expected)
        refused = any("not captured" in str(warning.message) for warning in said)
        assert real or not refused  # MindSpore 2.7.0 does on a CPU
        graphs = next(reversed(model._generator.store.graphs.values()))
        assert graphs.chunk_size == (decode_loop.CHUNK if refused else device.UNROLLED)
    finally:
        model._generator.store.graphs.clear()
