"""What tells a model's files from any others: kept in the file of every piece that they make."""

import glob
import hashlib
import os

from ..language import said
from ..runtime.telling import quoted, tell

SAMPLED_PAGES = 64  # of each file of weights, spread evenly: a second for the largest, and any training changes them
PAGE = 4096
PARTS = ("model_index.json", "*/*.json", "*/*.safetensors", "*/*.bin")  # where each part has a folder of its own
CONTENTS = ("config.json", "generation_config.json", "tokenizer.json", "spiece.model")
CONTENTS += ("*.safetensors", "*.bin", "*.th", "*.pth.tar")


def checked_fingerprint(folder, job):
    """`fingerprint` of a job's model, with a warning if the recipe that the job follows is of other weights.

    Args:
        folder (ModelFolder | str): of the model.
        job: with model, like and weights, as `commands.job.Job` has them.
    """
    weights, name = fingerprint(folder), job.model or "demo"
    if job.weights not in (None, weights):
        warning = said(
            f"{quoted(name)} has other weights than those that made {quoted(job.like)}; the piece will be another"
        )
        tell(f"mindmusicgen: warning: {warning}", error=True)
    return weights


def fingerprint(folder):
    """Twelve hex digits that change when a model's files do; of large files a sample is read."""
    digest, names = hashlib.sha256(), CONTENTS
    if os.path.isfile(os.path.join(folder, PARTS[0])):
        names = PARTS
    for path in sorted({path for name in names for path in glob.glob(os.path.join(glob.escape(folder), name))}):
        size = os.path.getsize(path)
        digest.update(f"{os.path.basename(path)} {size} ".encode())
        with open(path, "rb") as file:
            for i in range(SAMPLED_PAGES if size > SAMPLED_PAGES * PAGE else 1):
                file.seek(i * size // SAMPLED_PAGES)
                digest.update(file.read(PAGE if size > SAMPLED_PAGES * PAGE else size))
    return digest.hexdigest()[:12]
