"""Reads `pytorch_model.bin` (the zip format torch.save has written since PyTorch 1.6) without torch and without running
anything in it: `<root>/data.pkl` is unpickled against a short list of names, `<root>/data/<key>` holds the raw values.
Older files are for `torch_legacy`.
"""

import math
import os
import pickle
import pickletools
import struct
import zipfile
import zlib
from io import BytesIO

import numpy as np

from ..errors import InputError, clip

_RAW = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "float64": "<f8", "int64": "<i8", "int32": "<i4"}
_RAW |= {"int16": "<i2", "int8": "|i1", "uint8": "|u1", "bool": "|u1"}  # bfloat16 and bool are converted after reading
_STORAGES = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64"}
_STORAGES |= {"Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "Untyped": "uint8"}
_MAX_PICKLE = 16 << 20  # bytes; MusicGen's have well under 1 MB, and 16 MB already take seconds to scan
_MAX_EXPANDED = 256 << 20  # bytes of a tensor that has more elements than its storage (torch.expand)
_BLOCK = 1 << 18  # bytes read at a time for a checksum
_MAX_DIMS, _MAX_DEPTH = 32, 32  # numpy 1's limit; nesting of lists and dicts
# What pickle writes for plain data; also INST, OBJ and NEWOBJ, so that find_class gets to name what they ask for.
_OPCODES = """PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES EMPTY_DICT EMPTY_LIST EMPTY_SET EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
TUPLE3 APPEND APPENDS SETITEM SETITEMS ADDITEMS FROZENSET GLOBAL STACK_GLOBAL REDUCE INST OBJ NEWOBJ NEWOBJ_EX BUILD
BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE"""


class _Sealed:
    """Base of every object of ours a pickle gets hold of: BUILD, which sets attributes, would undo the checks."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __setstate__(self, state):
        raise ValueError("data.pkl sets the attributes of a tensor")


class _Function(_Sealed):  # an instance, not the function itself: a pickle could set that one's __code__
    def __call__(self, *args):
        return self.function(*args)


class _Storage(_Sealed):  # dtype, key, numel; once placed, its checksum
    sound = False  # whether the checksum has been compared


class _Mapping(dict):
    """Stands for collections.OrderedDict; the attribute that Module.state_dict() adds (_metadata) is dropped."""

    def __setstate__(self, state):
        pass


class LazyTensor(_Sealed):
    """One tensor of a file: `shape` (tuple of int) and `dtype` (str) are known, its values are read on demand."""

    def read(self) -> np.ndarray:
        """Reads this tensor's values, and nothing else, from the file.

        Returns: a C-contiguous array of `shape` and `dtype`, except that bfloat16 is widened to float32 (exact).
        Errors: InputError where the file has gone or shrunk since it was opened, or its checksum does not fit.
        """
        raw, shape, stride = np.dtype(_RAW[self.dtype]), self.shape, self._stride
        span = 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        try:
            flat = np.fromfile(self._file, raw, count=span, offset=self._start + self._offset * raw.itemsize)
            if flat.size != span:
                raise InputError(f"{self._file} ends inside tensor {self._name}; it must stay unchanged while in use")
            self._check_sum(flat)
        except OSError as error:
            raise InputError(f"{self._file} cannot be read ({error}); it must stay in place while in use") from None
        if span:
            steps = [step * raw.itemsize if size > 1 else 0 for size, step in zip(shape, stride, strict=True)]
            view = np.ndarray(shape, raw, buffer=flat, strides=steps)
            flat = flat if view.flags.c_contiguous else view.copy(order="C").reshape(-1)
        if self.dtype == "bfloat16":  # the upper half of a float32
            flat = flat.astype("<u4")
            flat <<= 16
            flat = flat.view("<f4")
        elif self.dtype == "bool":
            flat = flat != 0
        return flat.reshape(shape)

    def _check_sum(self, flat: np.ndarray):
        """Compares the zip's checksum of the whole storage, once; `flat` are the values that were read of it."""
        storage, sum_ = self._storage, 0
        if storage.sound:
            return
        if flat.size == storage.numel:
            sum_ = zlib.crc32(flat.view(np.uint8))
        else:
            with open(self._file, "rb") as stream:
                stream.seek(self._start)
                left = storage.numel * np.dtype(_RAW[self.dtype]).itemsize
                while left and (block := stream.read(min(left, _BLOCK))):
                    sum_, left = zlib.crc32(block, sum_), left - len(block)
        if sum_ != storage.crc:
            raise InputError(f"{self._file}: the checksum of tensor {self._name} does not fit; fetch it again")
        storage.__dict__["sound"] = True

    def rows(self, start: int, stop: int) -> "LazyTensor":
        """This tensor with rows start to stop of its first axis alone; nothing is read."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"rows {start} to {stop} are not in a tensor of shape {self.shape}")
        shape, offset = (stop - start, *self.shape[1:]), self._offset + start * self._stride[0]
        return LazyTensor(**{**self.__dict__, "shape": shape, "_offset": offset})


def _rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    """torch._utils._rebuild_tensor_v2; only types are checked here, bounds later, once the tensor's name is known."""
    numbers = (offset, *size, *stride) if type(size) is tuple and type(stride) is tuple else (None,)
    if type(storage) is not _Storage or any(type(number) is not int for number in numbers) or metadata:
        raise ValueError("data.pkl describes a tensor by something else than storage, offset, size and stride")
    return LazyTensor(shape=size, dtype=storage.dtype, _storage=storage, _offset=offset, _stride=stride)


def _rebuild_parameter(data, requires_grad=False, hooks=None):
    if type(data) is not LazyTensor:
        raise ValueError("data.pkl makes a parameter of something that is not a tensor")
    return data


_GLOBALS = {
    ("collections", "OrderedDict"): _Function(function=lambda: _Mapping()),  # takes no arguments, as torch gives none
    ("torch._utils", "_rebuild_tensor_v2"): _Function(function=_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(function=_rebuild_parameter),
    ("torch.storage", "UntypedStorage"): "uint8",  # a storage type is its dtype's name: a str cannot be called
} | {("torch", f"{kind}Storage"): dtype for kind, dtype in _STORAGES.items()}


class _Unpickler(pickle.Unpickler):
    """Gives a pickle nothing but the objects in _GLOBALS, none of which is the one it names; imports nothing."""

    def __init__(self, file: str, data: bytes):
        super().__init__(BytesIO(data))
        self._file = file

    def find_class(self, module, name):
        if (module, name) not in _GLOBALS:
            asked = clip(f"{module}.{name}")
            raise InputError(f"{self._file} asks for {asked}; only tensors are accepted ({', '.join(_RAW)})")
        return _GLOBALS[module, name]

    def persistent_load(self, pid):
        if type(pid) is not tuple or len(pid) != 5 or [type(part) for part in pid] != [str, str, str, str, int]:
            raise ValueError("data.pkl refers to something that is not a storage")
        tag, dtype, key, _, numel = pid
        if tag != "storage" or dtype not in _RAW or numel < 0:
            raise ValueError("data.pkl describes a storage by something else than type, key and size")
        return _Storage(dtype=dtype, key=key, numel=numel)


def _scan(data: bytes):
    """Refuses operations that allocate or import past find_class, before the C unpickler meets them."""
    allowed = set(_OPCODES.split())
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in allowed:
            raise ValueError(f"data.pkl has the operation {opcode.name}, which no tensor needs")
        if opcode.name.endswith("PUT") and argument > count:  # the index is the size of the memo that is allocated
            raise ValueError("data.pkl has a memo index out of order")


def _read_archive(file: str, stream) -> tuple[bytes, dict[str, zipfile.ZipInfo]]:
    """The pickle, and the storages' zip entries by key."""
    head = stream.read(4)
    if head != b"PK\x03\x04":
        raise InputError(f"{file} is not a zip file; a pytorch_model.bin written by torch.save is needed")
    with zipfile.ZipFile(stream) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise ValueError("an entry occurs twice")
        roots = [name[:-9] for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise InputError(f"{file} has {len(roots)} entries <root>/data.pkl; torch.save writes exactly one")
        texts = {"byteorder": b"little"}  # older versions of torch wrote none
        for part, limit in (("data.pkl", _MAX_PICKLE), ("byteorder", 16)):
            if info := entries.get(f"{roots[0]}/{part}"):
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
                    raise ValueError(f"{part} is compressed or larger than {limit} bytes")
                texts[part] = archive.read(info)
    if texts["byteorder"] != b"little":
        order = clip(texts["byteorder"].decode("latin-1"))
        raise InputError(f"{file} has byteorder {order}; only files saved on little-endian machines are accepted")
    prefix = f"{roots[0]}/data/"
    return texts["data.pkl"], {name[len(prefix) :]: entries[name] for name in entries if name.startswith(prefix)}


def _tensors(value, seen: set, *trail: str):
    """Every (name, tensor) in what was unpickled, once each; refuses values and keys that are not plain data."""
    if isinstance(value, (LazyTensor, dict, list, tuple)):
        if id(value) in seen:  # tied tensors; also lists that hold themselves or, over and over, each other
            return
        seen.add(id(value))
    if isinstance(value, LazyTensor):
        yield clip(".".join(trail)), value
    elif isinstance(value, (dict, list, tuple)):
        if len(trail) == _MAX_DEPTH:
            raise ValueError(f"data.pkl nests lists and dicts more than {_MAX_DEPTH} deep")
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if type(key) not in (str, int):
                raise ValueError(f"data.pkl has a dict with a key of type {type(key).__name__}")
            yield from _tensors(item, seen, *trail, str(key)[:160])
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ValueError(f"{clip('.'.join(trail))} is of type {type(value).__name__}, neither tensor nor plain data")


def _need(condition: bool, file: str, name: str, problem: str):
    if not condition:
        raise InputError(f"{file}: tensor {name} {problem}, so the file is damaged; fetch or save it again")


def _check_extent(tensor: LazyTensor, file: str, name: str, size: int):
    """Checks that a tensor lies within its storage of `size` bytes, and that its shape makes sense."""

    def need(condition: bool, problem: str):
        _need(condition, file, name, problem)

    storage, shape, stride, offset = tensor._storage, tensor.shape, tensor._stride, tensor._offset
    dims = len(shape), len(stride)
    need(dims[0] == dims[1] <= _MAX_DIMS, f"has {dims[0]} sizes and {dims[1]} strides (at most {_MAX_DIMS})")
    need(min((offset, *shape, *stride)) >= 0, "has a negative size, stride or offset")
    itemsize = np.dtype(_RAW[tensor.dtype]).itemsize
    memory = math.prod(n or 1 for n in shape) * itemsize  # numpy, too, multiplies the other sizes of an empty array
    need(memory <= max(size, _MAX_EXPANDED), f"of shape {clip(shape)} is far too large")
    last = offset - 1 if 0 in shape else offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    need(last < storage.numel, f"reaches element {last} of a storage of {storage.numel}")


def _place(tensor: LazyTensor, file: str, name: str, stream, entries: dict[str, zipfile.ZipInfo]):
    """Checks a tensor against its storage and the storage against the file, and notes where its bytes lie."""

    def need(condition: bool, problem: str):
        _need(condition, file, name, problem)

    storage = tensor._storage
    itemsize, info = np.dtype(_RAW[tensor.dtype]).itemsize, entries.get(storage.key)
    need(info is not None, f"refers to storage {clip(storage.key)}, which is missing")
    need(info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1, "is compressed or encrypted, not stored")
    size = storage.numel * itemsize
    need(info.file_size == info.compress_size == size, f"needs a storage of {size} bytes but has {info.file_size}")
    _check_extent(tensor, file, name, size)
    stream.seek(info.header_offset)
    signature, name_size, extra_size = struct.unpack("<4s22xHH", stream.read(30))
    start = info.header_offset + 30 + name_size + extra_size
    own = stream.read(name_size) == info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    need(signature == b"PK\x03\x04" and own, "has no zip header of its own in front of its storage")
    need(start + size <= os.fstat(stream.fileno()).st_size, "has a storage that reaches past the end")
    storage.__dict__["crc"] = info.CRC
    tensor.__dict__.update(_file=os.path.abspath(file), _name=name, _start=start)


def read_torch_pickle(path):
    """Reads everything torch.save put into a file, with a LazyTensor in the place of each tensor.

    Args: path, a file of torch.save, in today's zip format or from before PyTorch 1.6. Returns: usually a dict; it
    holds LazyTensor, str, int, float, bool, None, and lists, tuples and dicts of them (audiocraft:
    {'best_state': {...}, 'xp.cfg': 'yaml text', ...}).
    Errors: InputError where the file is missing, damaged, of another format, or asks for anything but tensors.
    Source: torch/serialization.py (_save, _load) and torch/_utils.py (_rebuild_tensor_v2) of PyTorch.
    """
    from .torch_legacy import STARTS, read_legacy

    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:
            if stream.peek(2)[:2] in STARTS:
                return read_legacy(file, stream)
            data, entries = _read_archive(file, stream)
            _scan(data)
            tree = _Unpickler(file, data).load()
            for name, tensor in _tensors(tree, set()):
                _place(tensor, file, name, stream, entries)
            return tree
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}); name a readable model file") from None
    except Exception as error:  # a damaged zip or pickle can raise nearly anything
        why = clip(error) or type(error).__name__
        raise InputError(f"{file} is truncated, damaged or not saved by torch.save ({why}); fetch it again") from None


def open_torch_file(path, key: str | None = None) -> dict[str, LazyTensor]:
    """Opens a state dict: a flat mapping of names to tensors.

    Args: path, a file in torch.save's zip format; key, the entry that holds the state dict where the file wraps it
    (audiocraft: 'best_state'). Returns: name to LazyTensor, in the file's order; nothing but shapes is read.
    Errors: InputError, as read_torch_pickle and where the file holds something else. Source: see read_torch_pickle.
    """
    tree = read_torch_pickle(path)
    if key is not None:
        if not isinstance(tree, dict) or key not in tree:
            raise InputError(f"{path} has no entry {key!r}; a dict that wraps the tensors in it is needed")
        tree = tree[key]
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds a {type(tree).__name__}; a dict of names to tensors is needed")
    for name, value in tree.items():
        if type(name) is not str or not isinstance(value, LazyTensor):
            found = f"{clip(name)} of type {'dict' if isinstance(value, dict) else type(value).__name__}"
            raise InputError(f"{path} has an entry {found}; a flat dict of names to tensors is needed (key= picks one)")
    return dict(tree)
