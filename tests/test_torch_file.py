"""checkpoint.torch_file against files written opcode by opcode (no torch needed) and, where torch is, by torch.save."""

import collections
import functools
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from mindmusicgen.checkpoint.torch_file import LazyTensor, open_torch_file, read_torch_pickle
from mindmusicgen.errors import InputError

# Pickle opcodes, protocol 2, as torch.save emits them.
NONE, FALSE, ODICT = b"N", b"\x89", b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
DTYPES = {
    "FloatStorage": ("float32", "<f4"),
    "DoubleStorage": ("float64", "<f8"),
    "HalfStorage": ("float16", "<f2"),
    "LongStorage": ("int64", "<i8"),
    "IntStorage": ("int32", "<i4"),
    "ShortStorage": ("int16", "<i2"),
    "CharStorage": ("int8", "|i1"),
    "ByteStorage": ("uint8", "|u1"),
    "BoolStorage": ("bool", "|b1"),
}


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tup(*parts):
    return b"(" + b"".join(parts) + b"t"


def ints(values):
    return tup(*map(number, values))


def mapping(items, start=b"}"):
    return start + b"(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


def storage(key, numel, kind="FloatStorage"):
    return tup(text("storage"), glob("torch", kind), text(key), text("cpu"), number(numel)) + b"Q"


def tensor(key, numel, shape, stride=None, offset=0, kind="FloatStorage", hooks=ODICT, tail=b""):
    if stride is None:
        stride = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return (
        REBUILD + tup(storage(key, numel, kind), number(offset), ints(shape), ints(stride), FALSE, hooks, tail) + b"R"
    )


def save(path, body, storages=(), parts=(("version", b"3\n"), ("byteorder", b"little")), root="archive", data=None):
    """A zip in torch's layout; body is the pickle between PROTO and STOP, storages maps key to array or bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{root}/data.pkl", b"\x80\x02" + body + b"." if data is None else data)
        for name, value in parts:
            archive.writestr(f"{root}/{name}", value)
        for key, value in dict(storages).items():
            archive.writestr(f"{root}/data/{key}", value if isinstance(value, bytes) else value.tobytes())
    return path


def refused(path, *words, read=open_torch_file):
    """A read must raise InputError: one line that names the file and has every one of the words."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.isprintable(), message
    told = message.replace(str(path), "")  # pytest names the folder after the test
    for word in words:
        assert word in told


@pytest.fixture
def model(tmp_path):
    return tmp_path / "model.bin"


def two_tensors(model):
    """a = 0 1 2 / 3 4 5 and b = 7 8, each with its own storage."""
    body = mapping({"a": tensor("0", 6, (2, 3)), "b": tensor("1", 2, (2,))}, ODICT)
    return save(model, body, {"0": np.arange(6, dtype="<f4"), "1": np.array([7, 8], "<f4")})


