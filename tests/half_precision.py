"""float16 as an NPU computes it, on a CPU: for the tests, and `python tests/half_precision.py`, which prints the error.

A model of half precision is run operation by operation with MindSpore's own kernels, so that every intermediate result
is rounded to its dtype. Only the matrix products are replaced: an NPU sums in float32 and rounds the sum, while the
CPU's half kernels sum in half precision. bfloat16 has no elementwise operations on a CPU, so its error is not measured.
"""

import contextlib
import os

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

import mindmusicgen

PROMPTS = ["upbeat 80s pop with drums and synth bass, 125 bpm", "slow ambient with synth pads, no drums"]
FRAMES = 50  # columns whose codes are compared


class Log(list):
    """What was computed in which dtype: pairs of an operation's name and the dtype of its first input."""

    def dtypes(self, name):
        """The dtypes that an operation was given, by name."""
        return {str(dtype).lower() for operation, dtype in self if operation == name}


@contextlib.contextmanager
def as_on_an_npu():
    """Context in which models are made and run; gives the `Log`."""
    log, kinds, functions = Log(), (ops.MatMul, ops.BatchMatMul), ("softmax", "cumsum", "topk")
    norms = (ops.LayerNorm, ops.ReduceMean)

    def in_float32(kind):
        def make(*options, **named):
            wide = kind(*options, **named)

            def run(x, y):
                log.append((kind.__name__, x.dtype))
                return wide(x.astype(ms.float32), y.astype(ms.float32)).astype(x.dtype)

            return run

        return make

    def logged(kind):
        return lambda *options, **named: noted(kind.__name__, kind(*options, **named))

    def noted(name, function):
        def run(x, *arguments, **named):
            log.append((name, x.dtype))
            return function(x, *arguments, **named)

        return run

    plain = {kind.__name__: kind for kind in (*kinds, *norms)}
    plain |= {name: getattr(ops, name) for name in functions}
    for kind in kinds:
        setattr(ops, kind.__name__, in_float32(kind))
    for kind in norms:
        setattr(ops, kind.__name__, logged(kind))
    for name in functions:
        setattr(ops, name, noted(name, plain[name]))
    setting = os.environ.get("MINDMUSICGEN_KERNELS")
    os.environ["MINDMUSICGEN_KERNELS"] = "0"  # which are for CPUs
    try:
        yield log
    finally:
        os.environ.pop("MINDMUSICGEN_KERNELS") if setting is None else os.environ.update(MINDMUSICGEN_KERNELS=setting)
        for name, function in plain.items():
            setattr(ops, name, function)


def half_twin(model, dtype=ms.float16):
    """A model of half precision with the weights of a float32 one; to be called in `as_on_an_npu`."""
    twin = type(model)(model.config, dtype=dtype, generation_config=model.generation_config)
    weights = dict(model.parameters_and_names())
    for name, parameter in twin.parameters_and_names():
        parameter.set_data(weights[name].astype(parameter.dtype))
    return twin


def relative(found, expected):
    """The largest difference, where the largest expected number is 1; and the root of the mean square, likewise."""
    difference = np.abs(found.astype(np.float64) - expected)
    return difference.max() / np.abs(expected).max(), np.sqrt(np.mean(difference**2) / np.mean(expected**2))


def text_states(model, ids, mask):
    """The text encoder's output, as float32: [B, S, D]."""
    return model.text_encoder.construct(ids, mask).astype(ms.float32).asnumpy()


def logits(model, ids, mask, codes):
    """Logits of known codes [B, K, T], with and without the text: [2 B, K, T, V] float32."""
    columns = codes.shape[2]
    ids, mask = ids.asnumpy(), mask.asnumpy()
    both = (np.concatenate([ids, ids]), np.concatenate([mask, 0 * mask]))
    known = np.concatenate([codes, codes]).reshape(-1, columns)
    found = model.logits(*(Tensor(array.astype(np.int32)) for array in (*both, known)))
    return found.asnumpy().reshape(2 * len(codes), -1, columns, model.config.decoder.vocab_size)


def guided(values, scale=3.0):
    """Logits [2 B, ...] to [B, ...]."""
    conditional, null = np.split(values, 2)
    return null + (conditional - null) * scale


def measure(model, processor):
    """How far half precision is from float32 on one model: dict of name to number."""
    inputs = processor(text=PROMPTS)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    made = model.generate(**inputs, do_sample=False, max_new_tokens=FRAMES, return_dict_in_generate=True)
    frames = made.audio_codes.asnumpy()
    start = np.full((*frames.shape[:2], 1), model.pad_code, np.int32)
    codes = np.concatenate([start, frames], axis=2)[:, :, :FRAMES]
    expected_states, expected = text_states(model, ids, mask), logits(model, ids, mask, codes)
    with as_on_an_npu():
        twin = half_twin(model)
        states, found = text_states(twin, ids, mask), logits(twin, ids, mask, codes)
    real = mask.asnumpy().astype(bool)
    text, decoder = relative(states[real], expected_states[real]), relative(found, expected)
    mixed = relative(guided(found), guided(expected))
    return {
        "text states, largest": text[0],
        "text states, mean square": text[1],
        "logits, largest": decoder[0],
        "logits, mean square": decoder[1],
        "guided logits, largest": mixed[0],
        "guided logits, mean square": mixed[1],
        "most likely codes that stay": float((guided(found).argmax(-1) == guided(expected).argmax(-1)).mean()),
    }


if __name__ == "__main__":
    demo = mindmusicgen.MusicgenForConditionalGeneration.from_pretrained("demo", device="CPU").run_eagerly()
    for what, number in measure(demo, mindmusicgen.AutoProcessor.from_pretrained("demo")).items():
        print(f"{what:28} {number:.5f}")
