"""checkpoint.torch_legacy against files written pickle by pickle, as torch did before 1.6; no torch is needed."""

import pickle
import random
import struct

import numpy as np
import pytest
from test_torch_file import FALSE, NONE, ODICT, REBUILD, glob, ints, mapping, number, refused, text, tup

from mindmusicgen.checkpoint.torch_file import open_torch_file, read_torch_pickle
from mindmusicgen.checkpoint.torch_legacy import MAGIC, VERSION
from mindmusicgen.errors import InputError

MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def tensor(key, numel, shape, stride=None, offset=0, kind="FloatStorage", view=NONE):
    if stride is None:
        stride = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    place = tup(text("storage"), glob("torch", kind), text(key), text("cpu"), number(numel), view) + b"Q"
    return REBUILD + tup(place, number(offset), ints(shape), ints(stride), FALSE, ODICT) + b"R"


def save(path, body, storages, magic=MAGIC, version=VERSION, machine=MACHINE, keys=None, counts=None):
    parts = [pickle.dumps(one, 2) for one in (magic, version, machine)]
    parts += [b"\x80\x02" + body + b".", pickle.dumps(sorted(storages) if keys is None else keys, 2)]
    for key in sorted(storages):
        parts.append(struct.pack("<q", (counts or {}).get(key, storages[key].size)) + storages[key].tobytes())
    path.write_bytes(b"".join(parts))
    return path


VALUES = {"0": np.arange(6, dtype="<f4"), "1": np.array([7, 8, 9], "<f2")}
STATE = mapping(
    {
        "a": tensor("0", 6, (2, 3)),
        "t": tensor("0", 6, (3, 2), (1, 3)),
        "b": tensor("1", 3, (2,), offset=1, kind="HalfStorage"),
    }
)
BODY = mapping({"model": STATE, "step": number(5), "opt": NONE})


@pytest.fixture
def file(tmp_path):
    return tmp_path / "prior_level_0.pth.tar"


def test_tensors_are_read_where_they_lie(file):
    save(file, BODY, VALUES)
    found = open_torch_file(file, "model")
    np.testing.assert_array_equal(found["a"].read(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["t"].read(), [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["b"].read(), np.array([8, 9], "<f2"))
    np.testing.assert_array_equal(found["a"].rows(1, 2).read(), [[3, 4, 5]])
    assert read_torch_pickle(file)["step"] == 5


HUGE = 1 << 40
PART = tup(text("0"), number(0), number(6))
TENSORS = {  # that no file can hold: each alone in the model, and what is written besides
    "a storage of a huge size": (tensor("0", HUGE, (HUGE,)), {"counts": {"0": HUGE}}),
    "a tensor of a huge size": (tensor("0", 6, (HUGE, HUGE), (0, 0)), {}),
    "a tensor behind its storage": (tensor("0", 6, (2, 3), offset=1), {}),
    "a part of a storage": (tensor("0", 6, (6,), view=PART), {}),
    "a kind that is none": (tensor("0", 6, (6,), kind="ComplexFloatStorage"), {}),
}
FILES = {
    "another number": {"magic": 7},
    "another version": {"version": 1000},
    "big-endian": {"machine": MACHINE | {"little_endian": False}},
    "a storage that is not listed": {"keys": ["0"]},
    "a storage that is listed twice": {"keys": ["0", "0", "1"]},
    "keys that are none": {"keys": 3},
    "a storage of another size": {"counts": {"0": 5}},
}


@pytest.mark.parametrize("what", [*TENSORS, *FILES, "two kinds", "code", "more behind it"])
def test_damaged_files_are_refused(file, what):
    if what in TENSORS:
        made, options = TENSORS[what]
        save(file, mapping({"model": mapping({"a": made})}), {"0": VALUES["0"]}, **options)
    elif what == "two kinds":
        twice = {"a": tensor("0", 6, (6,)), "b": tensor("0", 6, (6,), kind="IntStorage")}
        save(file, mapping({"model": mapping(twice)}), {"0": VALUES["0"]})
    elif what == "code":
        save(file, glob("os", "system") + tup(text("true")) + b"R", VALUES)
    else:
        save(file, BODY, VALUES, **FILES.get(what, {}))
    if what == "more behind it":
        file.write_bytes(file.read_bytes() + b"1")
    refused(file, read=lambda path: open_torch_file(path, "model"))


def test_truncation_at_every_place(file):
    raw = save(file, BODY, VALUES).read_bytes()
    for size in range(2, len(raw)):
        file.write_bytes(raw[:size])
        refused(file, read=lambda path: open_torch_file(path, "model"))


def test_flipped_bytes_are_read_or_refused(file):
    raw, rng = save(file, BODY, VALUES).read_bytes(), random.Random(3)
    for _ in range(1500):
        changed = bytearray(raw)
        changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        try:
            for one in open_torch_file(file, "model").values():
                one.read()
        except InputError as error:
            assert len(str(error)) <= 300
