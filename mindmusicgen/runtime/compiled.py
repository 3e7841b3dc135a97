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
import re
import shutil
import sys
import tempfile
import threading
import time
import types
import weakref
from collections import OrderedDict, deque
from pathlib import Path

import mindspore as ms

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from .. import __version__
from ..ops import native
from .device import is_ascend
from .quiet import cache_unmentioned

PACKAGE = Path(__file__).resolve().parents[1]
OURS = ("mindmusicgen", "mindspore", "pybind11_builtins", "builtins")
LARGEST = 500_000_000  # bytes of all entries
ROOM = 100_000_000  # bytes that must be free on the disk; MindSpore does not notice that it wrote half a graph
OLD = 3600  # seconds after which what nobody holds is a leftover
MOST = 12  # graphs that a function keeps
GRAPH, HASH = "graph.mindir", "sha256"
FORCED = "MS_DEV_FORCE_USE_COMPILE_CACHE"
# Older ones place a parameter when a graph first uses it, and log an error for each that has no place yet.
KNOWS_PLACES = tuple(map(int, re.findall(r"\d+", ms.__version__)[:2])) >= (2, 10)
WRITES_IN_PLACE = KNOWS_PLACES  # operation by operation: wrong in 2.7.0, whose graphs are right
watchers = []  # what to call before a graph is made: with whether it was kept, so that it need not be compiled
_lock = threading.RLock()


