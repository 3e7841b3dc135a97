"""Make the small MusicLDM from nothing: trains what is not trained yet, puts the parts together, and measures them.

    python scripts/beats_ldm/make.py --work FOLDER [--only train|assemble|measure]

Needs the extra `demo`. README.md says how long each stage took.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import networks
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = ROOT / "mindmusicgen" / "musicldm" / "beats"
GOLDEN = ROOT / "tests" / "golden" / "beats.npz"
PROMPT = "fast electronic rock drums"
STEPS = (  # up to, and with which part of the learning rate
    ("text", 200, 1),
    ("unet", 1200, 1),
    ("unet", 1900, 0.25),
    ("vae", 400, 1),
    ("vae", 520, 0.25),
    ("vocoder", 600, 1),
    ("vocoder", 1200, 0.3),
)
LARGEST = 10_000_000  # bytes
QUIET_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}  # twice as fast


def train(work):
    """Every stage, from its last checkpoint on."""
    for stage, steps, rate in STEPS:
        run = [sys.executable, "train.py", stage, "--steps", str(steps), "--rate", str(rate), "--work", str(work)]
        subprocess.run(run, cwd=HERE, check=True, env=os.environ | QUIET_MEMORY)


def assemble(work, folder=MODEL):
    """Write the folder that ships with the package: diffusers' layout, float16."""
    from train import Reader, Texts, learnt

    texts = Texts(work)
    parts = {
        "unet": learnt(work, "unet", networks.unet()),
        "vae": learnt(work, "vae", networks.vae()),
        "vocoder": learnt(work, "vocoder", networks.vocoder()),
        "text_encoder": learnt(work, "text", Reader(len(texts.tokenizer))).clap,
    }
    index = {"_class_name": "AudioLDMPipeline", "_diffusers_version": "0.35.2"}  # whose CLAP has no side that listens
    for part in (*parts, "tokenizer", "scheduler"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for name, part in parts.items():
        part.half().save_pretrained(folder / name, safe_serialization=True)
        library = "diffusers" if name in ("unet", "vae") else "transformers"
        index[name] = [library, type(part).__name__]
    networks.scheduler().save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    with tempfile.TemporaryDirectory() as place:
        texts.tokenizer.save_pretrained(place)
        (folder / "tokenizer").mkdir()
        for path in sorted(Path(place).iterdir()):
            shutil.copyfile(path, folder / "tokenizer" / path.name)
    index["tokenizer"] = ["transformers", "RobertaTokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")
    if size > LARGEST:
        raise SystemExit(f"expected at most {LARGEST / 1e6:.0f} MB")


def write_golden(folder=MODEL):
    """What diffusers makes of the files, in float32: ten steps from given noise, and half a second of sound."""
    from diffusers import AudioLDMPipeline

    pipe = AudioLDMPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    shape = (1, len(networks.CHANNELS), networks.LINES, networks.BINS // 8)
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    asked = {"num_inference_steps": 10, "guidance_scale": 2.0, "latents": torch.from_numpy(noise)}
    asked["audio_length_in_s"] = networks.LINES * 0.08
    seen = []  # its latents: this pipeline returns sound alone
    audio = pipe(PROMPT, callback=lambda step, time, latents: seen.append(latents.numpy().copy()), **asked).audios
    arrays = {"noise": noise, "latents": seen[-1], "audio": audio[:, : networks.RATE // 2]}
    np.savez_compressed(GOLDEN, prompt=np.array(PROMPT), **arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints")
    parser.add_argument("--only", choices=("train", "assemble", "measure"))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    torch.set_num_threads(1)
    if arguments.only in (None, "train"):
        train(work)
    if arguments.only in (None, "assemble"):
        assemble(work)
        write_golden()
    if arguments.only in (None, "measure"):
        subprocess.run([sys.executable, HERE / "measure.py"], check=True)


if __name__ == "__main__":
    main()
