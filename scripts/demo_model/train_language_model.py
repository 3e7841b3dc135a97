"""Train the demo model's decoder on synthesised songs, coded by the codec of train_codec.py.

    python scripts/demo_model/train_language_model.py --codec FOLDER --text FOLDER --output FOLDER

First on short clips, which cost less, then on the length that the model is to generate. Stop it with Ctrl-C; the same
command goes on. The model is written to OUTPUT/model as a Hugging Face folder. The text encoder comes from
train_text_encoder.py and stays as it is, as MusicGen's T5 does.

What a tempo means is hard to learn from codes alone: 2,000 steps without further help taught nothing of it. Clips
therefore begin with a bar, as songs do, and halfway through the layers a linear layer, thrown away afterwards, has to
read from the states where in the beat and in the bar every frame is. And a decoder that has only ever seen flawless
songs loses the beat over its own first mistakes; so in half of the clips some of what it has heard so far is wrong.
"""

import argparse
import os

import mindspore as ms
import numpy as np
from captions import caption
from config import CODES, codec_config, model_config
from facts import bar_starts, beat_angles
from mindspore import ops
from synthesiser import draw_song, render
from tokenizer import train_tokenizer
from tqdm import tqdm
from train_codec import load_codec
from train_text_encoder import TEXT, load_text_encoder

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.models.layers import Linear, additive_mask
from mindmusicgen.training.language_model import CaptionedCodes, LanguageModelLoss
from mindmusicgen.training.loop import Trainer

FRAMES = 512  # of a song that is coded: 10.24 s
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


class BeatAwareLoss(LanguageModelLoss):
    """The language model's loss, and the squared error of the beat that is read from the middle of the decoder."""

    def __init__(self, model):
        super().__init__(model, train_text=False)
        self.beat = Linear(model.config.decoder.hidden_size, 4)
        self.metric_names += ("beat",)

    def construct(self, input_ids, attention_mask, heard, columns, known, angles):
        mask = attention_mask.astype(ms.float32) * heard.expand_dims(-1)
        states = ops.stop_gradient(self.text_encoder.construct(input_ids, attention_mask))
        cross = self.decoder.cross_keys_values(self.conditioner(states, mask))
        hidden = additive_mask(mask).reshape(mask.shape[0], 1, 1, mask.shape[1])
        order = ops.arange(columns.shape[2] - 1)
        causal = additive_mask(order.reshape(1, -1) <= order.reshape(-1, 1))
        x, labels = self.decoder.embed(ops.gather(known, order, 2), order), ops.gather(columns, order + 1, 2)
        missed = 0.0
        for i, layer in enumerate(self.decoder.layers):
            x, _, _ = layer(x, causal, cross[2 * i], cross[2 * i + 1], hidden)
            if i + 1 == len(self.decoder.layers) // 2:
                counted = (labels[:, 0] < self.cross_entropy.vocab_size).astype(ms.float32).expand_dims(-1)
                missed = (ops.square(self.beat(x) - angles) * counted).sum() / (4 * counted.sum())
        losses = self.cross_entropy(self.decoder.logits(x), labels)
        parts = ()
        for k in range(labels.shape[1]):
            parts += (losses[k],)
        return losses.mean() + missed, (*parts, missed)


def with_mistakes(columns, random, most=0.8):
    """Columns [B, K, T + 1] as they are to be heard: in half of the clips a share of them is of another time."""
    heard = columns.copy()
    for row in heard:
        share = random.uniform(0, most) if random.random() < 0.5 else 0
        wrong = 1 + np.flatnonzero(random.random(row.shape[1] - 1) < share)
        row[:, wrong] = row[:, random.integers(row.shape[0], row.shape[1], len(wrong))]
    return heard


class BarClips(CaptionedCodes):
    """Clips that begin with a bar of their songs, the same with mistakes, and the beat of each of their frames."""

    def __init__(self, codes, captions, songs, frames, pad, rows, seed):
        super().__init__(codes, captions, frames, pad, rows, seed=seed)
        self.songs = songs

    def start(self, step, i):
        """The bar that a step's clip of song i begins with, in frames and parts of frames."""
        starts = bar_starts(self.songs[i])
        late = max(0, self.codes[i].shape[1] - self.frames)
        return np.random.default_rng([self.seed, step, i]).choice(starts[starts <= late])

    def clip(self, step, i):
        return self.codes[i][:, round(self.start(step, i)) :]

    def batch(self, step):
        columns = self.frames + len(self.codes[0]) - 1  # that are read
        angles = [beat_angles(self.songs[i], self.start(step, i), columns) for i in self.chosen(step)]
        *texts, exact = super().batch(step)
        return *texts, exact, with_mistakes(exact, np.random.default_rng([self.seed, 2, step])), np.stack(angles)


def clip_length(codes, song):
    """Frames of a song's codes that are music: short songs are padded with silence."""
    return codes[:, : min(FRAMES, int(song.seconds * 50))]


def load_decoder(model, folder):
    """Fill the decoder and its conditioner from a Hugging Face folder of the same sizes."""
    earlier = MusicgenForConditionalGeneration.from_pretrained(folder)
    for target, source in ((model.decoder, earlier.decoder), (model.conditioner, earlier.conditioner)):
        for mine, theirs in zip(target.get_parameters(), source.get_parameters(), strict=True):
            mine.set_data(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", required=True, help="output folder of train_codec.py")
    parser.add_argument("--text", required=True, help="output folder of train_text_encoder.py")
    parser.add_argument("--output", required=True, help="folder for data, checkpoints and the model")
    parser.add_argument(
        "--decoder-of", help="Hugging Face folder of an earlier model, whose decoder is trained further"
    )
    parser.add_argument("--songs", type=int, default=5000)
    parser.add_argument(
        "--stages", default="256:8:2400:1e-3,512:8:500:4e-4", help="frames:rows:steps:learning rate, ..."
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    target = os.path.join(arguments.output, "model")
    tokenizer = train_tokenizer(target)
    model = MusicgenForConditionalGeneration(model_config(len(tokenizer))).initialise(arguments.seed, std=0.03)
    if arguments.decoder_of:
        load_decoder(model, arguments.decoder_of)
    load_codec(model.audio_encoder, arguments.codec)
    load_text_encoder(model.text_encoder, arguments.text)
    codes = code_songs(model, os.path.join(arguments.output, "codes.npz"), arguments.songs)
    captions = tokenize(tokenizer, arguments.songs)
    songs = [draw_song(FIRST_SONG + i) for i in range(arguments.songs)]
    codes = [clip_length(clip, song) for clip, song in zip(codes, songs, strict=True)]
    for number, stage in enumerate(arguments.stages.split(",")):
        frames, rows, steps, rate = (float(part) for part in stage.split(":"))
        data = BarClips(codes, captions, songs, int(frames), CODES, int(rows), seed=arguments.seed + number)
        folder = os.path.join(arguments.output, f"stage{number + 1}")
        trainer = Trainer(
            BeatAwareLoss(model), folder, int(steps), rate, warmup=100 if number == 0 else 30, weight_decay=0.05
        )
        trainer.resume()
        trainer.fit(data.batch)
        model.save_pretrained(target)
    print(f"{target}: done")


if __name__ == "__main__":
    main()
