"""Make the tiny Bark from nothing: trains what is not trained yet, puts the parts together, and measures them.

    python scripts/bark_digits/make.py --work FOLDER [--only train|assemble|measure]

Needs espeak-ng and the extra `demo`. The shipped model took about an hour of two cores that did other things as well.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import config as sizes
import numpy as np
import torch
from data import BOOKS, VOCABULARY, VOICES, digits_of
from judge import cepstra, split

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = ROOT / "mindmusicgen" / "bark" / "digits"
TEMPLATES = ROOT / "tests" / "golden" / "bark_digits.npz"
STEPS = {"semantic": 1600, "coarse": 1600, "fine": 2400}
PRESET = ("seven", "two")  # what each voice says in its preset
LARGEST = 9_000_000  # bytes


def train(work):
    """The codec and the stages, each from its last checkpoint on."""
    runs = [["train_codec.py", "--steps", 2400, "--work", work]]
    runs += [["train_stages.py", "--stage", stage, "--steps", steps, "--work", work] for stage, steps in STEPS.items()]
    for run in runs:
        subprocess.run([sys.executable, *map(str, run)], cwd=HERE, check=True)


def assembled(work, digits):
    """transformers' model of the trained parts."""
    from transformers import BarkConfig, BarkModel, GenerationConfig

    parts = (sizes.SEMANTIC_CONFIG, sizes.COARSE_CONFIG, sizes.FINE_CONFIG, sizes.CODEC_CONFIG)
    names = ("semantic_config", "coarse_acoustics_config", "fine_acoustics_config", "codec_config")
    model = BarkModel(BarkConfig(**{name: part.to_dict() for name, part in zip(names, parts, strict=True)}))
    for stage, name in (("semantic", "semantic"), ("coarse", "coarse_acoustics"), ("fine", "fine_acoustics")):
        state = torch.load(work / f"{stage}.pt", weights_only=True)["network"]
        getattr(model, name).load_state_dict(state)
    model.codec_model.load_state_dict(torch.load(work / "codec.pt", weights_only=True)["codec"])
    for book in range(BOOKS):
        codebook = model.codec_model.quantizer.layers[book].codebook
        codebook.embed.copy_(torch.from_numpy(digits.codebooks[book]))
        codebook.embed_avg.copy_(codebook.embed)
    model.generation_config = GenerationConfig(**sizes.GENERATION)
    return model


def assemble(work):
    """Write the folder that ships with the package, and what the tests compare it with."""
    from mindmusicgen.bark.model import BarkModel
    from mindmusicgen.bark.processing import open_tokenizer

    digits = digits_of(work)
    with tempfile.TemporaryDirectory() as folder:
        assembled(work, digits).save_pretrained(folder)
        made = BarkModel.from_pretrained(folder, dtype="float32", device="CPU")
        made.save_pretrained(str(MODEL), dtype="float16")
        Path(folder, "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        Path(folder, "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}), encoding="utf-8"
        )
        (MODEL / "vocab.txt").write_bytes(Path(folder, "vocab.txt").read_bytes())
        voices = {name: preset(digits, name) for name in VOICES}
        write_processor(open_tokenizer(folder), voices)
    size = sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file())
    if size > LARGEST:
        raise SystemExit(f"{MODEL} has {size / 1e6:.1f} MB; expected at most {LARGEST / 1e6:.0f}")
    print(f"{MODEL}: {size / 1e6:.1f} MB")
    known = {
        f"{digit} {name}": cepstra(split(audio)[0]).astype(np.float16)
        for (name, digit, last), audio in digits.audio.items()
        if last
    }
    np.savez_compressed(TEMPLATES, **known)


def preset(digits, name):
    """The arrays of a voice."""
    ids = np.array([VOCABULARY.index(word) for word in PRESET])
    tokens, codes, _ = digits.say(ids, name)
    return {"semantic_prompt": tokens, "coarse_prompt": codes[:2], "fine_prompt": codes}


def write_processor(tokenizer, voices):
    """The tokenizer's files and the voices', in Hugging Face's layout."""
    tokenizer.save_pretrained(MODEL)
    listed = {"repo_or_path": "."}
    for name, arrays in voices.items():
        listed[name] = {}
        for key, values in arrays.items():
            listed[name][key] = place = f"speaker_embeddings/{name}_{key}.npy"
            (MODEL / place).parent.mkdir(parents=True, exist_ok=True)
            np.save(MODEL / place, values.astype(np.int64))
    (MODEL / "speaker_embeddings_path.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")


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
    if arguments.only in (None, "measure"):
        subprocess.run([sys.executable, HERE / "measure.py", "--work", work], check=True)


if __name__ == "__main__":
    main()
