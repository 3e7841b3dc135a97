"""Train the demo model's EnCodec on synthesised songs. Stop it with Ctrl-C; the same command goes on.

    python scripts/demo_model/train_codec.py --output FOLDER [--steps 2600]
    python scripts/demo_model/train_codec.py --output FINER --decoder-of FOLDER [--steps 1000]

The second command trains the decoder further while encoder and codebooks stay: the codes of all songs, and so the
language model that was trained on them, remain valid.
"""

import argparse
import functools
import os

import numpy as np
from config import codec_config
from synthesiser import draw_song, render

from mindmusicgen.checkpoint.safetensors_file import open_safetensors
from mindmusicgen.models.encodec import Encodec
from mindmusicgen.models.layers import initialise
from mindmusicgen.training.codec import CodecLoss, DecoderLoss
from mindmusicgen.training.loop import STATE, Trainer

SAMPLES = 30720  # of a clip, 0.96 s: a multiple of the frame (640) and of the longest hop of the spectral loss (512)
POOL = 16  # songs that clips of a batch are cut from; one is replaced at every step
FIRST_SONG = 100_000  # its seed; evaluation uses seeds below


@functools.lru_cache(maxsize=POOL + 4)
def song_audio(seed):
    """A song, kept while clips are cut from it."""
    return render(draw_song(seed))


def clips(loss, seed, rows, samples):
    """The function from a step to its batch for `DecoderLoss`: clips of several songs at random loudness."""

    def batch(step):
        rng = np.random.default_rng([seed, step])
        made = np.empty((rows, 1, samples), np.float32)
        for row in range(rows):
            song = song_audio(FIRST_SONG + step + int(rng.integers(POOL)))
            start = rng.integers(0, len(song) - samples)
            made[row, 0] = song[start : start + samples] * rng.uniform(0.6, 1.2)
        return (made,)

    return batch


def batches(loss, seed, rows, samples):
    """The same for `CodecLoss`: with the indices for revival, and the strength of the quantisation, which rises."""
    draw, frames = clips(loss, seed, rows, samples), -(-samples // loss.codec.config.hop_length)

    def batch(step):
        rng = np.random.default_rng([seed, step, 1])
        strength = np.float32([min(max(step - 100, 0) / 300, 1)])
        return *draw(step), loss.draw(rng, rows, frames), strength

    return batch


def load_codec(codec, folder):
    """Fill a codec from the training state in a folder."""
    tensors = open_safetensors(os.path.join(folder, STATE))
    for name, parameter in codec.parameters_and_names():
        stored = name.split("audio_encoder.")[-1]
        parameter.asnumpy()[...] = tensors[f"network.codec.{stored}"].read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder for checkpoints and curves")
    parser.add_argument("--decoder-of", help="output of a finished run, whose decoder alone is trained further")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--rows", type=int, default=4, help="clips in a batch")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    codec = Encodec(codec_config())
    initialise(codec, arguments.seed)
    if arguments.decoder_of:
        load_codec(codec, arguments.decoder_of)
        loss, draw = DecoderLoss(codec), clips
    else:
        loss, draw = CodecLoss(codec), batches
    trainer = Trainer(
        loss,
        arguments.output,
        arguments.steps,
        arguments.learning_rate,
        warmup=50,
        betas=(0.8, 0.98),
        weight_decay=1e-4,
    )
    trainer.resume()
    trainer.fit(draw(loss, arguments.seed, arguments.rows, arguments.samples))


if __name__ == "__main__":
    main()
