"""What transformers' pages promise, asked of it: arguments, random weights, the melody models' calls."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import oracle  # noqa: E402
from mindspore import Tensor  # noqa: E402

import mindmusicgen  # noqa: E402

NAMES = [
    "MusicgenModel",
    "MusicgenForCausalLM",
    "MusicgenForConditionalGeneration",
    "MusicgenMelodyModel",
    "MusicgenMelodyForCausalLM",
    "MusicgenMelodyForConditionalGeneration",
    "T5EncoderModel",
    "EncodecModel",
]
MELODY = {"chroma_length": 6}
KEEP = {"output_attentions": True, "output_hidden_states": True}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_their_order(name):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    asked = inspect.signature(getattr(transformers, name).forward).parameters
    asked = [argument for argument, it in asked.items() if argument != "self" and it.kind not in kinds]
    asked = ["past_key_values" if argument == "cache" else argument for argument in asked]  # 5.24 has renamed it
    found = list(inspect.signature(getattr(mindmusicgen, name).forward).parameters)
    assert asked == [argument for argument in found if argument in asked]


@pytest.mark.parametrize("melody", [None, MELODY])
@pytest.mark.parametrize("norm", ["weight_norm", "time_group_norm"])
def test_random_weights_have_the_same_distributions(melody, norm, tmp_path):
    from safetensors.numpy import load_file

    sizes = {"text": {"d_model": 48, "num_heads": 4, "d_kv": 9}, "codec": {"num_filters": 6, "norm_type": norm}}
    config = oracle.build_config(melody=melody, **sizes)
    name = "MusicgenMelodyForConditionalGeneration" if melody else "MusicgenForConditionalGeneration"
    mindmusicgen.set_seed(1)
    torch.manual_seed(1)
    getattr(mindmusicgen, name)(config).save_pretrained(str(tmp_path))
    mine, compared = load_file(tmp_path / "model.safetensors"), 0
    for key, value in getattr(transformers, name)(config).state_dict().items():
        key = key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        )
        if key not in mine or key.endswith(("cluster_size", "inited")):
            continue
        one, two = mine[key].astype(np.float64), value.numpy().astype(np.float64)
        assert one.shape == two.shape, key
        if one.size < 30:
            continue  # too few to tell a distribution by
        width, noise = max(one.std(), two.std()), 6 / np.sqrt(one.size)
        assert abs(one.std() - two.std()) <= noise * width, (key, one.std(), two.std())
        assert abs(one.mean() - two.mean()) <= noise * width + 1e-9, (key, one.mean(), two.mean())
        compared += one.size > 100
    assert compared > 40


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A melody model of transformers, and ours with its weights."""
    reference = oracle.build(oracle.build_config(melody=MELODY), 3)
    folder = str(tmp_path_factory.mktemp("melody"))
    reference.save_pretrained(folder)
    reference.set_attn_implementation({"": "eager", "text_encoder": "eager", "decoder": "eager"})  # returns weights
    return reference, mindmusicgen.MusicgenMelodyForConditionalGeneration.from_pretrained(folder), folder


def same(close, mine, theirs, arguments, names):
    """The outputs of both calls, by name."""
    converted = {
        name: torch.from_numpy(value if value.dtype == np.float32 else value.astype(np.int64))
        if isinstance(value, np.ndarray)
        else value
        for name, value in arguments.items()
    }
    with torch.no_grad():
        expected = theirs(**converted)
    found = mine(**{n: Tensor(v) if isinstance(v, np.ndarray) else v for n, v in arguments.items()})
    for name in names:
        one, two = found[name], expected[name]
        one, two = (one, two) if isinstance(two, tuple) else ((one,), (two,))
        assert len(one) == len(two) > 0, name
        for first, second in zip(one, two, strict=True):
            close(first, second.numpy())


@pytest.fixture
def given(pair):
    rng, config = np.random.default_rng(5), pair[0].config
    chroma = np.eye(config.num_chroma, dtype=np.float32)[rng.integers(0, config.num_chroma, (2, 4))]
    return {
        "input_ids": rng.integers(3, 90, (2, 5)).astype(np.int32),
        "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
        "input_features": chroma,
        "decoder_input_ids": rng.integers(0, config.decoder.vocab_size, (8, 4)).astype(np.int32),
    }


def test_melody_with_everything_it_returns(pair, given, close):
    names = ["logits", "hidden_states", "attentions", "encoder_hidden_states"]
    same(close, pair[1], pair[0], given | KEEP, names)
    masked = given | {"decoder_attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int32)}
    same(close, pair[1], pair[0], masked | KEEP, names)


def test_melody_without_text(pair, given, close):
    alone = {name: given[name] for name in ("input_features", "decoder_input_ids")}
    same(close, pair[1], pair[0], alone, ["logits", "encoder_hidden_states"])


def test_the_melody_decoder_alone(pair, given, close):
    rng, config = np.random.default_rng(6), pair[0].config.decoder
    arguments = {
        "input_ids": given["decoder_input_ids"],
        "encoder_hidden_states": rng.standard_normal((2, 3, config.hidden_size)).astype(np.float32),
        "encoder_attention_mask": np.array([[1, 1, 1], [1, 1, 0]], np.int32),
    }
    names = ["logits", "hidden_states", "attentions"]
    same(close, pair[1].decoder, pair[0].decoder, arguments | KEEP, names)
    alone = mindmusicgen.MusicgenMelodyModel.from_pretrained(pair[2])
    same(close, alone, pair[0].decoder.model, arguments | KEEP, ["last_hidden_state", *names[1:]])


@pytest.mark.parametrize("name", [n for n in NAMES if "Conditional" not in n])
def test_transformers_opens_the_folder_of_a_network(name, tmp_path, close):
    melody = MELODY if "Melody" in name else None
    config = oracle.build_config(melody=melody)
    part = {"T5EncoderModel": "text_encoder", "EncodecModel": "audio_encoder"}.get(name, "decoder")
    model = getattr(mindmusicgen, name)(getattr(config, part))
    model.save_pretrained(str(tmp_path))
    opened, missing = getattr(transformers, name).from_pretrained(str(tmp_path), output_loading_info=True)
    assert not any(missing[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), missing
    if part == "decoder":
        codes = np.random.default_rng(0).integers(0, 64, (4, 3)).astype(np.int32)
        first = "logits" if "CausalLM" in name else "last_hidden_state"
        same(close, model, opened.eval(), {"input_ids": codes}, [first])
