"""Train the demo model's text encoder and decoder with torch. Stop it with Ctrl-C; the same command goes on.

    python scripts/demo_model/train_language_model.py --output FOLDER [--steps 5000] [--start mindmusicgen/demo]

The codes come straight from the composer (see `instruments`): no audio is made, and no song is seen twice. What a clip
is: half of the batches begin where a piece begins or where a window of a longer piece does (the start code, then codes
from any moment of a song); the others are cut out of the middle, at their own positions, so that late positions are
learnt at the cost of short clips. Before that the text encoder is trained on captions alone, of which a step can hold
many, to tell what the song is; it goes on with this second task beside the decoder, on captions of its own besides
those of the clips: of a clip's captions alone, a few in a step, the tempo was still misread in one prompt of twelve.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch
from captions import caption
from config import model_config
from facts import FACTS, song_facts
from instruments import PLAYERS, STATES, plain, player
from synthesiser import BEATS, compose, draw_song
from tokenizer import load_tokenizer, train_tokenizer, with_tempi, write_tokenizer
from torch import nn
from transformers import EncodecFeatureExtractor, GenerationConfig, MusicgenForConditionalGeneration, MusicgenProcessor

COLUMNS = 512  # of a clip
LONGEST = 1503  # columns that a piece may have
FIRST_SONG, FIRST_TEXT = 1_000_000, 10_000_000  # first seeds; evaluation uses seeds below
STATE = "language-model.pt"
TEXT = 48  # tokens of a caption
UNHEARD = 0.15  # part of the captions that is dropped, for guidance
UNCERTAIN = 64  # columns at the beginning of a cut whose past is missing: they teach nothing


class LanguageModel(nn.Module):
    """Text encoder and decoder of MusicGen, and the head of the second task."""

    def __init__(self, vocabulary):
        super().__init__()
        self.model = MusicgenForConditionalGeneration(model_config(vocabulary))
        self.model.audio_encoder.requires_grad_(False)
        self.facts = nn.Linear(self.model.config.text_encoder.d_model, FACTS)
        positions = self.model.decoder.model.decoder.embed_positions
        positions.make_weights(LONGEST + COLUMNS, positions.embedding_dim)
        self.offset, plain = 0, positions.forward
        positions.forward = lambda codes, past=0: plain(codes, past + self.offset)
        self.begin_with_successors()

    def tell(self, states, mask):
        """Logits of the facts, [B, FACTS], from states [B, S, D]."""
        return self.facts((states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))

    @torch.no_grad()
    def begin_with_successors(self):
        """Initial weights that say "the sound goes on": the head's row of a state points to the embedding of the state
        before it. Embeddings are as long as the positions that are added to them, or they would drown in these."""
        decoder = self.model.decoder
        for place, name in enumerate(PLAYERS):
            embedding = decoder.model.decoder.embed_tokens[place].weight
            nn.init.normal_(embedding, std=0.5)
            following = torch.from_numpy(player(name).following)
            states = torch.cat([torch.zeros(1, dtype=torch.long), torch.nonzero(following)[:, 0]])
            directions = nn.functional.normalize(embedding[states], dim=1)
            decoder.lm_heads[place].weight[following[states]] = 1.3 * directions

    def forward(self, ids, mask, heard, columns, offset):
        """Logits [B, players, T - 1, STATES] of the columns after the first, and the facts' logits [B, FACTS]."""
        states = self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        facts = self.tell(states, mask)
        mask = mask * heard[:, None]
        states = self.model.enc_to_dec_proj(states) * mask.unsqueeze(-1)
        self.offset = offset
        rows, players, length = columns.shape
        logits = self.model.decoder(
            input_ids=columns[:, :, :-1].reshape(rows * players, length - 1),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        ).logits
        return logits.unflatten(0, (rows, players)), facts


def facts_loss(told, facts):
    """Cross-entropy of the tempo, and of each other fact."""
    tempo = nn.functional.cross_entropy(told[:, : len(BEATS)].float(), facts[:, : len(BEATS)].argmax(1))
    return tempo + 10 * nn.functional.binary_cross_entropy_with_logits(
        told[:, len(BEATS) :].float(), facts[:, len(BEATS) :]
    )


