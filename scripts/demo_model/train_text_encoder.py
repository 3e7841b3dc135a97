"""Train the demo model's text encoder to know what songs its captions describe; MusicGen takes a T5 that knows more.

    python scripts/demo_model/train_text_encoder.py --output FOLDER

A linear layer reads the facts of the song from the mean of the encoder's states and is then thrown away. Captions cost
nothing, so every step sees new ones. Stop it with Ctrl-C; the same command goes on.
"""

import argparse
import os

import mindspore as ms
import numpy as np
from captions import caption
from config import model_config
from facts import FACTS, TEMPI, song_facts
from mindspore import nn, ops
from synthesiser import draw_song
from tokenizer import train_tokenizer

from mindmusicgen.checkpoint.safetensors_file import open_safetensors
from mindmusicgen.models.layers import Linear, initialise
from mindmusicgen.models.t5 import T5Encoder
from mindmusicgen.training.loop import STATE, Trainer

TEXT = 48  # tokens of a caption, padding included
FIRST_SONG = 5_000_000  # its seed


class FactsLoss(nn.Cell):
    """Cross-entropy of each fact, read from the mean of the states; `tempo` is how far off the likeliest tempo is."""

    def __init__(self, text_encoder, dim):
        super().__init__()
        self.text_encoder = text_encoder
        self.reader = Linear(dim, FACTS)
        self.tempi = ms.Tensor(TEMPI, ms.float32)
        self.metric_names = ("loss", "tempo")

    def construct(self, input_ids, attention_mask, facts):
        weights = attention_mask.astype(ms.float32).expand_dims(-1)
        states = self.text_encoder.construct(input_ids, attention_mask)
        known = self.reader((states * weights).sum(axis=1) / weights.sum(axis=1))
        losses = ops.relu(known) - known * facts + ops.log(1 + ops.exp(-ops.abs(known)))
        found = ops.gather(self.tempi, known[:, : len(TEMPI)].argmax(axis=1), 0)
        asked = ops.gather(self.tempi, facts[:, : len(TEMPI)].argmax(axis=1), 0)
        return losses.sum(axis=1).mean(), (ops.abs(found / asked - 1).mean(),)


def captions_and_facts(tokenizer, rows, seed):
    """The function from a step to its batch."""

    def batch(step):
        songs = [draw_song(FIRST_SONG + seed * 10_000_000 + step * rows + row) for row in range(rows)]
        encoded = tokenizer([caption(song) for song in songs], padding="max_length", truncation=True, max_length=TEXT)
        ids, mask = (np.int32(encoded[name]) for name in ("input_ids", "attention_mask"))
        return ids, mask, np.stack([song_facts(song) for song in songs])

    return batch


def load_text_encoder(text_encoder, folder):
    """Fill a text encoder from the training state in a folder."""
    tensors = open_safetensors(os.path.join(folder, STATE))
    for name, parameter in text_encoder.parameters_and_names():
        stored = name.split("text_encoder.")[-1]
        parameter.asnumpy()[...] = tensors[f"network.text_encoder.{stored}"].read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder for checkpoints and curves")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=48, help="captions in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = train_tokenizer(arguments.output)
    config = model_config(len(tokenizer)).text_encoder
    loss = FactsLoss(T5Encoder(config), config.d_model)
    initialise(loss, arguments.seed)
    trainer = Trainer(loss, arguments.output, arguments.steps, arguments.learning_rate, weight_decay=0.01)
    trainer.resume()
    trainer.fit(captions_and_facts(tokenizer, arguments.rows, arguments.seed))


if __name__ == "__main__":
    main()
