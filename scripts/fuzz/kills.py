"""Commands that are killed, that nobody listens to, and that run out of disk: nothing is lost, nothing half-written.

    python scripts/fuzz/kills.py                     # the long form: a table
    python scripts/fuzz/kills.py kills batch 14 7    # 14 times kill -9 at random moments of seed 7, as JSON
    python scripts/fuzz/kills.py silence train 3     # closed pipe, lost terminal, full disk under the log
    python scripts/fuzz/kills.py disk convert 3 7    # no file may grow beyond 3 random sizes

After each disturbance every file with its final name must be that of an undisturbed run; then the command is given
again until it ends, and the folder must equal the undisturbed one, byte for byte, with nothing beside it.
"""

import contextlib
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

COMMANDS = {  # each writes into OUTPUT
    "batch": "batch prompts.jsonl --model model --output OUTPUT --duration 0.3 --batch-size 2 --format ogg",
    "train": "train --data data --model model --output OUTPUT --steps 16 --batch 2 --seconds 1",
    "generate": "generate one two -m model -d 0.5 -s 3 --force -o OUTPUT/a.flac --codes OUTPUT/a.npz",
    "convert": "convert model --output OUTPUT/native",
}
# A training that writes its checkpoint after every step, so that kills meet it writing.
SAVING_ALWAYS = """
import sys
from mindmusicgen import cli
from mindmusicgen.musicgen.training import data
from mindmusicgen.training import loop
data.SAVE_SECONDS, begin = 0.0, loop.Trainer.__init__
loop.Trainer.__init__ = lambda *given, **named: begin(*given, **named, save_seconds=0.0)
sys.exit(cli.main(sys.argv[1:]))
"""
CHANGING = {  # what a run writes again and again until it ends
    "batch": ("failures",),
    "train": ("training_state", "history", "codes.npz", "skipped.txt", "settings", "curves"),
    "generate": (),
    "convert": (),
}
LONGEST = 300  # seconds of one run
ENOUGH = 420  # seconds after which no disturbance is begun: on a loaded machine there are fewer
KILLS = {"batch": 14, "train": 14, "generate": 11, "convert": 11}


class Place:
    """A folder with a model, prompts, audio and a cache of graphs, and what an undisturbed run of a command writes.

    Args:
        folder (str): an empty folder.
        command (str): one of COMMANDS.
    """

    def __init__(self, folder, command):
        self.folder, self.command, self.begun = Path(folder), command, time.perf_counter()
        _prepare(self.folder)
        code, said = self.run("warm-up")  # fills the cache of graphs, so that what is timed is a run like those to come
        assert code == 0, said
        started = time.perf_counter()
        process = self.start("undisturbed")
        self.first = None  # seconds until something is written
        while process.poll() is None:
            if self.first is None and any((self.folder / "undisturbed").iterdir()):
                self.first = time.perf_counter() - started
            time.sleep(0.02)
        self.seconds = time.perf_counter() - started
        self.first = self.first or self.seconds / 2
        assert process.returncode == 0, process.stderr.read()
        self.expected = self.files("undisturbed")

    def times(self, count):
        """0, 1, ... as often as asked for and as there is time for."""
        yield from itertools.takewhile(lambda _: time.perf_counter() - self.begun < ENOUGH, range(count))

    def start(self, output, **options):
        """The command in a process of its own."""
        (self.folder / output).mkdir(exist_ok=True)
        words = COMMANDS[self.command].replace("OUTPUT", output).split()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MINDMUSICGEN_CACHE": str(self.folder / "cache")}
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.Popen(
            [sys.executable, *(("-c", SAVING_ALWAYS) if self.command == "train" else ("-m", "mindmusicgen")), *words],
            cwd=self.folder,
            env=environment,
            **options,
        )

    def run(self, output, **options):
        """(exit code, standard error) of the command."""
        process = self.start(output, **options)
        _, said = process.communicate(timeout=LONGEST)
        return process.returncode, said or ""

    def files(self, output):
        """Contents of all files by their path below the folder."""
        found = {}
        for path in sorted((self.folder / output).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(self.folder / output))] = path.read_bytes()
        return found

    def faults(self, output, ended):
        """What is wrong with a folder: after a disturbance, or at the end."""
        found = self.files(output)
        if ended:
            different = {name for name in found.keys() | self.expected if found.get(name) != self.expected.get(name)}
            return [f"{name} differs in the end" for name in sorted(different)]
        passing = (".mindmusicgen", *CHANGING[self.command])  # temporary files, the lock, and what changes
        settled = {name for name in found if not any(part.startswith(passing) for part in Path(name).parts)}
        wrong = sorted(name for name in settled if found[name] != self.expected.get(name))
        return [f"{name} is not that of an undisturbed run" for name in wrong]


