"""Make the demo model from nothing: one command, stage by stage; a stage that is done is not done again.

    python scripts/demo_model/make.py --work FOLDER [--half] [--from STAGE]

Needs the extra `demo` (torch, librosa). Train from a copy of the tree if you go on working in it. A step takes about
1.3 s of one core for the codec and 1 s for the decoder in bfloat16 (`--half`, on a processor with AMX). The decoder
needs no codec, so the two may run beside each other: `--only codec`, `--only decoder`.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def stages(work, half):
    """Name, command and the file whose presence says that a stage is done, in order."""
    python, half = sys.executable, ["--half"] if half else []
    codec, decoder = work / "codec", work / "decoder"
    evaluate = [python, HERE / "evaluate.py", "--work", work, "--output", ROOT / "docs" / "demo"]
    return {
        "codec": ([python, HERE / "train_codec.py", "--output", codec, *half], codec / "done"),
        "decoder": ([python, HERE / "train_language_model.py", "--output", decoder, *half], decoder / "done"),
        "assemble": ([python, HERE / "assemble.py", "--codec", codec, "--language-model", decoder], work / "assembled"),
        "golden": ([python, ROOT / "scripts" / "make_doctor_golden.py"], work / "golden"),
        "evaluate": (evaluate, work / "evaluated"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints")
    parser.add_argument("--half", action="store_true", help="products in bfloat16, where the processor has them")
    parser.add_argument("--from", dest="first", help="do this stage and the later ones again")
    parser.add_argument("--only", help="do one stage")
    arguments = parser.parse_args()
    plan = stages(arguments.work.resolve(), arguments.half)
    for name in filter(None, (arguments.first, arguments.only)):
        if name not in plan:
            parser.error(f"there is no stage {name!r}; expected one of {', '.join(plan)}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    again = False
    for name, (command, done) in plan.items():
        again = again or name == arguments.first
        if arguments.only not in (None, name):
            continue
        if again or name == arguments.only:
            done.unlink(missing_ok=True)
        if done.exists():
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name}: {' '.join(map(str, command[1:]))}", flush=True)
        code = subprocess.run(list(map(str, command)), cwd=HERE, check=False).returncode
        if code:
            raise SystemExit(f"{name} ended with {code}; the same command goes on")
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()


if __name__ == "__main__":
    main()
