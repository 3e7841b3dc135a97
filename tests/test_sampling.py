"""Guidance, temperature, top-k, top-p and the choice, in compiled graphs, against NumPy written from the rules."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.generation.sampling import NEVER, Uniforms, choose, filter_logits, guide
from mindmusicgen.musicgen.delay_pattern import FREE, build_pattern, codebook_delays
from mindmusicgen.ops.choice import choose_op

V = 40
ROWS = 512
LARGEST = np.float32(0.99999994)  # the largest float32 below 1


def allowed(row, temperature, top_k, top_p):
    """Codes that transformers' warpers leave of one row of logits, in float64: a boolean per code.

    Also how near the nearest cumulative mass lies to the border of top-p, where rounding may decide.
    """
    scaled = row.astype(np.float64) / temperature
    keep = np.ones(row.size, bool)
    if 0 < top_k < row.size:
        keep &= scaled >= np.sort(scaled)[-top_k]
    border = np.inf
    if top_p < 1:
        weights = np.where(keep, np.exp(scaled - scaled.max()), 0)
        weights /= weights.sum()
        order = np.argsort(weights, kind="stable")  # ascending
        tail = np.cumsum(weights[order])
        border = np.abs(tail[:-1] - (1 - top_p)).min()
        keep[order[tail <= 1 - top_p]] = False
        keep[order[-1]] = True
    return keep, border


def choice(row, keep, uniform):
    """The code that a uniform number picks from one row; and how near it lies to a border between codes."""
    weights = np.where(keep, np.exp(row.astype(np.float64) - row[keep].max()), 0)
    cumulative = np.cumsum(weights / weights.sum())
    return int((cumulative <= uniform).sum()), np.abs(cumulative[:-1] - uniform).min()


def tensors(temperature=1.0, top_k=V, top_p=2.0):
    return (
        Tensor(np.array([temperature], np.float32)),
        Tensor(np.array([top_k], np.int32)),
        Tensor(np.array([top_p], np.float32)),
    )


@pytest.fixture(scope="module")
def compiled_filter():
    return ms.jit(filter_logits, fullgraph=True)


@pytest.fixture(scope="module")
def compiled_choose():
    return ms.jit(choose, fullgraph=True)


@pytest.fixture
def pick(compiled_filter, compiled_choose):
    """Logits [ROWS, V] and uniforms [ROWS] to codes, with the settings as in `generate`."""

    def run(logits, uniforms, **settings):
        kept = compiled_filter(Tensor(logits), *tensors(**settings))
        return kept.asnumpy(), compiled_choose(kept, Tensor(uniforms)).asnumpy()

    return run


def random_logits(seed, scale=2.0):
    return (np.random.default_rng(seed).standard_normal((ROWS, V)) * scale).astype(np.float32)


SETTINGS = [
    (1.0, V, 2.0),
    (0.7, V, 2.0),
    (1.5, 5, 2.0),
    (1.0, 1, 2.0),
    (1.0, V - 1, 2.0),
    (1.0, V, 0.9),
    (1.0, V, 0.5),
    (1.0, V, 1e-6),
    (0.9, 10, 0.8),
    (3.0, 12, 0.3),
    (0.05, V, 0.95),
]
GREEDY = [(1.0, V, 0.0), (0.7, 9, -1.0), (2.0, V, 1e-45), (1e-18, V, 2.0), (1e-18, 5, 0.5)]


@pytest.mark.parametrize("temperature, top_k, top_p", GREEDY)
def test_at_least_one_code_is_kept(pick, temperature, top_k, top_p):
    """Settings that leave the most likely code alone, at their ends: no noise, no NaN; the same by the C kernel."""
    logits, uniforms = random_logits(8), np.linspace(0, LARGEST, ROWS, dtype=np.float32)
    kept, codes = pick(logits, uniforms, temperature=temperature, top_k=top_k, top_p=top_p)
    np.testing.assert_array_equal(codes, logits.argmax(axis=1))
    assert np.isfinite(kept).all()
    operator = choose_op()
    if operator is not None:
        free = Tensor(np.full((ROWS, 1), -1, np.int32))
        numbers = tensors(temperature, top_k, top_p)
        scale = Tensor(np.ones(1, np.float32))
        made = operator(Tensor(logits[:, None]), free, Tensor(uniforms[:, None]), scale, *numbers)
        np.testing.assert_array_equal(made.asnumpy()[:, 0], codes)


@pytest.mark.parametrize("temperature, top_k, top_p", SETTINGS)
def test_equals_numpy(pick, temperature, top_k, top_p):
    logits = random_logits(int(temperature * 100) + top_k)
    uniforms = np.random.default_rng(5).random(ROWS, np.float32)
    kept, codes = pick(logits, uniforms, temperature=temperature, top_k=top_k, top_p=top_p)
    near = 0
    for row, filtered, uniform, code in zip(logits, kept, uniforms, codes, strict=True):
        keep, border = allowed(row, temperature, top_k, min(top_p, 1))
        if border < 1e-6:
            near += 1
            continue
        np.testing.assert_array_equal(filtered > NEVER, keep)
        np.testing.assert_allclose(filtered[keep], row[keep] / np.float32(temperature), rtol=1e-6)
        expected, gap = choice(row / temperature, keep, uniform)
        near += gap < 1e-5
        assert gap < 1e-5 or code == expected
    assert near < ROWS / 50, "too few draws were decided"


def test_ties_with_the_kth_stay(pick):
    logits = np.tile(np.array([3, 2, 2, 2, 1] + [0] * (V - 5), np.float32), (ROWS, 1))
    kept, codes = pick(logits, np.linspace(0, LARGEST, ROWS, dtype=np.float32), top_k=2)
    assert (kept > NEVER).sum() == 4 * ROWS
    assert set(codes) == {0, 1, 2, 3}


def test_all_equal(pick):
    """With all codes equal every cut keeps them all or, for top-p, at least as many as it must."""
    uniforms = np.linspace(0, LARGEST, ROWS, dtype=np.float32)
    for settings in ({"top_k": 1}, {"top_k": V}, {"temperature": 0.1}):
        _, codes = pick(np.zeros((ROWS, V), np.float32), uniforms, **settings)
        assert set(codes) == set(range(V)), settings
    kept, _ = pick(np.zeros((ROWS, V), np.float32), uniforms, top_p=0.5)
    assert ((kept > NEVER).sum(axis=1) >= V // 2).all()


def test_greedy_is_the_most_likely_code(pick):
    logits = random_logits(3)
    _, codes = pick(logits, np.zeros(ROWS, np.float32), top_k=1)
    np.testing.assert_array_equal(codes, logits.argmax(axis=1))


def test_greedy_takes_the_first_of_equals(pick):
    logits = random_logits(4)
    logits[:, [30, 7, 19]] = 20
    _, codes = pick(logits, np.zeros(ROWS, np.float32), top_k=1)
    assert (codes == 7).all()


@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.5}, {"top_k": 7, "top_p": 0.6}])
def test_the_ends_of_the_uniform_range(pick, settings):
    """0 takes the first code that is left, the largest number the last one: never one that was cut."""
    logits = random_logits(6)
    for uniform, end in ((0.0, 0), (LARGEST, -1)):
        kept, codes = pick(logits, np.full(ROWS, uniform, np.float32), **settings)
        for row, filtered, code in zip(logits, kept, codes, strict=True):
            inside = np.flatnonzero(filtered > NEVER)
            assert code in inside
            if settings:  # without a cut the last codes may weigh less than the distance to 1
                weights = np.exp(row[inside].astype(np.float64))
                if (weights / weights.sum())[end] > 1e-6:
                    assert code == inside[end]


@pytest.mark.parametrize("size", [1e4, 1e8, 1e20])
def test_huge_logits_do_not_overflow(pick, size):
    logits = (random_logits(8) * size).astype(np.float32)
    for settings in ({}, {"top_k": 5}, {"top_p": 0.9}, {"top_k": 5, "top_p": 0.5, "temperature": 0.5}):
        _, codes = pick(logits, np.full(ROWS, 0.5, np.float32), **settings)
        np.testing.assert_array_equal(codes, logits.argmax(axis=1))


def test_tiny_probabilities_survive_the_mask(pick):
    """A code far below the others is cut by top-k, not merely unlikely, and never drawn."""
    logits = np.full((ROWS, V), -50, np.float32)
    logits[:, 11] = 0
    logits[:, 3] = -5
    kept, codes = pick(logits, np.full(ROWS, LARGEST, np.float32), top_k=2)
    assert (kept > NEVER).sum() == 2 * ROWS and set(codes) <= {3, 11}


def test_frequencies(compiled_choose, compiled_filter):
    """Chi-square: many uniforms give the codes with their probabilities."""
    row = random_logits(9)[0]
    draws, batches = 512 * 40, 40
    kept = compiled_filter(Tensor(np.tile(row, (ROWS, 1))), *tensors(0.8, 12, 0.95))
    uniforms = Uniforms([1], 1).draw(draws).reshape(batches, ROWS)
    codes = np.concatenate([compiled_choose(kept, Tensor(u)).asnumpy() for u in uniforms])
    keep, _ = allowed(row, 0.8, 12, 0.95)
    weights = np.where(keep, np.exp(row.astype(np.float64) / 0.8), 0)
    expected = weights / weights.sum() * draws
    counts = np.bincount(codes, minlength=V)
    assert counts[~keep].sum() == 0 and keep.sum() > 4
    statistic = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
    freedom = keep.sum() - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom), statistic


def test_guidance():
    logits = random_logits(10).reshape(4, -1, V)
    for scale in (1.0, 3.0, 2.5, 0.0):
        found = ms.jit(guide, fullgraph=True)(Tensor(logits), Tensor(np.array([scale], np.float32))).asnumpy()
        conditional, null = logits[:2].astype(np.float64), logits[2:].astype(np.float64)
        np.testing.assert_allclose(found, null + (conditional - null) * scale, rtol=0, atol=2e-5)


def test_uniforms():
    many = Uniforms([7, 8], 4).draw(100)
    assert many.shape == (100, 2, 4) and many.dtype == np.float32
    assert many.min() >= 0 and many.max() < 1 and np.unique(many).size > 790
    np.testing.assert_array_equal(many[:60], Uniforms([7, 8], 4).draw(60))
    np.testing.assert_array_equal(many[:, 1:], Uniforms([8], 4).draw(100))
    parts = Uniforms([7, 8], 4)  # as the windows of a long piece draw
    np.testing.assert_array_equal(many, np.concatenate([parts.draw(37), parts.draw(63)]))


COLUMNS = 30


def sample(model, ids, mask, **arguments):
    arguments = {"max_new_tokens": COLUMNS, "do_sample": True, "return_dict_in_generate": True} | arguments
    out = model.generate(Tensor(ids), Tensor(mask), **arguments)
    return out.audio_codes.asnumpy()


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_scale": 3.0, "temperature": 1.0, "top_k": 50, "top_p": 1.0},
        {"guidance_scale": 1.0, "temperature": 0.8, "top_k": 7, "top_p": 1.0},
        {"guidance_scale": 2.0, "temperature": 1.7, "top_k": 0, "top_p": 0.8},
    ],
)
def test_generate_makes_the_choices_of_numpy(quad, settings):
    """Every sampled code follows from the model's own full logits and the published uniforms."""
    model, (ids, mask), seed = quad.model, (quad["run.ids"], quad["run.mask"]), 21
    codes = sample(model, ids, mask, seed=seed, **settings)
    decoder = model.config.decoder
    rows, codebooks, _ = codes.shape
    pattern, _ = build_pattern(codes, COLUMNS + 1, model.pad_code)
    assert not (pattern == FREE).any()
    free = build_pattern(codes[:, :, :0], COLUMNS + 1, model.pad_code)[0] == FREE
    logits = full_logits(model, ids, mask, pattern[:, :, :-1])
    if settings["guidance_scale"] > 1:
        null = full_logits(model, ids, np.zeros_like(mask), pattern[:, :, :-1])
        logits = null + (logits - null) * np.float32(settings["guidance_scale"])
    uniforms = Uniforms([seed, seed + 1], codebooks).draw(COLUMNS)
    near = checked = 0
    for column in range(1, COLUMNS + 1):
        for row, codebook in np.argwhere(free[:, :, column]):
            scores = logits[row, codebook, column - 1] / settings["temperature"]
            keep, border = allowed(scores, 1.0, settings["top_k"] or decoder.vocab_size, settings["top_p"])
            expected, gap = choice(scores, keep, uniforms[column - 1, row, codebook])
            if min(border, gap) < 1e-4:
                near += 1
                continue
            checked += 1
            assert pattern[row, codebook, column] == expected, (row, codebook, column)
    assert checked > 0.95 * (near + checked) and checked > 190
    assert codebook_delays(codebooks).max() == 3


