"""Damaged files of Bark, for `checkpoints.py`: its settings, its processor's files, a voice, its MindIR files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "bark"


def kinds(Kind):
    """What is added to `checkpoints.KINDS`.

    Args:
        Kind (type): `checkpoints.Kind`.

    Returns:
        dict of name to (title, class).
    """

    class Copied(Kind):
        """Files of the golden folder."""

        def make(self):
            for name in set(self.files):
                shutil.copy(GOLDEN / name, self.folder)

    class Settings(Copied):
        """config.json and generation_config.json, up to what a call makes of them."""

        files = ["config.json", "generation_config.json"]

        def read(self):
            from mindmusicgen.bark import settings
            from mindmusicgen.bark.checkpoint.folder import load_config, load_generation_config
            from mindmusicgen.bark.checkpoint.info import parameter_counts

            config = load_config(self.folder)
            parameter_counts(config)
            settings.resolve(config, load_generation_config(self.folder, config), {}, 1, 0)

    class Voices(Copied):
        """The tokenizer, the list of voices, and a voice's arrays."""

        files = [
            "tokenizer.json",
            "tokenizer_config.json",
            "speaker_embeddings_path.json",
            "ann.npy",
            "preset_short.npz",
        ]

        def make(self):
            for name in ("tokenizer.json", "tokenizer_config.json", "preset_short.npz"):
                shutil.copy(GOLDEN / name, self.folder)
            with np.load(GOLDEN / "preset_short.npz") as file:
                for name in file.files:
                    path = "ann.npy" if name == "semantic_prompt" else f"{name}.npy"
                    np.save(os.path.join(self.folder, path), file[name])
            places = (
                '"semantic_prompt": "ann.npy", "coarse_prompt": "coarse_prompt.npy", "fine_prompt": "fine_prompt.npy"'
            )
            self.put("speaker_embeddings_path.json", f'{{"repo_or_path": ".", "ann": {{{places}}}}}'.encode())

        def read(self):
            from mindmusicgen.bark.processing import BarkProcessor

            processor = BarkProcessor.from_pretrained(self.folder)
            processor(["hello world", "other \u4e00 words"], return_tensors="np")
            for name in processor.available_voice_presets:
                processor.preset(name)
            processor.preset(os.path.join(self.folder, "preset_short.npz"))

    class Exported(Copied):
        """manifest.json of exported files, and the configs beside it: all that opening them reads."""

        files = ["manifest.json", "manifest.json", "config.json", "generation_config.json"]

        def make(self):
            from mindmusicgen.bark.codec_windows import WINDOW
            from mindmusicgen.bark.decode_loop import CHUNK
            from mindmusicgen.mindir.manifest import digest

            names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
            for name in names:
                shutil.copy(GOLDEN / name, self.folder)
            os.makedirs(os.path.join(self.folder, "fine"))
            self.put("fine/graph.mindir", b"a graph")
            sizes = {"batch": 1, "tokens": 768, "prompt": 513, "ids": 101, "coarse_prompt": 887, "codes": 64}
            sizes |= {"window": 1024, "books": 8, "chunk": CHUNK}
            stage = {"layers": 2, "heads": 2, "head_size": 8, "positions": 1024}
            codec = {"left": 6, "reach": 9, "layers": 2, "hidden": 16, "window": WINDOW}
            manifest = {"format": 1, "kind": "bark", "mindspore": "2.7.0", "model": "a", "dtype": "float32"}
            manifest |= {"sizes": sizes, "semantic": stage, "coarse": stage, "codec": codec}
            manifest |= {"graphs": {"fine": {"file": "fine/graph.mindir", "inputs": []}}}
            names.append("fine/graph.mindir")
            manifest |= {"files": {name: digest(os.path.join(self.folder, name)) for name in names}}
            self.put("manifest.json", json.dumps(manifest).encode())

        def read(self):
            from mindmusicgen.bark.mindir.runtime import MindIRBark

            MindIRBark(self.folder).manifest.graph("fine")

    return {
        "exported": ("MindIR manifest of a Bark", Exported),
        "bark": ("config.json and generation_config.json of a Bark", Settings),
        "voices": ("tokenizer, list of voices and voices of a Bark", Voices),
    }
