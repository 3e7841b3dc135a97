"""What 8 bits change in a Bark: the same texts through both, stage by stage, each given what the float32 stage gave.

    python scripts/benchmark/bark_quality.py --model digits --texts 12

Greedy, so that a different id is a different first choice. The texts are digits, which the model in the package knows.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mindmusicgen import BarkModel, BarkProcessor
from mindmusicgen.bark import settings

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def compare(plain, small, processor, text, voice):
    """Equal ids and all ids of each stage, for one text.

    Args:
        plain, small (BarkModel): float32 and int8.
        processor (BarkProcessor): theirs.
        text (str): what is said.
        voice (str): a preset's name, or None.

    Returns:
        dict of stage to (equal, all).
    """

    def shown(done, steps):
        return True

    inputs = processor(text, voice_preset=voice, return_tensors="np")
    chosen = settings.resolve(plain.config, plain.generation_config, {"do_sample": False}, 1, 0)
    preset = inputs.get("history_prompt") or {}
    semantic, coarse, fine = (preset.get(f"{stage}_prompt") for stage in ("semantic", "coarse", "fine"))
    text = inputs["input_ids"], inputs["attention_mask"], [semantic]
    tokens, others = (model._stages.semantic(*text, chosen, shown)[0] for model in (plain, small))
    shared = min(len(tokens), len(others))
    counts = {"semantic": (np.cumprod(tokens[:shared] == others[:shared]).sum(), max(len(tokens), len(others)))}
    history = [None if semantic is None else (semantic, coarse)]
    codes, others = (model._stages.coarse([tokens], history, chosen, shown)[0] for model in (plain, small))
    counts["coarse"] = (codes == others).sum(), codes.size
    whole, others = (model._stages.fine([codes], [fine], chosen, shown)[0][2:] for model in (plain, small))
    counts["fine"] = (whole == others).sum(), whole.size
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="digits", help="folder, hub id or digits (default)")
    parser.add_argument("--texts", type=int, default=12, help="how many (12)")
    options = parser.parse_args()
    plain, small = (BarkModel.from_pretrained(options.model, quantization=kind) for kind in (None, "int8"))
    processor, rng = BarkProcessor.from_pretrained(options.model), np.random.default_rng(0)
    voices, total = processor.available_voice_presets or [None], {}
    for number in range(options.texts):
        text = " ".join(rng.choice(WORDS, rng.integers(2, 8)))
        for stage, counted in compare(plain, small, processor, text, voices[number % len(voices)]).items():
            total[stage] = np.add(total.get(stage, (0, 0)), counted)
    for stage, (same, of) in total.items():
        print(f"| {stage} | {of:,} | {100 * same / of:.2f} % |")


if __name__ == "__main__":
    main()
