"""Put the trained parts of the demo model together into the folder that ships with the package.

python scripts/demo_model/assemble.py --language-model FOLDER [--codec FOLDER] [--output mindmusicgen/demo]

Without `--codec` the codec is the one of the demo that ships.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from captions import INSTRUMENTS, MOODS, TEMPO_WORDS, TONES
from captions import STYLES as NAMES
from instruments import PLAYERS, player
from synthesiser import BEATS, FRAME_RATE, STYLES
from train_codec import STATE, Codec
from transformers import MusicgenForConditionalGeneration as Oracle

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor

DEMO = Path(__file__).resolve().parents[2] / "mindmusicgen" / "demo"
LARGEST = 25_000_000  # bytes: what a package may carry
CHINESE_EXAMPLES = (
    "轻快的八十年代流行，鼓、合成贝斯，125 bpm",
    "平静的抒情歌，钢琴，没有鼓，60 bpm",
    "暗淡的低保真嘻哈，电钢琴、长笛、鼓，83 bpm",
)
FAR = 4.0  # times the longest word: where the words of codes without a sound lie, so that they are never nearest


def codec_weights(folder):
    """The trained codec as EnCodec's state dict."""
    codec = Codec()
    codec.load_state_dict(torch.load(os.path.join(folder, STATE), weights_only=True)["codec"])
    weights = {f"encoder.{name}": value for name, value in codec.encoder.state_dict().items()}
    weights |= {f"decoder.{name}": value for name, value in codec.decoder.state_dict().items()}
    table, generator = codec.table().detach(), torch.Generator().manual_seed(0)
    share = table.shape[2]
    for place in range(len(PLAYERS)):
        words = torch.zeros(table.shape[1], share * len(PLAYERS))
        spare = codec.used[place, :, 0] == 0
        spare[[0, *player(PLAYERS[place]).silences]] = False  # silence, however long, is the zero vector
        away = torch.randn(table.shape[1], share, generator=generator)
        away *= FAR * table[place].norm(dim=1).max() / away.norm(dim=1, keepdim=True)
        words[:, place * share : (place + 1) * share] = torch.where(spare[:, None], away, table[place])
        weights[f"quantizer.layers.{place}.codebook.embed"] = words
    return weights


def words():
    """What the model understands, for the card and for `mindmusicgen prompts`."""
    from evaluate import EXAMPLES

    def both(english, chinese):
        return {"en": list(dict.fromkeys(english)), "zh": [chinese] if isinstance(chinese, str) else list(chinese)}

    styles = {}
    for name, plan in STYLES.items():
        tones = {
            tone: [part for part, _ in filter(None, (*plan["chords"][tone], *plan["bass"][tone]))]
            + [lead for lead in plan["lead"][tone] if lead]
            for tone in plan["chords"]
        }
        styles[name] = both(*NAMES[name]) | {
            "bpm": sorted(round(60 * FRAME_RATE / beat) for beat in plan["beats"]),
            "drums": plan["drums"][0] is not None,
            "tones": {tone: list(dict.fromkeys(parts)) for tone, parts in tones.items()},
        }
    return {
        "examples": [*EXAMPLES, *CHINESE_EXAMPLES],
        "styles": styles,
        "instruments": {name: both(*row) for name, row in INSTRUMENTS.items()},
        "moods": {name: both(*row) for name, row in MOODS.items()},
        "tones": {name: both(*row) for name, row in TONES.items()},
        "tempi": [both(english, chinese) for _, english, chinese in TEMPO_WORDS],
        "bpm": sorted(round(60 * FRAME_RATE / beat) for beat in BEATS),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language-model", required=True, help="output of train_language_model.py")
    parser.add_argument("--codec", help="output of train_codec.py, where the codec was trained anew")
    parser.add_argument("--output", default=str(DEMO))
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--temperature", type=float, default=0.5)
    arguments = parser.parse_args()
    source = os.path.join(arguments.language_model, "model")
    model = Oracle.from_pretrained(source)
    codec = (
        codec_weights(arguments.codec) if arguments.codec else Oracle.from_pretrained(DEMO).audio_encoder.state_dict()
    )
    missing, left = model.audio_encoder.load_state_dict(codec, strict=False)
    if left or any("quantizer" not in name for name in missing):
        raise SystemExit(f"the codec's weights do not fit: {left + missing}")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        model = MusicgenForConditionalGeneration.from_pretrained(folder)
    settings = model.generation_config
    settings.do_sample, settings.guidance_scale, settings.top_k = True, arguments.guidance_scale, arguments.top_k
    settings.temperature, settings.max_length = arguments.temperature, 504  # 10 s
    model.save_pretrained(arguments.output, dtype="float16")
    MusicgenProcessor.from_pretrained(source).save_pretrained(arguments.output)
    with open(os.path.join(arguments.output, "prompts.json"), "w", encoding="utf-8") as file:
        json.dump(words(), file, ensure_ascii=False, indent=1)
    size = sum(path.stat().st_size for path in Path(arguments.output).iterdir())
    if size > LARGEST:
        raise SystemExit(f"{arguments.output} has {size / 1e6:.1f} MB; a package may carry {LARGEST / 1e6:.0f}")
    print(f"{arguments.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
