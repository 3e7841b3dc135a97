"""Golden values: what the stages of the demo model give in float32 with MindSpore's plain operations on a CPU.

`scripts/make_doctor_golden.py` writes them, after every change of the demo model; a fingerprint says which files of the
demo they belong to.
"""

from pathlib import Path

import numpy as np

from ...checkpoint.source import DEMO
from ...doctor import golden

SCRIPT = "scripts/make_doctor_golden.py"  # writes the file
PATH = Path(__file__).with_name("golden.npz")
BELONGING = ("model.safetensors", "config.json", "tokenizer.json")  # files of the demo that the values depend on
PROMPTS = (  # in pairs of different lengths; the script keeps the pair whose greedy choices are the least in doubt
    ("upbeat 80s pop with drums and synth bass, 125 bpm", "calm piano"),
    ("slow ambient piece with synth pads, no drums, 70 bpm", "techno"),
    ("fast bright chiptune with drums, 160 bpm", "a waltz"),
    ("dark house with a warm bass and drums", "folk"),
    ("happy reggae with guitar, bright, 80 bpm", "jazz"),
    ("lo-fi hip hop with piano and soft drums", "rock"),
)
NEW_COLUMNS = 51  # that are predicted: three chunks, of which the last is one column
KNOWN_FRAMES = 20  # of the greedy codes, from which the continuation starts
LOGIT_COLUMNS = (0, 1, 2, 12, 27, 50)  # whose logits are kept
AUDIO_FRAMES = 40  # of the first prompt's codes that the codec decodes
SETTINGS = {"do_sample": False, "guidance_scale": 3.0, "max_new_tokens": NEW_COLUMNS}
FILTERS = {"temperature": 0.9, "top_k": 50, "top_p": 0.95}  # of the sampling stage
NEAR_TIE = {"CPU": 1e-5, "Ascend": 1e-3}  # of the largest guided logit: codes nearer to each other may change places


def certain_frames(margins, device="CPU"):
    """Frames before the first greedy choice that rounding in float32 may change.

    Args:
        margins (numpy.ndarray): see `load`.
        device (str): "CPU" or "Ascend".
    """
    tied = np.nonzero((margins < NEAR_TIE[device]).any(axis=(0, 1)))[0]
    books = margins.shape[1]
    frames = margins.shape[2] - (books - 1)
    return frames if not len(tied) else max(int(tied[0]) - (books - 1), 0)


def load(path=PATH, folder=DEMO):
    """The golden arrays.

    Args:
        path (Path): file of `scripts/make_doctor_golden.py`.
        folder (Path): the demo model that they must belong to.

    Returns:
        dict[str, numpy.ndarray]:
            prompts: one pair of `PROMPTS`.
            ids, mask: their tokens, [2, S] int32.
            states: of the text encoder, [2, S, D], zero where mask is.
            codes: greedy, [2, K, frames] int32.
            margins: how far the best guided logit is above the second, [2, K, NEW_COLUMNS], as part of the largest;
                infinite where the delay pattern leaves no choice.
            logits: teacher-forced at LOGIT_COLUMNS, [columns, 4, K, V], the null rows behind the prompts' rows.
            uniforms, sampled: for these logits, [columns, 2, K], and the codes that they choose.
            audio: of the first AUDIO_FRAMES codes of the first prompt, [1, 1, N].
            audio_codes: of this audio, [1, K, AUDIO_FRAMES].

    Raises:
        InputError: if the file is missing, damaged, or belongs to another demo model.
    """
    return golden.load(path, folder, BELONGING, SCRIPT)
