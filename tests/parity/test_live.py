"""Against transformers and torch, live: fresh random models in every file format, both ways, up to full size."""

import gc
import secrets

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import oracle  # noqa: E402
import transformers  # noqa: E402
from mindspore import Tensor  # noqa: E402

from mindmusicgen import MusicgenForConditionalGeneration  # noqa: E402

SEED = secrets.randbits(20)


def random_recipe(rng):
    """Sizes of a tiny model, varied in everything that checkpoints may vary in."""
    channels, heads, head = int(rng.choice([1, 1, 2])), int(rng.integers(1, 4)), int(rng.choice([6, 8, 16]))
    hidden = max(heads * head, 8)
    heads = heads if hidden == heads * head else 1
    return {
        "vocab": int(rng.choice([32, 64, 128])),
        "codebooks": channels * int(rng.integers(1, 5)),
        "ratios": [(5, 4, 2), (2, 4, 5), (10, 4)][int(rng.integers(3))],
        "rate": 2000,
        "text": {
            "d_model": hidden if rng.random() < 0.3 else int(rng.choice([12, 20])),
            "num_layers": int(rng.integers(1, 4)),
            "feed_forward_proj": str(rng.choice(["relu", "gated-gelu"])),
        },
        "codec": {
            "use_causal_conv": bool(rng.integers(2)),
            "use_conv_shortcut": bool(rng.integers(2)),
            "num_residual_layers": int(rng.integers(1, 3)),
            "pad_mode": str(rng.choice(["reflect", "constant"])),
        },
        "decoder": {
            "hidden_size": hidden,
            "ffn_dim": int(rng.integers(10, 90)),
            "num_attention_heads": heads,
            "num_hidden_layers": int(rng.integers(1, 5)),
            "audio_channels": channels,
            "activation_function": str(rng.choice(["gelu", "relu"])),
        },
    }


@pytest.fixture(scope="module", params=range(3))
def reference(request):
    """A model of transformers that no one has seen before."""
    seed = SEED + request.param
    recipe = random_recipe(np.random.default_rng(seed))
    print(f"random model of seed {seed}: {recipe}")
    return oracle.build(oracle.build_config(**recipe), seed)


def compare(reference, model, close, tokens=11, scale=3.0):
    config = reference.config
    ids, mask = oracle.prompts(config.text_encoder.vocab_size, (7, 3), 1)
    shape = (2 * config.decoder.num_codebooks, 6)
    codes = np.random.default_rng(2).integers(0, config.decoder.vocab_size + 1, shape).astype(np.int32)
    found = model.logits(Tensor(ids), Tensor(mask), Tensor(codes))
    close(found, oracle.logits(reference, ids, mask, codes))
    arguments = {"do_sample": False, "max_new_tokens": tokens, "guidance_scale": scale}
    expected_codes, expected_audio = oracle.generate(reference, ids, mask, **arguments)
    out = model.generate(Tensor(ids), Tensor(mask), return_dict_in_generate=True, **arguments)
    np.testing.assert_array_equal(out.audio_codes.asnumpy(), expected_codes)
    close(out.audio_values, expected_audio)


def open_model(folder):
    return MusicgenForConditionalGeneration.from_pretrained(str(folder))


def test_safetensors(reference, tmp_path, close):
    reference.save_pretrained(tmp_path)
    compare(reference, open_model(tmp_path), close)


def same_weights(first, second):
    for (name, one), (other, two) in zip(first.parameters_and_names(), second.parameters_and_names(), strict=True):
        assert name == other
        np.testing.assert_array_equal(one.asnumpy(), two.asnumpy(), err_msg=name)


def test_torch_files_and_shards(reference, tmp_path):
    """The same weights from pytorch_model.bin, from two .bin shards and from safetensors shards."""
    import json

    from safetensors.torch import save_file

    reference.save_pretrained(tmp_path / "whole")
    whole = open_model(tmp_path / "whole")
    state = reference.state_dict()
    names = sorted(state)
    for kind in ("bin", "bin-shards", "safetensors-shards"):
        folder = tmp_path / kind
        reference.config.save_pretrained(folder)
        reference.generation_config.save_pretrained(folder)
        if kind == "bin":
            torch.save(state, folder / "pytorch_model.bin")
            same_weights(open_model(folder), whole)
            continue
        stem, ending = ("pytorch_model", "bin") if kind == "bin-shards" else ("model", "safetensors")
        index = {}
        for number in (1, 2):
            file = f"{stem}-0000{number}-of-00002.{ending}"
            part = {name: state[name].clone() for name in names[number - 1 :: 2]}
            torch.save(part, folder / file) if ending == "bin" else save_file(part, folder / file)
            index |= dict.fromkeys(part, file)
        (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        same_weights(open_model(folder), whole)


def test_round_trip_into_transformers(reference, tmp_path):
    """What save_pretrained writes, transformers opens without a missing or unexpected tensor, and computes the same."""
    reference.save_pretrained(tmp_path / "theirs")
    open_model(tmp_path / "theirs").save_pretrained(str(tmp_path / "ours"))
    again, report = transformers.MusicgenForConditionalGeneration.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, report[kind])
    ids, mask = oracle.prompts(reference.config.text_encoder.vocab_size, (7, 3), 1)
    arguments = {"do_sample": False, "max_new_tokens": 11, "guidance_scale": 3.0}
    codes, audio = oracle.generate(reference, ids, mask, **arguments)
    again_codes, again_audio = oracle.generate(again.eval(), ids, mask, **arguments)
    np.testing.assert_array_equal(again_codes, codes)
    np.testing.assert_allclose(again_audio, audio, rtol=0, atol=1e-4 * np.abs(audio).max())


@pytest.mark.full
def test_full_size(tmp_path, close):
    """A random musicgen-small, saved by this package and opened by transformers: logits and greedy codes."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from random_checkpoint import build

    folder = tmp_path / "small"
    model = build("small", str(folder), seed=SEED)
    reference = transformers.MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    try:
        compare(reference, model, close, tokens=5)
    finally:
        del reference
        gc.collect()
