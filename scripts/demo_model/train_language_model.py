"""Train the demo model's text encoder and decoder on synthesised songs, coded by the codec of train_codec.py.

    python scripts/demo_model/train_language_model.py --codec FOLDER --output FOLDER

First on short clips, which cost less, then on the length that the model is to generate. Stop it with Ctrl-C; the same
command goes on. The model is written to OUTPUT/model as a Hugging Face folder.
"""

import argparse
import os

import numpy as np
from captions import caption
from config import CODES, codec_config, model_config
from synthesiser import draw_song, render
from tokenizer import train_tokenizer
from tqdm import tqdm
from train_codec import load_codec

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.training.language_model import CaptionedCodes, LanguageModelLoss
from mindmusicgen.training.loop import Trainer

FRAMES = 512  # of a song that is coded: 10.24 s
TEXT = 48  # tokens of a caption, padding included
CAPTIONS = 6  # of every song
FIRST_SONG = 1_000_000  # its seed; the codec trained on others, evaluation uses seeds below 100,000


def code_songs(model, path, count, batch=8):
    """Codes [count, K, FRAMES] of songs; kept in a file, and made in pieces that survive an interruption."""
    done = np.load(path)["codes"] if os.path.exists(path) else np.zeros((0, 4, FRAMES), np.int16)
    samples = FRAMES * codec_config().hop_length
    bar = tqdm(total=count, initial=len(done), unit="song", desc="coding")
    while len(done) < count:
        made = []
        for start in range(len(done), min(len(done) + 50 * batch, count), batch):
            audio = np.zeros((batch, 1, samples), np.float32)
            for row in range(batch):
                song = render(draw_song(FIRST_SONG + start + row))[:samples]
                audio[row, 0, : len(song)] = song
            made.append(model.encode(audio).asnumpy()[: count - start].astype(np.int16))
            bar.update(len(made[-1]))
        done = np.concatenate([done, *made])
        with open(path + ".partial", "wb") as file:
            np.savez(file, codes=done)
        os.replace(path + ".partial", path)
    bar.close()
    return done[:count]


def tokenize(tokenizer, count):
    """CAPTIONS captions of every song, as pairs of (ids, mask), both [TEXT]."""
    found = []
    for i in range(count):
        song = draw_song(FIRST_SONG + i)
        encoded = tokenizer(
            [caption(song, j) for j in range(CAPTIONS)], padding="max_length", truncation=True, max_length=TEXT
        )
        found.append(list(zip(np.int16(encoded["input_ids"]), np.int16(encoded["attention_mask"]), strict=True)))
    return found


def clip_length(codes, song):
    """Frames of a song's codes that are music: short songs are padded with silence."""
    return codes[:, : min(FRAMES, int(song.seconds * 50))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", required=True, help="output folder of train_codec.py")
    parser.add_argument("--output", required=True, help="folder for data, checkpoints and the model")
    parser.add_argument("--songs", type=int, default=5000)
    parser.add_argument(
        "--stages", default="256:8:2400:1e-3,512:8:500:4e-4", help="frames:rows:steps:learning rate, ..."
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    target = os.path.join(arguments.output, "model")
    tokenizer = train_tokenizer(target)
    model = MusicgenForConditionalGeneration(model_config(len(tokenizer))).initialise(arguments.seed, std=0.03)
    load_codec(model.audio_encoder, arguments.codec)
    codes = code_songs(model, os.path.join(arguments.output, "codes.npz"), arguments.songs)
    captions = tokenize(tokenizer, arguments.songs)
    songs = [draw_song(FIRST_SONG + i) for i in range(arguments.songs)]
    codes = [clip_length(clip, song) for clip, song in zip(codes, songs, strict=True)]
    for number, stage in enumerate(arguments.stages.split(",")):
        frames, rows, steps, rate = (float(part) for part in stage.split(":"))
        data = CaptionedCodes(codes, captions, int(frames), CODES, int(rows), seed=arguments.seed + number)
        folder = os.path.join(arguments.output, f"stage{number + 1}")
        trainer = Trainer(
            LanguageModelLoss(model), folder, int(steps), rate, warmup=100 if number == 0 else 30, weight_decay=0.05
        )
        trainer.resume()
        trainer.fit(data.batch)
        model.save_pretrained(target)
    print(f"{target}: done")


if __name__ == "__main__":
    main()
