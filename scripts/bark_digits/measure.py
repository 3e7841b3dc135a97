"""Hear the tiny Bark without ears: digits that are understood, beside the synthesiser's and the codec's.

    python scripts/bark_digits/measure.py --work FOLDER [--texts 30]

Prints a table. The sounds are kept in FOLDER/said, and texts.txt there lists them for another recogniser: a line has
the kind, the file, and the words.
"""

import argparse
import os

import numpy as np
import soundfile
from data import COMMA, DIGITS, RATE, SPECIAL, VOCABULARY, VOICES, digits_of, draw_text
from judge import cepstra, hear, split, wrong

from mindmusicgen.bark.model import BarkModel
from mindmusicgen.bark.processing import BarkProcessor


def meant(ids):
    """The digits of a text of token ids."""
    return [int(one - len(SPECIAL)) % 10 for one in ids if len(SPECIAL) <= one < COMMA]


def sounds(digits, model, processor, texts):
    """(kind, voice, ids, audio) of each text from the synthesiser, the codec, and the model in several ways."""
    rng = np.random.default_rng(7)
    ways = {
        "greedy, preset": (True, {"do_sample": False}),
        "sampled, preset": (True, {}),
        "sampled, no preset": (False, {}),
        "temperature 1, preset": (True, {"temperature": 1.0, "fine_temperature": 0.9}),
    }
    for number in range(texts):
        ids, voice = draw_text(rng), list(VOICES)[number % len(VOICES)]
        _, codes, audio = digits.say(ids, voice)
        yield "synthesiser", voice, ids, audio
        yield "codec, 8 codebooks", voice, ids, model.codec_decode(codes[None]).asnumpy().reshape(-1)
        yield "codec, 2 codebooks", voice, ids, model.codec_decode(codes[None, :2]).asnumpy().reshape(-1)
        inputs = processor(" ".join(VOCABULARY[one] for one in ids))
        for name, (with_voice, settings) in ways.items():
            history = {"history_prompt": processor.preset(voice)} if with_voice else {}
            made = model.generate(**inputs, **history, seed=number, **settings).asnumpy()[0]
            yield name, voice if with_voice else None, ids, made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--texts", type=int, default=30)
    parser.add_argument("--work", required=True, help="folder of the training")
    arguments = parser.parse_args()
    model, processor = BarkModel.from_pretrained(arguments.model), BarkProcessor.from_pretrained(arguments.model)
    digits, folder = digits_of(arguments.work), os.path.abspath(os.path.join(arguments.work, "said"))
    os.makedirs(folder, exist_ok=True)
    known = {(key[1], key[0]): cepstra(split(audio)[0]) for key, audio in digits.audio.items() if key[2]}
    found, lines = {}, []
    for number, (kind, voice, ids, audio) in enumerate(sounds(digits, model, processor, arguments.texts)):
        heard = hear(audio, known)
        row = found.setdefault(kind, [0, 0, 0, 0, []])
        row[0] += wrong([key[0] for key, _ in heard], meant(ids))
        row[1] += len(meant(ids))
        row[2] += sum(voice is not None and key[1] == voice for key, _ in heard)
        row[3] += len(heard)
        row[4] += [far for _, far in heard]
        path = os.path.join(folder, f"{number}.wav")
        soundfile.write(path, audio, RATE)
        lines.append(" ".join([kind.replace(" ", "_"), path, *(DIGITS[one] for one in meant(ids))]))
    print("| sound | digits | right | in the preset's voice | distance |\n|---|---|---|---|---|")
    for kind, (errors, digit_count, same, words, far) in found.items():
        voices = f"{100 * same / words:.0f} %" if same else "-"
        print(f"| {kind} | {digit_count} | {100 * (1 - errors / digit_count):.1f} % | {voices} | {np.mean(far):.2f} |")
    with open(os.path.join(folder, "texts.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
