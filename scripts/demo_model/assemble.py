"""Put the trained parts of the demo model together into the folder that ships with the package.

python scripts/demo_model/assemble.py --language-model FOLDER --codec FOLDER [--output mindmusicgen/demo]
"""

import argparse
import os
from pathlib import Path

from train_codec import load_codec

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor

DEMO = Path(__file__).resolve().parents[2] / "mindmusicgen" / "demo"
LARGEST = 25_000_000  # bytes: what a package may carry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language-model", required=True, help="output of train_language_model.py")
    parser.add_argument("--codec", required=True, help="output of train_codec.py, or of its --decoder-of")
    parser.add_argument("--output", default=str(DEMO))
    parser.add_argument("--guidance-scale", type=float, default=3.0)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--temperature", type=float, default=0.6)
    arguments = parser.parse_args()
    source = os.path.join(arguments.language_model, "model")
    model = MusicgenForConditionalGeneration.from_pretrained(source)
    load_codec(model.audio_encoder, arguments.codec)
    settings = model.generation_config
    settings.do_sample, settings.guidance_scale, settings.top_k = True, arguments.guidance_scale, arguments.top_k
    settings.temperature, settings.max_length = arguments.temperature, 504  # 10 s
    model.save_pretrained(arguments.output, dtype="float16")
    MusicgenProcessor.from_pretrained(source).save_pretrained(arguments.output)
    size = sum(path.stat().st_size for path in Path(arguments.output).iterdir())
    if size > LARGEST:
        raise SystemExit(f"{arguments.output} has {size / 1e6:.1f} MB; a package may carry {LARGEST / 1e6:.0f}")
    print(f"{arguments.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