class TestTensors:
    @pytest.mark.parametrize("kind", DTYPES)
    def test_dtype(self, model, kind):
        name, code = DTYPES[kind]
        values = np.array([[0, 1, 2], [3, 100, 0]]).astype(code)
        save(model, mapping({"w": tensor("0", 6, (2, 3), kind=kind)}), {"0": values})
        lazy = open_torch_file(model)["w"]
        assert (lazy.shape, lazy.dtype) == ((2, 3), name)
        read = lazy.read()
        assert read.dtype == np.dtype(name) and read.flags.c_contiguous and read.flags.writeable
        np.testing.assert_array_equal(read, values)

    def test_bfloat16_is_widened(self, model):
        values = np.array([1.0, -2.5, 3.140625, np.inf, 1e-40], np.float32)
        high = (values.view("<u4") >> 16).astype("<u2")
        body = mapping(
            {"w": tensor("0", 5, (5,), kind="BFloat16Storage"), "s": tensor("0", 5, (), kind="BFloat16Storage")}
        )
        lazy = open_torch_file(save(model, body, {"0": high}))
        read = lazy["w"].read()
        assert lazy["w"].dtype == "bfloat16" and read.dtype == np.float32
        np.testing.assert_array_equal(read, (high.astype("<u4") << 16).view("<f4"))
        np.testing.assert_array_equal(read[:4], values[:4])
        assert isinstance(lazy["s"].read(), np.ndarray) and lazy["s"].read() == 1

    def test_bool_bytes_become_true_or_false(self, model):
        save(model, mapping({"w": tensor("0", 3, (3,), kind="BoolStorage")}), {"0": b"\x00\x02\xff"})
        assert open_torch_file(model)["w"].read().tobytes() == b"\x00\x01\x01"

    @pytest.mark.parametrize("module", ["torch", "torch.storage"])
    def test_untyped_storage_is_uint8(self, model, module):
        kind = tup(text("storage"), glob(module, "UntypedStorage"), text("0"), text("cpu"), number(2)) + b"Q"
        body = REBUILD + tup(kind, number(0), ints((2,)), ints((1,)), FALSE, ODICT) + b"R"
        lazy = open_torch_file(save(model, mapping({"w": body}), {"0": b"\x05\x06"}))["w"]
        assert lazy.dtype == "uint8" and lazy.read().tolist() == [5, 6]

    @pytest.mark.parametrize(
        "shape, stride, offset",
        [
            ((3, 4), (4, 1), 0),
            ((4, 3), (1, 4), 0),  # transposed
            ((2, 2), (4, 1), 5),  # a window
            ((3, 2), (4, 2), 1),  # every other column
            ((4,), (3,), 0),
            ((5, 4), (0, 1), 8),  # expanded
            ((), (), 11),
            ((1, 12, 1), (99, 1, 99), 0),  # the stride of a size 1 means nothing
            ((1, 12, 1), (1 << 62, 1, 1 << 62), 0),
            ((2, 0, 3), (5, 3, 1), 12),
            ((2, 2, 2), (1, 2, 4), 3),
        ],
    )
    def test_views(self, model, shape, stride, offset):
        values = np.arange(12, dtype="<f4")
        lazy = open_torch_file(save(model, mapping({"w": tensor("0", 12, shape, stride, offset)}), {"0": values}))["w"]
        read = lazy.read()
        assert read.shape == shape == lazy.shape and read.flags.c_contiguous
        for index in np.ndindex(shape):
            assert read[index] == offset + sum(i * s for i, s in zip(index, stride, strict=True))

    def test_shared_storage_and_tied_tensors(self, model):
        tied = b"q\x01"  # BINPUT
        body = mapping({"a": tensor("0", 4, (4,)) + tied, "b": b"h\x01", "c": tensor("0", 4, (2,), offset=2)})
        lazy = open_torch_file(save(model, body, {"0": np.arange(4, dtype="<f4")}))
        assert [lazy[name].read().tolist() for name in "abc"] == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 3]]

    def test_parameter(self, model):
        body = glob("torch._utils", "_rebuild_parameter") + tup(tensor("0", 2, (2,)), b"\x88", ODICT) + b"R"
        assert open_torch_file(save(model, mapping({"w": body}), {"0": np.ones(2, "<f4")}))["w"].read().tolist() == [
            1,
            1,
        ]

    def test_no_byteorder_entry_means_little(self, model):
        save(model, mapping({"w": tensor("0", 1, (1,))}), {"0": np.ones(1, "<f4")}, parts=(), root="pytorch_model")
        assert open_torch_file(str(model))["w"].read() == 1

    def test_module_metadata_is_dropped(self, model):
        state = mapping({"w": tensor("0", 1, (1,))}, ODICT) + mapping({"_metadata": mapping({"": NONE}, ODICT)}) + b"b"
        lazy = open_torch_file(save(model, state, {"0": np.ones(1, "<f4")}))
        assert list(lazy) == ["w"] and type(lazy) is dict

    def test_protocol_4(self, model):
        save(model, b"", data=pickle.dumps({"cfg": "a: 1", "n": [1, 2.5, None, True]}, protocol=4))
        assert read_torch_pickle(model) == {"cfg": "a: 1", "n": [1, 2.5, None, True]}


