"""A chunk of float32 steps as one operator: the layers' own numbers, ends, several rows, and what it refuses."""

import ctypes

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.bark.decode_loop import CHUNK, SemanticGraphs, StageGraphs
from mindmusicgen.bark.model import BarkModel
from mindmusicgen.ops import native

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason="the kernels cannot run here")
PROMPT, COUNT = 10, 14


def settings(temperature, top_k, top_p):
    made = (np.float32(temperature), np.int32(top_k), np.float32(top_p))
    return ms.mutable(tuple(Tensor(np.array([number])) for number in made))


def chunk(graphs, ids, steps, least=2.0, filters=(1, 1, 2)):
    """A prefill of the same ids for each of the graphs, and the chunk after it."""
    rows = len(ids)
    rng = np.random.default_rng(3)
    place, least = Tensor(np.array([PROMPT], np.int32)), Tensor(np.array([least], np.float32))
    graphs.states(graphs.network.input_embeds_layer(Tensor(ids[:, :PROMPT])))
    columns, made, total = graphs.chunk(
        Tensor(ids[:, PROMPT]),
        place,
        Tensor(steps, ms.int32),
        Tensor(np.full(CHUNK, 3, np.int32)),
        Tensor(rng.random((CHUNK, rows), np.float32)),
        least,
        settings(*filters),
    )
    made = int(made.asnumpy())
    return columns.asnumpy()[:made], float(total.asnumpy())


def both(kind, network, rows, end=None):
    """Graphs with the operator, and with the layers' own operations."""
    quick, plain = (kind(network, rows, COUNT, end) for _ in range(2))
    assert quick.decode_op is not None
    plain.decode_op = None
    return quick, plain


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("filters", [(1, 1, 2), (0.8, 5, 2), (1.3, COUNT, 0.7)])
@pytest.mark.parametrize("stage,kind", [("semantic", SemanticGraphs), ("coarse_acoustics", StageGraphs)])
def test_the_operator_makes_what_the_layers_make(bark, stage, kind, rows, filters):
    ids = np.random.default_rng(rows).integers(0, 20, (rows, PROMPT + 1)).astype(np.int32)
    quick, plain = both(kind, getattr(bark, stage), rows)
    (found, total), (wanted, same) = (chunk(graphs, ids, 20, filters=filters) for graphs in (quick, plain))
    np.testing.assert_array_equal(found, wanted)
    assert len(found) == 20 and np.isclose(total, same, rtol=1e-4, atol=1e-4)
    for mine, other in zip(quick.cache, plain.cache, strict=True):  # the next chunk reads them
        np.testing.assert_allclose(mine.asnumpy(), other.asnumpy(), atol=1e-5)


@pytest.mark.parametrize("least", [2.0, 0.08])
def test_rows_end_as_they_do_in_the_layers(bark, least):
    ids = np.random.default_rng(5).integers(0, 20, (2, PROMPT + 1)).astype(np.int32)
    quick, plain = both(SemanticGraphs, bark.semantic, 2, end=7)
    found, wanted = (chunk(graphs, ids, CHUNK, least, (1.5, COUNT, 2))[0] for graphs in (quick, plain))
    np.testing.assert_array_equal(found, wanted)


def test_biases_and_half_precision_go_through_the_layers(bark):
    config = type(bark.semantic.config)(**{**bark.semantic.config.to_dict(), "bias": True})
    assert type(bark.semantic)(config).decode_op(COUNT) is None
    half = BarkModel(bark.config, dtype=ms.float16)
    assert half.semantic.decode_op(COUNT) is None


def arguments(dim=8, heads=2, inner=32, rows=2, steps=3, ids=11, positions=9):
    """The operator's arrays with one layer, and its outputs."""
    rng = np.random.default_rng(0)

    def floats(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def whole(*values):
        return np.array(values, np.int32)

    one = np.ones(1, np.float32)
    found = [whole(1, 2), whole(4), whole(steps), whole(0, 2, 1), rng.random((steps, rows), np.float32), 2 * one, one]
    found += [whole(5), 2 * one, whole(-1), whole(heads), floats(ids, dim), floats(positions, dim)]
    found += [floats(dim), floats(dim), floats(ids, dim)]
    found += [floats(dim), floats(dim), floats(3 * dim, dim), floats(dim, dim), floats(dim), floats(dim)]
    found += [floats(inner, dim), floats(dim, inner), *floats(2, rows, heads, positions, dim // heads)]
    return found, [np.full((steps, rows), -1, np.int32), whole(-1), np.full((rows, 6), np.nan, np.float32)]


def test_other_shapes_and_numbers_are_refused():
    run = ctypes.CDLL(native.library_path()).FloatGptDecode
    inputs, outputs = arguments()
    assert native.call(run, *inputs, *outputs) == 0
    assert outputs[1][0] == 3 and (outputs[0] >= 0).all() and np.isfinite(outputs[2]).all()
    for index, array in enumerate(inputs):
        longer = np.concatenate([array, array])
        if not np.array_equal(array.shape, longer.shape) and index not in (
            11,
            15,
        ):  # more ids than are used are no fault
            assert native.call(run, *(longer if i == index else a for i, a in enumerate(inputs)), *outputs) != 0, index
    wrong = {0: np.array([1, 11], np.int32), 1: np.array([7], np.int32), 2: np.array([4], np.int32)}
    wrong |= {3: np.array([0, 2, 6], np.int32), 7: np.array([0], np.int32), 9: np.array([6], np.int32)}
    wrong |= {10: np.array([3], np.int32)}
    for index, array in wrong.items():  # no such id, position, step, logit, choice, end; heads that do not divide
        assert native.call(run, *(array if i == index else a for i, a in enumerate(inputs)), *outputs) != 0, index
    assert native.call(run, *inputs[:-1], *outputs) != 0
