"""Run the kernels' own tests on aarch64, the processors of Ascend hosts, without one: cross-compiled and emulated.

    sudo apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    python scripts/aarch64/check.py [--compiler aarch64-linux-gnu-gcc] [--emulator qemu-aarch64]

The tests of tests/test_ops.py and tests/test_quantized.py that call kernels directly are run as they are, except that
the calls go to a program in the emulator. Tests inside MindSpore's graphs cannot be emulated this way.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
MODULES = ("tests/test_ops.py", "tests/test_quantized.py")


def build(compiler, folder):
    """The runner and the kernels as one program, with the package's own flags."""
    program = os.path.join(folder, "runner")
    sources = [Path(__file__).with_name("runner.c"), *sorted((ROOT / "mindmusicgen/ops/csrc").glob("*.c"))]
    flags = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-pthread", "-static"]
    subprocess.run([compiler, *flags, *map(str, sources), "-o", program, "-lm"], check=True)
    return program


class Emulated:
    """Stands in for a library that ctypes has loaded."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __getattr__(self, name):
        return SimpleNamespace(library=self, name=name)

    def call(self, name, arrays):
        """As `native.call`, in the emulator."""
        message = [struct.pack("=32si", name.encode(), len(arrays))]
        for array in arrays:
            message.append(struct.pack("=16si", str(array.dtype).encode(), array.ndim))
            message += [struct.pack(f"={array.ndim + 1}q", *array.shape, array.nbytes), array.tobytes()]
        self.process.stdin.write(b"".join(message))
        self.process.stdin.flush()
        code = struct.unpack("=i", self.process.stdout.read(4))[0]
        for array in arrays:
            found = self.process.stdout.read(array.nbytes)
            if array.flags.writeable:
                array[...] = np.frombuffer(found, array.dtype).reshape(array.shape)
        return code


class Redirection:
    """A pytest plugin: what the tests load with ctypes is the emulator, and only tests of direct calls are left."""

    def __init__(self, library):
        self.library = library

    def pytest_collection_modifyitems(self, items):
        from mindmusicgen.ops import native

        native.call = lambda function, *arrays: self.library.call(function.name, arrays)
        for module in {item.module for item in items}:
            module.ctypes = SimpleNamespace(CDLL=lambda path: self.library)
        items[:] = [
            item for item in items if "kernels" in item.fixturenames and item.callspec.params.get("kernels") == "base"
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="aarch64-linux-gnu-gcc")
    parser.add_argument("--emulator", default="qemu-aarch64")
    arguments = parser.parse_args()
    for program in (arguments.compiler, arguments.emulator):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed; see the top of this file for how to install it")
    with tempfile.TemporaryDirectory() as folder:
        library = Emulated([arguments.emulator, build(arguments.compiler, folder)])
        try:
            return pytest.main(
                ["-q", "-p", "no:cacheprovider", *(str(ROOT / m) for m in MODULES)], [Redirection(library)]
            )
        finally:
            library.process.kill()


if __name__ == "__main__":
    sys.exit(main())