class TestLaziness:
    def test_relative_path_outlives_chdir(self, model, monkeypatch):
        two_tensors(model)
        monkeypatch.chdir(model.parent)
        lazy = open_torch_file(model.name)
        monkeypatch.chdir("/")
        assert lazy["b"].read().tolist() == [7, 8]

    def test_other_storages_are_not_read(self, model):
        lazy = open_torch_file(two_tensors(model))
        raw = model.read_bytes()
        values = np.array([7, 8], "<f4").tobytes()
        assert raw.count(values) == 1
        os.truncate(model, raw.index(values) + 4)  # b is cut in half, and so is the zip's directory
        assert lazy["a"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
        refused(model, "tensor b", "unchanged", read=lambda _: lazy["b"].read())
        model.unlink()
        refused(model, "in place", read=lambda _: lazy["a"].read())

    def test_memory(self, model):
        big = 1 << 22
        body = mapping(
            {"big": tensor("0", big, (big,)), "row": tensor("0", big, (4,), offset=9), "b": tensor("1", 2, (2,))}
        )
        save(model, body, {"0": np.arange(big, dtype="<f4"), "1": np.ones(2, "<f4")})
        tracemalloc.start()
        try:
            lazy = open_torch_file(model)
            assert lazy["b"].read().tolist() == [1, 1] and lazy["row"].read().tolist() == [9, 10, 11, 12]
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
            lazy["big"].read()
            assert tracemalloc.get_traced_memory()[1] >= 4 * big  # the measure does see what is read
        finally:
            tracemalloc.stop()


class TestStructure:
    def audiocraft(self, model):
        state = mapping({"w": tensor("0", 2, (2,))}, ODICT)
        body = mapping({"best_state": state, "xp.cfg": text("a: 1\n"), "version": text("1.0"), "exported": b"\x88"})
        return save(model, body, {"0": np.ones(2, "<f4")})

    def test_wrapper(self, model):
        lazy = open_torch_file(self.audiocraft(model), key="best_state")
        assert list(lazy) == ["w"] and lazy["w"].read().tolist() == [1, 1]
        tree = read_torch_pickle(model)
        assert (tree["xp.cfg"], tree["version"], tree["exported"]) == ("a: 1\n", "1.0", True)
        assert isinstance(tree["best_state"]["w"], LazyTensor)

    def test_wrapper_needs_its_key(self, model):
        refused(self.audiocraft(model), "best_state of type dict", "key=")
        for key, word in (("state_dict", "no entry 'state_dict'"), ("xp.cfg", "holds a str")):
            refused(model, word, read=lambda path, key=key: open_torch_file(path, key=key))

    @pytest.mark.parametrize(
        "body, word", [(b"]", "list"), (mapping({"a": b"K\x01"}), "a of type int"), (NONE, "NoneType")]
    )
    def test_not_a_state_dict(self, model, body, word):
        refused(save(model, body), word)

    @pytest.mark.parametrize("body", [b"]", text("xyz"), NONE])
    def test_only_a_dict_has_keys(self, model, body):
        refused(save(model, body), "no entry 'x'", read=lambda path: open_torch_file(path, key="x"))

    def test_int_name(self, model):
        refused(save(model, b"}K\x01" + tensor("0", 1, (1,)) + b"s", {"0": np.ones(1, "<f4")}), "1 of type LazyTensor")

    @pytest.mark.parametrize(
        "body, word", [(mapping({"a": REBUILD}), "_Function"), (mapping({"a": storage("0", 1)}), "_Storage")]
    )
    def test_bare_internals_do_not_get_out(self, model, body, word):
        refused(save(model, body), "a is of type " + word, read=read_torch_pickle)

    def test_tensor_hidden_in_a_key(self, model):
        refused(save(model, b"}" + tensor("0", 9, (9,)) + b"Ns"), "key of type LazyTensor", read=read_torch_pickle)

    def test_cycles_are_harmless(self, model):
        tree = read_torch_pickle(save(model, b"]q\x00h\x00a"))
        assert tree[0] is tree

    def test_depth(self, model):
        assert read_torch_pickle(save(model, b"]" * 32 + b"a" * 31))
        refused(save(model, b"]" * 100000 + b"a" * 99999), "deep", read=read_torch_pickle)


class Evil:
    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


class TestHostilePickles:
    @pytest.mark.parametrize("protocol", [2, 4])
    @pytest.mark.parametrize(
        "value, name",
        [
            (Evil(os.system, "touch CANARY"), "system"),
            (Evil(eval, "open('CANARY', 'w')"), ".eval"),
            (Evil(exec, "open('CANARY', 'w')"), ".exec"),
            (Evil(getattr, "x", "upper"), ".getattr"),
            (np.float64(1), "multiarray.scalar"),
            (np.arange(2), "multiarray._reconstruct"),
            (collections.Counter("a"), "collections.Counter"),
            (functools.partial(print), "functools.partial"),
            (pytest.Item, "nodes.Item"),
        ],
    )
    def test_pickled_objects(self, model, tmp_path, monkeypatch, value, name, protocol):
        monkeypatch.chdir(tmp_path)
        save(model, b"", data=pickle.dumps({"w": value}, protocol))
        refused(model, "asks for ", name, "only tensors are accepted")
        assert not (tmp_path / "CANARY").exists()

    @pytest.mark.parametrize(
        "module, name",
        [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("__builtin__", "eval"),
            ("torch", "load"),
            ("torch", "FloatStorage.__init__"),
            ("torch", "float32"),
            ("torch._utils", "_rebuild_tensor"),
            ("torch.storage", "_load_from_bytes"),
            ("torch", "ComplexFloatStorage"),
            ("collections", "OrderedDict.fromkeys"),
            ("collections", "namedtuple"),
        ],
    )
    def test_names(self, model, module, name):
        refused(save(model, mapping({"w": glob(module, name) + b")R"})), f"asks for {module}.{name};")
        stack = b"\x80\x04" + text(module) + text(name) + b"\x93)R."
        refused(save(model, b"", data=stack), f"asks for {module}.{name};")
        inst, obj = f"(i{module}\n{name}\n".encode(), b"(" + glob(module, name) + b"o"
        for body in (inst, obj, glob(module, name) + b")\x81", glob(module, name) + b")}\x92"):
            refused(save(model, body), f"asks for {module}.{name};")

    def test_name_cannot_forge_the_message(self, model):
        refused(
            save(model, b"", data=b"\x80\x04" + text("os\n\x1b[2J" + "x" * 999) + text("a") + b"\x93."), "os\\n\\x1b"
        )

    @pytest.mark.parametrize(
        "data",
        [
            b"\x82\x01.",  # EXT1 takes from copyreg's cache, past find_class
            b"Vx\n.",
            b"\x8b\x01\x00\x00\x00\x01.",  # LONG4
            b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",  # BYTEARRAY8
        ],
    )
    def test_operations_that_no_tensor_needs(self, model, data):
        refused(save(model, b"", data=b"\x80\x02" + data), "data.pkl has the operation")

    @pytest.mark.parametrize("put", [b"r\xff\xff\xff\x3f", b"q\xff"])
    def test_memo_bomb(self, model, put):
        refused(save(model, b"]" + put), "memo index")

    @pytest.mark.parametrize("state", ["attributes", "slots"])
    @pytest.mark.parametrize("target", ["function", "OrderedDict", "tensor", "storage", "storage type"])
    def test_states(self, model, target, state):
        """BUILD must not set attributes of anything: not of this tensor, nor for the files read after it."""
        body, rest = {  # what is left behind would be valid, were BUILD let through
            "function": (REBUILD, b"0" + tensor("0", 2, (2,))),
            "OrderedDict": (b"ccollections\nOrderedDict\n", b")R"),
            "tensor": (tensor("0", 2, (2,)), b""),
            "storage": (storage("0", 2), b"0" + tensor("0", 2, (2,))),
            "storage type": (glob("torch", "FloatStorage"), b"0" + tensor("0", 2, (2,))),
        }[target]
        values = mapping({"shape": ints((1 << 40,)), "function": NONE, "numel": number(9), "__defaults__": ints((1,))})
        body += (values if state == "attributes" else tup(NONE, values)) + b"b" + rest
        save(model, mapping({"x": body}), {"0": np.ones(2, "<f4")})
        word = "'str' object has no attribute" if target == "storage type" else "sets the attributes of a tensor"
        refused(model, word, read=read_torch_pickle)
        TestTensors().test_parameter(model)

    TENSOR = "something else than storage, offset, size and stride"
    STORAGE = "something else than type, key and size"

    @pytest.mark.parametrize(
        "body, word",
        [
            (glob("torch", "FloatStorage") + b")R", "not callable"),
            (glob("torch", "FloatStorage") + b")\x81", "class argument"),  # NEWOBJ
            (b"ccollections\nOrderedDict\n)\x81", "class argument"),
            (b"ccollections\nOrderedDict\n)}\x92", "class argument"),  # NEWOBJ_EX
            (b"ccollections\nOrderedDict\n" + tup(mapping({"a": NONE})) + b"R", "takes 0 positional arguments"),
            (b"ccollections\nOrderedDict\n" + tup(text("a"), NONE) + b"R", "takes 0 positional arguments"),
            (ODICT + b")R", "not callable"),
            (REBUILD + b")R", "missing 4 required"),
            (b"(itorch._utils\n_rebuild_tensor_v2\n", "missing 4 required"),  # INST
            (b"(" + REBUILD + b"o", "missing 4 required"),  # OBJ
            (REBUILD + tup(*[NONE] * 6) + b"R", TENSOR),
            (REBUILD + tup(text("0"), number(0), ints((1,)), ints((1,)), FALSE, ODICT) + b"R", TENSOR),
            (REBUILD + tup(storage("0", 2), text("0"), ints((1,)), ints((1,)), FALSE, ODICT) + b"R", TENSOR),
            (REBUILD + tup(storage("0", 2), b"\x88", ints((1,)), ints((1,)), FALSE, ODICT) + b"R", TENSOR),
            (REBUILD + tup(storage("0", 2), number(0), b"]", b"]", FALSE, ODICT) + b"R", TENSOR),
            (REBUILD + tup(storage("0", 2), number(0), tup(text("1")), ints((1,)), FALSE, ODICT) + b"R", TENSOR),
            (REBUILD + tup(storage("0", 2), number(0), ints((1,)), tup(b"\x88"), FALSE, ODICT) + b"R", TENSOR),
            (tensor("0", 2, (2,), tail=mapping({"neg": b"\x88"})), TENSOR),  # values that are to be negated
            (tensor("0", 2, (2,)) + b"K\x00K\x00s", "item assignment"),  # SETITEM
            (tensor("0", 2, (2,)) + b"K\x00a", "no attribute 'append'"),
            (glob("torch._utils", "_rebuild_parameter") + tup(NONE, FALSE, ODICT) + b"R", "not a tensor"),
            (NONE + b"Q", "not a storage"),
            (tup(text("storage")) + b"Q", "not a storage"),
            (tup(text("storage"), NONE, text("0"), text("cpu"), number(2)) + b"Q", "not a storage"),
            (tup(text("storage"), text("int8"), number(0), text("cpu"), number(2)) + b"Q", "not a storage"),
            (tup(text("storage"), text("int8"), text("0"), text("cpu"), b"\x88") + b"Q", "not a storage"),
            (tup(text("module"), text("int8"), text("0"), text("cpu"), number(2)) + b"Q", STORAGE),
            (tup(text("storage"), text("float128"), text("0"), text("cpu"), number(2)) + b"Q", STORAGE),
            (tup(text("storage"), text("int8"), text("0"), text("cpu"), number(-2)) + b"Q", STORAGE),
            (b"}]Ns", "unhashable"),
            (b"\x8f", "x is of type set"),  # EMPTY_SET
            (b"C\x01a", "x is of type bytes"),
        ],
    )
    def test_calls(self, model, body, word):
        refused(save(model, mapping({"x": body}), {"0": np.ones(2, "<f4")}), word, read=read_torch_pickle)


class TestBounds:
    @pytest.mark.parametrize(
        "shape, stride, offset, words",
        [
            ((5,), (1,), 0, "reaches element 4 of a storage of 4"),
            ((2,), (4,), 0, "reaches element 4"),
            ((4,), (1,), 1, "reaches element 4"),
            ((), (), 4, "reaches element 4"),
            ((0,), (1,), 5, "reaches element 4"),
            ((2, 2), (2, 2), 1, "reaches element 5"),
            ((2,), (-1,), 1, "negative"),
            ((1,), (-1,), 0, "negative"),
            ((-1,), (1,), 0, "negative"),
            ((1,), (1,), -1, "negative"),
            ((2,), (1, 1), 0, "1 sizes and 2 strides"),
            ((1,) * 33, (1,) * 33, 0, "at most 32"),
            ((1 << 40,), (0,), 0, "far too large"),
            ((1 << 62, 1 << 62), (0, 0), 0, "far too large"),
            ((0, 1 << 62), (1, 1), 0, "far too large"),
            ((1 << 100,), (1 << 100,), 0, "far too large"),
        ],
    )
    def test_view_outside_its_storage(self, model, shape, stride, offset, words):
        body = mapping({"layer": mapping({"w": tensor("0", 4, shape, stride, offset)})})
        refused(save(model, body, {"0": np.ones(4, "<f4")}), "tensor layer.w", words, read=read_torch_pickle)

    @pytest.mark.parametrize("numel", [3, 5, 0, 1 << 60])
    def test_storage_size_differs(self, model, numel):
        body = mapping({"w": tensor("0", numel, (2,))})
        refused(
            save(model, body, {"0": np.ones(4, "<f4")}), "tensor w", f"needs a storage of {numel * 4} bytes but has 16"
        )

    def test_storage_missing(self, model):
        refused(save(model, mapping({"w": tensor("../data.pkl", 1, (1,))})), "tensor w", "missing")

    @pytest.mark.parametrize("change", ["signature", "size", "encrypted"])
    def test_zip_headers_that_lie(self, model, change):
        two_tensors(model)
        raw = bytearray(model.read_bytes())
        at = raw.index(b"archive/data/1") - 30  # the local header; the directory's entry has its name 46 bytes in
        entry = raw.rindex(b"archive/data/1") - 46
        if change == "signature":
            raw[at : at + 4] = b"abcd"
        elif change == "size":
            raw[at + 28 : at + 30] = b"\xff\xff"  # an extra field that ends past the file
        else:
            raw[entry + 8] |= 1
        model.write_bytes(raw)
        refused(
            model, "tensor b", {"signature": "no zip header", "size": "past the end", "encrypted": "encrypted"}[change]
        )


class TestFiles:
    def test_missing_and_unreadable(self, tmp_path):
        refused(tmp_path / "none.bin", "No such file", "name a readable model file")
        refused(tmp_path, "directory")

    @pytest.mark.parametrize("data", [b"", b"PK", b"version https://git-lfs.github.com/spec/v1\n", b"\x00" * 99])
    def test_not_a_zip(self, model, data):
        model.write_bytes(data)
        refused(model, "is not a zip file; a pytorch_model.bin")

    def test_truncation_at_every_place(self, model):
        raw = two_tensors(model).read_bytes()
        for size in range(4, len(raw)):
            model.write_bytes(raw[:size])
            refused(model, "truncated")

    def test_truncated_pickle(self, model):
        data = zipfile.ZipFile(two_tensors(model)).read("archive/data.pkl")
        for size in range(len(data)):
            refused(save(model, b"", data=data[:size]))

    def test_no_data_pkl(self, model):
        for names in ([], ["data.pkl"], ["a/b/data.pkl"], ["a/data.pkl", "b/data.pkl"]):
            with zipfile.ZipFile(model, "w") as archive:
                for name in ["x", *names]:
                    archive.writestr(name, b"\x80\x02}.")
            refused(model, "<root>/data.pkl")

    @pytest.mark.parametrize("entry", ["archive/data/0", "archive/data.pkl", "archive/byteorder"])
    def test_compressed_entry(self, model, entry):
        two_tensors(model)
        with zipfile.ZipFile(model) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(model, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data, zipfile.ZIP_DEFLATED if name == entry else zipfile.ZIP_STORED)
        refused(model, "is compressed", "tensor a" if entry.endswith("/0") else entry.partition("/")[2])

    def test_big_endian(self, model):
        refused(save(model, b"}", parts=[("byteorder", b"big")]), "byteorder big", "little")

    def test_pickle_too_large(self, model, monkeypatch):
        monkeypatch.setattr("mindmusicgen.checkpoint.torch_file._MAX_PICKLE", 100)
        refused(save(model, text("x" * 200)), "data.pkl", "larger than 100 bytes")

    def test_corrupt_pickle_fails_its_checksum(self, model):
        raw = two_tensors(model).read_bytes()
        model.write_bytes(raw.replace(b"torch._utils", b"torch._utilz", 1))
        refused(model, "CRC")

    @pytest.mark.parametrize("shape, offset", [((6,), 0), ((2, 2), 1), ((1,), 5), ((0,), 0)])
    def test_corrupt_values_fail_their_checksum(self, model, shape, offset):
        """Also where what is read is not what was changed, but lies in the same storage."""
        save(model, mapping({"w": tensor("0", 6, shape, offset=offset)}), {"0": np.arange(6, dtype="<f4")})
        raw = model.read_bytes()
        model.write_bytes(raw.replace(np.float32(2).tobytes(), np.float32(7).tobytes(), 1))
        refused(model, "checksum of tensor w", read=lambda path: open_torch_file(path)["w"].read())

    def test_rows_are_checked_once(self, model, monkeypatch):
        save(model, mapping({"w": tensor("0", 6, (3, 2))}), {"0": np.arange(6, dtype="<f4")})
        whole, seen, crc32 = open_torch_file(model)["w"], [], zlib.crc32
        monkeypatch.setattr("mindmusicgen.checkpoint.torch_file.zlib.crc32", lambda *a: seen.append(1) or crc32(*a))
        assert [whole.rows(i, i + 1).read().tolist() for i in range(3)] == [[[0, 1]], [[2, 3]], [[4, 5]]]
        whole.read()
        assert len(seen) == 1

    def test_an_entry_that_occurs_twice(self, model):
        two_tensors(model)
        with zipfile.ZipFile(model, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())
        refused(model, "occurs twice")

    def test_an_entry_that_points_to_another(self, model):
        """Two names in the directory, one place in the file."""
        values = np.arange(2, dtype="<f4")
        body = mapping({"a": tensor("0", 2, (2,)), "b": tensor("1", 2, (2,))})
        raw = save(model, body, {"0": values, "1": values}).read_bytes()
        with zipfile.ZipFile(model) as archive:
            first, second = (archive.getinfo(f"archive/data/{key}").header_offset for key in "01")
        place = raw.rindex(b"archive/data/1") - 4  # of the header's offset in the directory
        assert struct.unpack("<I", raw[place : place + 4])[0] == second
        model.write_bytes(raw[:place] + struct.pack("<I", first) + raw[place + 4 :])
        refused(model, "tensor b", "header of its own")


class TestFuzz:
    def outcome(self, path):
        """Reads what is readable: an InputError, or tensors of the promised size; any other exception is a failure."""
        try:
            lazy = open_torch_file(path)
        except InputError as error:
            assert str(path) in str(error)
            return "refused"
        for name, entry in lazy.items():
            assert isinstance(name, str) and isinstance(entry, LazyTensor)
            try:
                read = entry.read()
            except InputError as error:
                assert "checksum" in str(error)
                return "refused"
            assert read.shape == entry.shape
            assert read.dtype == np.dtype("float32" if entry.dtype == "bfloat16" else entry.dtype)
        return "read"

    def test_flipped_bytes_of_the_file(self, model):
        raw, rng = two_tensors(model).read_bytes(), random.Random(1)
        seen = collections.Counter()
        for _ in range(200):
            data = bytearray(raw)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            model.write_bytes(data)
            seen[self.outcome(model)] += 1
        assert seen["refused"] > 20 and seen["read"] > 5

    def test_flipped_bytes_of_the_pickle(self, model):
        """With a checksum that fits, so that the damage reaches the unpickler and the bounds."""
        good = zipfile.ZipFile(two_tensors(model)).read("archive/data.pkl")
        rng, seen = random.Random(2), collections.Counter()
        for _ in range(1000):
            data = bytearray(good)
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            save(model, b"", {"0": np.arange(6, dtype="<f4"), "1": np.ones(2, "<f4")}, data=bytes(data))
            seen[self.outcome(model)] += 1
        assert seen["refused"] > 500 and seen["read"] > 5


class TestAgainstTorch:
    """What torch.save writes, against torch itself; skipped where torch is not installed."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def compare(self, torch, lazy, tensors):
        assert list(lazy) == list(tensors)
        for name, value in tensors.items():
            value = value.detach()
            assert lazy[name].shape == tuple(value.shape) and lazy[name].dtype == str(value.dtype)[6:]
            read = lazy[name].read()
            expected = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
            assert read.dtype == expected.dtype and read.flags.c_contiguous
            np.testing.assert_array_equal(read, expected)

    @pytest.mark.parametrize("protocol", [2, 4])
    def test_dtypes_and_views(self, torch, model, protocol):
        base = torch.randn(4, 6)
        names = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
        tensors = {name: (base * 9).to(getattr(torch, name)) for name in names}
        tensors |= {"t": base.t(), "row": base[2], "column": base[:, 3], "step": base[::2, 1::2], "tied": base}
        tensors |= {"expanded": torch.ones(3).expand(5, 3), "scalar": base[1, 1], "empty": torch.empty(0, 3)}
        tensors |= {
            "parameter": torch.nn.Parameter(base.bfloat16().t()),
            "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        }
        torch.save(collections.OrderedDict(tensors), model, pickle_protocol=protocol)
        self.compare(torch, open_torch_file(model), tensors)

    def test_module_state_and_wrapper(self, torch, model):
        state = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict()
        torch.save(state, model)
        self.compare(torch, open_torch_file(model), state)
        torch.save({"best_state": state, "xp.cfg": "a: 1", "version": "1", "exported": True}, model)
        self.compare(torch, open_torch_file(model, key="best_state"), state)
        assert read_torch_pickle(model)["xp.cfg"] == "a: 1"

    def test_the_format_before_1_6(self, torch, model):
        base = torch.randn(4, 6)
        tensors = {"a": base, "b": base.t(), "c": base[1:, ::2], "half": base.half(), "whole": base.long()}
        wrapped = {"model": tensors, "opt": {"m": torch.ones(3)}, "step": 7}
        torch.save(wrapped, model, _use_new_zipfile_serialization=False)
        self.compare(torch, open_torch_file(model, "model"), tensors)
        assert read_torch_pickle(model)["step"] == 7

    def test_whole_module_and_other_dtypes(self, torch, model):
        torch.save(torch.nn.Linear(2, 2), model)
        refused(model, "asks for torch.nn.modules.linear.Linear")
        torch.save({"w": torch.ones(2, dtype=torch.complex64)}, model)
        refused(model, "asks for torch.ComplexFloatStorage")
        torch.save({"w": torch.ones(2, dtype=torch.complex64).conj().imag}, model)  # carries the negative bit
        refused(model)
