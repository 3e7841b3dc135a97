"""Write the golden values of `mindmusicgen doctor` for the tiny Bark: in float32, with plain operations on a CPU.

Run it after every change of that model: python scripts/bark_digits/make_doctor_golden.py
"""

import os

os.environ["MINDMUSICGEN_KERNELS"] = "0"  # read when the cells are made
os.environ["MINDMUSICGEN_CACHE"] = "0"

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindmusicgen import BarkModel, BarkProcessor
from mindmusicgen.bark.doctor import golden
from mindmusicgen.bark.doctor.stages import Stages
from mindmusicgen.bark.stages import Windows, coarse_history, semantic_prompt
from mindmusicgen.doctor.golden import save


def margins(logits):
    """Logits [n, V] -> how far the best is above the second, [n], as part of the largest."""
    best = np.sort(logits, -1)[:, -2:]
    return ((best[:, 1] - best[:, 0]) / np.abs(logits).max()).astype(np.float32)


def semantic_logits(stages, ids, mask, tokens):
    """Logits of each token and of the end, [s + 1, V], from a call without a cache."""
    network, chosen = stages.model.semantic, stages.settings.semantic
    length, table = chosen.max_input_semantic_length, network.get_input_embeddings()
    prompt = semantic_prompt(ids, mask, [stages.voice["semantic_prompt"]], chosen)
    embedded = table(Tensor(np.concatenate([prompt, tokens[None]], 1))).asnumpy()
    both = embedded[:, :length] + embedded[:, length : 2 * length]
    known = np.concatenate([both, embedded[:, 2 * length :]], 1)
    return network(input_embeds=Tensor(known)).logits.asnumpy()[0, length:, : chosen.eos_token_id + 1]


def coarse_logits(stages, semantic, codes):
    """Logits of each code, [2 * frames, codes], window by window, from calls without a cache."""
    settings, network = stages.settings, stages.model.coarse_acoustics
    base, size = settings.semantic.semantic_vocab_size, settings.codebook_size
    window = settings.coarse.sliding_window_len
    before, history = coarse_history((stages.voice["semantic_prompt"], stages.voice["coarse_prompt"]), settings)
    made = (codes + base + np.arange(2)[:, None] * size).T.reshape(-1)
    tokens, ids = np.concatenate([before, semantic]), np.concatenate([history, made])
    windows, found, begin = Windows(settings, len(before), len(history)), [], 0
    for done in range(0, len(made), window):
        begin = done if windows.moves(done) else begin
        prefix = windows.prefix(tokens, ids[: len(history) + begin], begin)
        known = np.concatenate([prefix, made[begin : done + window][:-1]]).astype(np.int32)
        logits = network(Tensor(known[None])).logits.asnumpy()[0]
        for step in range(done, min(done + window, len(made))):
            first = base + step % 2 * size
            found.append(logits[len(prefix) - 1 + step - begin, first : first + size])
    return np.stack(found)


def fine_run(stages, coarse):
    """The most probable codes of all codebooks, one after another, and their margins, [K, frames] each."""
    settings, network = stages.settings, stages.model.fine_acoustics
    books, frames = settings.fine.n_fine_codebooks, coarse.shape[1]
    codes, far = np.zeros((books, frames), np.int32), np.full((books, frames), np.inf, np.float32)
    codes[:2] = coarse
    for book in range(2, books):
        logits = network(book, Tensor(stages.window(codes, book))).logits.asnumpy()[
            0, :frames, : settings.codebook_size
        ]
        codes[book], far[book] = logits.argmax(-1), margins(logits)
    return codes, far


def greedy_run(stages, text):
    """The smallest margin of a text's loops, and the arrays of the run."""
    ids, mask = stages.tokens(text)
    tokens = stages.semantic(ids, mask)
    coarse = stages.coarse(tokens)
    fine, fine_margins = fine_run(stages, coarse)
    of_tokens, of_codes = semantic_logits(stages, ids, mask, tokens), coarse_logits(stages, tokens, coarse)
    chosen = [logits.argmax(-1) for logits in (of_tokens, of_codes)]
    if (chosen[0][:-1] != tokens).any() or (chosen[1] != coarse.T.reshape(-1)).any():
        raise SystemExit(f"the loops do not choose the best logits: {text}")
    of_tokens, of_codes = margins(of_tokens), margins(of_codes)
    least = min(of_tokens.min(), of_codes.min())
    print(f"{coarse.shape[1]} frames, smallest margins {of_tokens.min():.1e}, {of_codes.min():.1e}: {text}")
    arrays = {"text": np.array(text), "ids": ids, "mask": mask, "semantic": tokens, "coarse": coarse, "fine": fine}
    arrays |= {"semantic_margins": of_tokens, "coarse_margins": of_codes.reshape(-1, 2).T, "fine_margins": fine_margins}
    return least, arrays


def main():
    ms.set_device("CPU")
    stages = Stages(BarkModel.from_pretrained(golden.MODEL), BarkProcessor.from_pretrained(golden.MODEL))
    room = stages.settings.fine.max_fine_input_length
    runs = [greedy_run(stages, text) for text in golden.TEXTS]
    _, run = max((run for run in runs if run[1]["coarse"].shape[1] <= room), key=lambda found: found[0])
    run["audio"] = stages.audio(run["fine"][:, : golden.AUDIO_FRAMES])
    save(golden.PATH, golden.FOLDER, golden.BELONGING, run)
    print(f"{golden.PATH.name}: {golden.PATH.stat().st_size / 1e3:.0f} kB, of {str(run['text'])!r}")


if __name__ == "__main__":
    main()