def told_captions(network, tokenizer, step, seed, half, rows):
    """Loss of the facts that the text encoder tells from captions of a step."""
    rng = np.random.default_rng([seed, 2, step])
    songs = [draw_song(FIRST_TEXT + step * rows + row) for row in range(rows)]
    captions = [caption(song, int(rng.integers(1 << 30))) for song in songs]
    text = tokenizer(captions, padding=True, max_length=TEXT, truncation=True, return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        states = network.model.text_encoder(input_ids=text.input_ids, attention_mask=text.attention_mask)
        told = network.tell(states.last_hidden_state, text.attention_mask)
    return facts_loss(told, torch.from_numpy(np.stack([song_facts(song) for song in songs])))


def train_text(network, tokenizer, steps, seed, half, head_alone=False, rows=128):
    """Train the text encoder alone, on captions; or, where it is trained already, the new head of facts on it."""
    trained = [*network.facts.parameters()]
    rate = 1e-2 if head_alone else 1e-3
    if not head_alone:
        trained += network.model.text_encoder.parameters()
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (1 - step / steps) + 1e-5
        loss = told_captions(network, tokenizer, step, seed, half, rows)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"captions, step {step + 1}: {float(loss.detach()):.3f}", flush=True)


def delayed(codes, start=True):
    """Codes [players, frames] as columns: player k is k columns late; the start code where nothing is known.

    With `start` there is a column of start codes first; without, the columns before the last players begin are dropped.
    """
    players, frames = codes.shape
    columns = np.full((players, frames + players), STATES, np.int64)
    for k in range(players):
        columns[k, 1 + k : 1 + k + frames] = codes[k]
    return columns[:, :frames] if start else columns[:, players:frames]


class Clips:
    """Batches, each a function of its step's number."""

    def __init__(self, tokenizer, rows, seed):
        self.tokenizer, self.rows, self.seed = tokenizer, rows, seed

    def batch(self, step, columns=COLUMNS, beginnings=False):
        """ids, mask [B, S], facts [B, FACTS], heard [B], columns [B, players, T + 1] and the position of the first."""
        rng = np.random.default_rng([self.seed, step])
        cut = step % 2 == 1 and columns < LONGEST and not beginnings
        offset = int(rng.integers(1, LONGEST - columns)) if cut else 0
        made, captions, facts = [], [], []
        for row in range(self.rows):
            song = draw_song(FIRST_SONG * (1 + self.seed) + step * self.rows + row)
            if cut:
                clip = delayed(compose(song, offset + columns + 2), start=True)[:, offset : offset + columns + 1]
            else:
                first = 0 if row % 4 or beginnings else int(rng.integers(0, 1000))
                codes = compose(song, first + columns + 2)[:, first:]
                if rng.random() < 0.25:  # as the codec hears a recording: its silences are not counted
                    heard_until = int(rng.integers(1, columns))
                    codes[:, :heard_until] = plain(codes[:, :heard_until])
                clip = delayed(codes)[:, : columns + 1]
            made.append(clip)
            captions.append(caption(song, int(rng.integers(1 << 30))))
            facts.append(song_facts(song))
        text = self.tokenizer(captions, padding="max_length", max_length=TEXT, truncation=True, return_tensors="pt")
        heard = torch.from_numpy((rng.random(self.rows) >= UNHEARD).astype(np.int64))
        return (text.input_ids, text.attention_mask, torch.from_numpy(np.stack(facts)), heard,
                torch.from_numpy(np.stack(made)), offset)  # fmt: skip


def losses(network, batch, half):
    """Cross-entropy of each player in nats a code, and of the facts."""
    ids, mask, facts, heard, columns, offset = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits, told = network(ids, mask, heard, columns, offset)
    labels = columns[:, :, 1:].masked_fill(columns[:, :, 1:] == STATES, -100)
    if offset:
        labels[:, :, :UNCERTAIN] = -100
    each = nn.functional.cross_entropy(logits.flatten(0, 2).float(), labels.flatten(), reduction="none")
    each = each.view(labels.shape).sum((0, 2)) / (labels >= 0).sum((0, 2))
    return each, facts_loss(told, facts)


def save_model(network, tokenizer, folder):
    """Write a Hugging Face folder with the weights so far; the codec in it is not trained."""
    model = network.model
    model.generation_config = GenerationConfig(
        bos_token_id=STATES, pad_token_id=STATES, decoder_start_token_id=STATES, do_sample=True, guidance_scale=3.0,
        max_length=504,
    )  # fmt: skip
    model.save_pretrained(folder)
    extractor = EncodecFeatureExtractor(feature_size=1, sampling_rate=32000, padding_side="left")
    MusicgenProcessor(extractor, tokenizer).save_pretrained(folder)