def _prepare(folder):
    """Model, prompts and training data."""
    import soundfile
    from random_checkpoint import build

    build("tiny", str(folder / "model"))
    lines = [{"text": f"song {number}", "seed": number} for number in range(9)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        soundfile.write(folder / "data" / f"{number}.wav", 0.1 * rng.standard_normal(48000), 32000)
        (folder / "data" / f"{number}.txt").write_text(f"noise of kind {number}")


def kills(place, count, seed=0):
    """kill -9 at random moments, most of them while something is written."""
    rng, outcomes, faults = random.Random(seed), Counter(), []
    for _ in place.times(count):
        begin = 0 if rng.random() < 0.3 else place.first
        moment = rng.uniform(begin, place.seconds)
        process = place.start("disturbed")
        try:
            process.communicate(timeout=moment)
            outcomes["had ended before"] += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            outcomes["killed"] += 1
        faults += place.faults("disturbed", ended=False)
    return outcomes, faults + _finish(place)


def silence(place, count, seed=0):
    """Standard output and standard error that take nothing, in turn of three kinds."""
    outcomes, faults = Counter(), []
    for number in place.times(count):
        name = ("closed pipe", "lost terminal", "full disk under the log")[number % 3]
        output = f"silent-{number}"
        with _deaf(name) as stream:
            code, _ = place.run(output, stdout=stream, stderr=stream)
        outcomes[f"{name}: exit code {code}"] += 1
        faults += place.faults(output, ended=True) + ([] if code == 0 else [f"{name}: exit code {code}"])
    return outcomes, faults


def disk(place, count, seed=0):
    """No file may grow beyond a random size (RLIMIT_FSIZE), as on a disk that is full after so much."""
    rng, outcomes, faults = random.Random(seed), Counter(), []
    largest = max(map(len, place.expected.values()))
    for _ in place.times(count):
        limit = rng.randrange(1, largest)

        def limited(limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        code, said = place.run("disturbed", preexec_fn=limited)
        outcomes[f"exit code {code}"] += 1
        if "Traceback" in said or code not in (0, 1, 2):
            faults.append(f"exit code {code}: {said.strip()[-300:]}")
        faults += place.faults("disturbed", ended=False)
    return outcomes, faults + _finish(place)


def _finish(place):
    """Give the command again until it ends; what is wrong then."""
    code, said = place.run("disturbed")
    return place.faults("disturbed", ended=True) + ([] if code == 0 else [f"exit code {code}: {said[-300:]}"])


@contextlib.contextmanager
def _deaf(name):
    """A descriptor that takes nothing: EPIPE, EIO or ENOSPC."""
    if name == "closed pipe":
        end, handle = os.pipe()
        os.close(end)
    elif name == "lost terminal":
        end, handle = os.openpty()
        os.close(end)
    else:
        handle = os.open("/dev/full", os.O_WRONLY)
    try:
        yield handle
    finally:
        os.close(handle)


KINDS = {"kills": kills, "silence": silence, "disk": disk}


def attempt(kind, command, count, seed=0):
    """One kind of disturbance of one command: a dict of outcomes and faults."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        outcomes, faults = KINDS[kind](Place(folder, command), count, seed)
    return {"outcomes": dict(outcomes), "faults": faults}


def rows(scale=1.0):
    """Rows of the table in docs/reliability.md.

    Args:
        scale (float): 1.0 is the long form: 50 kills, 12 runs that nobody hears, 12 that run out of disk.

    Returns:
        list[tuple]: what was tried, how many, what came out, the command that repeats it.
    """
    made = []
    words = {"kills": "kill -9 of {}, then finished", "silence": "{} that nobody hears", "disk": "{} without room"}
    for kind in KINDS:
        for command in COMMANDS:
            count = max(1, round((KILLS[command] if kind == "kills" else 3) * scale))
            found = attempt(kind, command, count)
            said = ", ".join(f"{number} x {outcome}" for outcome, number in sorted(found["outcomes"].items()))
            said += "; faults: " + ("; ".join(found["faults"][:3]) if found["faults"] else "none")
            again = f"python scripts/fuzz/kills.py {kind} {command} {count}"
            made.append((words[kind].format(command), sum(found["outcomes"].values()), said, again))
    return made


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(attempt(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
    else:
        print("| tried | times | came out | again with |", "|---|---|---|---|", sep="\n")
        for row in rows():
            print("| {} | {} | {} | `{}` |".format(*row), flush=True)
