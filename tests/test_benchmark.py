"""What scripts/benchmark makes of samples: medians, the table, targets, the picture. Nothing here looks at a clock."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "benchmark"))

import benchmark
import history
import peers
import sides
import start

MACHINE = {"cpu": "some CPU", "cpus": 2, "load": 0.0, "date": "2026-01-31", "bandwidth": 3e10, "weights": 360_000_000}


def result(side, task, **samples):
    return {"side": side, "task": task, "round": 0, "samples": samples, "versions": {"torch": "2.13.0"}}


RECORDED = [
    result("int8", "clip", clip=[9.0], loop=[17.0, 19.0], clip_peak=[1.5]),
    result("int8", "clip", clip=[9.5], loop=[20.0], clip_peak=[1.6]),
    result("torch", "clip", clip=[40.0], loop=[76.0], clip_peak=[3.9]),
    result("openvino", "clip", clip=[20.0], loop=[34.0], clip_peak=[3.0]),
    result("openvino 512", "clip", clip=[14.0], loop=[22.0], clip_peak=[3.1]),
    result("openvino 512", "stream"),
]


@pytest.fixture
def recorded(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "samples.json").write_text(json.dumps({"machine": MACHINE, "results": RECORDED}))
    return ["--model", str(model), "--earlier", str(tmp_path / "samples.json"), "--rounds", "0"]


def test_medians_are_of_the_rounds_medians():
    assert benchmark.summarise(RECORDED, "int8", "loop") == (19.0, 17.0, 20.0)
    assert benchmark.summarise(RECORDED, "int8", "codec") is None
    assert peers.medians(RECORDED)["int8", "loop"] == 19.0


def test_the_table_has_ratios_and_says_what_is_missing():
    found = peers.medians([*RECORDED, result("torch", "codec", codec=[1.5])])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in peers.table(found)]
    assert lines[0] == ["", "unit", "int8", "torch", "openvino", "openvino 512"]
    assert all(set(cell) <= set("-:") for cell in lines[1])
    rows = {line[0]: line[1:] for line in lines[2:]}
    assert rows["decode step, mean over a 10 s clip"] == ["ms", "19", "76 (4.00)", "34 (1.79)", "22 (1.16)"]
    assert rows["EnCodec decode of 10 s"] == ["s", "-", "1.5", "-", "-"]
    assert "decode step at 50 to 74" not in rows


def test_targets_are_met_missed_or_left_out():
    lines = list(peers.targets(peers.medians(RECORDED)))
    assert len(lines) == 5  # the others need what was not measured
    assert any("over 10 s / torch's" in line and line.endswith("0.25  met") for line in lines)
    assert any("OpenVINO's best" in line and line.endswith("0.864  met") for line in lines)
    slower = peers.medians([*RECORDED, result("openvino f32", "clip", loop=[20.0])])
    assert any("OpenVINO's best" in line and line.endswith("0.95  MISSED") for line in peers.targets(slower))


def test_recorded_samples_become_a_table_and_a_picture(recorded, tmp_path, monkeypatch, capsys):
    written, picture = tmp_path / "again.json", tmp_path / "bars.png"
    monkeypatch.setattr(sys, "argv", ["peers.py", *recorded, "--json", str(written), "--plot", str(picture)])
    assert not peers.main()
    shown = capsys.readouterr().out
    assert "76 (4.00)" in shown and "torch 2.13.0" in shown
    assert "32 bits 48.0 ms, 16 bits 24.0 ms, 8 bits 12.0 ms" in shown
    assert json.loads(written.read_text()) == {"machine": MACHINE, "results": RECORDED}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nowhere"], "has no config.json"),
        (["--rounds", "-1"], "--rounds is 0 or more"),
        (["--sides", "jax"], "invalid choice"),
    ],
)
def test_bad_input_ends_with_a_sentence(recorded, words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        peers.parse([*recorded, *words])
    assert stopped.value.code == 2 and said in capsys.readouterr().err


class Side:
    """All operations, each done at once."""

    def __init__(self, folder, clock):
        clock.mark("load")

    def block(self, position, prompts, columns):
        assert position + sides.STEPS <= columns
        return lambda: None, lambda: None

    def codec(self):
        return lambda: None

    def clip(self, columns, watch):
        for step in range(columns):
            if not watch(step):
                return

    def stream(self, columns):
        pass

    def first_token(self, mark):
        return mark("token")

    def error(self, weights):
        return 1e-6


def test_every_task_gives_what_the_table_shows(monkeypatch, capsys):
    monkeypatch.setitem(peers.SIDES, "torch", (Side, None, {}))
    monkeypatch.setenv("BENCHMARK_STARTED", "0")
    found = {}
    for task, method in peers.TASKS.items():
        assert hasattr(Side, method)
        peers.work("torch", task, "", 2)
        found |= json.loads(capsys.readouterr().out.removeprefix("RESULT "))["samples"]
    assert set(found) == set(peers.ROWS)
    assert len(found["step_50"]) == len(found["codec"]) == 2


def test_another_side_goes_first_in_every_round(capsys):
    asked = []

    def run(side, task):
        asked.append(side)
        return {"samples": {}}

    results = list(benchmark.measure(("a", "b", "c"), ("task",), 4, run))
    assert "".join(asked) == "abcbcacababc" and [r["round"] for r in results[::3]] == [0, 1, 2, 3]


def test_a_watch_times_the_steps_between_its_calls_and_says_when_to_stop():
    watch = sides.Stopwatch(stop_at=50)
    assert [watch(done) for done in (25, 50)] == [True, False]
    watch.seen = [(25, 10.0), (50, 10.5), (500, 19.5)]
    assert watch.milliseconds() == pytest.approx(20.0)


def kept(tmp_path, capsys, *runs):
    """Add runs to a history and show it: exit status and text."""
    where = ["--history", str(tmp_path / "history.json")]
    for samples, cpu in runs:
        file = tmp_path / "run.json"
        results = [result(side, "step", **{name: [value]}) for side, name, value in samples]
        file.write_text(json.dumps({"machine": MACHINE | {"cpu": cpu}, "results": results}))
        assert history.main([*where, "add", "some", str(file)]) == 0
    status = history.main([*where, "show"])
    return status, capsys.readouterr().out


def test_a_slowdown_shows_by_the_ratio_to_torch(tmp_path, capsys):
    def run(ours, torch):
        return [("int8", "step", ours), ("torch", "step", torch)], "a CPU"

    assert kept(tmp_path, capsys, run(20.0, 100.0), run(40.0, 200.0))[0] == 0  # a slower machine, the same ratio
    status, text = kept(tmp_path, capsys, run(30.0, 100.0))
    assert status == 1
    assert "0.3 of torch" in text and "best before 0.2" in text and "SLOWER" in text


def test_history_compares_values_where_torch_is_missing_and_only_the_same_cpu(tmp_path, capsys):
    assert kept(tmp_path, capsys, ([("int8", "peak", 1.5)], "a CPU"), ([("int8", "peak", 3.0)], "another"))[0] == 0
    status, text = kept(tmp_path, capsys, ([("int8", "peak", 2.0)], "a CPU"))
    assert status == 1 and "best before 1.5" in text


def test_history_says_which_benchmarks_there_are(tmp_path):
    with pytest.raises(SystemExit, match=r"no run of 'x' is kept; there are \[\]"):
        history.main(["--history", str(tmp_path / "none.json"), "show", "x"])


def test_starts_become_a_table_of_medians():
    def started(cache, task, seconds):
        parts = {f"{name}_seconds": seconds for name in start.PARTS[task]}
        parts |= {f"{name}_peak": index + 1.0 for index, name in enumerate(start.PARTS[task])}
        return {"side": cache, "task": task, "parts": parts, "samples": start.samples(task, parts)}

    rows = [started("empty", "first", seconds) for seconds in (1.0, 5.0, 2.0)] + [started("filled", "first", 0.5)]
    lines = {line[:32].strip(): line[32:].split() for line in start.table(rows)}
    assert lines["first: load, s"] == ["2.00", "0.50"] and lines["first codes, s"] == ["10.00", "2.50"]
    assert lines["first codes peak, GB"] == ["5.00", "5.00"] and "first clip, s" not in lines
    rows += [started(cache, "clip", 1.0) for cache in start.CACHES]
    lines = {line[:32].strip(): line[32:].split() for line in start.table(rows)}
    assert lines["first clip, s"] == ["3.00"] * 2 and lines["load peak, GB"] == ["2.00"] * 2
    assert lines["first clip peak, GB"] == ["3.00"] * 2 and lines["second clip peak, GB"] == ["4.00"] * 2
