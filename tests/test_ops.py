"""The CPU kernels against NumPy and against the plain MindSpore operations, alone and inside compiled graphs."""

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindmusicgen.ops import native
from mindmusicgen.ops.attention import CachedAttention
from mindmusicgen.ops.linear import matmul_transposed
from mindmusicgen.ops.lstm import LSTM
from mindmusicgen.ops.native import FEW_ROWS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "mindmusicgen/ops/csrc").glob("*.c"))
VARIANTS = ("amx", "avx512", "avx2", "base")  # a CPU without one of them falls back to the next


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Path of the kernels, built from the sources of today if there is a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        if native.library_path():
            return native.library_path()
        pytest.skip("no C compiler (cc, gcc or clang), and the package was installed without its kernels")
    path = tmp_path_factory.mktemp("kernels") / "_kernels.so"
    flags = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fvisibility=hidden", "-pthread"]
    subprocess.run([compiler, *flags, "-shared", "-fPIC", *SOURCES, "-o", path, "-lm", "-Wl,-z,nodelete"], check=True)
    return str(path)


@pytest.fixture(scope="session", params=VARIANTS)
def kernels(request, library, tmp_path_factory):
    """The loaded library with one instruction set: a copy each, as the set is chosen at the first call."""
    copy = shutil.copy(library, tmp_path_factory.mktemp(request.param) / "_kernels.so")
    before = os.environ.get("MINDMUSICGEN_SIMD")
    os.environ["MINDMUSICGEN_SIMD"] = request.param
    loaded = ctypes.CDLL(copy)
    one = np.ones((1, 1), np.float32)
    assert native.call(loaded.Linear, one, one, one.copy()) == 0
    os.environ.pop("MINDMUSICGEN_SIMD") if before is None else os.environ.update(MINDMUSICGEN_SIMD=before)
    return loaded


@pytest.fixture
def use_kernels(library, monkeypatch):
    """Cells made in this test use the kernels."""
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", library)
    assert native.library_path() == library, native.why_not()


def unaligned(array):
    """A copy at an address that is a multiple of 16 and not of 32, as MindSpore's tensors may be."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = (16 - memory.ctypes.data) % 32
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def attend(kernels, q, k, v, keys, values, position):
    """The kernel's output; `keys` and `values` are written to."""
    y = unaligned(np.full_like(q, 7))
    place = np.array([position], np.int32)
    assert native.call(kernels.CachedAttention, q, k, v, keys, values, place, y) == 0
    return y


def reference(q, k, v, keys, values, position):
    """In float64, with the new column in place of the cache's."""
    keys, values = (c[:, :, : position + 1].astype(np.float64) for c in (keys, values))
    keys[:, :, position], values[:, :, position] = k[:, :, 0], v[:, :, 0]
    scores = q.astype(np.float64) @ keys.swapaxes(2, 3) / np.sqrt(q.shape[-1])
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ values


def random_attention(batch, heads, length, size, seed=0):
    """q, k, v, key_cache, value_cache"""
    rng = np.random.default_rng(seed)
    column, cache = (batch, heads, 1, size), (batch, heads, length, size)
    return [unaligned(rng.standard_normal(s, np.float32)) for s in (column, column, column, cache, cache)]


# ---- the kernels alone ----


@pytest.mark.parametrize("rows", [*range(1, 18), 33])
@pytest.mark.parametrize("size_in,size_out", [(1, 1), (3, 5), (64, 4), (65, 130), (1000, 37)])
def test_linear_is_the_matrix_product(kernels, rows, size_in, size_out):
    rng = np.random.default_rng(rows)
    x = unaligned(rng.standard_normal((rows, size_in), np.float32))
    weight = unaligned(rng.standard_normal((size_out, size_in), np.float32))
    y = unaligned(np.full((rows, size_out), np.nan, np.float32))
    assert native.call(kernels.Linear, x, weight, y) == 0
    np.testing.assert_allclose(y, x.astype(np.float64) @ weight.T, atol=2e-6 * np.sqrt(size_in) + 1e-6, rtol=1e-5)


def test_linear_of_many_tasks(kernels):
    """Enough weights for several tasks per thread: nothing is left out or done twice."""
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-8, 8, (2, 1024)), rng.integers(-8, 8, (3075, 1024))
    y = np.full((2, 3075), np.nan, np.float32)
    assert native.call(kernels.Linear, x.astype(np.float32), weight.astype(np.float32), y) == 0
    np.testing.assert_array_equal(y, x @ weight.T)  # whole numbers: exact in any order


