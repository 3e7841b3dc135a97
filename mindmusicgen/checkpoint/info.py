"""What a checkpoint is, and what it will need: read from its config and its tensors' headers alone."""

import math
import os

from ..errors import InputError
from .audiocraft import is_audiocraft
from .folder import open_folder, stored_quantization
from .huggingface import BUFFERS, POSITIONS
from .safetensors_file import DTYPES
from .source import NATIVE

NETWORKS = {
    "text encoder": ("text_encoder.",),
    "decoder": ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.", "conditioner."),
    "codec": ("audio_encoder.",),
}
RUNTIME_BYTES = 450e6  # MindSpore and Python themselves, measured
SAMPLES_ALIVE = 8  # widest codec activations alive at once while decoding, measured


def parameter_counts(tensors):
    """Parameters of each network: dict of name to count."""
    counts = dict.fromkeys(NETWORKS, 0)
    for name, tensor in tensors.items():
        if BUFFERS.match(name) or POSITIONS.match(name) or name.endswith(".scale"):  # the scales of 8-bit weights
            continue
        for network, prefixes in NETWORKS.items():
            if name.startswith(prefixes):
                counts[network] += math.prod(tensor.shape)
    return counts


def memory(config, parameters, seconds, batch):
    """Bytes a float32 run needs at its peak, by part.

    Args:
        config (transformers.MusicgenConfig): the model's config.
        parameters (int): parameters in all.
        seconds (float): length of the music.
        batch (int): prompts at a time, each with a null row for guidance.
    """
    decoder, codec = config.decoder, config.audio_encoder
    columns = seconds * codec.frame_rate + getattr(config, "chroma_length", 0)
    samples = seconds * codec.sampling_rate
    return {
        "weights": 4 * parameters,
        "KV cache": 2 * 4 * 2 * batch * columns * decoder.hidden_size * decoder.num_hidden_layers,
        "codec": 4 * batch * samples * codec.num_filters * SAMPLES_ALIVE,
        "runtime": RUNTIME_BYTES,
    }


def describe(folder, seconds=10.0, batch=1):
    """A text that says what is in a folder.

    Args:
        folder (str): a model folder.
        seconds (float): length of the music to plan for.
        batch (int): prompts at a time to plan for.

    Raises:
        InputError: if the folder is not a model, or the plan makes no sense.
    """
    if not 0 < seconds < math.inf or batch < 1:
        raise InputError(
            f"cannot plan for {seconds} s and {batch} prompts; expected more than 0 s and at least 1 prompt"
        )
    config, tensors = open_folder(folder)
    native = os.path.isfile(os.path.join(folder, NATIVE))
    layout = "MindSpore" if native else "audiocraft" if is_audiocraft(folder) else "Hugging Face"
    counts = parameter_counts(tensors)
    stored = sorted({str(tensor.dtype) for tensor in tensors.values()})
    decoder, codec, text = config.decoder, config.audio_encoder, config.text_encoder
    needs = memory(config, sum(counts.values()), seconds, batch)
    numbers = stored_quantization(folder) or "float32"
    if numbers != "float32":
        sizes = (math.prod(tensor.shape) * DTYPES[tensor.dtype].itemsize for tensor in tensors.values())
        needs |= {"weights": sum(sizes), "KV cache": needs["KV cache"] / 4}
    kind, melody = "MusicGen", []
    if config.model_type == "musicgen_melody":
        kind = "MusicGen with melody"
        melody = [f"  melody        {config.chroma_length} frames of {config.num_chroma} pitch classes"]
    channels = {1: "mono", 2: "stereo"}[decoder.audio_channels]
    parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in needs.items())
    millions = {name: f"{count / 1e6:.1f} M parameters" for name, count in counts.items()}
    lines = [
        f"{folder}: {kind}, {channels}, {layout} layout",
        f"  text encoder  {text.num_layers} layers of {text.d_model}, {millions['text encoder']}",
        f"  decoder       {decoder.num_hidden_layers} layers of {decoder.hidden_size}, "
        f"{decoder.num_attention_heads} heads, {decoder.num_codebooks} codebooks of {decoder.vocab_size}, "
        + millions["decoder"],
        f"  codec         {codec.sampling_rate} Hz, {codec.frame_rate} frames a second, {millions['codec']}",
        *melody,
        f"  stored as     {', '.join(stored)}, {len(tensors)} tensors",
        f"  memory        {sum(needs.values()) / 1e9:.2f} GB for {seconds:g} s, batch {batch}, {numbers} "
        f"(estimate: {parts})",
    ]
    return "\n".join(lines)
