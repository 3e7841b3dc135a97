"""Arguments of generate: where defaults come from, and one sentence naming the argument for every bad one."""

import math

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import InputError
from mindmusicgen.musicgen import settings
from mindmusicgen.musicgen.windows import Plan


@pytest.fixture(scope="module")
def configs(quad):
    return quad.model.config, quad.model.generation_config


def resolve(configs, frames=0, prompts=2, seed=0, generation=None, **arguments):
    config, own = configs
    return settings.resolve(config, generation or own, arguments, prompts, frames, seed)


def one_window(columns):
    return Plan(columns, 0, 0, 0)


def refused(call, *words):
    """The call must raise one printable line with all the words."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 300, message
    for word in words:
        assert str(word) in message, message


def test_defaults_come_from_the_generation_config(configs):
    found = resolve(configs)
    assert found == settings.Settings(True, (3.0, 3.0), one_window(30), 1.0, 50, 1.0, (0, 1))


def test_arguments_win(configs):
    given = {"do_sample": False, "guidance_scale": 1.5, "temperature": 0.5, "top_k": 7, "top_p": 0.25}
    found = resolve(configs, seed=[5, 9], max_new_tokens=12, **given)
    assert found == settings.Settings(False, (1.5, 1.5), one_window(13), 0.5, 7, 0.25, (5, 9))
    assert resolve(configs, temperature=None, do_sample=None) == resolve(configs)


def test_another_generation_config(configs):
    from transformers import GenerationConfig

    other = GenerationConfig(do_sample=False, top_k=3, max_new_tokens=11, temperature=0.3, top_p=0.4)
    found = resolve(configs, generation=other)
    assert found == settings.Settings(False, (1.0, 1.0), one_window(12), 0.3, 3, 0.4, (0, 1))
    assert resolve(configs, generation=GenerationConfig(max_length=9)).top_k == 50
    assert resolve(configs, generation=other, max_length=20).plan.first == 20  # a call's max_length beats the config's


def test_length_counts_start_and_prompt(configs):
    assert resolve(configs, max_new_tokens=5).plan.first == 6
    assert resolve(configs, frames=10, max_new_tokens=5).plan.first == 16
    assert resolve(configs, frames=10, max_length=16).plan.first == 16
    assert resolve(configs, max_new_tokens=5, max_length=16).plan.first == 6
    assert resolve(configs, max_new_tokens=np.int64(5)).plan.first == 6


def test_switched_off_filters(configs):
    assert resolve(configs, top_k=0).top_k == 0 and resolve(configs, top_p=1).top_p == 1.0
    assert not resolve(configs, guidance_scale=0.5).guided and not resolve(configs, guidance_scale=0).guided


def test_guidance_may_change_over_the_piece(configs):
    found = resolve(configs, guidance_scale=(4, 0.5))
    assert found.guidance == (4.0, 1.0) and found.guided
    assert not resolve(configs, guidance_scale=[1, 1]).guided


def test_durations_beyond_the_window_slide(configs):
    # 128 positions hold 125 frames of the 4 codebooks; 18 s of 30 s are 75 of them.
    assert settings.window_frames(configs[0]) == 125
    assert resolve(configs, duration=1.0).plan == Plan(1 + 53, 50, 125, 50)
    assert resolve(configs, frames=30, duration=1.0).plan == Plan(1 + 83, 80, 125, 50)
    assert resolve(configs, duration=2.5).plan == Plan(1 + 128, 125, 125, 50)
    assert resolve(configs, duration=60).plan == Plan(1 + 128, 3000, 125, 50)
    assert resolve(configs, duration=60, extend_stride=2).plan == Plan(1 + 128, 3000, 125, 25)
    assert resolve(configs, duration=0.001).plan.frames == 1


def test_duration_says_how_long_alone(configs):
    refused(lambda: resolve(configs, duration=1, max_new_tokens=5), "duration and max_new_tokens")
    refused(lambda: resolve(configs, duration=1, max_length=5), "duration and max_length")


def test_prompts_must_leave_room(configs):
    settings.check_prompt(configs[0], 124)
    refused(lambda: settings.check_prompt(configs[0], 125), "2.50 s", "at most 2.48 s")


def test_harmless_arguments_of_transformers(configs):
    assert resolve(configs, num_beams=1, use_cache=True) == resolve(configs)


NUMBERS = (math.nan, math.inf, -math.inf, -1, -0.5, True, "3", [1.0], 1j, np.float32("nan"))
BAD = [
    *(("guidance_scale", value) for value in (*NUMBERS, 1e30, 1e300)),
    *(("temperature", value) for value in (*NUMBERS, 0, 0.0, 1e-45, 1e-30, 1e39, 1e300)),
    *(("top_p", value) for value in (*NUMBERS, 1.5)),
    *(("top_k", value) for value in (math.nan, -1, 2.5, True, "3")),
    *(("max_new_tokens", value) for value in (0, -3, 2.5, True, "8", math.inf)),
    *(("max_length", value) for value in (0, 1, -3, 2.5, True, "8")),
    *(("duration", value) for value in (*NUMBERS, 0)),
    ("guidance_scale", (3.0,)),
    ("guidance_scale", (3.0, math.nan)),
    ("num_beams", 2),
]


@pytest.mark.parametrize("name, value", BAD, ids=lambda x: repr(x))
def test_bad_values(configs, name, value):
    shown = [] if name == "num_beams" or isinstance(value, (list, tuple)) else [repr(value)]
    refused(lambda: resolve(configs, **{name: value}), name, *shown)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, math.nan, "1"])
def test_bad_strides_and_sequences(configs, value):
    if value != 2.5:
        refused(lambda: resolve(configs, duration=9, extend_stride=value), "extend_stride", repr(value))
    refused(
        lambda: settings.sequences_per_prompt(configs[1], {"num_return_sequences": value}),
        "num_return_sequences",
        repr(value),
    )


@pytest.mark.parametrize("value", [-1, 1.5, True, "7", [1], [1, 2, 3], [1, -2], [1, None], math.nan])
def test_bad_seeds(configs, value):
    refused(lambda: resolve(configs, seed=value), "seed")


def test_unknown_argument_is_named_with_the_known_ones(configs):
    refused(lambda: resolve(configs, temprature=1.0), "temprature", "temperature", "top_k", "max_new_tokens")
    refused(lambda: resolve(configs, generator=None, eos_token_id=3), "eos_token_id")


def test_beams_of_the_generation_config_are_refused(configs):
    from transformers import GenerationConfig

    refused(lambda: resolve(configs, generation=GenerationConfig(num_beams=4)), "num_beams")


def test_too_long_names_the_limit(configs):
    limit = configs[0].decoder.max_position_embeddings
    assert limit == 128 == settings.max_columns(configs[0])
    assert resolve(configs, max_new_tokens=limit).plan.first == limit + 1
    refused(lambda: resolve(configs, max_new_tokens=limit + 1), "max_new_tokens", limit, limit + 1)
    refused(lambda: resolve(configs, frames=10, max_new_tokens=limit - 9), "max_new_tokens", limit)
    refused(lambda: resolve(configs, max_length=limit + 2), "max_length", limit)
    refused(lambda: resolve(configs, frames=50, max_length=51), "max_length", "prompt of 50 frames")


def test_the_limit_is_what_the_model_was_trained_on(configs):
    """30 s and the delay, also where the table of positions is longer."""
    import copy

    config = copy.deepcopy(configs[0])
    config.decoder.max_position_embeddings = 2048
    assert settings.max_columns(config) == 1503
    config.decoder.num_codebooks, config.decoder.audio_channels = 8, 2
    assert settings.max_columns(config) == 1503


def test_fresh_seeds_differ(configs):
    first, second = (resolve(configs, seed=None).seeds for _ in range(2))
    assert first != second and first[1] == first[0] + 1


TOKENS = Tensor(np.array([[5, 6, 7], [8, 9, 1]], np.int32))
PROMPT = np.zeros((8, 3), np.int32)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({}, ["input_ids", "encoder_outputs"]),
        ({"input_ids": TOKENS, "encoder_outputs": (np.zeros((2, 3, 24)),)}, ["input_ids", "encoder_outputs"]),
        ({"input_ids": np.zeros(3, np.int32)}, ["input_ids", "(3,)"]),
        ({"input_ids": np.zeros((2, 3, 1), np.int32)}, ["input_ids"]),
        ({"input_ids": [["a", "b"]]}, ["input_ids"]),
        ({"input_ids": np.zeros((2, 0), np.int32)}, ["input_ids", "empty"]),
        ({"input_ids": np.array([[5, 100]])}, ["input_ids", "99"]),
        ({"input_ids": np.array([[5, -1]])}, ["input_ids"]),
        ({"input_ids": TOKENS, "attention_mask": np.ones((2, 4))}, ["attention_mask", "(2, 4)", "(2, 3)"]),
        ({"input_ids": TOKENS, "attention_mask": np.ones((1, 3))}, ["attention_mask"]),
        ({"input_ids": TOKENS, "attention_mask": np.ones(3)}, ["attention_mask"]),
        ({"encoder_outputs": (np.zeros((2, 3, 23)),)}, ["encoder_outputs", "23", "24"]),
        ({"encoder_outputs": (np.zeros((2, 3)),)}, ["encoder_outputs"]),
        ({"encoder_outputs": (np.zeros((3, 3, 24)),), "guidance_scale": 3.0}, ["encoder_outputs", "null rows"]),
        ({"input_ids": TOKENS, "decoder_input_ids": np.zeros((7, 3))}, ["decoder_input_ids", "7", "4"]),
        ({"input_ids": TOKENS, "decoder_input_ids": np.zeros((4, 3))}, ["audio holds 1 prompts", "text 2"]),
        ({"input_ids": TOKENS, "decoder_input_ids": PROMPT + 64}, ["decoder_input_ids", "63"]),
        ({"input_ids": TOKENS, "decoder_input_ids": PROMPT - 1}, ["decoder_input_ids"]),
        ({"input_ids": TOKENS, "decoder_input_ids": PROMPT[0]}, ["decoder_input_ids"]),
        ({"input_ids": TOKENS, "top_k": -1}, ["top_k"]),
        ({"input_ids": TOKENS, "seed": [1, 2, 3]}, ["seed", "3", "2"]),
        ({"input_ids": TOKENS, "do_smaple": True}, ["do_smaple", "do_sample"]),
    ],
    ids=lambda x: str(list(x)) if isinstance(x, dict) else "",
)
def test_generate_refuses(quad, arguments, words):
    refused(lambda: quad.model.generate(**arguments), *words)