def full_logits(model, ids, mask, columns):
    """[B, K, T, V] without a cache."""
    rows, codebooks, length = columns.shape
    flat = Tensor(columns.reshape(rows * codebooks, length))
    return model.logits(Tensor(ids), Tensor(mask), flat).asnumpy().reshape(rows, codebooks, length, -1)


@pytest.fixture(scope="module")
def both(quad):
    """Codes of two prompts with the seeds 3 and 4."""
    return sample(quad.model, quad["run.ids"], quad["run.mask"], seed=3)


class TestSeeds:
    def test_same_seed_same_codes(self, quad, both):
        np.testing.assert_array_equal(sample(quad.model, quad["run.ids"], quad["run.mask"], seed=3), both)

    def test_other_seed_other_codes(self, quad, both):
        other = sample(quad.model, quad["run.ids"], quad["run.mask"], seed=4)
        assert (other != both).mean() > 0.5

    def test_a_list_names_each_prompts_seed(self, quad, both):
        listed = sample(quad.model, quad["run.ids"], quad["run.mask"], seed=[3, 4])
        np.testing.assert_array_equal(listed, both)
        swapped = sample(quad.model, quad["run.ids"][::-1].copy(), quad["run.mask"][::-1].copy(), seed=[4, 3])
        np.testing.assert_array_equal(swapped[::-1], both)

    def test_a_prompt_alone_gives_what_it_gives_in_a_batch(self, quad, both):
        ids, mask = quad["run.ids"], quad["run.mask"]
        for row in (0, 1):
            alone = sample(quad.model, ids[row : row + 1], mask[row : row + 1], seed=3 + row)
            np.testing.assert_array_equal(alone[0], both[row])

    def test_a_longer_run_starts_with_the_shorter_one(self, quad, both):
        shorter = sample(quad.model, quad["run.ids"], quad["run.mask"], seed=3, max_new_tokens=20)
        assert shorter.shape[2] == 17
        # At its end the shorter run's first codebooks are padding already, which the others see for two frames.
        np.testing.assert_array_equal(both[:, :, :15], shorter[:, :, :15])
