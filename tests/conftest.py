"""Shared fixtures: the golden models, opened once per session, and a counter of compiled graphs."""

import contextlib
import importlib
import json
import math
import os
import sys
import threading
from pathlib import Path

os.environ.setdefault("GLOG_v", "4")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
os.environ.setdefault("MINDMUSICGEN_LANG", "en")  # tests read the English sentences

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
# All workers, processes that tests start, and later runs on the same code share the graphs that one of them compiled.
os.environ.setdefault("MINDMUSICGEN_CACHE", str(ROOT / ".pytest_cache" / "mindmusicgen"))


# Files that take longest, the longest first. Workers are handed files in the order of collection, and a long one that
# comes last keeps one of them busy alone.
LONGEST_FIRST = (
    "test_callers",
    "test_conformance",
    "test_cli",
    "test_bark_mindir",
    "test_mindir",
    "test_musicldm_mindir",
    "test_batch",
    "test_bark_command",
    "test_jukebox_command",
    "test_ops",
    "test_quantized",
    "test_doctor",
    "test_training",
    "test_generate",
    "test_documentation_page",
    "test_page",
    "test_work",
    "test_demo",
    "test_compiled",
    "test_submodels",
    "test_exercises",
    "test_bark_digits",
    "test_bark_doctor",
    "test_melody",
    "test_continuation",
    "test_jukebox_sampling",
    "test_jukebox_doctor",
    "test_jukebox_solfa",
    "test_memory",
    "test_fuzz_checkpoints",
    "test_fuzz_files",
    "test_asked_for",
    "test_telling",
    "test_chunks",
    "test_tutorials",
)


def pytest_configure(config):
    config.addinivalue_line("markers", "full: needs several GB of memory and minutes; builds a full-size model")
    config.option.loadscopereorder = False  # xdist would hand out the files with most tests first


def place(item):
    """Where a test's file stands in the order."""
    name = item.path.stem
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)


def pytest_collection_modifyitems(config, items):
    """The longest files first; and leave out the full-size tests unless `-m` asks for some marker."""
    items.sort(key=place)
    if config.option.markexpr:
        return
    chosen = [item for item in items if "full" not in item.keywords]
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if "full" in item.keywords])
        items[:] = chosen


@pytest.fixture(autouse=True)
def no_kept_graphs_of_changed_code(request):
    """A test that replaces code neither takes kept graphs nor keeps its own, whose keys would not know of it."""
    if "monkeypatch" not in request.fixturenames or "mindmusicgen.runtime.compiled" not in sys.modules:
        yield
        return
    compiled = sys.modules["mindmusicgen.runtime.compiled"]
    folder, compiled._folder = compiled._folder, lambda: None
    yield
    compiled._folder = folder


class Golden:
    """One file of tests/golden: weights, configs, and the arrays that transformers computed."""

    def __init__(self, name, folder):
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.name, self.folder = name, folder
        self.config = json.loads(str(self.arrays.pop("config")))
        self.generation_config = json.loads(str(self.arrays.pop("generation_config")))
        self.runs = json.loads(str(self.arrays.pop("runs")))
        shapes = json.loads(str(self.arrays.pop("shapes")))
        parts = np.split(self.arrays.pop("weights"), np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
        factors = self.arrays.pop("factors")
        self.weights = {
            name: part.astype(np.float32).reshape(shape) * factor
            for (name, shape), part, factor in zip(shapes.items(), parts, factors, strict=True)
        }
        self._model = None

    def __getitem__(self, name):
        return self.arrays[name]

    def write(self, folder, weights=None, files=True):
        """Write a Hugging Face folder; `weights` in place of the golden ones."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "generation_config.json").write_text(json.dumps(self.generation_config))
        if files:
            save_file(self.weights if weights is None else weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    @property
    def model(self):
        """The package's model with these weights, opened once."""
        if self._model is None:
            from mindmusicgen.auto import model_class

            folder = str(self.write(self.folder / self.name))
            self._model = model_class(folder).from_pretrained(folder)
            # The codec's graph takes seconds to compile for every number of frames; few tests need it.
            self._model.codec_graphs.eager = frozenset({"decode"})
        return self._model


@pytest.fixture(scope="session")
def goldens(tmp_path_factory):
    """A function from a golden file's name to its `Golden`."""
    folder, opened = tmp_path_factory.mktemp("goldens"), {}

    def get(name):
        if name not in opened:
            opened[name] = Golden(name, folder)
        return opened[name]

    return get


@pytest.fixture(scope="session")
def quad(goldens):
    """The golden model with the layout of the published ones."""
    return goldens("quad")


@pytest.fixture
def compiled_names():
    """A function that lists the graphs MindSpore has compiled so far, by its own names, which hold the method's; those
    too that are released between two calls, as garbage is collected at any moment."""
    for module in ("mindspore.graph.api", "mindspore.common.api"):
        try:
            cache = importlib.import_module(module).ms_compile_cache
        except (ImportError, AttributeError):
            continue
        seen = set()
        return lambda: list(seen.update(cache) or seen)
    raise AssertionError("this MindSpore keeps its compiled graphs somewhere else; teach this fixture")


@pytest.fixture
def compiled(compiled_names):
    """A function that counts the graphs MindSpore has compiled so far."""
    return lambda: len(compiled_names())


@pytest.fixture(scope="session")
def close():
    """A function that compares with a tolerance relative to the largest expected value."""

    def check(found, expected, tolerance=1e-4):
        found = found.asnumpy() if hasattr(found, "asnumpy") else np.asarray(found)
        assert found.shape == tuple(expected.shape)
        worst, scale = np.abs(found - expected).max(), np.abs(expected).max()
        assert worst <= tolerance * scale, f"off by {worst:.3g} where the largest value is {scale:.3g}"

    return check


@pytest.fixture(scope="session")
def another_run_in():
    """A context in which something else works in a folder: a thread, whose lock keeps this one out as well."""
    from mindmusicgen.runtime.folder_lock import alone_in

    @contextlib.contextmanager
    def hold(folder):
        there, leave = threading.Event(), threading.Event()

        def work():
            with alone_in(str(folder)):
                there.set()
                leave.wait(60)

        thread = threading.Thread(target=work)
        thread.start()
        assert there.wait(60)
        try:
            yield
        finally:
            leave.set()
            thread.join()

    return hold
