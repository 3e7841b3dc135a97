"""`mindmusicgen doctor`: it passes here, names what is wrong, survives what fails, and says what a device lacks."""

import json
import shutil
import types

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import InputError, MusicgenForConditionalGeneration, MusicgenProcessor, cli
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.doctor import command, environment, results
from mindmusicgen.doctor import operators as operator_checks
from mindmusicgen.doctor.report import Report
from mindmusicgen.musicgen.doctor import checks, golden
from mindmusicgen.musicgen.doctor.stages import Stages

STEP, PROMPT = "decoder, column by column", "decoder, all columns at once"


@pytest.fixture(scope="module")
def gold():
    """If this fails, the golden values are of another demo model: run scripts/make_doctor_golden.py."""
    return golden.load()


def opened(dtype="float32"):
    """The demo's stages, its text encoder and codec run operation by operation, which is quicker for one call."""
    model = MusicgenForConditionalGeneration.from_pretrained("demo", dtype=dtype).run_eagerly()
    return Stages(model, MusicgenProcessor.from_pretrained("demo"))


@pytest.fixture(scope="module")
def stages():
    return opened()


def results_of(stages, gold, *names, dtype="float32"):
    """Results of some stages, by name."""
    listed = [check for check in checks.stage_checks(stages, gold, "CPU", dtype) if check.name in names]
    assert len(listed) == len(names)
    return {check.name: results.run("stage", check) for check in listed}


class TestGolden:
    def test_it_belongs_to_the_demo(self, gold):
        assert gold["logits"].shape[0] == len(golden.LOGIT_COLUMNS) and golden.certain_frames(gold["margins"]) > 24

    def test_another_demo_is_refused_by_name(self, tmp_path):
        for name in golden.BELONGING:
            shutil.copyfile(DEMO / name, tmp_path / name)
        golden.load(folder=tmp_path)
        with open(tmp_path / "model.safetensors", "r+b") as file:
            file.seek(1_000_000)
            file.write(b"\0\1")
        with pytest.raises(InputError, match="another demo model.*make_doctor_golden.py"):
            golden.load(folder=tmp_path)

    @pytest.mark.parametrize("content", [None, b"", b"PK\3\4 cut short"])
    def test_a_damaged_file_is_refused(self, tmp_path, content):
        if content is not None:
            (tmp_path / "golden.npz").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read.*make_doctor_golden.py"):
            golden.load(tmp_path / "golden.npz")

    def test_frames_before_a_near_tie(self):
        margins = np.full((1, 4, 10), 1.0)
        assert golden.certain_frames(margins) == 7
        margins[0, 2, 6] = 1e-7  # the choice of column 7, which holds frame 3 of the last codebook
        assert golden.certain_frames(margins) == 3


class TestStages:
    def test_a_wrong_weight_is_named_by_its_stage(self, stages, gold):
        model = stages.model
        harm = {
            "text encoder": model.text_encoder.encoder.block[1].layer[1].DenseReluDense.wo.weight,
            "codec decoder": model.audio_encoder.decoder.layers[3].conv.bias,
        }
        for name, parameter in harm.items():
            kept = Tensor(parameter.asnumpy().copy())
            parameter.set_data(kept * 1.1 + 0.01)
            found = results_of(stages, gold, *harm)
            parameter.set_data(kept)
            assert [key for key, result in found.items() if not result.passed] == [name]
        assert all(result.passed for result in results_of(stages, gold, *harm).values())

    def test_a_cache_that_is_not_written_is_named(self, gold):
        """The first column is right without one, the others are not."""
        stages = opened()
        for layer in stages.model.decoder.layers:
            layer.self_attn.cached_attention.kernel = None
            layer.self_attn.cached_attention.plain = types.MethodType(without_cache, layer.self_attn.cached_attention)
        found = results_of(stages, gold, STEP)[STEP]
        assert not found.passed and found.error > 0.01
        assert found.detail == "wrong from column 1 on, columns before are right: look at the cache"

    def test_wrong_sampling_is_named(self, stages, gold):
        wrong = gold | {"uniforms": np.clip(gold["uniforms"] + 0.3, 0, 0.99)}
        assert not results_of(stages, wrong, "sampling")["sampling"].passed

    def test_a_wrong_tokenizer_is_named(self, stages, gold):
        wrong = gold | {"prompts": np.array(["something else", "techno"])}
        assert not results_of(stages, wrong, "tokenizer")["tokenizer"].passed

    def test_float16_is_judged_by_teacher_forcing(self, gold):
        found = results_of(opened("float16"), gold, "text encoder", STEP, dtype="float16")
        for result in found.values():
            assert result.passed and 1e-5 < result.error < result.tolerance, result


