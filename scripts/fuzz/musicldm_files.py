"""Damaged files of MusicLDM, for `checkpoints.py`: its parts' configs, its scheduler's, its MindIR files."""

import json
import os
import shutil
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "musicldm"
PARTS = ("text_encoder", "unet", "vae", "vocoder")
CONFIGS = [f"{part}/config.json" for part in PARTS]
SCHEDULER, EXTRACTOR = "scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json"


def kinds(Kind):
    """What is added to `checkpoints.KINDS`.

    Args:
        Kind (type): `checkpoints.Kind`.

    Returns:
        dict of name to (title, class).
    """

    class Copied(Kind):
        """Files of the golden folder, without weights."""

        def make(self):
            for name in ["model_index.json", *CONFIGS, SCHEDULER, EXTRACTOR, *_tokenizer()]:
                os.makedirs(os.path.join(self.folder, os.path.dirname(name)), exist_ok=True)
                shutil.copy(GOLDEN / name, os.path.join(self.folder, name))

    class Configs(Copied):
        """model_index.json and the parts' configs, up to what a call makes of them."""

        files = ["model_index.json", *CONFIGS, EXTRACTOR]

        def read(self):
            from mindmusicgen.clap.features import read_features
            from mindmusicgen.musicldm import settings
            from mindmusicgen.musicldm.checkpoint import info, networks
            from mindmusicgen.musicldm.checkpoint.folder import resolve_pipeline

            folder = resolve_pipeline(self.folder)
            _, *parts = (networks.read_part(folder, part) for part in PARTS)
            read_features(folder.json(EXTRACTOR), folder.file(EXTRACTOR))
            sizes = settings.Sizes(*parts)
            _, lines, _ = settings.length(sizes, 5.0)
            info.work(sizes, lines)

    class Schedulers(Copied):
        """scheduler_config.json, up to the coefficients of a run."""

        files = [SCHEDULER]

        def read(self):
            from mindmusicgen.musicldm.schedulers import SCHEDULERS, open_scheduler

            made = open_scheduler(os.path.join(self.folder, SCHEDULER))
            for kind in SCHEDULERS.values():
                kind.from_config(made.config).table(10)

    class Exported(Copied):
        """manifest.json of exported files, and the configs beside it: all that opening them reads."""

        files = ["manifest.json", "manifest.json", *CONFIGS, SCHEDULER]

        def make(self):
            from mindmusicgen.clap.features import read_features
            from mindmusicgen.mindir.manifest import digest
            from mindmusicgen.musicldm import settings
            from mindmusicgen.musicldm.checkpoint import networks
            from mindmusicgen.musicldm.mindir.manifest import described, inputs

            super().make()
            sizes = {"batch": 1, "lines": 13, "samples": 8000, "text_length": 32}
            parts = settings.Sizes(*(networks.read_part(self.folder, part) for part in PARTS[1:]))
            path = os.path.join(self.folder, EXTRACTOR)
            taken = inputs(sizes, parts, read_features(json.loads(Path(path).read_text()), path))
            names = [str(path.relative_to(self.folder)) for path in Path(self.folder).rglob("*.json")]
            graphs = {name: {"file": f"{name}/graph.mindir", "inputs": described(one)} for name, one in taken.items()}
            for name in graphs:
                os.makedirs(os.path.join(self.folder, name))
                self.put(f"{name}/graph.mindir", b"a graph")
                names.append(f"{name}/graph.mindir")
            manifest = {"format": 1, "kind": "musicldm", "mindspore": "2.7.0", "model": "a", "dtype": "float32"}
            manifest |= {"sizes": sizes, "graphs": graphs}
            manifest |= {"files": {name: digest(os.path.join(self.folder, name)) for name in names}}
            self.put("manifest.json", json.dumps(manifest).encode())

        def read(self):
            from mindmusicgen.musicldm.mindir.runtime import MindIRMusicLDM

            MindIRMusicLDM(self.folder).manifest.graph("noise")

    return {
        "exported_musicldm": ("MindIR manifest of a MusicLDM", Exported),
        "musicldm": ("model_index.json and parts' configs of a MusicLDM", Configs),
        "scheduler": ("scheduler_config.json of a MusicLDM", Schedulers),
    }


def _tokenizer():
    return [str(path.relative_to(GOLDEN)) for path in (GOLDEN / "tokenizer").glob("*.json")]
