"""Compiled functions, and a cache of what compiling them made, so that the next process need not do it again.

MindSpore has a cache of its own, but it finds entries by the order of compilation alone: the third graph of a process
gets the third graph of the process before, whatever that was. Here each graph has a key of everything it is made of,
and MindSpore sees a folder that holds the one entry of that key, or nothing.

The cache lies in MINDMUSICGEN_CACHE, by default ~/.cache/mindmusicgen; set to 0 it is off. Entries appear whole, are
checked by their hash before use, and the oldest go when there are more than LARGEST bytes.
"""

import contextlib
import functools
import hashlib
import importlib
import json
import os
import shutil
import tempfile
import threading
import types
from pathlib import Path

import mindspore as ms

from . import __version__
from .files import whole_file
from .ops import native

PACKAGE = Path(__file__).resolve().parent
OURS = ("mindmusicgen", "mindspore", "pybind11_builtins", "builtins")
LARGEST = 500_000_000  # bytes of all entries
GRAPH, HASH = "graph.mindir", "sha256"
DEPENDENCIES = "compile_dependency.hash"  # MindSpore's name
_lock = threading.RLock()


def fingerprint(*things):
    """A key of configs and other things that JSON or `repr` can write, and of the kernels that cells made now use."""
    kernels = native.library_path()
    things = [thing.to_dict() if hasattr(thing, "to_dict") else thing for thing in things]
    text = json.dumps([things, kernels, kernels and _file_hash(kernels)], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _file_hash(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def compiled(function, key=None):
    """`mindspore.jit(function, fullgraph=True)`, taken from the cache where it can be.

    Args:
        function (callable): a method of a cell.
        key (str): from `fingerprint`: whatever the graph depends on besides the code of this package and the shapes and
            dtypes of the arguments. None: not cached.
    """
    run, seen = ms.jit(function, fullgraph=True), set()

    def cached(arguments):
        signature = str(_signature(arguments))
        if signature in seen or not _is_ours(function):
            return run(*arguments)
        with _entry(fingerprint(key, function.__qualname__, signature)):
            result = run(*arguments)
        seen.add(signature)
        return result

    @functools.wraps(function)
    def call(*arguments):
        try:
            result = run(*arguments) if key is None else cached(arguments)
            settle()
            return result
        except Exception:
            cell = function.__self__  # its graph, which has failed once, would fail at every call
            cell.phase = f"{cell.phase} again"  # a part of the name that MindSpore finds a graph by
            seen.clear()
            raise

    return call


def settle():
    """Wait for what was begun, so that an error meets the call that made it and not whatever computes next.

    Raises:
        RuntimeError: among others, whatever went wrong.
    """
    api = _api()
    if api is not None:
        api._pynative_executor.sync()


def _signature(value):
    if isinstance(value, ms.Tensor):
        return tuple(value.shape), str(value.dtype)
    if isinstance(value, (tuple, list)):
        return [_signature(v) for v in value]
    return repr(value)


def _is_ours(function):
    """Whether all code of a cell's method is that of this package: what a user changed is in no key."""
    for cell in (cell for _, cell in function.__self__.cells_and_names()):
        kinds = [kind for kind in type(cell).__mro__ if kind is not object]
        functions = [(f, kind.__module__) for kind in kinds for f in vars(kind).values()]
        functions += [(f, "mindmusicgen") for f in vars(cell).values()]
        for code, home in functions:
            if (
                isinstance(code, types.FunctionType)
                and code.__module__ != home
                and not code.__module__.startswith(OURS)
            ):
                return False
        if not all(kind.__module__.startswith(OURS) for kind in kinds):
            return False
    return True


@functools.cache
def _folder():
    """The cache's folder, or None if there is none."""
    setting = os.environ.get("MINDMUSICGEN_CACHE", "")
    if setting == "0" or os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1" or _api() is None:
        return None  # a user who switched on MindSpore's own cache keeps it
    base = (
        Path(setting) if setting else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindmusicgen"
    )
    folder = base / "graphs" / _code()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


def _api():
    """MindSpore's module that knows the program's main script; its hash would be part of every entry."""
    for name in ("mindspore.graph.api", "mindspore.common.api"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if hasattr(module, "entry_script_path"):
                return module
    return None


@functools.cache
def _code():
    """Hash of this package's code and of what it runs on."""
    digest = hashlib.sha256(f"{ms.__version__} {__version__} {ms.get_context('device_target')}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path).encode())  # messages name the sources
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Stage:
    """The folder that MindSpore looks into; it takes the first it hears of, and counts the graphs.

    Beside the graph it wants a hash of the program's sources, and once that was missing or another, it compiles
    everything. For us the sources are one file of this package, and the hash is kept beside the entries.
    """

    def __init__(self, folder):
        self.kept, self.count = folder / DEPENDENCIES, 0
        self.base = tempfile.TemporaryDirectory(prefix="stage-", dir=folder, ignore_cleanup_errors=True)
        self.folder = Path(self.base.name) / f"rank_{os.environ.get('RANK_ID', '0')}" / "graph_cache"
        self.folder.mkdir(parents=True)
        with contextlib.suppress(OSError):
            shutil.copyfile(self.kept, self.folder / DEPENDENCIES)

    def lay(self, entry):
        """Prepare for the next graph; an entry that was never asked for must not be found."""
        for path in self.folder.glob("*.mindir"):
            path.unlink()
        if entry is not None:
            shutil.copyfile(entry / GRAPH, self.place())

    def place(self):
        return self.folder / f"compile_cache_{self.count}.mindir"

    def take(self):
        """What was written for this graph, if anything; the next one follows."""
        made, self.count = self.place(), self.count + 1
        if not self.kept.exists():
            _write(self.kept, (self.folder / DEPENDENCIES).read_bytes())
        return made if made.is_file() else None


@functools.cache
def _stage():
    return _Stage(_folder())


@contextlib.contextmanager
def _entry(key):
    """While a graph is compiled: MindSpore finds the entry of `key`, or what it writes becomes that entry."""
    folder = _folder()
    if folder is None:
        yield
        return
    with _lock:
        entry = folder / key
        stage, api = _stage(), _api()
        known = _is_whole(entry)
        stage.lay(entry if known else None)
        script, api.entry_script_path = api.entry_script_path, str(PACKAGE / "errors.py")
        ms.set_context(enable_compile_cache=True, compile_cache_path=stage.base.name)
        try:
            yield
        finally:
            ms.set_context(enable_compile_cache=False)
            api.entry_script_path = script
        with contextlib.suppress(OSError):
            made = stage.take()
            if made and not known:
                _keep(entry, made.read_bytes())


def _is_whole(entry):
    try:
        whole = (entry / HASH).read_text() == hashlib.sha256((entry / GRAPH).read_bytes()).hexdigest()
    except OSError:
        return False
    if whole:
        os.utime(entry)
    else:
        shutil.rmtree(entry, ignore_errors=True)
    return whole


def _keep(entry, graph):
    """Make an entry: written aside, then moved to its place at once."""
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=entry.parent))
    (aside / GRAPH).write_bytes(graph)
    (aside / HASH).write_text(hashlib.sha256(graph).hexdigest())
    try:
        aside.rename(entry)
    except OSError:  # another process was faster
        shutil.rmtree(aside, ignore_errors=True)
    _trim(entry.parent.parent)


def _write(path, content):
    with whole_file(path) as partial:
        Path(partial).write_bytes(content)


def _trim(folder):
    """Remove the entries that were not used for longest, of all versions."""
    entries = [entry for code in folder.iterdir() for entry in code.iterdir() if (entry / HASH).is_file()]
    sizes = {entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in entries}
    total = sum(sizes.values())
    for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime):
        if total <= LARGEST:
            break
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
