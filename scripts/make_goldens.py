"""Write tests/golden/*.npz: tiny random models and what transformers and torch compute with them.

Run it in an environment with torch and transformers 4.57.6; the ordinary tests then need neither. Weights are stored
as whole numbers of -127 to 127 with one float32 factor per tensor, which torch and the tests multiply in the same
way. A model is kept only if double precision makes the same choices, so that no test hangs on a tie. With names as
arguments only those are written.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
ORACLE_VERSION = "4.57.6"
HALF = np.float16  # audio inputs are rounded to it, to be stored in half the space
STRIDE = 11  # of a run's audio every 11th sample is kept: the codes are kept whole, and 11 divides no hop

CODES_PROMPT = {"max_new_tokens": 12, "guidance_scale": 3.0, "prompt_frames": 9}
MODELS = {
    # Four codebooks and a projection of the text: the layout of the published models.
    "quad": {
        "config": {},
        "runs": [
            {"max_new_tokens": n, "guidance_scale": g}
            for n, g in ((5, 3.0), (6, 3.0), (7, 1.0), (8, 2.5), (40, 3.0), (70, 1.0))
        ]
        + [CODES_PROMPT],
    },
    # Odd widths, and a text encoder as wide as the decoder: no projection.
    "plain": {
        "config": {
            "vocab": 32,
            "codebooks": 2,
            "ratios": (5, 4, 2),
            "rate": 2000,
            "text": {"d_model": 36, "num_layers": 1, "num_heads": 3},
            "decoder": {"hidden_size": 36, "ffn_dim": 50, "num_attention_heads": 3, "num_hidden_layers": 1},
        },
        "runs": [{"max_new_tokens": 3, "guidance_scale": 3.0}, {"max_new_tokens": 33, "guidance_scale": 1.0}],
    },
    # Eight codebooks, four layers, a gated text encoder.
    "eight": {
        "config": {
            "vocab": 128,
            "codebooks": 8,
            "ratios": (5, 4, 2),
            "rate": 2000,
            "text": {"feed_forward_proj": "gated-gelu", "num_layers": 3},
            "codec": {"codebook_dim": 8, "hidden_size": 8},
            "decoder": {"hidden_size": 32, "ffn_dim": 64, "num_attention_heads": 2, "num_hidden_layers": 4},
        },
        "runs": [{"max_new_tokens": 13, "guidance_scale": 3.0}, {"max_new_tokens": 27, "guidance_scale": 2.5}],
    },
    # Stereo: left and right interleaved, neighbours share a delay.
    "stereo": {
        "config": {
            "codebooks": 4,
            "ratios": (5, 4, 2),
            "rate": 2000,
            "text": {"num_layers": 1},
            "decoder": {"hidden_size": 24, "num_attention_heads": 2, "audio_channels": 2},
        },
        "runs": [{"max_new_tokens": n, "guidance_scale": 3.0} for n in (1, 2, 20)]
        + [{"max_new_tokens": 10, "guidance_scale": 1.0, "prompt_frames": 5}],
    },
}
# A melody model, stereo: chroma and text as a prefix in place of cross-attention.
MELODY = {
    "codebooks": 4,
    "ratios": (5, 4, 2),
    "rate": 2000,
    "text": {"num_layers": 1},
    "decoder": {"hidden_size": 24, "num_attention_heads": 2, "audio_channels": 2},
    "melody": {"chroma_length": 9},
}
MELODY_RUNS = [
    {"max_new_tokens": 9, "guidance_scale": 3.0, "melody": True},
    {"max_new_tokens": 12, "guidance_scale": 1.0, "melody": True, "prompt_frames": 5},
    {"max_new_tokens": 7, "guidance_scale": 2.5},
]
SMALL_REST = {
    "text": {"d_model": 8, "num_layers": 1},
    "decoder": {"hidden_size": 8, "ffn_dim": 8, "num_attention_heads": 1, "num_hidden_layers": 1},
}
CODECS = {
    # The 24 kHz model: causal, convolutions as shortcuts; here with two residual layers.
    "causal": {
        "rate": 24000,
        "ratios": (5, 4, 2),
        "codec": {"use_causal_conv": True, "use_conv_shortcut": True, "num_residual_layers": 2},
    },
    "constant": {"rate": 2000, "ratios": (3, 4), "codec": {"pad_mode": "constant"}},
    # The 48 kHz model: stereo, group norm, loudness divided out.
    "stereo48": {
        "rate": 48000,
        "ratios": (4, 5),
        "codec": {
            "use_causal_conv": True,
            "trim_right_ratio": 0.5,
            "norm_type": "time_group_norm",
            "audio_channels": 2,
            "normalize": True,
        },
    },
}


def round_weights(model):
    """Round every tensor of a torch model to what is stored, in place; returns the arrays to store."""
    import torch

    shapes, whole, factors = {}, [], []
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        factor = np.float32(np.abs(values).max() / 127 or 1)
        rounded = np.rint(values / factor).astype(np.int8)
        tensor.copy_(torch.from_numpy(rounded.astype(np.float32) * factor))
        shapes[name] = values.shape
        whole.append(rounded.reshape(-1))
        factors.append(factor)
    # One array for all: a few hundred small ones would take more space for their headers than for their numbers.
    index = np.array(json.dumps(shapes))
    return {"weights": np.concatenate(whole), "factors": np.array(factors, np.float32), "shapes": index}


def same_choices(model, arrays, recompute):
    """Whether double precision makes the choices in `arrays`; `recompute(model)` makes them again."""
    again = recompute(copy.deepcopy(model).double())
    return all(np.array_equal(arrays[name], values) for name, values in again.items())


def text_arrays(oracle, model):
    """T5 states of padded prompts, up to beyond the farthest relative position."""
    import torch

    arrays = {}
    for index, lengths in enumerate(((9, 4), (16, 1), (150, 70))):
        ids, mask = oracle.prompts(100, lengths, index)
        with torch.no_grad():
            states = model.text_encoder(torch.as_tensor(ids).long(), torch.as_tensor(mask)).last_hidden_state.numpy()
        # Of the long prompts only the edges are kept, to save space.
        keep = states if states.shape[1] < 32 else states[:, [0, 1, 60, 69, 140, 149]]
        arrays |= {f"text{index}.ids": ids, f"text{index}.mask": mask, f"text{index}.states": keep}
    return arrays


def decoder_arrays(oracle, model):
    """Logits for random codes, without and with a cache, and with the null rows of guidance."""
    import torch

    config = model.config.decoder
    ids, mask = oracle.prompts(100, (9, 4), 7)
    rng = np.random.default_rng(8)
    codes = rng.integers(0, config.vocab_size + 1, (2 * config.num_codebooks, 6)).astype(np.int32)
    full = oracle.logits(model, ids, mask, codes)
    stepwise = oracle.logits_step_by_step(model, ids, mask, codes)
    assert np.abs(full - stepwise).max() < 1e-5 * np.abs(full).max()
    with torch.no_grad():
        states = model.text_encoder(torch.as_tensor(ids).long(), torch.as_tensor(mask)).last_hidden_state
        both = model(
            encoder_outputs=(torch.cat([states, torch.zeros_like(states)]),),
            attention_mask=torch.cat([torch.as_tensor(mask), torch.zeros(mask.shape, dtype=torch.int32)]),
            decoder_input_ids=torch.as_tensor(np.concatenate([codes, codes])).long(),
        ).logits
    conditional, null = both.chunk(2)
    guided = (null + (conditional - null) * 3.0).numpy()
    return {
        "decoder.ids": ids,
        "decoder.mask": mask,
        "decoder.codes": codes,
        "decoder.logits": full.astype(np.float32),
        "decoder.guided": guided.astype(np.float32),
    }


def run_arrays(oracle, model, runs):
    """Codes and audio of greedy generation for two prompts of different length."""
    config = model.config.decoder
    ids, mask = oracle.prompts(100, (9, 4), 11)
    rng = np.random.default_rng(12)
    arrays = {"run.ids": ids, "run.mask": mask}
    for index, run in enumerate(runs):
        arguments = {name: value for name, value in run.items() if name not in ("prompt_frames", "melody")}
        if model.config.model_type == "musicgen_melody":
            arguments["use_cache"] = False  # with its cache this version drops text and melody: its issue 45647
        if "melody" in run:
            arguments["input_features"] = melodies(config.num_codebooks)
        if "prompt_frames" in run:
            shape = (2 * config.num_codebooks, run["prompt_frames"])
            arrays[f"run{index}.prompt"] = prompt = rng.integers(0, config.vocab_size, shape).astype(np.int32)
            arguments["decoder_input_ids"] = prompt.astype(np.int64)
        codes, audio = oracle.generate(model, ids, mask, do_sample=False, **arguments)
        arrays |= {f"run{index}.codes": codes, f"run{index}.audio": audio[..., ::STRIDE].astype(np.float32)}
        arrays[f"run{index}.samples"] = np.array(audio.shape[-1])
    return arrays


def melodies(frames):
    """Two random melodies, [2, frames, 12] one-hot."""
    return np.eye(12, dtype=np.float32)[np.random.default_rng(14).integers(0, 12, (2, frames))]


def melody_arrays(oracle, model):
    """Logits of a melody model for random codes, with a melody and without."""
    config = model.config.decoder
    ids, mask = oracle.prompts(100, (9, 4), 7)
    shape = (2 * config.num_codebooks, 6)
    codes = np.random.default_rng(8).integers(0, config.vocab_size + 1, shape).astype(np.int32)
    chroma = melodies(config.num_codebooks)
    return {
        "decoder.ids": ids,
        "decoder.mask": mask,
        "decoder.codes": codes,
        "melody.features": chroma,
        "melody.logits": oracle.logits(model, ids, mask, codes, input_features=chroma).astype(np.float32),
        "melody.null": oracle.logits(model, ids, mask, codes).astype(np.float32),
    }


def codec_arrays(model):
    """Codes and decoded audio for lengths around the padding and the hop."""
    import torch

    codec, config = model.audio_encoder, model.config.audio_encoder
    hop = config.hop_length
    rng, arrays = np.random.default_rng(13), {}
    for length in (1, 3, 7, hop - 1, hop, hop + 1, 5 * hop + 3):
        audio = (rng.standard_normal((2, config.audio_channels, length)) * 0.3).astype(HALF)
        dtype = next(codec.parameters()).dtype
        with torch.no_grad():
            encoded = codec.encode(torch.as_tensor(audio).to(dtype), bandwidth=config.target_bandwidths[-1])
            decoded = codec.decode(encoded.audio_codes, encoded.audio_scales).audio_values
        arrays[f"codec{length}.audio"] = audio
        arrays[f"codec{length}.codes"] = encoded.audio_codes[0].numpy().astype(np.int32)
        arrays[f"codec{length}.decoded"] = decoded.numpy().astype(np.float32)
        if config.normalize:
            arrays[f"codec{length}.scale"] = encoded.audio_scales[0].numpy().astype(np.float32)
    return arrays


def write(name, model, weights, arrays, runs=()):
    path = GOLDEN / f"{name}.npz"
    texts = {
        "config": model.config.to_dict(),
        "generation_config": model.generation_config.to_dict(),
        "runs": list(runs),
    }
    np.savez_compressed(path, **weights, **arrays, **{k: np.array(json.dumps(v)) for k, v in texts.items()})
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def choices(arrays):
    return {name: values for name, values in arrays.items() if name.endswith(".codes")}


def main():
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import oracle
        import transformers
    except ImportError as error:
        raise SystemExit(f"make_goldens needs torch and transformers {ORACLE_VERSION}: {error}") from error
    if transformers.__version__ != ORACLE_VERSION:
        raise SystemExit(f"make_goldens needs transformers {ORACLE_VERSION}, this is {transformers.__version__}")
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, recipe in {
        **MODELS,
        **{name: {"config": SMALL_REST | config} for name, config in CODECS.items()},
        "melody": {"config": MELODY, "runs": MELODY_RUNS},
    }.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        runs, melody = recipe.get("runs", ()), "melody" in recipe["config"]
        for seed in range(20):
            model = oracle.build(oracle.build_config(**recipe["config"]), seed)
            weights = round_weights(model)

            def made(model, runs=runs, melody=melody):
                return ({} if melody else codec_arrays(model)) | (run_arrays(oracle, model, runs) if runs else {})

            arrays = made(model)
            if same_choices(model, choices(arrays), lambda model, made=made: choices(made(model))):
                break
            print(f"{name}: seed {seed} has near ties, trying the next")
        else:
            raise SystemExit(f"{name}: every seed has near ties")
        if melody:
            arrays |= melody_arrays(oracle, model)
        elif runs:
            arrays |= text_arrays(oracle, model) | decoder_arrays(oracle, model)
        write(name, model, weights, arrays, runs)


if __name__ == "__main__":
    main()
