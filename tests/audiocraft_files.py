"""audiocraft's layout made from Hugging Face's, for tests: the inverse of what the package does, written on its own.

Works on NumPy arrays and needs no torch; `scripts/make_audiocraft_golden.py` and the parity tests pass the result to
torch.save, the ordinary tests to `write`, which writes the same format opcode by opcode.
"""

import numpy as np
from test_torch_file import mapping, save, tensor, text

KINDS = {"float32": "FloatStorage", "float16": "HalfStorage"}

# The settings are shortened from what audiocraft exports; references and null stay as OmegaConf writes them.
DECODER_SETTINGS = """\
device: cuda
dtype: float16
solver: musicgen
sample_rate: {rate}
channels: {channels}
compression_model_checkpoint: //pretrained/facebook/encodec_32khz
optim:
  lr: 1e-4
  ema:
    device: ${{device}}
classifier_free_guidance:
  training_dropout: 0.3
  inference_coef: 3.0
attribute_dropout: {{}}
interleave_stereo_codebooks:
  use: {stereo}
  per_timestep: false
fuser:
  cross_attention_pos_emb: false
  cross_attention_pos_emb_scale: 1
  sum: []
  prepend: []
  cross:
  - description
  input_interpolate: []
conditioners:
  description:
    model: t5
    t5:
      name: t5-base
      finetune: false
      word_dropout: 0.3
      normalize_text: false
lm_model: transformer_lm
codebooks_pattern:
  modeling: delay
  delay:
    delays: {delays}
    flatten_first: 0
    empty_initial: 0
  unroll:
    flattening: [0, 1, 2, 3]
transformer_lm:
  dim: {dim}
  num_heads: {heads}
  num_layers: {layers}
  hidden_scale: {scale}
  n_q: {codebooks}
  card: {card}
  dropout: 0.0
  emb_lr: null
  activation: {activation}
  norm_first: true
  bias_ff: false
  bias_attn: false
  bias_proj: false
  past_context: null
  causal: true
  custom: false
  memory_efficient: true
  layer_scale: null
  positional_embedding: sin
  norm: layer_norm
  cross_attention: false
  qk_layer_norm: false
  qk_layer_norm_cross: false
  kv_repeat: 1
"""
CODEC_SETTINGS = """\
solver: compression
sample_rate: {rate}
channels: 1
compression_model: encodec
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${{sample_rate}}
  channels: ${{channels}}
  causal: {causal}
  renormalize: false
seanet:
  dimension: {dimension}
  channels: ${{channels}}
  causal: ${{encodec.causal}}
  n_filters: {filters}
  n_residual_layers: {residual}
  ratios: {ratios}
  activation: ELU
  activation_params:
    alpha: 1.0
  norm: weight_norm
  norm_params: {{}}
  kernel_size: {kernel}
  residual_kernel_size: {residual_kernel}
  last_kernel_size: {last_kernel}
  dilation_base: {dilation}
  pad_mode: {pad_mode}
  true_skip: {true_skip}
  compress: {compress}
  lstm: {lstm}
  disable_norm_outer_blocks: 0
  decoder:
    trim_right_ratio: {trim}
    final_activation: null
    final_activation_params: null
  encoder: {{}}
rvq:
  n_q: {quantizers}
  q_dropout: false
  bins: {bins}
  decay: 0.99
  kmeans_init: true
no_quant: {{}}
"""


