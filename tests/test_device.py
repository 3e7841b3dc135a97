"""Choosing a device: what its name says, what is prepared, and one sentence for whatever can go wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest

from mindmusicgen import InputError, T5EncoderModel
from mindmusicgen.dtypes import dtype_name, resolve_dtype
from mindmusicgen.musicgen.checkpoint import info
from mindmusicgen.runtime import device

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    """Every test begins like a process in which nothing names a device."""
    for name in ("MINDMUSICGEN_DEVICE", "MINDMUSICGEN_CAPTURE", "RANK_ID", "DEVICE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device, "_used", None)


class FakeMindSpore:
    """As much of MindSpore as `device` uses, of a machine with NPUs; `says` is what opening one raises."""

    __version__ = "2.10.0"
    float32 = ms.float32

    def __init__(self, target="Ascend", begun=False, setting=None, opening=None, count=8):
        self.now, self.begun, self.setting, self.opening, self.calls = (target, 0), begun, setting, opening, []
        note = lambda name: lambda value: self.calls.append((name, value))  # noqa: E731
        precision = SimpleNamespace(**{name: note(name) for name in ("matmul_allow_hf32", "conv_allow_hf32")})
        self.device_context = SimpleNamespace(
            ascend=SimpleNamespace(op_precision=precision, device_count=lambda: count)
        )
        self.hal = SimpleNamespace(
            is_initialized=lambda target: self.begun,
            get_device_properties=lambda number: SimpleNamespace(free_memory=3_000_000_000),
        )
        self.runtime = SimpleNamespace(memory_reserved=lambda: 1_000_000_000, set_kernel_launch_capture=note("capture"))

    def set_device(self, target, number):
        if self.setting:
            raise RuntimeError(self.setting)
        self.now = target, number
        self.calls.append((target, number))

    def get_current_device(self):
        return self.now

    def Tensor(self, values):
        if self.opening:
            raise RuntimeError(self.opening)
        self.begun = True
        self.calls.append("opened")
        return ms.Tensor(values)


@pytest.fixture
def pretend(monkeypatch):
    """A function that puts a `FakeMindSpore` into the place of MindSpore."""

    def put(**arguments):
        fake = FakeMindSpore(**arguments)
        monkeypatch.setattr(device, "ms", fake)
        return fake

    return put


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        ((None, None), {}, (None, None)),
        (("CPU", None), {}, ("CPU", None)),
        (("ascend:1", None), {}, ("Ascend", 1)),
        (("Ascend", 2), {}, ("Ascend", 2)),
        (("Ascend:2", 2), {}, ("Ascend", 2)),
        ((None, 3), {}, ("Ascend", 3)),
        ((None, None), {"MINDMUSICGEN_DEVICE": "Ascend:1"}, ("Ascend", 1)),
        ((None, None), {"MINDMUSICGEN_DEVICE": ""}, (None, None)),
        ((None, 0), {"MINDMUSICGEN_DEVICE": "Ascend:1"}, ("Ascend", 0)),
        (("CPU", None), {"MINDMUSICGEN_DEVICE": "Ascend:1"}, ("CPU", None)),
        (("Ascend", None), {"MINDMUSICGEN_DEVICE": "Ascend:1"}, ("Ascend", None)),
        # A rank has an NPU of its own, unless one is named in the command.
        ((None, None), {"RANK_ID": "5", "DEVICE_ID": "5"}, (None, 5)),
        (("Ascend", None), {"RANK_ID": "5", "DEVICE_ID": "5"}, ("Ascend", 5)),
        (("Ascend", 2), {"RANK_ID": "5", "DEVICE_ID": "5"}, ("Ascend", 2)),
        (("Ascend:2", None), {"RANK_ID": "5", "DEVICE_ID": "5"}, ("Ascend", 2)),
        ((None, None), {"RANK_ID": "5", "DEVICE_ID": "5", "MINDMUSICGEN_DEVICE": "Ascend:1"}, ("Ascend", 5)),
        (("CPU", None), {"RANK_ID": "5", "DEVICE_ID": "5"}, ("CPU", None)),
        (("Ascend", None), {"DEVICE_ID": "5"}, ("Ascend", None)),
    ],
)
def test_names(monkeypatch, given, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert device.named(*given) == expected


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        (("GPU", None), {}, "device is 'GPU'; expected CPU, Ascend, or Ascend:1"),
        (("Ascend:x", None), {}, "device is 'Ascend:x'"),
        (("Ascend:", None), {}, "device is 'Ascend:'"),
        (("", None), {}, "device is ''"),
        (("Ascend", -1), {}, "device id is -1"),
        (("Ascend", "1"), {}, "device id is '1'"),
        (("Ascend:1", 2), {}, "give one of the two numbers"),
        (("CPU", 1), {}, "a CPU has no number"),
        ((None, None), {"MINDMUSICGEN_DEVICE": "npu"}, "MINDMUSICGEN_DEVICE in the environment is 'npu'"),
    ],
)
def test_names_that_are_none(monkeypatch, given, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=re.escape(words)):
        device.named(*given)


def test_an_npu_is_prepared_once_and_before_it_is_opened(pretend):
    fake = pretend(target="CPU")
    device.use("Ascend:1")
    expected = [("Ascend", 1), ("matmul_allow_hf32", False), ("conv_allow_hf32", False), "opened"]
    assert fake.calls == expected
    device.use("Ascend", 1)
    device.use()
    device.use("Ascend")
    assert fake.calls == expected


def test_mindspores_own_choice_of_an_npu_is_prepared_too(pretend, monkeypatch):
    monkeypatch.setenv("RANK_ID", "3")
    monkeypatch.setenv("DEVICE_ID", "3")
    fake = pretend(target="Ascend")
    device.use()
    assert fake.calls[0] == ("Ascend", 3) and fake.calls[-1] == "opened"


def test_nothing_named_leaves_a_cpu_alone(pretend):
    fake = pretend(target="CPU")
    device.use()
    assert fake.calls == []


def test_a_process_has_one_device(pretend, monkeypatch):
    pretend(target="CPU", begun=True)
    device.use("CPU")
    with pytest.raises(InputError, match="already computes on CPU and cannot change to Ascend:1"):
        device.use("Ascend:1")
    monkeypatch.setenv("MINDMUSICGEN_DEVICE", "Ascend:1")
    device.use()  # the environment speaks where nothing has begun
    fake = pretend(target="Ascend")
    monkeypatch.setattr(device, "_used", None)
    device.use("Ascend:2")
    with pytest.raises(InputError, match="already computes on Ascend:2 and cannot change to Ascend:3"):
        device.use(device_id=3)
    assert fake.now == ("Ascend", 2)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "Load dynamic library failed. libge_runner.so: cannot open shared object file: No such",
            "(libge_runner.so",
        ),
        ("libascendcl.so: undefined symbol: aclrtFoo\nmore", "CANN does not fit MindSpore 2.10.0 (undefined symbol"),
        ("version `GLIBC_9' not found (required by libx.so)", "CANN does not fit MindSpore 2.10.0 (version `GLIBC_9'"),
        ("Call aclrtSetDevice failed, ret[507033]. Got device count[8] and device id[1]", "it is busy; end other"),
        (
            "Call aclrtSetDevice failed, ret[107001]. Got device count[1] and device id[1]",
            "this machine has 1,",
        ),
        ("EL0004: Failed to allocate memory.\n Possible Cause", "its memory is full"),
        ("Ascend kernel runtime initialization failed. The details", "(Ascend kernel runtime initialization failed)"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(pretend, said, words):
    for when in ("setting", "opening"):
        pretend(target="CPU", **{when: said})
        with pytest.raises(InputError) as refused:
            device.use("Ascend:1")
        sentence = str(refused.value)
        assert sentence.startswith("device Ascend:1 cannot be used here") and "device='CPU'" in sentence
        assert words in sentence and "\n" not in sentence


def test_an_npu_that_is_not_there(pretend):
    pretend(target="CPU", opening="Call aclrtSetDevice failed", count=2)
    with pytest.raises(InputError, match="no NPU with that number; this machine has 2, numbered from 0"):
        device.use("Ascend:7")


def test_this_machine_says_that_cann_is_missing(tmp_path):
    """The real message, in a fresh process."""
    if ms.device_context.ascend.is_available():
        pytest.skip("this machine has an NPU")
    words = [sys.executable, "-m", "mindmusicgen", "generate", "piano", "--device", "Ascend:1"]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(r"device Ascend:1 cannot be used here: CANN was not found \(lib\S+ is missing\)", done.stderr)
    assert os.listdir(tmp_path) == []


def test_models_open_on_a_named_device(quad, tmp_path, monkeypatch):
    folder = str(quad.write(tmp_path / "quad"))
    assert T5EncoderModel.from_pretrained(folder, device="CPU").text_encoder.shared.weight.dtype == ms.float32
    kind = type(quad.model)
    for open_one in (kind, T5EncoderModel):
        with pytest.raises(InputError, match="device is 'TPU'"):
            open_one.from_pretrained(folder, device="TPU")
    monkeypatch.setattr(device, "is_ascend", lambda: True)
    model = kind.from_pretrained(folder)
    assert model.dtype == ms.float16 and model.audio_encoder.encoder.layers[0].conv.weight.dtype == ms.float32
    assert kind.from_pretrained(folder, dtype="float32").dtype == ms.float32
    assert T5EncoderModel.from_pretrained(folder).text_encoder.shared.weight.dtype == ms.float16


def test_dtypes(monkeypatch):
    assert resolve_dtype() == resolve_dtype("auto") == ms.float32
    with pytest.raises(InputError, match="bfloat16 has no CPU kernels"):
        resolve_dtype("bfloat16")
    with pytest.raises(InputError, match="dtype is 'int4'; expected auto or one of float32"):
        resolve_dtype("int4")
    monkeypatch.setattr(device, "is_ascend", lambda: True)
    assert resolve_dtype() == ms.float16 and resolve_dtype("bfloat16") == ms.bfloat16
    assert dtype_name(None, quantised=True) == "float32" and dtype_name() == "float16"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("Malloc memory failed."), True),
        (RuntimeError("#umsg#Framework Error Message:#umsg#Out of Memory!!! Request memory size: 99"), True),
        (RuntimeError("Memory_Allocation_Failure(EL0004): Failed to allocate memory."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("the memory of the model is called cache"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_errors_are_known(error, expected):
    assert device.is_memory_error(error) == expected


def test_what_this_process_could_have(pretend):
    here = device.memory_for_us()
    assert 100e6 < here < 64e12
    pretend(target="Ascend")
    assert device.memory_for_us() == 4_000_000_000


def test_what_fits_is_computed(quad, monkeypatch):
    config = quad.model.config

    def fits(seconds, batch, room):
        return sum(info.memory(config, 1_000_000, seconds, batch).values()) <= room

    room = sum(info.memory(config, 1_000_000, 10, 5).values()) + 1
    assert fits(10, 5, room) and not fits(10, 6, room)
    said = info.what_fits(config, 1_000_000, 10, 8, 4, room)
    assert said.startswith("out of memory with 8 pieces of 10 s") and said.endswith("at most 5 at a time fit")
    room = sum(info.memory(config, 1_000_000, 12.5, 1).values())
    said = info.what_fits(config, 1_000_000, 29, 2, 4, room)
    assert said.endswith("at most 12 s, or more than 30 s, one at a time, fit")  # which is decoded in pieces of 5 s
    assert fits(31, 1, room) and not fits(13, 1, room)
    assert info.what_fits(config, 1_000_000, 60, 2, 4, room).endswith("at most 1 at a time fit")
    assert info.what_fits(config, 1_000_000, 10, 1, 4, 1e12).endswith("at most 5 s, one at a time, fit")
    assert "the model alone takes" in info.what_fits(config, 1_000_000, 10, 2, 4, 1e6)
    assert "make fewer at a time" in info.what_fits(config, 1_000_000, 10, 2, 4, None)
    half = info.memory(config, 1_000_000, 10, 1, 2)
    assert half["weights"] == 2_000_000 and half["codec"] == info.memory(config, 1_000_000, 10, 1)["codec"]
    monkeypatch.setattr(device, "memory_for_us", lambda: room)
    with pytest.raises(InputError, match="out of memory with 2 pieces of 60 s"), info.enough_memory(quad.model, 60, 2):
        raise RuntimeError("Malloc memory failed.")
    with pytest.raises(RuntimeError, match="something else"), info.enough_memory(quad.model, 60, 2):
        raise RuntimeError("something else")


def test_capture_is_on_for_its_function_only(pretend, monkeypatch):
    fake, cell, seen = pretend(target="Ascend"), SimpleNamespace(phase="predict"), []
    assert device.captures()

    def run(x):
        seen.append((x, cell.phase, fake.calls[-1]))
        return "captured"

    call = device.captured(run, cell, otherwise=lambda x: "loop")
    assert [call(1), call(2)] == ["captured"] * 2
    assert seen == [(1, "increment", ("capture", True)), (2, "increment", ("capture", True))]
    assert fake.calls[-1] == ("capture", False)
    monkeypatch.setenv("MINDMUSICGEN_CAPTURE", "0")
    assert not device.captures()
    monkeypatch.undo()
    assert not device.captures()


def test_what_cannot_be_captured_runs_otherwise(pretend):
    fake, cell, tried = pretend(target="Ascend"), SimpleNamespace(phase="predict"), []

    def run(x):
        tried.append(x)
        raise RuntimeError("You have to enable input optimize\nand more")

    call = device.captured(run, cell, otherwise=lambda x: 10 * x)
    with pytest.warns(UserWarning, match="not captured, because MindSpore said: You have to enable input optimize$"):
        assert call(1) == 10
    assert call(2) == 20 and tried == [1]
    assert fake.calls[-1] == ("capture", False)


def test_a_failure_after_the_first_call_is_no_matter_of_capture(pretend):
    pretend(target="Ascend")
    answers = iter([1])

    def run():
        for answer in answers:
            return answer
        raise RuntimeError("Out of Memory!!!")

    call = device.captured(run, SimpleNamespace(phase="predict"), otherwise=lambda: np.nan)
    assert call() == 1
    with pytest.raises(RuntimeError, match="Out of Memory"):
        call()
