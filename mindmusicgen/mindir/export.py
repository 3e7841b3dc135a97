"""Write graphs with their weights as MindIR files, and the manifest that describes them.

OUTPUT/manifest.json        what is in the files: shapes, dtypes, sizes, and a SHA-256 of each
OUTPUT/chunk/graph.mindir   a graph with its weights; above 2 GB graph_graph.mindir and its folder of variables
OUTPUT/config.json, generation_config.json, tokenizer.json ...
"""

import contextlib
import json
import os

import mindspore as ms
import numpy as np
from mindspore import Tensor

from .. import __version__
from ..checkpoint.native import stored_quantization
from ..checkpoint.writing import MANIFEST, whole_folder
from ..dtypes import resolve_dtype
from ..errors import InputError
from ..runtime.files import check_folder
from ..runtime.telling import quoted
from .manifest import FORMAT, digest


@contextlib.contextmanager
def plain_operations():
    """Context in which cells are made without C kernels, which a file for other machines must not hold."""
    before = os.environ.get("MINDMUSICGEN_KERNELS")
    os.environ["MINDMUSICGEN_KERNELS"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINDMUSICGEN_KERNELS"]
        else:
            os.environ["MINDMUSICGEN_KERNELS"] = before


def graphs_of(wanted, pieces):
    """Names of the graphs that pieces consist of.

    Args:
        wanted (Sequence[str]): names of pieces; None for all.
        pieces (dict): the graphs of each piece.

    Raises:
        InputError: for a piece that there is not.
    """
    wanted = list(pieces) if wanted is None else list(wanted)
    unknown = [piece for piece in wanted if piece not in pieces]
    if unknown or not wanted:
        raise InputError(f"pieces holds {unknown[0] if unknown else None!r}; expected some of {', '.join(pieces)}")
    return list(dict.fromkeys(name for piece in wanted for name in pieces[piece]))


def check_output(output):
    """Refuse a folder that cannot be written, or that holds something.

    Raises:
        InputError: saying which.
    """
    parent = os.path.dirname(os.path.abspath(output))
    if os.path.exists(output) and (not os.path.isdir(output) or os.listdir(output)):
        raise InputError(f"output {quoted(output)} exists already; give a folder that does not, or an empty one")
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise InputError(
            f"output {quoted(output)} lies in {quoted(parent)}, which cannot be written to; create it first"
        )
    check_folder(output, "output")


def check_space(output, counts, dtype):
    """Refuse a disk that has no room for the weights.

    Args:
        output (str): folder to write.
        counts (Iterable[int]): parameters in each graph.
        dtype (mindspore.dtype): of the weights.

    Raises:
        InputError: saying how much is missing.
    """
    check_folder(output, "output", sum(counts) * (4 if dtype == ms.float32 else 2))


def exportable_dtype(folder, dtype):
    """The dtype to export a model in.

    Args:
        folder (ModelFolder): of the model.
        dtype (str): float32 or float16; None: float16 on Ascend, float32 on a CPU.

    Raises:
        InputError: for another dtype, or weights that only kernels read.
    """
    dtype = resolve_dtype(dtype)
    if dtype not in (ms.float32, ms.float16):
        raise InputError(f"dtype is {str(dtype).lower()!r}; files are exported as float32 or float16")
    if held := stored_quantization(folder):
        bits = held.removeprefix("int")
        raise InputError(
            f"{folder} has weights of {bits} bits, which only C kernels read; export the model it came from"
        )
    return dtype


def write(output, graphs, companions, facts):
    """Write a folder, whole or not at all.

    Args:
        output (str): the folder.
        graphs (dict): of each graph a function that makes its cell, and its inputs, arrays by name.
        companions (callable): writes configs and tokenizer into a folder.
        facts (dict): what the manifest says besides: kind, model, dtype and the family's numbers.

    Returns:
        dict: the manifest.
    """
    with whole_folder(output) as partial:
        companions(partial)
        described = {name: _write_graph(make(), inputs, name, partial) for name, (make, inputs) in graphs.items()}
        manifest = {"format": FORMAT, "mindmusicgen": __version__, "mindspore": ms.__version__} | facts
        files = {name: digest(os.path.join(partial, name)) for name in _files_in(partial)}
        manifest |= {"graphs": described, "files": files}
        with open(os.path.join(partial, MANIFEST), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
    return manifest


def _write_graph(cell, inputs, name, folder):
    """Export one graph; returns what the manifest says of it."""
    os.makedirs(os.path.join(folder, name))
    cell.set_train(False)
    ms.export(cell, *map(Tensor, inputs.values()), file_name=os.path.join(folder, name, "graph"), file_format="MINDIR")
    files = [one for one in ("graph.mindir", "graph_graph.mindir") if os.path.isfile(os.path.join(folder, name, one))]
    return {
        "file": f"{name}/{files[0]}",
        "inputs": [
            {"name": key, "shape": list(array.shape), "dtype": str(array.dtype)} for key, array in inputs.items()
        ],
    }


def model_name(model):
    """What to call a model in the manifest: the last part of a folder's path, or a hub id."""
    return os.path.basename(os.path.abspath(model)) if os.path.isdir(model) else model


def floats(*shape):
    """Zeros, float32."""
    return np.zeros(shape, np.float32)


def ints(*shape):
    """Zeros, int32."""
    return np.zeros(shape, np.int32)


def _files_in(folder):
    """Relative paths of all files below a folder."""
    found = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    return sorted(os.path.relpath(path, folder) for path in found)
