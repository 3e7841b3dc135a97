"""Weights that are set after a graph was made: the graph goes by them, and is not made again where none were set."""

from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.bark.codec import CodecWindows
from mindmusicgen.bark.model import BarkModel
from mindmusicgen.generation.codec_graphs import CodecGraphs
from mindmusicgen.runtime import compiled

FOLDER = Path(__file__).parent / "golden" / "bark"
CODES = np.random.default_rng(0).integers(0, 16, (1, 8, 40)).astype(np.int32)
AUDIO = np.random.default_rng(1).standard_normal((1, 1, 400)).astype(np.float32)


@pytest.fixture
def codec():
    return BarkModel.from_pretrained(str(FOLDER)).codec_model


def runs(codec):
    """What may have a graph of the codec, and what it computes without one: (compiled, plain) by name."""
    graphs, windows = CodecGraphs(codec), CodecWindows(codec)
    return {
        "decode": (lambda: graphs.decode(Tensor(CODES)).asnumpy(), lambda: codec.to_audio(Tensor(CODES)).asnumpy()),
        "windows": (lambda: windows.decode(CODES[0]), lambda: codec.to_audio(Tensor(CODES)).asnumpy()[0, 0]),
        "encode": (
            lambda: graphs.encode(Tensor(AUDIO), 8)[0].asnumpy(),
            lambda: codec.to_codes(Tensor(AUDIO), 8)[0].asnumpy(),
        ),
    }


@pytest.mark.skipif(not compiled.KNOWS_PLACES, reason="this MindSpore does not say where weights lie")
@pytest.mark.parametrize("name", ["decode", "windows", "encode"])
def test_a_graph_goes_by_weights_that_were_set_anew(codec, name, monkeypatch):
    quick, plain = runs(codec)[name]
    before, made = quick(), []
    monkeypatch.setattr(compiled, "watchers", [made.append])
    np.testing.assert_array_equal(quick(), before)
    assert not made  # nothing was set: nothing is made
    for parameter in codec.get_parameters():
        parameter.set_data(Tensor(parameter.asnumpy()[::-1].copy()))
    after = quick()
    assert made and not np.array_equal(after, before)
    np.testing.assert_allclose(after, plain(), atol=1e-5 * np.abs(after).max())
    made.clear()
    np.testing.assert_array_equal(quick(), after)
    assert not made
