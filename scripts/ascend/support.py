"""What the installed MindSpore says of an operation on Ascend: its documentation, and the kernels that it ships."""

import dataclasses
import functools
import importlib
import inspect
import re
from pathlib import Path

import mindspore

# Names in a graph that no kernel computes: the frame around the operations, which MindSpore itself carries out.
INTERNAL = {
    "Load": "reads a parameter in order",
    "UpdateState": "keeps reads and writes in order",
    "Depend": "keeps an order",
    "MakeTuple": "groups values",
    "MakeList": "groups values",
    "TupleGetItem": "takes one of a group",
    "ListGetItem": "takes one of a group",
    "Partial": "binds arguments of a subgraph",
    "Switch": "chooses a subgraph",
    "Return": "ends a graph",
    "Reshape": "no computation: another view of the same memory",
    "ExpandDims": "no computation: another view of the same memory",
    "Squeeze": "no computation: another view of the same memory",
    "StopGradient": "a mark for gradients",
}
# Where CANN's function has another name than "aclnn" and MindSpore's.
RENAMED = {"LayerNormGrad": "aclnnLayerNormBackward"}
LIBRARIES = ("libmindspore_ops_ascend.so", "libmindspore_ascend.so.2", "ascend/libmindspore_graph_ir.so")
MODULES = ("operations", "auto_generate", "operations._inner_ops", "operations._grad_ops", "operations.array_ops")
DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
DTYPES += ("uint64", "bool", "complex64", "complex128")
RARE = ("float64", "complex64", "complex128")  # an NPU has no units for these


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for an operation on Ascend.

    Attributes:
        internal (str): why it needs no kernel; empty if it does.
        platforms (tuple[str]): of its documentation; empty if that names none.
        kernels (tuple[str]): names in the shipped plugin.
        dtypes (dict): argument to the dtypes that the documentation lists for it, where it lists some.
    """

    internal: str
    platforms: tuple
    kernels: tuple
    dtypes: dict

    @property
    def supported(self):
        """Whether it runs on Ascend: as documented, else as shipped."""
        if self.internal:
            return True
        return "Ascend" in self.platforms if self.platforms else bool(self.kernels)


@functools.cache
def evidence(name):
    """`Evidence` for a primitive."""
    texts = documentation(name)
    platforms = tuple(dict.fromkeys(platform for text in texts for platform in _platforms(text)))
    dtypes = {}
    for text in texts:
        dtypes |= _documented_dtypes(text)
    return Evidence(INTERNAL.get(name, ""), platforms, kernels(name), dtypes)


@functools.cache
def _modules():
    return [importlib.import_module(f"mindspore.ops.{name}") for name in MODULES]


def argument_names(name):
    """Names of the arguments that a primitive is called with; empty if they are not told."""
    for module in _modules():
        if hasattr(module, name):
            parameters = list(inspect.signature(getattr(module, name).__call__).parameters.values())[1:]
            return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    return []


def documentation(name):
    """Docstrings of a primitive, and of the function or class that they refer to."""
    texts = []
    for module in _modules():
        text = getattr(getattr(module, name, None), "__doc__", None) or ""
        for _ in range(3):
            if not text or text in texts:
                break
            texts.append(text)
            link = re.search(r"Refer to :(?:func|class):`(mindspore(?:\.\w+)+)`", text)
            text = _docstring(link[1]) if link else ""
    return texts


def _docstring(path):
    """The docstring of what a dotted path names, wherever the module ends in it."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            value = getattr(value, part, None)
        if value is not None:
            return value.__doc__ or ""
    # Functions without a public name are still defined where classes refer to them.
    value = getattr(importlib.import_module("mindspore.ops.auto_generate"), parts[-1], None)
    return getattr(value, "__doc__", None) or ""


def _platforms(text):
    match = re.search(r"Supported Platforms:\s*\n((?:[ \t]*``.*\n?)+)", text)
    return re.findall(r"``(\w+)``", match[1]) if match else []


def _documented_dtypes(text):
    """Argument to dtypes, from entries such as "x (Tensor): the input, of data type float16 or float32."."""
    found = {}
    # An entry begins with a name and its type in brackets, and ends before the next one or an empty line.
    for part in re.split(r"\n(?=\s*(?:- )?\**\w+\**\s\()|\n\s*\n", text):
        entry = re.match(r"\s*(?:- )?\**(\w+)\**\s\([^)]*\)[ :-]+(.*)", part, re.S)
        for sentence in re.split(r"\.\s", entry[2]) if entry else ():
            told = re.search(r"data type|dtype|type is", sentence, re.I)
            if not told or re.search(r"same|number|any", sentence, re.I):  # as of another argument, or not spelt out
                continue
            listed = tuple(dtype for dtype in DTYPES if re.search(rf"(?<![a-z]){dtype}\b", sentence))
            if listed:
                found.setdefault(entry[1], listed)
    return found


def kernels(name):
    """Names in the shipped plugin that belong to a primitive: its own in a table of kernels, its class, or CANN's."""
    strings = plugin_strings()
    candidates = (RENAMED.get(name, f"aclnn{name}"), f"aclnn{name.removesuffix('Ext')}", name)
    found = [text for text in candidates if text in strings["names"]]
    found += sorted(strings["classes"].get(name.lower(), ()))[:1]
    if name in aicpu_operations():
        found.append(f"AICPU {name}")
    return tuple(dict.fromkeys(found))


@functools.cache
def plugin_strings():
    """Identifiers of the plugin: {"names": set of whole strings, "classes": operation in lower case to classes}."""
    folder = Path(mindspore.__file__).parent / "lib" / "plugin"
    names, classes = set(), {}
    for library in LIBRARIES:
        if not (folder / library).is_file():
            raise FileNotFoundError(f"{folder / library} is missing: this MindSpore was built without Ascend")
        content = (folder / library).read_bytes()
        names |= {text.decode() for text in re.findall(rb"(?<=\0)([A-Z]\w{2,60}|aclnn\w{2,60})(?=\0)", content)}
        for text in set(re.findall(rb"\d+([A-Z]\w{2,60}?)(?:Ascend|Aclnn|KernelMod)", content)):
            classes.setdefault(text.decode().lower(), set()).add(f"class {text.decode()}")
    return {"names": names, "classes": classes}


@functools.cache
def aicpu_operations():
    """Operations that MindSpore registers for the NPU's own CPU, from the registry's sources."""
    folder = Path(mindspore.__file__).parent / "ops" / "_op_impl" / "aicpu"
    texts = (path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    return {name for text in texts for name in re.findall(r'AiCPURegOp\("(\w+)"\)', text)}
