"""This package's own layout of weights: the cells' parameters as they are, mapped into memory; and how it is read."""

from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np

from ..errors import InputError, clip
from ..models.quantized import VERSIONS, arena_for, quantised_parameters
from ..ops.memory import release_free_memory, release_mapped
from .huggingface import check_finite
from .safetensors_file import NAMES as DTYPE_NAMES
from .safetensors_file import open_safetensors, read_metadata, write_safetensors
from .source import NATIVE, as_folder, files_in, open_weights, weights_form

LOOKED = 100_000_000  # bytes of mapped weights that are looked through for NaN before their pages are given back


def open_tensors(folder):
    """The unread tensors of a folder in this package's layout or in Hugging Face's."""
    folder = as_folder(folder)
    files = files_in(folder)
    other = weights_form([name for name in files if name != NATIVE])
    if NATIVE in files and other:
        raise InputError(f"{folder} holds {NATIVE} and {other}: one of them is of another model; remove that one")
    return open_safetensors(folder.file(NATIVE)) if NATIVE in files else open_weights(folder)


def stored_quantization(folder):
    """How the decoder of a folder is quantised: "int8" or "int4", or None for floats.

    Raises:
        InputError: if this version cannot read it.
    """
    folder = as_folder(folder)
    native = folder.file(NATIVE)
    found = folder.once("metadata", lambda: read_metadata(native)) if folder.has(NATIVE) else {}
    name, version = found.get("quantization"), found.get("quantization_version")
    if name is not None and VERSIONS.get(name) != version:
        read = " or ".join(f"{known}, version {number}" for known, number in VERSIONS.items())
        raise InputError(
            f"{native} is quantised as {name}, version {version}; this version reads {read}: convert the model again"
        )
    return name


def load_native(network, tensors, source, stores=None):
    """Fill a network from a file in the cells' own layout: names and shapes are those of the parameters.

    Args:
        network (nn.Cell): the network.
        tensors (dict[str, LazyTensor]): the file's tensors.
        source (str): the file, for errors.
        stores (dict): as in `huggingface.load`, for a network that keeps some of them in another form.

    Raises:
        InputError: for a missing, left-over or misshapen parameter, by name.
    """
    stores = stores or {}
    parameters = {name: one for name, one in network.parameters_and_names() if name not in stores}
    wanted = {name: tuple(one.shape) for name, one in parameters.items()}
    wanted |= {name: store[0] for name, store in stores.items() if store}
    _check_shapes(wanted, tensors, source)
    packed = {name for name in quantised_parameters(network) if name in parameters}
    mapped, looked = {}, []
    # What is mapped comes first: the zeros that it replaces are given back before the rest takes its memory.
    for name in sorted(set(wanted) - packed):
        values = tensors[name].map()
        if not np.issubdtype(values.dtype, np.floating):
            raise InputError(f"{source} holds {name} as {tensors[name].dtype}; expected floating-point weights")
        check_finite(values, name, source)
        looked.append(values)
        if name in stores:
            stores[name][1](values)
        elif values.dtype == parameters[name].asnumpy().dtype:
            mapped[name] = values
            parameters[name].assign_value(ms.Tensor.from_numpy(values))  # shares the mapped memory
        else:
            parameters[name].asnumpy()[...] = values
        if (packed or stores) and sum(one.nbytes for one in looked) > LOOKED:
            release_mapped(looked, untouched=True)  # pages that the look has read; what is used comes back
            looked.clear()
    if packed or stores:
        release_mapped(looked, untouched=True)
        release_free_memory()
        _read_packed({name: parameters[name] for name in packed}, network, tensors, source)
        network.mapped = mapped
        release_free_memory()


def _check_shapes(wanted, tensors, source):
    """Refuse tensors that are not those of a network, {name: shape}."""
    for wrong, what in (
        (set(wanted) - set(tensors), "lacks"),
        (set(tensors) - set(wanted), "holds an unknown"),
    ):
        if wrong:
            raise InputError(f"{source} {what} {clip(min(wrong))}; convert the model again with this version")
    for name, expected in wanted.items():
        found = tuple(tensors[name].shape)
        if found != expected:
            raise InputError(f"{source} does not fit its config: {name} has shape {found}, expected {expected}")


def _read_packed(parameters, network, tensors, source):
    """Codes and scales into memory of their own, in huge pages; {name: Parameter}."""
    if not parameters:
        return
    arena, reads = arena_for(network), []
    for name, parameter in parameters.items():
        values = arena.take(tuple(parameter.shape), parameter.asnumpy().dtype)
        if DTYPE_NAMES[values.dtype.str] != tensors[name].dtype:
            raise InputError(f"{source} holds {name} as {tensors[name].dtype}; convert the model again")
        parameter.assign_value(ms.Tensor.from_numpy(values))
        reads.append((tensors[name], values))
    with ThreadPoolExecutor(2) as pool:  # most of it is the system that finds pages, which two threads share
        list(pool.map(lambda read: read[0].read_into(read[1]), reads))


def write_native(network, path, quantization=None):
    """Write a network's parameters; `mindspore.load_checkpoint(path, format="safetensors")` reads the file too.

    Args:
        network (nn.Cell): the network.
        path (str): the file.
        quantization (str): "int8" or "int4" if some weights have 8 or 4 bits.
    """
    entries, metadata = [], {"format": "mindspore"}
    if quantization:
        metadata |= {"quantization": quantization, "quantization_version": VERSIONS[quantization]}
    for name, parameter in network.parameters_and_names():
        values = parameter.asnumpy()
        entries.append((name, values.shape, values.dtype, lambda values=values: values))
    write_safetensors(path, entries, metadata)
