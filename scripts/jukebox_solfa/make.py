"""Make the tiny Jukebox from nothing: trains what is not trained yet, puts the parts together, and measures them.

    python scripts/jukebox_solfa/make.py --work FOLDER [--only train|assemble|measure]

Needs the extra `demo`, and transformers 4. README.md says how long each stage took.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import world

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = ROOT / "mindmusicgen" / "jukebox" / "solfa"
STEPS = {"prior0": 1500, "level2": 900, "level0": 800, "prior1": 800, "level1": 800, "prior2": 800}
GOLDEN = ROOT / "tests" / "golden" / "solfa.npz"
TUNE = np.array([7, 7, 11, 11, 12, 12, 11, world.REST, 10, 10, 9, 9, 8, 8, 7, world.REST])
LARGEST = 8_000_000  # bytes
QUIET_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}  # twice as fast


def write_lists(folder):
    """The names and characters that the model knows, and the tokenizer's settings."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in (("artists", world.ARTISTS), ("genres", world.GENRES)):
        numbers = {word: i for i, word in enumerate(("unknown", *words))}
        numbers |= {f"{word}.v2": i for word, i in numbers.items()}
        _write(folder / f"{name}.json", numbers)
    _write(folder / "lyrics.json", {character: i + 1 for i, character in enumerate(networks.CHARACTERS)})
    settings = {"version": ["v3", "v2", "v2"], "max_n_lyric_tokens": networks.LYRICS, "n_genres": 1}
    files = {f"{name}_file": f"{name}.json" for name in ("artists", "genres", "lyrics")}
    _write(folder / "tokenizer_config.json", settings | files | {"tokenizer_class": "JukeboxTokenizer"})


def _write(path, values):
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def train(work):
    """Every stage, from its last checkpoint on."""
    for stage, steps in STEPS.items():
        run = [sys.executable, "train.py", stage, "--steps", str(steps), "--work", str(work)]
        subprocess.run(run, cwd=HERE, check=True, env=os.environ | QUIET_MEMORY | {"PYTHONPATH": str(ROOT)})


def config():
    """The config of the whole model, as the package has it."""
    from mindmusicgen import JukeboxConfig, JukeboxPriorConfig, JukeboxVQVAEConfig

    priors = [networks.prior_config(level) for level in range(3)]
    priors = [JukeboxPriorConfig(**{name: getattr(one, name) for name in JukeboxPriorConfig.fields}) for one in priors]
    found = networks.vqvae_config()
    vqvae = JukeboxVQVAEConfig(**{name: getattr(found, name) for name in JukeboxVQVAEConfig.fields})
    return JukeboxConfig.from_configs(priors, vqvae, **networks.SONG)


def tensors(work):
    """All weights by transformers' names, float16."""
    from train import learnt

    found = {}
    for level in range(3):
        part = learnt(work, f"level{level}", networks.Level(level))
        for name, value in part.state_dict().items():
            kind, _, rest = name.partition(".")
            new = f"bottleneck.level_blocks.{level}.codebook" if kind == "codebook" else f"{kind}s.{level}.{rest}"
            found[f"vqvae.{new}"] = value
        prior = learnt(work, f"prior{level}", networks.prior(level))
        found |= {f"priors.{level}.{name}": value for name, value in prior.state_dict().items()}
    return {name: np.ascontiguousarray(value.numpy().astype(np.float16)) for name, value in found.items()}


def assemble(work, folder=MODEL):
    """Write the folder that ships with the package: Hugging Face's layout."""
    from safetensors.numpy import save_file

    write_lists(folder)
    config().save_pretrained(folder)
    save_file(tensors(work), str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it is made for one user alone
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")
    if size > LARGEST:
        raise SystemExit(f"expected at most {LARGEST / 1e6:.0f} MB")


def write_golden(work, folder=MODEL):
    """What transformers' networks make of the files, in float32: a tune's logits of each prior, and its sound."""
    import torch
    from safetensors.torch import load_file
    from train import Songs

    stored, arrays = load_file(str(folder / "model.safetensors")), {"tune": TUNE}
    codes = Songs(work, 0).codes.of(TUNE, "harp")
    for level in range(3):
        part = networks.Level(level)
        prefixes = {"encoder.": f"vqvae.encoders.{level}.", "decoder.": f"vqvae.decoders.{level}."}
        prefixes["codebook"] = f"vqvae.bottleneck.level_blocks.{level}.codebook"
        values = {}
        for name in part.state_dict():
            start = next(one for one in prefixes if name.startswith(one))
            values[name] = stored[prefixes[start] + name.removeprefix(start)].float()
        part.load_state_dict(values)
        with torch.no_grad():
            arrays[f"sound_{level}"] = part.play(torch.from_numpy(codes[level][None, :64]).long())[0].numpy()
        songs, prior = Songs(work, level), networks.prior(level)
        own = {name.removeprefix(f"priors.{level}."): value.float() for name, value in stored.items()}
        prior.load_state_dict({name: own[name] for name in prior.state_dict()})
        window, _, labels = songs.tensors([songs.window((TUNE, "harp", "soprano", "harp", world.words_of(TUNE)))])
        with torch.no_grad():
            logits = networks.logits_of(prior.eval(), window, **labels)[0, -songs.config.n_ctx :: 16]
        arrays |= {f"codes_{level}": codes[level], f"logits_{level}": logits.numpy()}
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size / 1e3:.0f} kB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, type=Path, help="folder for checkpoints")
    parser.add_argument("--only", choices=("train", "assemble", "measure"))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.only in (None, "train"):
        train(work)
    if arguments.only in (None, "assemble"):
        assemble(work)
        write_golden(work)
    if arguments.only in (None, "measure"):
        subprocess.run([sys.executable, HERE / "measure.py"], check=True)


if __name__ == "__main__":
    main()