def fingerprint(*things):
    """A key of configs and other things that JSON or `repr` can write, and of the kernels that cells made now use."""
    kernels = native.library_path()
    things = [thing.to_dict() if hasattr(thing, "to_dict") else thing for thing in things]
    text = json.dumps(
        [things, kernels, kernels and _file_hash(kernels), native.linear_rows()], sort_keys=True, default=repr
    )
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _file_hash(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def compiled(function, key=None):
    """`mindspore.jit(function, fullgraph=True)`, taken from the cache where it can be, and released when it is dropped.

    Args:
        function (callable): a method of a cell.
        key (str): from `fingerprint`: whatever the graph depends on besides the code of this package and the shapes and
            dtypes of the arguments. None: not cached.
    """
    return Compiled(function, key)


class Compiled:
    """What `compiled` returns: a callable with a graph for each shape of arguments, the MOST that were used last."""

    def __init__(self, function, key):
        functools.update_wrapper(self, function)
        self.function, self.key, self.run = function, key, ms.jit(function, fullgraph=True)
        self.graphs, self.places = OrderedDict(), None  # signature: MindSpore's names; where the weights lay
        self.asked = set()  # signatures of calls of `patient`
        # MindSpore keeps a graph, and all weights it reads, after everything that could call it is gone.
        weakref.finalize(self, _abandon, self.graphs).atexit = False

    def __call__(self, *arguments):
        try:
            result = self._call(arguments)
            settle()
            return result
        except Exception:
            cell = self.function.__self__  # its graph, which has failed once, would fail at every call
            cell.phase = f"{cell.phase} again"  # a part of the name that MindSpore finds a graph by
            self.release()
            raise

    def patient(self, *arguments):
        """Call, but compile for the second call of a shape only: the first goes operation by operation, and gives
        exactly the same. Compiling takes longer than ten such calls, and loading a graph that was kept longer than one.

        For functions without a state. On an NPU, in MindSpore's graph mode and beside MindNLP, whose tensors have other
        methods, the first call compiles too.
        """
        signature = str(_signature(arguments))
        if signature in self.asked or not _runs_plainly():
            return self(*arguments)
        self.asked.add(signature)
        result = self.function(*arguments)
        settle()
        return result

    def _call(self, arguments):
        signature = str(_signature(arguments))
        if self.graphs and self.places != self._find_places():
            self.release()  # they go on using the memory that weights had before `set_data`
        if signature in self.graphs:
            self.graphs.move_to_end(signature)
            return self.run(*arguments)
        with _lock:  # what is new afterwards is ours
            known = set(_names())
            caching = self.key is not None and _is_ours(self.function)
            key = fingerprint(self.key, self.function.__qualname__, signature) if caching else None
            try:
                with _entry(key) if caching else contextlib.nullcontext() as kept:
                    for watch in tuple(watchers):
                        watch(kept)
                    result = self.run(*arguments)
            finally:
                self.graphs[signature] = set(_names()) - known
                self.places = self._find_places()
            while len(self.graphs) > MOST:
                oldest, names = self.graphs.popitem(last=False)
                _release({oldest: names})
        return result

    def _find_places(self):
        if not KNOWS_PLACES:
            return None
        return [parameter.data_ptr() for parameter in self.function.__self__.get_parameters()]

    def release(self):
        """Let all graphs go; calling makes them anew."""
        _release(self.graphs)


def _runs_plainly():
    """Whether a cell's method can be called as a function, operation by operation, and soon returns."""
    return not is_ascend() and ms.get_context("mode") == ms.PYNATIVE_MODE and "mindnlp" not in sys.modules


def _names():
    """MindSpore's set of the names of all graphs of functions, which itself only grows."""
    return _api().ms_compile_cache if _api() else set()


_abandoned = deque()  # graphs of functions that are gone
abandoned = []  # what to call when there are some, in whatever thread; `callers` knows when nothing computes


def _abandon(graphs):
    """Garbage is collected in any thread and at any moment, also while another thread computes: only note it."""
    _abandoned.append(graphs)
    for call in abandoned:
        call()


def release_abandoned():
    """Free the graphs of functions that are gone; for a moment in which nothing computes."""
    while _abandoned:
        _release(_abandoned.popleft())


def forget_operations():
    """Free what MindSpore keeps of the last operations outside of graphs, such as all weights that one of them read.

    For a moment in which nothing computes.
    """
    api = _api()
    with contextlib.suppress(AttributeError):
        api._pynative_executor.clear_res()


def _release(graphs):
    """Free graphs. About half of what compiling took comes back, and the weights; the rest MindSpore never frees."""
    names = set().union(*graphs.values())
    graphs.clear()
    if not names:
        return
    with contextlib.suppress(ImportError, AttributeError):
        from mindspore._c_expression import JitExecutor_

        JitExecutor_.get_instance().del_net_res(None, names)
        _names().difference_update(names)


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

    Left to itself it compares the program's sources as well, and once a graph was missing it looks for no other until
    the process ends. FORCED, which it reads once, makes it look each time, for the graph alone; our keys say more.
    A lock tells others that somebody still uses the folder; it goes with the process, however that ends.
    """

    def __init__(self, folder):
        self.count = 0
        self.base = tempfile.TemporaryDirectory(prefix="stage-", dir=folder, ignore_cleanup_errors=True)
        self.lock = os.open(self.base.name, os.O_RDONLY)
        _locked(self.lock)
        self.folder = Path(self.base.name) / f"rank_{os.environ.get('RANK_ID', '0')}" / "graph_cache"

    def lay(self, entry):
        """Prepare for the next graph; an entry that was never asked for must not be found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.mindir"):
            path.unlink()
        if entry is not None:
            shutil.copyfile(entry / GRAPH, self.place())

    def place(self):
        return self.folder / f"compile_cache_{self.count}.mindir"

    def take(self):
        """What was written for this graph, if anything; the next one follows."""
        made, self.count = self.place(), self.count + 1
        return made if made.is_file() else None


def _locked(handle):
    """Whether a lock of an open folder could be had, which its user holds; None if this file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return None


def _of_all_versions(graphs):
    """What lies in the folders of `graphs`, as far as nobody removes it meanwhile."""
    found = []
    with contextlib.suppress(OSError):
        for version in list(graphs.iterdir()):
            with contextlib.suppress(OSError):
                found += version.iterdir()
    return found


@functools.cache
def _stage():
    """This process's stage, or None if there is no room for one."""
    folder = _folder()
    try:
        _tidy(folder.parent)
        return _Stage(folder)
    except OSError:
        return None


def _tidy(graphs):
    """Remove the stages, and the entries that were being written, of runs that were killed."""
    for path in _of_all_versions(graphs):
        if not path.name.startswith(("stage-", "new-")):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                age = time.time() - os.stat(handle).st_mtime
                if _locked(handle) is not False and age > OLD:  # a lock comes a moment after the folder
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _entry(key):
    """While a graph is compiled: MindSpore finds the entry of `key`, or what it writes becomes that entry.

    Whatever goes wrong with the files, the graph is compiled. Yields whether there is an entry.
    """
    folder = _folder()
    with _lock:
        stage, known = folder and _stage(), False
        try:
            if stage:
                known = _is_whole(folder / key)
                stage.lay(folder / key if known else None)
        except OSError:
            stage = None
        if not stage or not (known or _has_room(folder)):
            yield False
            return
        api = _api()
        script, api.entry_script_path = api.entry_script_path, str(PACKAGE / "errors.py")
        forced = os.environ.get(FORCED)
        with cache_unmentioned():
            os.environ[FORCED] = "1"
            ms.set_context(enable_compile_cache=True, compile_cache_path=stage.base.name)
            try:
                yield known
            finally:
                ms.set_context(enable_compile_cache=False)
                api.entry_script_path = script
                os.environ.pop(FORCED) if forced is None else os.environ.update({FORCED: forced})
        with contextlib.suppress(OSError):
            made = stage.take()
            if made and not known and _has_room(folder):
                _keep(folder / key, made.read_bytes(), stage)


def _has_room(folder):
    """Whether the disk has room for a graph: half a one must never be taken for whole."""
    try:
        return shutil.disk_usage(folder).free >= ROOM
    except OSError:
        return False


def _is_whole(entry):
    try:
        whole = (entry / HASH).read_text() == hashlib.sha256((entry / GRAPH).read_bytes()).hexdigest()
        if whole:
            os.utime(entry)
    except (OSError, ValueError):
        return False
    if not whole:
        shutil.rmtree(entry, ignore_errors=True)
    return whole


def _keep(entry, graph, stage):
    """Make an entry: written in the stage, then moved to its place at once."""
    aside = Path(tempfile.mkdtemp(dir=stage.base.name))
    try:
        (aside / GRAPH).write_bytes(graph)
        (aside / HASH).write_text(hashlib.sha256(graph).hexdigest())
        aside.rename(entry)
    except OSError:  # another process was faster, or the disk is full
        shutil.rmtree(aside, ignore_errors=True)
    _trim(entry.parent.parent)


def _trim(graphs):
    """Remove what was not used for longest, of all versions, until everything in the cache has at most LARGEST bytes.

    Other processes may do the same at the same time; stages go when nobody uses them.
    """
    _tidy(graphs)
    ages, sizes = {}, {}
    for entry in _of_all_versions(graphs):
        with contextlib.suppress(OSError):
            files = [entry, *entry.rglob("*")] if entry.is_dir() else [entry]
            sizes[entry] = sum(file.lstat().st_size for file in files)
            ages[entry] = entry.stat().st_mtime
    total = sum(sizes.values())
    removable = [entry for entry in ages if not entry.name.startswith("stage-") and entry.is_dir()]
    for entry in sorted(removable, key=ages.get):
        if total <= LARGEST:
            break
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
