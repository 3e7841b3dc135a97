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
    import mindmusicgen.runtime.compiled as cache
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


def test_what_was_kept_is_used_behind_what_was_not(cache):
    """MindSpore alone looks for no other graph once one was missing: it would parse the code."""
    parsed = """
        try:
            from mindspore.graph._parse.parser import Parser as parser
        except ImportError:  # MindSpore 2.7
            from mindspore._extends.parse.parser import Parser as parser
        parse, seen = parser.parse, []
        parser.parse = lambda self, *arguments: seen.append(self) or parse(self, *arguments)
        product(9, 0, 'a')
        print("right" if seen else "WRONG", end=" ")
        seen.clear()
        product(8, 0, 'a')
        print("WRONG" if seen else "right", end=" ")
    """
    assert run(cache, parsed) == "0011"


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


@pytest.fixture
def graphs(tmp_path, monkeypatch):
    """A folder of graphs with two entries of 1000 bytes, the first the older; and the module."""
    from mindmusicgen.runtime import compiled

    folder = tmp_path / "graphs"
    for code, age in (("old", 9e6), ("new", 9e5)):
        entry = folder / code / "entry"
        entry.mkdir(parents=True)
        (entry / compiled.GRAPH).write_bytes(bytes(936))
        (entry / compiled.HASH).write_text("0" * 64)
        aged(entry, age)
    return folder, compiled


def aged(path, seconds):
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))
    return path


def left(folder, *names):
    """Folders such as a killed run leaves."""
    for name in names:
        (folder / name / "rank_0" / "graph_cache").mkdir(parents=True)
        (folder / name / "rank_0" / "graph_cache" / "compile_cache_0.mindir").write_bytes(bytes(5000))
    return [folder / name for name in names]


def test_what_killed_runs_left_goes(graphs):
    folder, compiled = graphs
    for path in left(folder / "old", "stage-a", "new-b") + left(folder / "new", "stage-c", "new-d"):
        aged(path, compiled.OLD + 1)
    (young,) = left(folder / "new", "stage-young")  # its lock may come in a moment
    (used,) = left(folder / "old", "stage-used")
    handle = os.open(used, os.O_RDONLY)
    try:
        assert compiled._locked(handle)
        aged(used, compiled.OLD + 1)
        compiled._tidy(folder)
        assert sorted(path.name for path in folder.glob("*/*")) == ["entry", "entry", "stage-used", "stage-young"]
    finally:
        os.close(handle)
    compiled._tidy(folder)
    assert young.exists() and not used.exists()


def test_the_limit_counts_everything(graphs, monkeypatch):
    folder, compiled = graphs
    left(folder / "new", "stage-now")  # somebody's, 5000 bytes and more, which cannot go
    (folder / "new" / "entry" / "foreign").write_bytes(bytes(20000))
    half = folder / "old" / "half"  # an entry without its hash
    half.mkdir()
    (half / compiled.GRAPH).write_bytes(bytes(3000))
    aged(half, 1e6)
    everything = sum(path.stat().st_size for path in folder.glob("*/**/*"))
    monkeypatch.setattr(compiled, "LARGEST", everything)
    compiled._trim(folder)
    assert len(list(folder.glob("*/*"))) == 4
    monkeypatch.setattr(compiled, "LARGEST", everything - 500)
    compiled._trim(folder)
    assert not (folder / "old" / "entry").exists() and half.exists()
    monkeypatch.setattr(compiled, "LARGEST", 0)
    compiled._trim(folder)
    assert [path.name for path in folder.glob("*/*")] == ["stage-now"]


def test_others_who_trim_at_the_same_time_end_nothing(graphs, monkeypatch):
    folder, compiled = graphs
    size = Path.lstat

    def gone(path, *arguments):
        shutil.rmtree(folder / "old", ignore_errors=True)  # by another process, between listing and looking
        return size(path, *arguments)

    monkeypatch.setattr(Path, "lstat", gone)
    monkeypatch.setattr(compiled, "LARGEST", 0)
    compiled._trim(folder)
    assert not list(folder.glob("*/entry"))


def test_full_disks_and_removed_caches_end_nothing(tmp_path):
    """Nothing is cached, and all numbers are right: a disk without room; files that cannot grow; a cache removed."""
    assert run(tmp_path / "a", "cache.ROOM = 1 << 60; product(8, 0, 'a')") == "00"
    assert not entries(tmp_path / "a")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); product(8, 0, 'a')"
    assert run(tmp_path / "b", limit) == "00"
    assert run(tmp_path / "b", "product(8, 0, 'a')") == "00", "a part of a graph was kept"
    removed = f"""
        import shutil
        product(8, 0, 'a')
        shutil.rmtree({str(tmp_path / "c")!r})
        product(9, 0, 'b')
    """
    assert run(tmp_path / "c", removed) == "0000"