@pytest.mark.parametrize(
    "rows,size_in,size_out",
    [(17, 32, 32), (31, 33, 31), (64, 200, 64), (100, 193, 300), (600, 70, 45), (257, 5000, 129)],
)
def test_linear_of_many_rows(kernels, rows, size_in, size_out):
    """Whole and broken blocks, several panels, several laps of tiles; numbers of very different sizes."""
    rng = np.random.default_rng(rows)
    x, weight = rng.standard_normal((rows, size_in), np.float32), rng.standard_normal((size_out, size_in), np.float32)
    x *= np.float32(10) ** rng.integers(-12, 12, (rows, 1))
    weight *= np.float32(10) ** rng.integers(-12, 12, (size_out, 1))
    y = unaligned(np.full((rows, size_out), np.nan, np.float32))
    assert native.call(kernels.Linear, unaligned(x), unaligned(weight), y) == 0
    whole = np.abs(x).astype(np.float64) @ np.abs(weight).T  # what rounding is relative to
    assert (np.abs(y - x.astype(np.float64) @ weight.T) / whole).max() < 1e-6


def test_linear_of_many_rows_is_exact_where_float32_is(kernels):
    """24 bits of one side times a power of two, and whole numbers: nothing is cut off."""
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-(2**23), 2**23, (40, 64)), np.eye(64)[:50] * 2.0 ** rng.integers(-30, 30, 64)
    y = np.full((40, 50), np.nan, np.float32)
    assert native.call(kernels.Linear, x.astype(np.float32), weight.astype(np.float32), y) == 0
    np.testing.assert_array_equal(y, (x @ weight.T).astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_linear_of_many_rows_keeps_what_is_not_finite_to_its_row(kernels, value):
    x, weight, y = np.ones((40, 64), np.float32), np.ones((40, 64), np.float32), np.zeros((40, 40), np.float32)
    x[3, 5] = value
    assert native.call(kernels.Linear, x, weight, y) == 0
    assert not np.isfinite(y[3]).any()
    assert (np.delete(y, 3, 0) == 64).all()


def test_threads_multiply_many_rows_at_once(kernels):
    """One of them has the memory that is kept, the others bring their own."""
    rng = np.random.default_rng(0)
    sides = [(rng.integers(-8, 8, (50 + i, 100)), rng.integers(-8, 8, (70, 100))) for i in range(8)]
    results = [np.full((50 + i, 70), np.nan, np.float32) for i in range(8)]

    def multiply(i):
        x, weight = (side.astype(np.float32) for side in sides[i])
        for _ in range(20):
            assert native.call(kernels.Linear, x, weight, results[i]) == 0

    threads = [threading.Thread(target=multiply, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (x, weight), y in zip(sides, results, strict=True):
        np.testing.assert_array_equal(y, x @ weight.T)


def lstm_reference(gates, weight, h, c):
    """h of every step and the last c, in float64."""
    outputs, size = [], weight.shape[1]
    with np.errstate(over="ignore"):
        for step in range(gates.shape[1]):
            parts = np.split(gates[:, step].astype(np.float64) + h @ weight.T.astype(np.float64), 4, axis=1)
            enter, forget, leave = (1 / (1 + np.exp(-parts[i])) for i in (0, 1, 3))
            c = forget * c + enter * np.tanh(parts[2])
            h = leave * np.tanh(c)
            outputs.append(h)
    return np.stack(outputs, 1).reshape(len(gates), -1, size), c


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("size,steps", [(1, 3), (5, 1), (64, 4), (70, 5), (130, 3)])
def test_lstm(kernels, rows, size, steps):
    rng = np.random.default_rng(rows)
    gates, weight = (unaligned(rng.standard_normal(s, np.float32)) for s in ((rows, steps, 4 * size), (4 * size, size)))
    gates *= 30 if size == 64 else 1  # saturated ones
    h, c = (unaligned(part) for part in rng.standard_normal((2, rows, size), np.float32))
    y, last = np.full((rows, steps, size), np.nan, np.float32), np.full((rows, size), np.nan, np.float32)
    assert native.call(kernels.Lstm, gates, weight, h, c, y, last) == 0
    want, want_last = lstm_reference(gates, weight, h, c)
    np.testing.assert_allclose(y, want, atol=3e-5)  # weights of 1 let differences grow
    np.testing.assert_allclose(last, want_last, atol=3e-5)


@pytest.mark.parametrize("size,steps", [(5, 3), (70, 9), (130, 12)])
def test_rough_lstm_is_within_sixteen_bits(kernels, size, steps):
    rng = np.random.default_rng(size)
    gates, weight = rng.standard_normal((2, steps, 4 * size), np.float32), rng.standard_normal((4 * size, size))
    weight = (weight / np.sqrt(size)).astype(np.float32)
    weight[3] = 0
    h, c = rng.standard_normal((2, 2, size), np.float32)
    y, last = np.full((2, steps, size), np.nan, np.float32), np.full((2, size), np.nan, np.float32)
    assert native.call(kernels.RoughLstm, gates, weight, h, c, y, last) == 0
    codes = np.abs(weight).max(1, keepdims=True) / 32767
    rounded = np.rint(weight / np.maximum(codes, 1e-30)) * codes
    want, want_last = lstm_reference(gates, rounded.astype(np.float32), h, c)
    np.testing.assert_allclose(y, want, atol=3e-5)  # a weight in the middle of two codes may go either way
    np.testing.assert_allclose(last, want_last, atol=3e-5)
    exact = lstm_reference(gates, weight, h, c)[0]
    assert np.abs(want - exact).max() < 2e-4
    weight[1, 2] = np.nan
    assert native.call(kernels.RoughLstm, gates, weight, h, c, y, last) == 0
    assert np.isnan(y[:, 0, 1]).all() and np.isfinite(y[:, 0, 2:]).all()


def test_lstm_refuses_other_shapes(kernels):
    shapes = ((2, 3, 20), (20, 5), (2, 5), (2, 5), (2, 3, 5), (2, 5))
    good = [np.zeros(shape, np.float32) for shape in shapes]
    assert native.call(kernels.Lstm, *good) == 0
    for index in range(len(good)):
        wrong = [np.concatenate([a, a]) if i == index else a for i, a in enumerate(good)]
        assert native.call(kernels.Lstm, *wrong) != 0, index
    assert native.call(kernels.Lstm, *good[:-1]) != 0
    good[0][0, 1, 0] = np.nan
    assert native.call(kernels.Lstm, *good) == 0
    assert np.isnan(good[4][0, 1:]).any() and np.isfinite(good[4][1]).all() and np.isfinite(good[4][0, 0]).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_cell(use_kernels, layers):
    """The kernel, MindSpore's own operator, and the sequence in pieces agree."""
    cell, rng = LSTM(6, 10, layers), np.random.default_rng(0)
    assert cell.kernel is not None
    for parameter in cell.get_parameters():
        parameter.set_data(Tensor(rng.standard_normal(parameter.shape, np.float32) / 3))
    run = ms.jit(cell.construct, fullgraph=True)
    x, state = Tensor(rng.standard_normal((3, 7, 6), np.float32)), rng.standard_normal((2, layers, 3, 10), np.float32)
    y, (h, c) = run(x, tuple(map(Tensor, state)))
    first, middle = run(x[:, :4], tuple(map(Tensor, state)))
    rest, end = run(x[:, 4:], middle)
    cell.kernel = None
    want, (want_h, want_c) = ms.jit(cell.construct, fullgraph=True)(x, tuple(map(Tensor, state)))
    for found, expected in ((y, want), (h, want_h), (c, want_c), (end[0], want_h), (end[1], want_c)):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(np.concatenate([first.asnumpy(), rest.asnumpy()], 1), want.asnumpy(), atol=1e-6)


def test_linear_passes_on_inf_and_nan(kernels):
    x, weight = np.ones((2, 70), np.float32), np.ones((9, 70), np.float32)
    x[1, 69], weight[3, 0], weight[5, 68] = np.inf, np.nan, -np.inf
    y = np.zeros((2, 9), np.float32)
    assert native.call(kernels.Linear, x, weight, y) == 0
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(y, x @ weight.T)
    assert np.isnan(y[1, [3, 5]]).all() and np.isinf(y[1, 0])


@pytest.mark.parametrize("size", [1, 3, 16, 63, 64, 65, 130])
@pytest.mark.parametrize("length,position", [(1, 0), (7, 3), (64, 63), (65, 64), (300, 0), (300, 150), (300, 299)])
def test_attention_matches_reference(kernels, size, length, position):
    q, k, v, keys, values = random_attention(2, 3, length, size)
    keys[:, :, position + 1 :] = np.nan  # what comes after is not read
    want = reference(q, k, v, keys, values, position)
    old = keys.copy(), values.copy()
    y = attend(kernels, q, k, v, keys, values, position)
    np.testing.assert_allclose(y, want, atol=3e-6, rtol=1e-5)
    for cache, before, new in ((keys, old[0], k), (values, old[1], v)):
        before[:, :, position : position + 1] = new
        np.testing.assert_array_equal(cache, before)


@pytest.mark.parametrize("rise", [-1.0, 1.0])
def test_attention_with_large_scores(kernels, rise):
    """Scores from -1e4 to 1e4, growing or falling along the cache: no overflow, the maximum is found anywhere."""
    q, k, v, keys, values = random_attention(1, 2, 200, 4)
    q[...] = np.array([2, 0, 0, 0])
    keys[..., 0] = rise * np.linspace(-1e4, 1e4, 200)
    k[..., 0] = keys[:, :, 199:, 0]
    want = reference(q, k, v, keys, values, 199)
    np.testing.assert_allclose(attend(kernels, q, k, v, keys, values, 199), want, atol=1e-5)


def test_attention_weights_are_those_of_exp(kernels):
    """One key with score s against one with 0 gives the value exp(s) / (1 + exp(s)): the error of the exponential."""
    for score in np.linspace(-86, 0, 500, dtype=np.float32):
        q = np.ones((1, 1, 1, 1), np.float32)
        keys, values = np.zeros((1, 1, 2, 1), np.float32), np.zeros((1, 1, 2, 1), np.float32)
        y = attend(kernels, q, q * score, q, keys, values, 1)[0, 0, 0, 0]
        exact = np.exp(np.float64(score))
        assert abs(y / (exact / (1 + exact)) - 1) < 1e-6, score


def test_attention_of_equal_keys_is_the_mean(kernels):
    q, k, v, keys, values = random_attention(1, 1, 100, 8)
    keys[...], k[...] = 1, 1
    values[:, :, 99:] = v
    y = attend(kernels, q, k, v, keys, values, 99)
    np.testing.assert_allclose(y, values.mean(2, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(attend(kernels, q * 0, k * 0, v * 0, keys * 0, values * 0, 99), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["first", "start", "middle", "new", "all"])
def test_attention_passes_on_inf_and_nan(kernels, bad, where):
    q, k, v, keys, values = random_attention(1, 1, 150, 1)
    q[...] = 1
    if where != "new":  # "start": more columns than the kernel takes at once
        keys[:, :, {"first": 0, "start": slice(0, 70), "middle": 100, "all": slice(None)}[where]] = bad
    if where in ("new", "all"):
        k[...] = bad
    want = reference(q, k, v, keys, values, 149)
    np.testing.assert_allclose(attend(kernels, q, k, v, keys, values, 149), want, atol=1e-6)
    assert np.isnan(want).all() == (bad != -np.inf or where == "all")


def test_nan_among_the_values_reaches_the_output(kernels):
    q, k, v, keys, values = random_attention(1, 2, 80, 8)
    values[0, 1, 5, 3] = np.nan
    y = attend(kernels, q, k, v, keys, values, 79)
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 1, 0, 3]]


def test_wrong_arguments_are_refused(kernels):
    q, k, v, keys, values = random_attention(1, 2, 5, 4)
    good = [q, k, v, keys, values, np.array([2], np.int32), np.empty_like(q)]
    assert native.call(kernels.CachedAttention, *good) == 0
    changes = {0: q.astype(np.float64), 1: k[:, :1], 3: keys[..., :3], 4: values[0], 6: q[..., :2]}
    places = [np.array(p, t) for p, t in (([5], np.int32), ([-1], np.int32), ([2], np.int64), ([2, 2], np.int32))]
    for index, wrong in [*changes.items(), *((5, place) for place in places)]:
        arguments = [np.ascontiguousarray(wrong) if i == index else a for i, a in enumerate(good)]
        assert native.call(kernels.CachedAttention, *arguments) != 0, (index, wrong)
    x, weight, y = (np.zeros(s, np.float32) for s in ((2, 4), (3, 4), (2, 3)))
    assert native.call(kernels.Linear, x, weight, y) == 0
    for wrong in ((x.astype(np.float16), weight, y), (x, weight[:, :3], y), (x, weight, y[:, :2]), (x[0], weight, y)):
        assert native.call(kernels.Linear, *(np.ascontiguousarray(a) for a in wrong)) != 0
    assert native.call(kernels.Linear, x, weight) != 0


def test_two_threads_at_once(library):
    """Callers that find the team busy compute alone; every result is right."""
    kernels, wrong = ctypes.CDLL(library), []
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 8, (1500, 256)).astype(np.float32)

    def work(seed):
        x = np.random.default_rng(seed).integers(-8, 8, (2, 256)).astype(np.float32)
        want, y = x @ weight.T, np.empty((2, 1500), np.float32)
        parts = random_attention(2, 4, 70, 16, seed)
        expected = reference(*parts, 69)
        for _ in range(300):
            y[...] = np.nan
            if native.call(kernels.Linear, x, weight, y) != 0 or not np.array_equal(y, want):
                wrong.append(("linear", seed))
            if not np.allclose(attend(kernels, *parts, 69), expected, atol=1e-5):
                wrong.append(("attention", seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


RUN_LINEAR = """
    import ctypes, os, signal, sys, time
    import numpy as np
    from mindmusicgen.ops.native import call
    kernels = ctypes.CDLL(sys.argv[1])
    x, weight = np.ones((2, 512), np.float32), np.ones((4096, 512), np.float32)
    def right():
        y = np.zeros((2, 4096), np.float32)
        return call(kernels.Linear, x, weight, y) == 0 and (y == 512).all()
    def threads():
        return len(os.listdir("/proc/self/task"))
"""


def run_script(body, *arguments, **environment):
    """Standard output of RUN_LINEAR and `body` in a fresh interpreter that must end well within a minute."""
    script = textwrap.dedent(RUN_LINEAR) + textwrap.dedent(body)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_fork(library):
    """The child has none of the helper threads and starts its own; the parent's go on."""
    body = """
        before = threads()
        ok = right() and threads() == before + 2
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a child that waits for helpers it does not have
            os._exit(0 if threads() == 1 and right() and threads() == 3 else 1)
        print(ok, os.waitpid(child, 0)[1], right())
    """
    assert run_script(body, library, MINDMUSICGEN_THREADS="3") == ["True", "0", "True"]


def test_sleeping_helpers_wake(library):
    """Linux counts the time that each thread has run: none while asleep, some once there is work again."""
    body = """
        def run_times():
            tasks = os.listdir("/proc/self/task")
            return {t: int(open(f"/proc/self/task/{t}/schedstat").read().split()[0]) for t in tasks}
        others = set(run_times())
        ok = right()
        time.sleep(0.3)  # long after the last yield
        first = run_times()
        time.sleep(0.3)
        second = run_times()
        ok = ok and all(right() for _ in range(100))
        third = run_times()
        helpers = set(first) - others
        print(ok, len(helpers), all(first[t] == second[t] < third[t] for t in helpers))
    """
    assert run_script(body, library, MINDMUSICGEN_THREADS="4") == ["True", "3", "True"]


@pytest.mark.parametrize("setting", ["1", "3", "", "nonsense", "-2"])
def test_number_of_threads(library, setting):
    body = """
        before = threads()
        print(right(), threads() - before)
    """
    expected = int(setting) if setting in ("1", "3") else min(len(os.sched_getaffinity(0)), 64)
    assert run_script(body, library, MINDMUSICGEN_THREADS=setting) == ["True", str(expected - 1)]


# ---- the loader ----


def test_plain_path_can_be_forced():
    body = """
        import mindspore as ms
        from mindmusicgen.ops import native
        from mindmusicgen.ops.attention import CachedAttention
        from mindmusicgen.ops.linear import matmul_transposed
        print(native.library_path(), "MINDMUSICGEN_KERNELS=0" in native.why_not())
        print(CachedAttention().kernel, native.linear_op())
        print(matmul_transposed(ms.Tensor(x), ms.Tensor(weight), native.linear_op()).asnumpy().mean())
    """
    body = textwrap.dedent(body)
    script = textwrap.dedent(RUN_LINEAR).replace("ctypes.CDLL(sys.argv[1])", "None") + body
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MINDMUSICGEN_KERNELS": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["None", "True", "None", "None", "512.0"], done.stderr[-2000:]


def test_loader_never_raises(tmp_path, monkeypatch):
    garbage = tmp_path / "garbage.so"
    garbage.write_bytes(b"not a library")
    for setting, reason in (
        (garbage, "cannot be used"),
        (tmp_path / "a:b.so", "colon"),
        (tmp_path / "none.so", "none.so"),
    ):
        monkeypatch.setenv("MINDMUSICGEN_KERNELS", str(setting))
        assert native.library_path() is None and native.linear_op() is None and native.cached_attention_op() is None
        assert reason in native.why_not() and "\n" not in native.why_not()


def test_library_that_computes_wrongly_is_not_used(library, monkeypatch, tmp_path):
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", str(shutil.copy(library, tmp_path / "other.so")))
    monkeypatch.setattr(native, "_attention_is_right", lambda library: False)
    assert native.library_path() is None and "wrong" in native.why_not()


def test_kernels_are_for_cpu_only(monkeypatch, library):
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", library)
    monkeypatch.setattr(native.ms, "get_context", {"device_target": "Ascend"}.get)
    assert native.library_path() is None and "Ascend" in native.why_not()


# ---- in MindSpore ----


class Product(nn.Cell):
    def __init__(self, weight):
        super().__init__()
        self.weight = Parameter(Tensor(weight), name="weight")
        self.kernel = native.linear_op()

    def construct(self, x):
        return matmul_transposed(x, self.weight, self.kernel)


class SumOfSquares(nn.Cell):
    def __init__(self, product):
        super().__init__()
        self.product = product

    def construct(self, x):
        return (self.product(x) ** 2).sum()


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("compiled", [True, False])
def test_product_and_its_gradients(use_kernels, rows, compiled):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((rows, 37), np.float32), rng.standard_normal((19, 37), np.float32)
    net = Product(weight)
    assert net.kernel is not None
    run = ms.jit(net.construct, fullgraph=True) if compiled else net
    want = x @ weight.T
    np.testing.assert_allclose(run(Tensor(x)).asnumpy(), want, atol=1e-5)
    gradients = ms.grad(SumOfSquares(net), 0, net.trainable_params())
    of_x, (of_weight,) = (ms.jit(gradients, fullgraph=True) if compiled else gradients)(Tensor(x))
    np.testing.assert_allclose(of_x.asnumpy(), 2 * want @ weight, atol=1e-3)
    np.testing.assert_allclose(of_weight.asnumpy(), 2 * want.T @ x, atol=1e-3)


@pytest.mark.parametrize("rows,dtype,used", [(16, ms.float32, True), (17, ms.float32, False), (2, ms.float16, False)])
def test_what_the_kernel_is_chosen_for(use_kernels, rows, dtype, used):
    x, weight = ops.zeros((rows, 8), dtype), ops.zeros((3, 8), dtype)
    y = matmul_transposed(x, weight, lambda x, weight: "kernel")
    assert (y == "kernel") if used else y.shape == (rows, 3)


def test_any_number_of_rows_where_there_is_a_tile_unit(use_kernels):
    tiles = native.linear_rows() == native.ANY_ROWS
    assert tiles or native.linear_rows() == FEW_ROWS
    if tiles:  # the system may keep it to itself, but not make it
        assert {"amx_tile", "amx_bf16"} <= set(Path("/proc/cpuinfo").read_text().split())
    x, weight = ops.zeros((170, 8)), ops.zeros((3, 8))
    y = matmul_transposed(x, weight, lambda x, weight: "kernel", native.linear_rows())
    assert (y == "kernel") if tiles else y.shape == (170, 3)


BATCH, HEADS, LENGTH, SIZE, LAYERS = 2, 3, 70, 8, 3


class Layer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.attention = CachedAttention()
        self.kernel = native.linear_op()

    def step(self, x, position, key_cache, value_cache, weight):
        q, k, v = ops.split(matmul_transposed(x, weight, self.kernel).reshape(BATCH, 3 * HEADS, 1, SIZE), HEADS, 1)
        y = self.attention(q, k, v, key_cache, value_cache, position).reshape(x.shape)
        return ops.tanh(x + y) * 0.8  # damped, so that rounding does not grow from step to step


class Loop(nn.Cell):
    """The decode loop in small: a `while` over a tensor, caches passed as tuples of Parameters through cells."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        width = HEADS * SIZE
        self.layers = nn.CellList([Layer() for _ in range(LAYERS)])
        self.weight = Parameter(Tensor(rng.standard_normal((3 * width, width), np.float32) * 0.15), name="weight")
        cache = [np.zeros((BATCH, HEADS, LENGTH, SIZE), np.float32) for _ in range(2 * LAYERS)]
        self.cache = ParameterTuple([Parameter(Tensor(c), name=f"cache{i}") for i, c in enumerate(cache)])
        self.out = Parameter(Tensor(np.zeros((LENGTH, BATCH, width), np.float32)), name="out")

    def step(self, x, position, cache):
        for i, layer in enumerate(self.layers):
            x = layer.step(x, position, cache[2 * i], cache[2 * i + 1], self.weight)
        return x

    def loop(self, x, position, steps, cache):
        i = Tensor(0, ms.int32)
        while i < steps:
            x = self.step(x, position, cache)
            self.out[i.reshape(1)] = x.expand_dims(0)
            position = position + 1
            i = i + 1
        return x

    def construct(self, x, position, steps):
        return self.loop(x, position, steps, self.cache), self.out

    def prefilled(self, x, position, steps, keys):
        """A prefill by assignment in the same graph."""
        for i in range(LAYERS):
            ops.assign(self.cache[2 * i], keys)
            ops.assign(self.cache[2 * i + 1], keys * 0.5)
        return self.loop(x, position, steps, self.cache), self.out, self.cache[0] + 0, self.cache[2 * LAYERS - 1] + 0


def decode():
    """Everything that a loop of each kind returns and leaves in the caches."""
    net, rng, results = Loop(), np.random.default_rng(1), []
    run, prefilled = ms.jit(net.construct, fullgraph=True), ms.jit(net.prefilled, fullgraph=True)
    x = Tensor(rng.standard_normal((BATCH, HEADS * SIZE), np.float32))
    for start, steps in ((0, 7), (7, 60), (67, 3)):
        x, out = run(x, Tensor([start], ms.int32), Tensor(steps, ms.int32))
        results += [x.asnumpy().copy(), out.asnumpy().copy()]
    results += [p.asnumpy().copy() for p in net.cache]
    for _ in range(2):
        keys = Tensor(rng.standard_normal((BATCH, HEADS, LENGTH, SIZE), np.float32))
        results += [t.asnumpy().copy() for t in prefilled(x, Tensor([5], ms.int32), Tensor(8, ms.int32), keys)]
    return results + [p.asnumpy().copy() for p in net.cache]


def test_decode_loop_equals_the_plain_one(use_kernels, monkeypatch):
    assert CachedAttention().kernel is not None
    got = decode()
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    assert CachedAttention().kernel is None
    want = decode()
    assert np.abs(want[1]).max() > 0.1
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


class Mixed(nn.Cell):
    """Attention without data dependence, between other readers and writers of its caches."""

    def __init__(self):
        super().__init__()
        self.attention = CachedAttention()
        zeros = np.zeros((BATCH, HEADS, LENGTH, SIZE), np.float32)
        self.keys, self.values = Parameter(Tensor(zeros), name="keys"), Parameter(Tensor(zeros), name="values")

    def construct(self, q, position, fill):
        before = self.keys + 0
        ops.assign(self.keys, fill)
        ops.assign(self.values, fill)
        first = self.attention(q, q * 2, q * 3, self.keys, self.values, position)
        between = self.keys + 0
        second = self.attention(q * 2, q * 4, q * 5, self.keys, self.values, position + 1)
        self.attention(q, q * 6, q * 7, self.keys, self.values, position + 2)  # for its writing only
        after = self.keys + 0
        ops.assign(self.values, fill * 0)
        return first, second, before, between, after, self.keys + 0, self.values + 0


def test_cache_writes_keep_their_place_in_the_program(use_kernels, monkeypatch):
    """Fails without the operator's side_effect_mem."""

    def run():
        net, rng, results = Mixed(), np.random.default_rng(0), []
        compiled = ms.jit(net.construct, fullgraph=True)
        for position in (3, 4, 60):
            q = Tensor(rng.standard_normal((BATCH, HEADS, 1, SIZE), np.float32))
            fill = Tensor(rng.standard_normal((BATCH, HEADS, LENGTH, SIZE), np.float32))
            results += [t.asnumpy().copy() for t in compiled(q, Tensor([position], ms.int32), fill)]
        return results

    got = run()
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    for a, b in zip(got, run(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("setting", ["kernels", "plain"])
def test_cached_attention_cell(setting, request, monkeypatch):
    """Outside a graph too, and with the plain operations when there is no library at all."""
    if setting == "plain":
        monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    else:
        request.getfixturevalue("use_kernels")
    q, k, v, keys, values = random_attention(2, 3, 20, 8)
    key_cache, value_cache = Parameter(Tensor(keys), name="k"), Parameter(Tensor(values), name="v")
    y = CachedAttention()(Tensor(q), Tensor(k), Tensor(v), key_cache, value_cache, Tensor([11], ms.int32))
    np.testing.assert_allclose(y.asnumpy(), reference(q, k, v, keys, values, 11), atol=1e-5)
    np.testing.assert_array_equal(key_cache.asnumpy()[:, :, 11], k[:, :, 0])
    np.testing.assert_array_equal(value_cache.asnumpy()[:, :, 11], v[:, :, 0])


def test_position_outside_the_cache_is_an_error(use_kernels):
    q, k, v, keys, values = (
        Parameter(Tensor(a), name=n) for a, n in zip(random_attention(1, 1, 4, 8), "qkvab", strict=True)
    )
    run = ms.jit(CachedAttention().construct, fullgraph=True)
    with pytest.raises(RuntimeError):
        run(q, k, v, keys, values, Tensor([4], ms.int32)).asnumpy()


# ---- whole sequences ----


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(
    "rows,columns,heads,size",
    [(1, 1, 1, 1), (2, 7, 3, 5), (1, 37, 2, 64), (1, 130, 1, 19), (2, 64, 1, 70), (1, 300, 80, 40)],
)
def test_attention_of_sequences(kernels, causal, rows, columns, heads, size):
    rng = np.random.default_rng(columns)
    qkv = unaligned(rng.standard_normal((rows, columns, 3 * heads * size), np.float32) * 2)
    y = unaligned(np.full((rows, columns, heads * size), np.nan, np.float32))
    numbers = np.array([heads], np.int32), np.array([causal], np.int32)
    caches = np.zeros((2, rows, heads, columns + 3, size), np.float32)
    assert native.call(kernels.SequenceAttention, qkv, *numbers, y) == 0
    q, k, v = qkv.astype(np.float64).reshape(rows, columns, 3, heads, size).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(2, 3) / np.sqrt(size)
    if causal:
        scores = np.where(np.tri(columns, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    wanted = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(y.shape)
    assert np.abs(y - wanted).max() < 1e-5
    again = np.empty_like(y)
    assert native.call(kernels.FillingAttention, qkv, *numbers, *caches, again) == 0
    assert np.array_equal(again, y)
    assert np.array_equal(caches[0, :, :, :columns], k) and np.array_equal(caches[1, :, :, :columns], v)
    assert not caches[:, :, :, columns:].any()
    small = np.zeros((rows, heads, columns - 1, size), np.float32)
    assert native.call(kernels.FillingAttention, qkv, *numbers, small, small, again) != 0
    assert native.call(kernels.SequenceAttention, qkv, np.array([0], np.int32), numbers[1], y) != 0


@pytest.mark.parametrize("shape", [(1,), (3, 50), (5, 16391)])
def test_gelu_is_the_exact_one(kernels, shape):
    x = unaligned(np.random.default_rng(0).standard_normal(shape, np.float32) * 4)
    y = np.empty_like(x)
    assert native.call(kernels.Gelu, x, y) == 0
    wanted = ops.gelu(Tensor(x), approximate="none").asnumpy()
    assert np.abs(y - wanted).max() < 2e-6 and not np.isnan(y).any()
    assert native.call(kernels.Gelu, x, y[:0]) != 0
