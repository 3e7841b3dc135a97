"""Train a stage of the tiny Bark with torch. Stop it with Ctrl-C; the same command goes on.

    python scripts/bark_digits/train_stages.py --stage semantic|coarse|fine --work FOLDER [--steps 2500]

Each stage is trained on what generation gives it to read: with and without a preset, at any place of a window.
"""

import argparse
import math
import os
import time

import config as sizes
import numpy as np
import torch
from data import BOOKS, CODES, SEMANTIC, VOICES, digits_of, draw_text
from torch.nn.functional import cross_entropy
from transformers.models.bark.modeling_bark import BarkCoarseModel, BarkFineModel, BarkSemanticModel

NONE = -100  # a place without a target


def spoken(digits, rng, voice=None):
    """ids of a text, semantic tokens, codes, and the voice."""
    voice = str(rng.choice(list(VOICES))) if voice is None else voice
    while True:
        ids = draw_text(rng)
        tokens, codes, _ = digits.say(ids, voice, bool(rng.random() < 0.3))
        if len(tokens) < sizes.NEW:
            return ids, tokens, codes, voice


def interleaved(codes):
    """Ids c0 c1 c0 c1 ... of the coarse stage."""
    return SEMANTIC + (codes[:2] + CODES * np.arange(2)[:, None]).T.reshape(-1)


def stacked(rows, value):
    """Rows of unequal length as one tensor, filled up with `value`."""
    made = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for row, one in zip(made, rows, strict=True):
        row[: len(one)] = one
    return torch.from_numpy(made)


class Semantic:
    """From text, and sometimes what was said before, to semantic tokens and their end."""

    model, config, rows = BarkSemanticModel, sizes.SEMANTIC_CONFIG, 12

    def __init__(self, digits):
        self.digits, self.ready = digits, []

    def batch(self, rng):
        if not self.ready:  # texts of about one length stand together
            drawn = sorted((spoken(self.digits, rng) for _ in range(4 * self.rows)), key=lambda one: len(one[1]))
            self.ready = [drawn[i : i + self.rows] for i in range(0, len(drawn), self.rows)]
            rng.shuffle(self.ready)
        text, history, tokens = [], [], []
        for ids, said, _, _ in self.ready.pop():
            text.append(np.append(ids + sizes.TEXT_OFFSET, [sizes.TEXT_PAD] * (sizes.TEXT - len(ids))))
            before = spoken(self.digits, rng)[1] if rng.random() < 0.5 else np.full(sizes.TEXT, SEMANTIC)
            history.append(before[-sizes.TEXT :])
            tokens.append(np.append(said, SEMANTIC))
        return stacked(text, 0), stacked(history, SEMANTIC), stacked(tokens, NONE)

    def loss(self, network, rng):
        text, history, tokens = self.batch(rng)
        table = network.input_embeds_layer
        mark = table(torch.full((len(text), 1), sizes.SEMANTIC_MARK))
        parts = [table(text) + table(history), mark, table(tokens[:, :-1].clamp(min=0))]
        logits = network(input_embeds=torch.cat(parts, 1)).logits[:, sizes.TEXT :]
        return errors(logits, tokens)


class Coarse:
    """From a window of semantic tokens and the ids so far to the ids that follow."""

    model, config, rows = BarkCoarseModel, sizes.COARSE_CONFIG, 12

    def __init__(self, digits):
        self.digits = digits

    def sequence(self, rng):
        _, tokens, codes, voice = spoken(self.digits, rng)
        ids, begin, before = interleaved(codes), 0, 0
        if rng.random() < 0.5:
            _, known, known_codes, _ = spoken(self.digits, rng, voice)
            before = min(sizes.HISTORY // 3, len(known) - len(known) % 2)
            past = interleaved(known_codes)[-3 * before :][:-2]  # as in generation
            tokens, ids, begin = np.append(known[-before:], tokens), np.append(past, ids), len(past)
        done = sizes.SLIDE * int(rng.integers(-(-(len(ids) - begin) // sizes.SLIDE)))
        window = tokens[max(0, before + done // 3 - sizes.HISTORY // 3) :][: sizes.LOOK]
        end = begin + done
        ids = ids[max(0, end - sizes.HISTORY) : end + sizes.SLIDE]
        return np.concatenate([window, [sizes.COARSE_PAD] * (sizes.LOOK - len(window)), [sizes.COARSE_MARK], ids])

    def loss(self, network, rng):
        rows = stacked([self.sequence(rng) for _ in range(self.rows)], NONE)
        logits = network(input_ids=rows[:, :-1].clamp(min=0)).logits[:, sizes.LOOK :]
        return errors(logits, rows[:, sizes.LOOK + 1 :])


class Fine:
    """From the first codebooks to the next one, where frames before some place are known in full."""

    model, config, rows = BarkFineModel, sizes.FINE_CONFIG, 8

    def __init__(self, digits):
        self.digits = digits

    def loss(self, network, rng):
        codes, target = np.full((2, self.rows, sizes.FINE, BOOKS), CODES)
        book = int(rng.integers(2, BOOKS))
        for row in range(self.rows):
            _, _, one, voice = spoken(self.digits, rng)
            known = 0
            if rng.random() < 0.5:
                before = spoken(self.digits, rng, voice)[2][:, -sizes.FINE_STEP :]
                one, known = np.concatenate([before, one], 1), before.shape[1]
            first = max(0, one.shape[1] - sizes.FINE)
            first = int(rng.integers(first + 1)) if rng.random() < 0.7 else 0
            one = one[:, first : first + sizes.FINE].T
            known = max(known - first, 0) if first == 0 else int(rng.choice([0, sizes.FINE_STEP]))
            codes[row, : len(one)], target[row, : len(one)] = one, one
            codes[row, known:, book:], target[row, :known] = CODES, CODES
        codes, target = torch.from_numpy(codes), torch.from_numpy(target[:, :, book])
        return errors(network(book, codes).logits[:, :, :CODES], target.where(target < CODES, torch.tensor(NONE)))


def errors(logits, target):
    """Cross-entropy, and the share of places whose most probable id is wrong."""
    wrong = (logits.argmax(-1) != target)[target != NONE].float().mean()
    return cross_entropy(logits.transpose(1, 2), target, ignore_index=NONE), wrong


STAGES = {"semantic": Semantic, "coarse": Coarse, "fine": Fine}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", required=True, choices=STAGES)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    path = os.path.join(arguments.work, f"{arguments.stage}.pt")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    kind = STAGES[arguments.stage]
    stage, network = kind(digits_of(arguments.work)), kind.model(kind.config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    first, sums, began = 0, [], time.time()
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, arguments.steps):
        done = step / arguments.steps
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * min(1, (step + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * done))
        loss, wrong = stage.loss(network, np.random.default_rng(step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        sums.append([float(loss.detach()), float(wrong)])
        if (step + 1) % 50 == 0 or step + 1 == arguments.steps:
            left = (time.time() - began) / (step + 1 - first) * (arguments.steps - step - 1)
            means = np.mean(sums, axis=0)
            print(f"step {step + 1}: loss {means[0]:.4f}, wrong {means[1]:.4f}, {left / 60:.0f} min left", flush=True)
            sums = []
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
