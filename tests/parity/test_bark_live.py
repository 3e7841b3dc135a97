"""Bark against transformers and torch, live: fresh random models, logits and every stage, greedy, both ways.

transformers' classes crash when made without bias, leave the causal masks unset where a file lacks them, and let the
coarse stage take ids beyond its codebooks; the first is patched here, the others are kept out by the sizes.
"""

import secrets

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

from mindspore import Tensor  # noqa: E402
from transformers import BarkConfig, BarkModel, EncodecConfig, GenerationConfig  # noqa: E402
from transformers.models.bark.modeling_bark import BarkPreTrainedModel  # noqa: E402

from mindmusicgen.bark import model as ours  # noqa: E402
from mindmusicgen.bark.submodels import BarkCoarseModel, BarkFineModel, BarkSemanticModel  # noqa: E402

SEED = secrets.randbits(20)
RECIPES = [  # (bias, hidden size, layers, heads, codec, file)
    (False, 16, 2, 2, {}, "safetensors"),
    (True, 16, 1, 1, {}, "bin"),
    (False, 24, 3, 3, {"num_residual_layers": 2}, "bin"),
    (True, 12, 2, 3, {"use_conv_shortcut": False}, "safetensors"),
    (False, 32, 1, 2, {"num_lstm_layers": 1}, "safetensors"),
    (True, 20, 2, 1, {"use_causal_conv": False}, "safetensors"),
]
GENERATION = {
    "semantic_config": {
        "eos_token_id": 20, "semantic_vocab_size": 20, "text_encoding_offset": 24, "text_pad_token": 60,
        "semantic_infer_token": 63, "max_input_semantic_length": 8, "max_new_tokens": 24, "semantic_rate_hz": 49.9,
    },
    "coarse_acoustics_config": {
        "coarse_semantic_pad_token": 52, "coarse_infer_token": 54, "max_coarse_input_length": 8, "coarse_rate_hz": 75,
        "max_coarse_history": 16, "sliding_window_len": 6, "n_coarse_codebooks": 2,
    },
    "fine_acoustics_config": {
        "max_fine_history_length": 16, "max_fine_input_length": 32, "n_fine_codebooks": 8, "temperature": 1.0,
    },
    "sample_rate": 600,
    "codebook_size": 16,
}  # fmt: skip


def config_of(bias, hidden, layers, heads, codec):
    sizes = {"block_size": 64, "num_layers": layers, "num_heads": heads, "hidden_size": hidden, "bias": bias}
    made = EncodecConfig(
        sampling_rate=600, num_filters=4, hidden_size=16, codebook_dim=16, codebook_size=16, target_bandwidths=[2.4],
        upsampling_ratios=[4, 2], **{"use_conv_shortcut": True} | codec,
    )  # fmt: skip
    return BarkConfig(
        semantic_config={**sizes, "input_vocab_size": 64, "output_vocab_size": 24},
        coarse_acoustics_config={**sizes, "input_vocab_size": 56, "output_vocab_size": 52},
        fine_acoustics_config={**sizes, "input_vocab_size": 17, "output_vocab_size": 17},
        codec_config=made.to_dict(),
    )


def build(config, seed, monkeypatch):
    """A model of transformers with weights large enough that greedy choices are no ties."""
    torch.manual_seed(seed)
    monkeypatch.setattr(BarkPreTrainedModel, "_init_weights", lambda self, module: None)
    model = BarkModel(config).eval()
    model.generation_config = GenerationConfig(**GENERATION)
    for name, parameter in model.named_parameters():
        if name.startswith("codec_model"):
            continue
        norm = "layernorm" in name and name.endswith("weight")
        parameter.data.normal_(1.0 if norm else 0.0, 0.1 if parameter.ndim == 1 else 0.35)
    for layer in model.codec_model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.5)
    model.tie_weights()
    return model


@pytest.fixture(scope="module", params=range(len(RECIPES)))
def pair(request, tmp_path_factory):
    """A model of transformers that no one has seen before, and ours of its folder."""
    *sizes, form = RECIPES[request.param]
    seed, folder = SEED + request.param, tmp_path_factory.mktemp("bark")
    print(f"random Bark of seed {seed}: {RECIPES[request.param]}")
    with pytest.MonkeyPatch.context() as patch:
        reference = build(config_of(*sizes), seed, patch)
    reference.save_pretrained(folder, safe_serialization=form == "safetensors")
    return reference, ours.BarkModel.from_pretrained(str(folder)), folder


def ids_of(rows, length, size, seed=0):
    return np.random.default_rng(seed).integers(0, size, (rows, length)).astype(np.int32)


def preset(tokens=30, seed=0):
    rng, frames = np.random.default_rng(seed), round(tokens * 75 / 49.9)
    fine = rng.integers(0, 16, (8, frames))
    return {"semantic_prompt": rng.integers(0, 20, tokens), "coarse_prompt": fine[:2], "fine_prompt": fine}


