"""The checker of operations on Ascend: small graphs with and without what an NPU has, and a tiny model's pieces."""

import sys
from collections import Counter
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts" / "ascend")]

import conformance  # noqa: E402
import random_checkpoint  # noqa: E402
import support  # noqa: E402
from mindir_operations import Operation, operations  # noqa: E402

from mindmusicgen.ops import ascend, native  # noqa: E402
from mindmusicgen.ops.lstm import LSTM  # noqa: E402


class Function(nn.Cell):
    """A function as a cell."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, *inputs):
        return self.function(*inputs)


def walk(folder, cell, *inputs):
    """The operations of a cell's graph."""
    path = str(folder / "graph")
    ms.export(cell, *map(Tensor, inputs), file_name=path, file_format="MINDIR")
    return operations(f"{path}.mindir")


def named(found):
    return Counter({name: sum(n for one, n in found.items() if one.name == name) for name in {o.name for o in found}})


def product(x, y):
    return ops.tanh(ops.MatMul()(x, y) + 1)


def looped(x):
    step = Tensor(0, ms.int32)
    while step < 3:
        x = ops.sigmoid(x)
        step = step + 1
    return x


def test_operations_with_their_dtypes(tmp_path):
    found = walk(tmp_path, Function(product), np.ones((2, 3), np.float16), np.ones((3, 2), np.float16))
    assert found[Operation("MatMul", ("float16", "float16", "", ""), ("float16",))] == 1
    assert found[Operation("Tanh", ("float16",), ("float16",))] == 1


def test_operations_inside_loops_are_found(tmp_path):
    found = named(walk(tmp_path, Function(looped), np.ones(3, np.float32)))
    assert found["Sigmoid"] == 1 and found["Switch"] == 1 and found["Less"] + found["LessScalar"] >= 1


def test_what_runs_on_ascend_passes(tmp_path):
    found = walk(tmp_path, Function(product), np.ones((2, 3), np.float32), np.ones((3, 2), np.float32))
    rows = conformance.judge({"product": found})
    assert {"MatMul", "Tanh"} <= {row.name for row in rows} and not any(row.problem for row in rows)
    assert "0 unsupported" in conformance.summary(rows)


def test_an_operation_without_ascend_fails(tmp_path, monkeypatch):
    """MindSpore's operator of an LSTM is for other devices, and on a CPU without our kernel it is what is used."""
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    assert native.lstm_op() is None
    found = walk(tmp_path, LSTM(16, 16, 1).set_train(False), np.ones((1, 3, 16), np.float32))
    rows = {row.name: row for row in conformance.judge({"recurrent": found})}
    assert "LSTM is not for Ascend" in rows["LSTM"].problem and "GPU, CPU only" in rows["LSTM"].problem
    with ascend.as_on_ascend():
        cell = LSTM(16, 16, 1).set_train(False)
    rows = conformance.judge({"recurrent": walk(tmp_path, cell, np.ones((1, 3, 16), np.float32))})
    assert not any(row.problem for row in rows)


def test_an_operation_that_nobody_knows_fails():
    rows = conformance.judge({"piece": Counter({Operation("NoSuchThing", ("float32",), ("float32",)): 1})})
    assert "nothing found" in rows[0].problem


def test_a_dtype_that_an_npu_has_not_fails(tmp_path):
    found = walk(tmp_path, Function(ops.tanh), np.ones(3, np.float64))
    (row,) = (row for row in conformance.judge({"piece": found}) if row.name == "Tanh")
    assert "float64" in row.problem


def test_a_dtype_that_the_documentation_excludes_fails():
    use = Operation("IncreFlashAttention", ("float32", "float16", "float16", "bool"), ("float16",))
    (row,) = conformance.judge({"piece": Counter({use: 1})})
    assert row.problem.startswith("query of IncreFlashAttention is float32; documented are float16")


def test_the_documentation_s_platforms_and_dtypes_are_read():
    assert "Ascend" in support.evidence("MatMul").platforms
    assert support.evidence("PromptFlashAttention").platforms == ("Ascend",)
    assert support.evidence("PromptFlashAttention").dtypes["query"] == ("float16", "bfloat16", "int8")
    assert "aclnnErf" in support.evidence("Erf").kernels


def test_the_page_keeps_the_sections_of_other_versions(tmp_path):
    page = tmp_path / "operators.md"
    page.write_text("# old\n\n## MindSpore 2.1.0\n\nolder\n\n## MindSpore 99.0.0\n\nnewer\n")
    rows = conformance.judge({"piece": Counter({Operation("MatMul", ("float32", "float32"), ("float32",)): 1})})
    conformance.write_markdown(str(page), rows)
    text = page.read_text()
    assert text.startswith("# Operators on Ascend") and "## 中文说明" in text
    assert text.index("2.1.0") < text.index(f"## MindSpore {ms.__version__}") < text.index("99.0.0")
    assert "| `MatMul` | float32 | piece 1 |" in text
    conformance.write_markdown(str(page), rows)
    assert page.read_text() == text


def test_every_piece_of_a_tiny_model_runs_on_ascend(tmp_path, capsys):
    folder, page = str(tmp_path / "tiny"), tmp_path / "operators.md"
    random_checkpoint.build("tiny", folder)
    code = conformance.main(["--model", folder, "--dtypes", "float16", "--markdown", str(page)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    others = ("condition", "training step", "fine pass", "diffusion step", "VAE", "CLAP audio", "song chunk")
    for piece in (*conformance.PIECES, *others):
        assert f"{piece} " in page.read_text()
    assert "`Conv2D`" in printed  # of pictures, by the device's own operator
    for fused in ("PromptFlashAttention", "IncreFlashAttention", "KVCacheScatterUpdate", "AddLayerNormV2"):
        assert f"`{fused}`" in printed


def test_the_exit_code_is_1_if_a_piece_cannot_run(monkeypatch, capsys):
    found = {"piece": Counter({Operation("LSTM", ("float32",), ("float32",)): 1})}
    monkeypatch.setattr(conformance, "walk", lambda *_: found)
    assert conformance.main([]) == 1
    assert "unsupported: LSTM" in capsys.readouterr().out


@pytest.mark.parametrize("name", support.INTERNAL)
def test_what_needs_no_kernel_passes(name):
    (row,) = conformance.judge({"piece": Counter({Operation(name, (), ()): 1})})
    assert not row.problem and row.evidence.startswith("frame: ")