def without_cache(self, q, k, v, key_cache, value_cache, position):
    """In place of `CachedAttention.plain`: each column attends to itself alone."""
    return v + 0 * q


def wrong_product(x, weight, kernel):
    """In place of `matmul_transposed`."""
    return ms.ops.MatMul(transpose_b=True)(x, weight * 1.01)


def no_kernel(*arguments):
    raise RuntimeError("Unsupported op [LayerNorm] on Ascend\nmore lines")


class TestOperators:
    def test_a_wrong_kernel_is_named(self, monkeypatch):
        monkeypatch.setattr(operator_checks, "matmul_transposed", wrong_product)
        listed = [check for check in operator_checks.checks("CPU") if check.name.startswith(("linear", "gelu"))]
        wrong = [check.name for check in listed if not results.run("operator", check).passed]
        assert wrong and all(name.startswith("linear") for name in wrong) and len(wrong) < len(listed)

    def test_an_operator_that_cannot_run_is_a_result(self):
        found = results.run("operator", types.SimpleNamespace(name="layer norm", run=no_kernel))
        assert not found.passed and found.error is None
        assert found.detail == "RuntimeError: Unsupported op [LayerNorm] on Ascend"

    @pytest.mark.parametrize(("error", "passed"), [(0.0, True), (1.0, True), (1.1, False), (np.nan, False)])
    def test_only_finite_errors_within_the_tolerance_pass(self, error, passed):
        check = types.SimpleNamespace(name="x", run=lambda: (error, 1.0))
        assert results.run("operator", check).passed is passed


class TestReport:
    def test_it_names_what_was_running_when_the_process_died(self, tmp_path):
        report = Report(str(tmp_path / "r.json"), show=lambda line: None)
        report.running("cached attention")
        kept = json.loads((tmp_path / "r.json").read_text())
        assert kept["verdict"] == "unfinished" and kept["running"] == "cached attention"

    def test_it_names_all_that_is_wrong(self, tmp_path, capsys):
        report = Report(str(tmp_path / "r.json"))
        report.result(results.Result("operator", "gelu", 1e-7, 1e-4, True, 0.1, ""))
        report.result(results.Result("operator", "linear", float("inf"), 1e-4, False, 0.1, ""))
        assert report.finish(1.0) is False
        kept = json.loads((tmp_path / "r.json").read_text())
        assert kept["verdict"] == "failed" and kept["problems"] == ["wrong operators: linear"]
        assert kept["checks"][1]["error"] == "inf" and kept["running"] is None
        said = capsys.readouterr().out
        assert "WRONG linear" in said and "ok    gelu" in said and "FAILED: wrong operators: linear" in said


class TestCommand:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "report.json"

    def run(self, path, *words):
        return cli.main(["doctor", "--quick", "--report", str(path), *words])

    def test_it_passes_here(self, path, capsys):
        assert self.run(path) == 0
        said, kept = capsys.readouterr().out, json.loads(path.read_text())
        assert "passed: " in said and "ms a step" in said
        assert kept["verdict"] == "passed" and kept["problems"] == [] and kept["computing"]["dtype"] == "float32"
        assert kept["installed"]["mindspore"] == ms.__version__ and float(kept["memory"]["at the peak"][:-3]) > 0.1
        names = [check["name"] for check in kept["checks"]]
        assert {"tokenizer", STEP, PROMPT, "decode loop", "sampling", "codec encoder"} < set(names)
        assert {"Bark's tokenizer", "Bark's semantic stage", "Bark's fine stage"} < set(names)
        assert all(check["passed"] for check in kept["checks"]) and len(set(names)) == len(names) > 15
        assert 0 < kept["benchmark"]["step_ms"] < 10_000

    def test_a_device_that_is_not_there_is_one_sentence_and_the_rest_runs(self, path, capsys, monkeypatch):
        ran = []
        monkeypatch.setattr(command, "_run", lambda report, interrupts, device, dtype, quick: ran.append(device))
        assert self.run(path, "--device", "Ascend:3") == 1
        kept = json.loads(path.read_text())
        assert ran == ["CPU"] and kept["verdict"] == "failed"
        assert len(kept["problems"]) == 1 and "device Ascend:3 cannot be used here" in kept["problems"][0]
        assert "CANN was not found: install CANN" in kept["problems"][0]
        assert "Traceback" not in capsys.readouterr().out

    def test_the_report_holds_nothing_that_was_not_shown(self, path, capsys, monkeypatch):
        for name in ("MINDMUSICGEN_PASSWORD", "ASCEND_TOKEN", "MS_KEY", "RANK_TABLE_FILE", "HF_TOKEN"):
            monkeypatch.setenv(name, "secret")
        monkeypatch.setenv("MINDMUSICGEN_CACHE", "/some/where")
        monkeypatch.setattr(environment, "npu_smi", lambda: ["| NPU  Name |", "| 0  910B |"])
        monkeypatch.setattr(command, "_run", lambda report, *_: report.note("a note"))
        self.run(path)
        said, text = capsys.readouterr().out, path.read_text()

        def leaves(value):
            for one in value.values() if isinstance(value, dict) else value:
                yield from leaves(one) if isinstance(one, (dict, list)) else (one,)

        kept = json.loads(text)
        assert {"|", "/some/where"} < set(" ".join(map(str, leaves(kept))).split()) and "secret" not in said + text
        for name in ("report", "format", "verdict", "running", "seconds"):
            del kept[name]  # words and numbers of its own, which hold nothing of the machine
        assert [value for value in leaves(kept) if str(value) not in said] == []

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--dtype", "int4"], "dtype is 'int4'"),
            (["--dtype", "bfloat16"], "bfloat16 has no CPU kernels"),
            (["--device", "GPU"], "device is 'GPU'"),
            (["--device-id", "-1"], "device id is -1"),
        ],
    )
    def test_bad_input_is_one_sentence_and_leaves_no_file(self, path, capsys, words, sentence):
        assert self.run(path, *words) == 2
        assert sentence in capsys.readouterr().err and not path.exists()

    def test_a_report_that_cannot_be_written_is_refused(self, tmp_path, capsys):
        assert self.run(tmp_path / "none" / "report.json") == 2
        assert self.run(tmp_path) == 2
        assert "cannot be written" in capsys.readouterr().err