def layers_of(model):
    return model.config.semantic_config.num_layers


def torched(voice):
    return None if voice is None else {name: torch.as_tensor(values) for name, values in voice.items()}


def test_logits_states_and_weights(pair, close):
    reference, model, _ = pair
    ids = ids_of(2, 11, 50)
    mask = np.ones((2, 11), np.int64)
    mask[0, 3:5] = 0
    want = {"output_hidden_states": True, "output_attentions": True}
    for stage in ("semantic", "coarse_acoustics"):
        with torch.no_grad():
            theirs = getattr(reference, stage)(
                torch.as_tensor(ids).long(), attention_mask=torch.as_tensor(mask), **want
            )
        found = getattr(model, stage)(Tensor(ids), attention_mask=Tensor(mask), **want)
        close(found.logits, theirs.logits.numpy(), 1e-5)
        for own, their in zip(found.hidden_states, theirs.hidden_states, strict=True):
            close(own, their.numpy(), 1e-5)
        for own, their in zip(found.attentions, theirs.attentions, strict=True):
            close(own, their.numpy(), 1e-5)


def test_fine_logits(pair, close):
    reference, model, _ = pair
    codes = np.random.default_rng(1).integers(0, 17, (2, 9, 8)).astype(np.int32)
    for book in range(1, 8):
        with torch.no_grad():
            theirs = reference.fine_acoustics(book, torch.as_tensor(codes).long()).logits.numpy()
        close(model.fine_acoustics(book, Tensor(codes)).logits, theirs, 1e-5)


@pytest.mark.parametrize(("length", "voiced"), [(3, False), (8, True)])
def test_every_stage_gives_the_same_ids(pair, close, voiced, length):
    reference, model, _ = pair
    ids, mask = ids_of(1, 8, 30, seed=length), np.ones((1, 8), np.int64)
    mask[0, length:] = 0
    voice = preset(31 + layers_of(model)) if voiced else None
    calls, decode = [], reference.codec_decode

    def recording(codes, lengths=None):
        calls.append(codes.numpy())
        return decode(codes, lengths)

    reference.codec_decode = recording
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            audio = reference.generate(
                torch.as_tensor(ids).long(), attention_mask=torch.as_tensor(mask), history_prompt=torched(voice)
            )
    except RuntimeError:  # it crashes where the end comes at once
        audio = None
    del reference.codec_decode
    arguments = {"attention_mask": Tensor(mask), "history_prompt": voice, "return_dict_in_generate": True}
    if audio is None or not calls or not calls[0].size:
        with pytest.raises(ours.InputError, match="no speech"):
            model.generate(Tensor(ids), **arguments)
        return
    found = model.generate(Tensor(ids), **arguments)
    np.testing.assert_array_equal(found.audio_codes[0], calls[0][0])
    close(found.audio_values, audio.numpy().reshape(1, -1), 1e-5)


def test_both_open_what_the_other_saved(pair, tmp_path, close):
    reference, model, folder = pair
    model.save_pretrained(tmp_path)
    again = BarkModel.from_pretrained(tmp_path)
    stored = again.state_dict()
    for name, values in reference.state_dict().items():
        if name.startswith("codec_model."):
            continue  # of magnitude and direction only the product is kept, and no statistics; heard below
        np.testing.assert_array_equal(stored[name].numpy(), values.numpy(), err_msg=name)
    codes = np.random.default_rng(2).integers(0, 16, (1, 8, 20))
    with torch.no_grad():
        close(model.codec_decode(codes), again.codec_decode(torch.as_tensor(codes)).numpy(), 1e-5)
    ids = Tensor(ids_of(1, 5, 50))
    for kind, stage in ((BarkSemanticModel, "semantic"), (BarkCoarseModel, "coarse_acoustics")):
        alone = kind.from_pretrained(str(folder))
        close(alone(ids).logits, getattr(model, stage)(ids).logits.asnumpy(), 1e-6)
        alone.save_pretrained(tmp_path / stage)
        theirs = type(getattr(reference, stage)).from_pretrained(tmp_path / stage)
        with torch.no_grad():
            close(alone(ids).logits, theirs(torch.as_tensor(ids.asnumpy()).long()).logits.numpy(), 1e-5)
    fine = BarkFineModel.from_pretrained(str(folder))
    fine.save_pretrained(tmp_path / "fine")
    theirs = type(reference.fine_acoustics).from_pretrained(tmp_path / "fine")
    codes = np.random.default_rng(3).integers(0, 16, (1, 4, 8)).astype(np.int32)
    with torch.no_grad():
        close(fine(5, Tensor(codes)).logits, theirs(5, torch.as_tensor(codes).long()).logits.numpy(), 1e-5)
