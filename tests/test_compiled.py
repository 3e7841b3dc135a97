"""The cache of compiled graphs: what one process compiled serves the next, and never another graph than was asked for.

Each case is a process of its own, as MindSpore looks at its settings once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
    import sys, threading
    import mindspore as ms
    import numpy as np
    from mindspore import Parameter, Tensor, ops
    import mindmusicgen.compiled as cache
    from mindmusicgen.models.layers import Linear

    found = []
    is_whole = cache._is_whole
    cache._is_whole = lambda entry: found.append(is_whole(entry)) or found[-1]

    def product(size, seed, key, cell=Linear):
        layer = cell(size, 3)
        weight = np.random.default_rng(seed).standard_normal((3, size)).astype(np.float32)
        layer.weight.set_data(Tensor(weight))
        run = cache.compiled(layer.construct, cache.fingerprint(key))
        for rows in (2, 2, 5):
            x = np.random.default_rng(rows).standard_normal((rows, size)).astype(np.float32)
            right = np.allclose(run(Tensor(x)).asnumpy(), x @ weight.T, atol=1e-4)
            print("right" if right else "WRONG", end=" ")
"""


def start(folder, body, **variables):
    """The program as a process; it ends by printing which entries it found: a string of 0 and 1."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:  # MindSpore reads the source
        file.write(textwrap.dedent(PROGRAM) + textwrap.dedent(body) + "\nprint(''.join(str(int(f)) for f in found))\n")
    environment = os.environ | {"MINDMUSICGEN_CACHE": str(folder), "PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen([sys.executable, file.name], env=environment, stdout=-1, stderr=-1, text=True)


def result(process):
    """Which entries it found, if all its numbers are right."""
    output, errors = process.communicate(timeout=300)
    os.remove(process.args[1])
    assert process.returncode == 0, errors
    *words, found = output.split(" ")
    assert set(words) == {"right"}, output
    return found.strip()


def run(*arguments, **variables):
    return result(start(*arguments, **variables))


def entries(folder):
    return sorted(Path(folder).glob("graphs/*/*/graph.mindir"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with two graphs, for rows of 2 and of 5."""
    folder = tmp_path_factory.mktemp("cache")
    assert run(folder, "product(8, 0, 'a')") == "00"
    assert len(entries(folder)) == 2
    return folder


@pytest.fixture
def cache(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "cache")


def test_next_process_finds_graphs_for_other_weights(cache):
    assert run(cache, "product(8, 1, 'a'); product(8, 2, 'a')") == "1111"
    assert len(entries(cache)) == 2


def test_order_does_not_matter(cache):
    """MindSpore alone would take the first graph of the process before for the first of this one."""
    assert run(cache, "product(9, 0, 'a'); product(8, 0, 'b'); product(8, 0, 'a')") == "000011"
    assert run(cache, "product(8, 0, 'a'); product(9, 0, 'a'); product(8, 0, 'b')") == "111111"


def test_damaged_entries_are_made_again(cache):
    for path in entries(cache):
        path.write_bytes(path.read_bytes()[:-9] + b"different")
    assert run(cache, "product(8, 0, 'a')") == "00"
    assert run(cache, "product(8, 0, 'a')") == "11"


def test_code_that_is_not_ours_is_not_cached(cache):
    changed = """
        class Mine(Linear):
            def construct(self, x):
                return super().construct(x) * 1
        product(8, 0, 'a', Mine)
        def construct(self, x):
            return ops.MatMul(transpose_b=True)(x, self.weight)
        Linear.construct = construct
        product(8, 0, 'a')
    """
    assert run(cache, changed) == ""


def test_processes_at_once(tmp_path):
    for process in [start(tmp_path, "product(8, 0, 'a')") for _ in range(2)]:
        result(process)
    assert run(tmp_path, "product(8, 0, 'a')") == "11"
    assert not list(tmp_path.glob("graphs/*/new-*"))


def test_no_cache(cache, tmp_path):
    assert run(0, "product(8, 0, 'a')") == ""
    assert run(cache, "product(8, 0, 'a')", MS_COMPILER_CACHE_ENABLE="1", MS_COMPILER_CACHE_PATH=str(tmp_path)) == ""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run(blocked, "product(8, 0, 'a')") == ""


def test_the_oldest_entries_go(cache):
    first, second = entries(cache)
    os.utime(first.parent, (0, 0))
    size = sum(path.stat().st_size for path in entries(cache))
    assert run(cache, f"cache.LARGEST = {size}; product(9, 0, 'a')") == "00"
    assert not first.exists() and sum(path.stat().st_size for path in entries(cache)) <= size * 1.2