class TestEnvironment:
    @pytest.fixture
    def no_cann(self, monkeypatch):
        for name in environment.CANN_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(environment, "CANN_FOLDERS", ())

    def install(self, folder, version):
        (folder / "compiler").mkdir(parents=True)
        (folder / "compiler" / "version.info").write_text(f"Version={version}\nversion_dir=x\n")
        return str(folder)

    def test_no_cann(self, no_cann):
        sentence = environment.cann_sentence()
        assert sentence.startswith("CANN was not found: install CANN 8") or "8.2" in sentence
        assert environment.facts()["CANN"] == "not found"

    def test_wrong_cann(self, no_cann, tmp_path, monkeypatch):
        monkeypatch.setenv("ASCEND_HOME_PATH", self.install(tmp_path / "cann", "6.3.RC2"))
        assert f"CANN 6.3.RC2 does not belong to MindSpore {ms.__version__}" in environment.cann_sentence()

    def test_the_right_cann(self, no_cann, tmp_path, monkeypatch):
        fitting = environment.cann_of_mindspore()
        assert fitting
        monkeypatch.setenv("ASCEND_HOME_PATH", self.install(tmp_path / "cann", f"{fitting[-1]}.RC1"))
        assert environment.cann_sentence() == ""
        assert environment.facts()["CANN"].startswith(f"{fitting[-1]}.RC1 in ")

    def test_cann_that_was_not_sourced(self, no_cann, tmp_path, monkeypatch):
        folder = self.install(tmp_path / "cann", "8.2.RC1")
        monkeypatch.setattr(environment, "CANN_FOLDERS", (folder,))
        assert f"source {folder}/set_env.sh" in environment.cann_sentence()

    @pytest.mark.parametrize(
        ("probe", "sentence"),
        [
            ("print(2.5)", ""),
            ("import time; time.sleep(60)", "did not answer within 1 s; it may be busy"),
            ("raise RuntimeError('EL0004: Failed to allocate memory.')", "its memory is full"),
            ("raise RuntimeError('drv: device is busy, occupied by process 7')", "it is busy"),
            ("raise RuntimeError('invalid device ID 9')", "there is no NPU with that number"),
            ("import os; os.abort()", "ended with signal 6"),
            ("raise SystemExit(3)", "ended with code 3"),
        ],
    )
    def test_a_device_is_tried_where_it_can_do_no_harm(self, monkeypatch, probe, sentence):
        monkeypatch.setattr(environment, "PROBE", probe)
        monkeypatch.setattr(environment, "cann_sentence", lambda: "")
        found = environment.device_sentence("Ascend", 0, seconds=1 if "sleep" in probe else 60)
        assert sentence in found and "\n" not in found and bool(found) == bool(sentence)

    def test_the_report_does_not_tell_the_users_name(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/somebody")
        monkeypatch.setenv("MINDMUSICGEN_CACHE", "/home/somebody/graphs")
        assert environment.variables()["MINDMUSICGEN_CACHE"] == "~/graphs"
