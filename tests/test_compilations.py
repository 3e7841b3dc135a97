"""When graphs are compiled: once for each bucket of shapes, and never for a setting. And how: strictly."""

import ast
from collections import Counter
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import mindmusicgen
from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.training.loop import TrainingStep

PACKAGE = Path(mindmusicgen.__file__).parent
TEXT, STEP = "models.t5.construct.", "training.loop._run."
ENCODE = tuple(f"models.encodec.encode_{part}." for part in ("convolutions_until", "recurrent", "last"))
DECODE = tuple(f"models.encodec.decode_{part}." for part in ("convolutions_until", "recurrent"))
CONDITION, PREFILL = (f"musicgen.decode_loop.{name}." for name in ("_condition", "_prefill"))
CHUNK = "generation.decode_loop._chunk."
LOOP = {CONDITION: 1, CHUNK: 1}


@pytest.fixture
def model(quad, tmp_path):
    """A model that has compiled nothing yet; the codec runs uncompiled, except where it is called by name."""
    opened = MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path / "quad")))
    opened.codec_graphs.eager = frozenset({"encode", "decode"})
    return opened


@pytest.fixture
def compilations(compiled, compiled_names):
    """A function from something to do to what it compiled: a Counter of methods."""

    def count(do):
        before, known = compiled(), set(compiled_names())
        do()
        fresh = [name for name in compiled_names() if name not in known]
        assert len(fresh) == compiled() - before
        return Counter(method_of(name) for name in fresh)

    return count


def method_of(name):
    """The method that MindSpore's name of a graph begins with."""
    methods = (TEXT, *ENCODE, *DECODE, STEP, CONDITION, PREFILL, CHUNK)
    return next((method for method in methods if name.startswith(f"mindmusicgen.{method}")), name[:120])


def test_a_mixed_workload(model, compilations):
    """Counts change when a bucket does, and then by the graphs of that bucket alone."""
    frames, rng = 5, np.random.default_rng(1)

    def tokens(rows, length):
        return rng.integers(3, 30, (rows, length)).astype(np.int32)

    def make(rows=1, length=9, new=20, **settings):
        prompt = settings.pop("prompt", None)
        if prompt:
            settings["audio_codes"] = rng.integers(0, 64, (rows, 4, prompt)).astype(np.int32)
        return lambda: model.generate(tokens(rows, length), max_new_tokens=new, **settings)

    workload = [
        ("the first piece, whose text goes operation by operation", make(), LOOP),
        ("another seed", make(seed=3), {TEXT: 1}),
        ("a shorter prompt of the same bucket", make(length=2), {}),
        ("the longest prompt of the bucket", make(length=16), {}),
        ("all settings", make(temperature=0.3, top_k=7, top_p=0.5, guidance_scale=1.5, seed=1), {}),
        ("greedy", make(do_sample=False), {}),
        ("guidance that changes", make(guidance_scale=(4, 2)), {}),
        ("the longest piece of the bucket", make(new=64), {}),
        ("a longer prompt", make(length=17), LOOP),
        ("a longer piece", make(new=70), LOOP),
        ("a piece of that length again", make(new=120), {}),
        ("no guidance", make(guidance_scale=1.0), LOOP),
        ("two prompts", make(rows=2), LOOP),
        ("one prompt, two pieces", make(num_return_sequences=2), {}),
        ("an audio prompt", make(prompt=frames), {PREFILL: 1}),
        ("a longer audio prompt of the same bucket", make(prompt=frames + 20), {}),
        ("an audio prompt for two", make(rows=2, prompt=frames), {TEXT: 1, PREFILL: 1}),
        ("the first settings again", make(), {}),
    ]
    found = [(what, dict(compilations(do))) for what, do, _ in workload]
    assert found == [(what, expected) for what, _, expected in workload]


def test_the_codec_compiles_its_parts_once_for_all_lengths(model, compilations):
    model.codec_graphs.eager = frozenset()
    hop = model.config.audio_encoder.hop_length
    rng = np.random.default_rng(2)

    def encode(samples):
        return lambda: model.encode(rng.standard_normal((1, 1, samples)).astype(np.float32) * 0.1)

    def decode(frames):
        return lambda: model.decode(rng.integers(0, 64, (1, 4, frames)).astype(np.int32))

    assert compilations(encode(20 * hop)) == dict.fromkeys(ENCODE, 1)
    assert compilations(decode(20)) == dict.fromkeys(DECODE, 1)
    for frames in (19, 21, 29):  # windows of one size hold them all; below 15 there is one more, for streams
        assert compilations(encode(frames * hop - frames)) == compilations(decode(frames)) == {}
    for few in (1, 3, 7):  # too short for a window, coded without a graph
        assert compilations(encode(few * hop)) == compilations(decode(few)) == {}


def test_prompts_share_few_graphs(model, compilations):
    """Prompts of 65 to 128 columns pass through one graph, and so on."""
    rng = np.random.default_rng(4)

    def make(prompt):
        arguments = {"audio_codes": rng.integers(0, 64, (1, 4, prompt)).astype(np.int32), "max_new_tokens": 8}
        return lambda: model.generate(rng.integers(3, 30, (1, 9)).astype(np.int32), **arguments)

    assert compilations(make(70)) == {CONDITION: 1, PREFILL: 1, CHUNK: 1}
    assert compilations(make(115)) == {TEXT: 1}
    assert compilations(make(99)) == {}


def test_a_training_step_compiles_once(compilations):
    class Squares(ms.nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense = ms.nn.Dense(3, 1)

        def construct(self, x):
            loss = (self.dense(x) ** 2).mean()
            return loss, (loss,)

    network = Squares()
    step = TrainingStep(network, ms.nn.SGD(network.trainable_params(), 0.1), 1.0)
    batches = [ms.Tensor(np.full((2, 3), value, np.float32)) for value in (1, 2)]
    counted = [compilations(lambda batch=batch: step.run(batch)) for batch in batches]
    assert counted == [{STEP: 1}, {}]


def test_every_graph_is_strict():
    """Whatever is compiled in the package is compiled whole: nothing in it may fall back to Python."""
    calls = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "jit":
                strict = any(
                    word.arg == "fullgraph" and getattr(word.value, "value", 0) is True for word in node.keywords
                )
                calls.append((path.relative_to(PACKAGE).as_posix(), strict))
            names = getattr(node, "decorator_list", [])
            assert not any(ast.unparse(name).split("(")[0].endswith("jit") for name in names), path
    assert {"runtime/compiled.py", "training/loop.py"} <= {path for path, _ in calls}
    assert [path for path, strict in calls if not strict] == []