def begin_with(network, tokenizer, model, state):
    """Weights of another run's state; of a model's folder where there is none, whose head of facts begins anew."""
    if os.path.exists(state):
        network.load_state_dict(torch.load(state, weights_only=True)["network"])
        return
    before = MusicgenForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    kept = {name: value for name, value in before.state_dict().items() if "embed_positions" not in name}
    grown = network.model.text_encoder.shared.weight.detach().clone()
    old = load_tokenizer(model)
    for place, piece in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        parts = [place] if place < len(old) else old.convert_tokens_to_ids(list(piece))  # of a number, its digits
        grown[place] = before.text_encoder.shared.weight[parts].mean(0)
    kept |= {name: grown for name in kept if name.startswith("text_encoder.") and value_of_words(name)}
    missing, left = network.model.load_state_dict(kept, strict=False)
    if left or any("embed_positions" not in name for name in missing):
        raise SystemExit(f"{model} does not fit: {left + missing}")


def value_of_words(name):
    """Whether a text encoder's tensor is its table of words."""
    return name.endswith(("shared.weight", "embed_tokens.weight"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder for checkpoints and curves")
    parser.add_argument(
        "--start", help="output of another run, or a model's folder: the weights that this one begins with"
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--text-steps", type=int, default=1500, help="first steps of the text encoder alone")
    parser.add_argument(
        "--beginning-steps", type=int, default=3500, help="steps of which three in four are on the beginnings of pieces"
    )
    parser.add_argument("--long-steps", type=int, default=200, help="the last steps, on whole pieces of 30 s")
    parser.add_argument("--captions", type=int, default=64, help="captions without music in each step")
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1.2e-3)
    parser.add_argument("--half", action="store_true", help="products in bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="other songs: 0 to 8")
    arguments = parser.parse_args()
    folder = os.path.join(arguments.output, "model")
    path = os.path.join(arguments.output, STATE)
    os.makedirs(arguments.output, exist_ok=True)
    start = arguments.start
    if start and os.path.exists(os.path.join(start, STATE)):
        start = os.path.join(start, "model")
    trained_before = folder if os.path.exists(path) else start
    if trained_before == folder:
        tokenizer = load_tokenizer(folder)
    elif trained_before:
        with open(os.path.join(trained_before, "spiece.model"), "rb") as file:
            tokenizer = write_tokenizer(with_tempi(file.read()), folder)
    else:
        tokenizer = train_tokenizer(folder)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    network = LanguageModel(len(tokenizer))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    first, curves = 0, []
    if start and not os.path.exists(path):
        begin_with(network, tokenizer, start, os.path.join(arguments.start, STATE))
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first, curves = state["step"], state["curves"]
    if not first:
        head_alone = bool(start) and not os.path.exists(os.path.join(arguments.start, STATE))
        train_text(network, tokenizer, arguments.text_steps, arguments.seed, arguments.half, head_alone)
    clips, began, sums = Clips(tokenizer, arguments.rows, arguments.seed), time.time(), []
    for step in range(first, arguments.steps):
        long = step >= arguments.steps - arguments.long_steps
        rate = (
            arguments.learning_rate
            * min(1, (step + 1) / 150)
            * (0.5 + 0.5 * math.cos(math.pi * step / arguments.steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-5
        beginnings = step % 4 != 3 and step >= arguments.steps - arguments.long_steps - arguments.beginning_steps
        clips.rows = max(1, arguments.rows // 3) if long else 4 * arguments.rows if beginnings else arguments.rows
        columns = LONGEST if long else COLUMNS // 4 if beginnings else COLUMNS
        each, told = losses(network, clips.batch(step, columns, beginnings and not long), arguments.half)
        optimizer.zero_grad()
        more = told_captions(network, tokenizer, step, arguments.seed + 1, arguments.half, arguments.captions)
        (each.mean() + 0.2 * told + 0.2 * more).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        sums.append([*each.detach().tolist(), float(told.detach())])
        if (step + 1) % 50 == 0 or step + 1 == arguments.steps:
            curves.append([step + 1, *map(float, np.mean(sums, axis=0))])
            sums = []
            left = (time.time() - began) / (step + 1 - first) * (arguments.steps - step - 1)
            told = ", ".join(
                f"{name} {value:.3f}" for name, value in zip([*PLAYERS, "facts"], curves[-1][1:], strict=True)
            )
            print(f"step {step + 1}: {told}; {left / 60:.0f} min left", flush=True)
        if (step + 1) % 50 == 0 or step + 1 == arguments.steps:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "curves": curves,
            }
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)
            save_model(network, tokenizer, folder)
            with open(os.path.join(arguments.output, "curves.json"), "w", encoding="utf-8") as file:
                json.dump(curves, file)


if __name__ == "__main__":
    main()