def decoder_settings(config, **changes):
    """xp.cfg of state_dict.bin for a MusicGen config given as a dict."""
    decoder = config["decoder"]
    channels, codebooks = decoder["audio_channels"], decoder["num_codebooks"]
    scale = decoder["ffn_dim"] / decoder["hidden_size"]
    values = {
        "rate": config["audio_encoder"]["sampling_rate"],
        "channels": channels,
        "stereo": str(channels == 2).lower(),
        "delays": [i // channels for i in range(codebooks)],
        "dim": decoder["hidden_size"],
        "heads": decoder["num_attention_heads"],
        "layers": decoder["num_hidden_layers"],
        "scale": int(scale) if scale == int(scale) else scale,
        "codebooks": codebooks,
        "card": decoder["vocab_size"],
        "activation": decoder["activation_function"],
    }
    return DECODER_SETTINGS.format(**values | changes)


def codec_settings(config, quantizers, **changes):
    """xp.cfg of compression_state_dict.bin for a MusicGen config given as a dict."""
    codec = config["audio_encoder"]
    values = {
        "rate": codec["sampling_rate"],
        "causal": str(codec["use_causal_conv"]).lower(),
        "dimension": codec["hidden_size"],
        "filters": codec["num_filters"],
        "residual": codec["num_residual_layers"],
        "ratios": codec["upsampling_ratios"],
        "kernel": codec["kernel_size"],
        "residual_kernel": codec["residual_kernel_size"],
        "last_kernel": codec["last_kernel_size"],
        "dilation": codec["dilation_growth_rate"],
        "pad_mode": codec["pad_mode"],
        "true_skip": str(not codec["use_conv_shortcut"]).lower(),
        "compress": codec["compress"],
        "lstm": codec["num_lstm_layers"],
        "trim": codec["trim_right_ratio"],
        "quantizers": quantizers,
        "bins": codec["codebook_size"],
    }
    return CODEC_SETTINGS.format(**values | changes)


def decoder_state(weights):
    """best_state of state_dict.bin from a composite's weights."""
    state, stacked = {}, {}
    for name, value in weights.items():
        match name.removeprefix("decoder.").removeprefix("model.decoder.").split("."):
            case ["enc_to_dec_proj", leaf]:
                state[f"condition_provider.conditioners.description.output_proj.{leaf}"] = value
            case ["embed_tokens", k, "weight"] if name.startswith("decoder."):
                state[f"emb.{k}.weight"] = value
            case ["lm_heads", k, "weight"]:
                state[f"linears.{k}.weight"] = value
            case ["layer_norm", leaf]:
                state[f"out_norm.{leaf}"] = value
            case ["layers", i, "self_attn" | "encoder_attn" as kind, "q_proj" | "k_proj" | "v_proj" as part, "weight"]:
                stacked.setdefault((i, kind), {})[part] = value
            case ["layers", i, "self_attn" | "encoder_attn" as kind, "out_proj", "weight"]:
                state[f"{_attention(i, kind)}.out_proj.weight"] = value
            case ["layers", i, "fc1" | "fc2" as linear, "weight"]:
                state[f"transformer.layers.{i}.linear{linear[-1]}.weight"] = value
            case ["layers", i, norm, leaf]:
                old = {"self_attn_layer_norm": "norm1", "encoder_attn_layer_norm": "norm_cross"}.get(norm, "norm2")
                state[f"transformer.layers.{i}.{old}.{leaf}"] = value
    for (i, kind), parts in stacked.items():
        rows = [parts[part] for part in ("q_proj", "k_proj", "v_proj")]
        state[f"{_attention(i, kind)}.in_proj_weight"] = np.concatenate(rows)
    return state


def _attention(i, kind):
    return f"transformer.layers.{i}." + ("self_attn" if kind == "self_attn" else "cross_attention")


def codec_state(weights, config):
    """best_state of compression_state_dict.bin from a composite's weights."""
    codec, state = config["audio_encoder"], {}
    skip = codec["num_residual_layers"] + 2
    transposed = {str(3 + i * skip) for i in range(len(codec["upsampling_ratios"]))}
    for name, value in weights.items():
        if not name.startswith("audio_encoder."):
            continue
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        match name.split(".")[1:]:
            case ["quantizer", "layers", i, "codebook", leaf]:
                state[f"quantizer.vq.layers.{i}._codebook.{leaf}"] = value
            case [half, "layers", n, "lstm", leaf]:
                state[f"{half}.model.{n}.lstm.{leaf}"] = value
            case [half, "layers", n, "conv", leaf]:
                twice = "convtr.convtr" if half == "decoder" and n in transposed else "conv.conv"
                state[f"{half}.model.{n}.{twice}.{leaf}"] = value
            case [half, "layers", n, *inner, "conv", leaf]:
                state[f"{half}.model.{n}.{'.'.join(inner)}.conv.conv.{leaf}"] = value
            case other:
                raise AssertionError(f"a codec tensor this helper does not know: {other}")
    return state


def package(state, settings):
    """What audiocraft.utils.export saves."""
    return {"best_state": state, "xp.cfg": settings, "version": "1.4.0a1", "exported": True}


def packages(weights, config):
    """Both files' contents for a composite, by file name."""
    quantizers = sum(name.endswith("codebook.embed") for name in weights)
    return {
        "state_dict.bin": package(decoder_state(weights), decoder_settings(config)),
        "compression_state_dict.bin": package(codec_state(weights, config), codec_settings(config, quantizers)),
    }


def write(path, content):
    """What torch.save(content, path) writes, for dicts of arrays, texts, booleans and whole numbers."""
    storages = {}

    def dump(value):
        if isinstance(value, dict):
            return mapping({name: dump(item) for name, item in value.items()})
        if isinstance(value, str):
            return text(value)
        if isinstance(value, bool):
            return b"\x88" if value else b"\x89"
        if isinstance(value, int):
            return b"J" + value.to_bytes(4, "little", signed=True)
        value = np.ascontiguousarray(value)
        key = str(len(storages))
        storages[key] = value
        return tensor(key, value.size, value.shape, kind=KINDS[value.dtype.name])

    save(path, dump(content), storages)
