"""Ray workers on this machine, one of which is killed: nothing is lost, nothing is there twice.

Needs Ray (`pip install -e ".[test,ray]"`) and two cores; 40 half-second pieces of the demo model.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]
SOUNDS = ("calm piano", "techno", "80s pop with drums and synth bass", "slow strings")


def descendants(pid):
    """Processes that a process started, and those that they started: dict of id to command line."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
    found, last = {pid}, set()
    while found != last:
        last = set(found)
        found |= {child for child, parent in parents.items() if parent in last}
    return {child: names[child] for child in found - {pid} if child in names}


def command(tmp_path, count, output, *more):
    """The command line for so many prompts."""
    prompts = tmp_path / f"{count}.jsonl"
    prompts.write_text("".join(json.dumps({"text": f"{SOUNDS[n % 4]}, take {n}"}) + "\n" for n in range(count)))
    words = [sys.executable, "-m", "mindmusicgen", "batch", str(prompts), "--output", str(output)]
    return [*words, "--duration", "0.5", *more]


def environment():
    left_out = ("RAY_ADDRESS", "RANK_ID", "RANK_SIZE", "MS_WORKER_NUM", "MS_ROLE")
    return {name: value for name, value in os.environ.items() if name not in left_out} | {"PYTHONPATH": str(ROOT)}


def wait_for(output, count, process):
    """Until so many files are there."""
    deadline = time.monotonic() + 400
    while not output.is_dir() or len(list(output.glob("*.wav"))) < count:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def test_kills_of_a_worker_and_of_the_whole_run_lose_nothing(tmp_path):
    output = tmp_path / "out"
    words = command(tmp_path, 40, output, "--batch-size", "2", "--workers", "2", "--ray-address", "local")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, env=environment(), **pipes)
    wait_for(output, 6, process)
    started = descendants(process.pid)
    process.send_signal(signal.SIGKILL)  # the whole run
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid, name in started.items() if name.startswith("ray::Worker")):
        assert time.monotonic() < deadline, "workers outlive the run that started them"
        time.sleep(0.1)
    before = {file: file.stat().st_mtime_ns for file in output.glob("*.wav")}
    assert 6 <= len(before) < 30

    process = subprocess.Popen(words, env=environment(), **pipes)
    wait_for(output, len(before) + 4, process)
    workers = [pid for pid, name in descendants(process.pid).items() if name.startswith("ray::Worker")]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)  # a worker
    said, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    assert f"{40 - len(before)} made, {len(before)} were there already, 0 failed" in errors
    assert sorted(os.listdir(output)) == [f"{n:05d}.wav" for n in range(1, 41)]
    assert {file: file.stat().st_mtime_ns for file in before} == before
    made = [line.split(": ")[0] for line in said.splitlines() if ".wav: " in line]
    assert len(made) == len(set(made)) == 40 - len(before)

    alone = tmp_path / "alone"  # the same, and in one process
    done = subprocess.run(command(tmp_path, 4, alone), env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    for file in alone.glob("*.wav"):
        expected, found = (soundfile.read(path, dtype="int16")[0].astype(int) for path in (file, output / file.name))
        assert len(found) == len(expected) == 16000
        assert abs(found - expected).max() <= 1  # a worker has fewer threads, and sums in another order


def test_a_model_that_no_worker_can_open_is_one_sentence(tmp_path):
    from mindmusicgen.checkpoint.source import DEMO

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in DEMO.iterdir():
        if file.is_file() and not file.name.endswith(".safetensors"):
            (broken / file.name).write_bytes(file.read_bytes())
    words = command(tmp_path, 2, tmp_path / "out", "--workers", "1", "--ray-address", "local", "--model", str(broken))
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stderr.count("mindmusicgen: error: ") == 1, done.stderr
    assert "a worker cannot start" in done.stderr and "Traceback" not in done.stderr, done.stderr
