"""Golden values: what the stages of the tiny Bark give in float32 with MindSpore's plain operations on a CPU.

`scripts/bark_digits/make_doctor_golden.py` writes them, after every change of that model.
"""

from pathlib import Path

from ...checkpoint.source import SHIPPED
from ...doctor import golden

MODEL = "digits"
FOLDER, PATH = SHIPPED[MODEL], Path(__file__).with_name("golden.npz")
SCRIPT = "scripts/bark_digits/make_doctor_golden.py"  # writes the file
BELONGING = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json")
TEXTS = ("three one four", "six two seven", "nine zero five", "eight one two", "four four three")  # one is kept
VOICE = "v2/en_speaker_1"
AUDIO_FRAMES = 40  # of the codes, that the codec decodes


def load(path=PATH, folder=FOLDER):
    """The golden arrays.

    Args:
        path (Path): file of the script.
        folder (Path): the tiny Bark that they must belong to.

    Returns:
        dict[str, numpy.ndarray]:
            text: one of `TEXTS`.
            ids, mask: its tokens, [1, n] int32.
            semantic: the most probable tokens in the voice, [s] int32.
            coarse: the most probable codes of these, [2, frames] int32.
            fine: the most probable codes of each codebook, those below it being these, without a voice, [K, frames].
            semantic_margins [s + 1], the end included, coarse_margins [2, frames], fine_margins [K, frames]: how far
                the best logit is above the second, as part of the largest; of given codebooks infinite.
            audio: of the first AUDIO_FRAMES frames of `fine`, [samples] float32.

    Raises:
        InputError: if the file is missing, damaged, or belongs to another model.
    """
    return golden.load(path, folder, BELONGING, SCRIPT)
