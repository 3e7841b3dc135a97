"""How much weights of 8 and 4 bits change a model's choices, beside what float32 changes by summing in another order.

    python scripts/benchmark/quality.py --model FOLDER [--seconds 10] [--prompts 4] [--codes FILE.npz] [--text PROMPT]

The float32 model writes music for some prompts (or --codes gives it, as of `mindmusicgen generate --codes`, with
--text); then every model reads the same codes step by step, through the very steps that generate, caches included, and
says what it would have chosen. Against float32 with kernels: the mean Kullback-Leibler divergence of the next code's
distribution, in nats, and how often the most likely code is the same; per codebook, for the guided logits that are
sampled from (guidance 3), and for those of the prompt alone. The noise floor is float32 on MindSpore's own operations,
which sum in another order. With random weights the numbers mean little.
"""

import argparse
import os
import sys

import numpy as np

PROMPTS = (
    "happy 80s pop track with bassy drums",
    "slow sad piano, a minor key",
    "fast rock with electric guitars and heavy drums",
    "calm ambient pads, bright and airy",
)
SCALE = 3.0


def open_model(folder, kernels=True, **options):
    """A model whose cells use the kernels or not; that is settled when they are made."""
    from mindmusicgen import MusicgenForConditionalGeneration

    before = os.environ.pop("MINDMUSICGEN_KERNELS", None)
    if not kernels:
        os.environ["MINDMUSICGEN_KERNELS"] = "0"
    model = MusicgenForConditionalGeneration.from_pretrained(folder, **options)
    os.environ.pop("MINDMUSICGEN_KERNELS", None)
    if before is not None:
        os.environ["MINDMUSICGEN_KERNELS"] = before
    return model


def write_music(model, inputs, seconds):
    """Codes [B, K, frames] that the model chooses itself."""
    request, *_ = model._request(*inputs.values(), {"duration": seconds, "guidance_scale": SCALE, "seed": 0})
    return np.concatenate(list(model._generate_codes(request, None, None)), axis=2)


def read_music(model, inputs, codes):
    """Logits [columns, 2 B, K, V] of every column after the first: with the prompt, then without."""
    import mindspore as ms
    from mindspore import Tensor, nn

    from mindmusicgen.musicgen.training.language_model import delayed_columns

    columns = delayed_columns(codes, codes.shape[2], model.pad_code, model.config.decoder.audio_channels)
    arguments = {"max_new_tokens": columns.shape[2] - 1, "guidance_scale": SCALE}
    request, *_ = model._request(*inputs.values(), arguments)
    graphs, _ = model._generator.conditioned(request, columns.shape[2], 0)

    class Reader(nn.Cell):
        def __init__(self):
            super().__init__()
            self.graphs = graphs

        def construct(self, ids, position):
            return self.graphs.step_logits(ids, position)

    step = ms.jit(Reader().construct, fullgraph=True)
    found = []
    for position in range(columns.shape[2] - 1):
        place = Tensor(np.array([position], np.int32))
        found.append(step(Tensor(np.ascontiguousarray(columns[:, :, position])), place).asnumpy())
    return np.stack(found), columns


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def compare(expected, found, valid, guided):
    """Per codebook: mean divergence and share of equal first choices. valid: [columns, B, K]."""
    both = []
    for logits in (expected, found):
        prompt, null = np.split(logits.astype(np.float64), 2, axis=1)
        both.append(log_softmax(null + (prompt - null) * SCALE if guided else prompt))
    divergence = (np.exp(both[0]) * (both[0] - both[1])).sum(-1)
    same = both[0].argmax(-1) == both[1].argmax(-1)
    books = range(valid.shape[2])
    return [(divergence[..., k][valid[..., k]].mean(), same[..., k][valid[..., k]].mean()) for k in books]


def show(name, rows, compared):
    divergences, shares = (np.array(column) for column in zip(*rows, strict=True))
    print(f"{name:34}{divergences.mean():>10.2e}{shares.mean():>9.2%}  ", end="")
    print("  ".join(f"{d:.1e} {s:.1%}" for d, s in rows), f"  ({compared} choices)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", help="folder of a float32 model, or demo")
    parser.add_argument("--int8", help="int8 folder made of it; without it the weights are rounded in memory")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help=f"how many of {len(PROMPTS)} prompts")
    parser.add_argument("--codes", metavar="FILE", help=".npz of codes to read, in place of the model's own music")
    parser.add_argument("--text", default=PROMPTS[0], help="the prompt of --codes")
    arguments = parser.parse_args()

    from mindmusicgen import MusicgenProcessor

    model = open_model(arguments.model)
    processor = MusicgenProcessor.from_pretrained(arguments.model)
    texts = [arguments.text] if arguments.codes else list(PROMPTS[: arguments.prompts])
    inputs = processor(text=texts)
    if arguments.codes:
        from mindmusicgen.codes_file import load_codes

        codes = load_codes(arguments.codes, model.config)[:1]
    else:
        codes = write_music(model, inputs, arguments.seconds)
    expected, columns = read_music(model, inputs, codes)
    targets = columns[:, :, 1:].transpose(2, 0, 1)
    valid = targets < model.config.decoder.vocab_size  # not where the delay pattern forces padding
    del model
    print(f"{arguments.model}: {codes.shape[0]} pieces of {codes.shape[2]} frames, against float32 with kernels")
    print(f"{'':34}{'mean KL':>10}{'top-1':>9}  per codebook")
    sides = {
        "float32 in another order": lambda: open_model(arguments.model, kernels=False),
        "int8": lambda: open_model(arguments.int8 or arguments.model, quantization="int8"),
        "int4": lambda: open_model(arguments.model, quantization="int4"),
    }
    for name, make in sides.items():
        model = make()
        found, _ = read_music(model, inputs, codes)
        for guided in (True, False):
            label = f"{name}, {'guided' if guided else 'prompt alone'}"
            show(label, compare(expected, found, valid, guided), int(valid.sum()))
        del model


if __name__ == "__main__":
    sys.exit(main())
