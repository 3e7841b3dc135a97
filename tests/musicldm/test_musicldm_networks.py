"""MusicLDM's networks: what diffusers and transformers compute with the tiny folder, and what their configs may say."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.checkpoint.huggingface import stored_tensors
from mindmusicgen.checkpoint.safetensors_file import open_safetensors
from mindmusicgen.clap.config import read_config
from mindmusicgen.musicldm.checkpoint import names, networks
from mindmusicgen.musicldm.config import read_unet, read_vae, read_vocoder
from mindmusicgen.musicldm.layers import Conv3x3, GroupNorm, resized, self_attention


@pytest.fixture(scope="module")
def unet(golden):
    return networks.make_unet(golden.folder, ms.float32)


def lines(array):
    """[B, C, H, W] -> [B, H, W, C]"""
    return Tensor(np.ascontiguousarray(array.transpose(0, 2, 3, 1)))


@pytest.mark.parametrize("height", [8, 13, 125])
def test_unet(golden, unet, near, height):
    time = Tensor([float(golden.settings["timesteps"][f"unet{height}"])], ms.float32)
    found = unet(lines(golden[f"unet{height}_input"]), time, Tensor(golden[f"unet{height}_class"]))
    near(found.asnumpy().transpose(0, 3, 1, 2), golden[f"unet{height}_output"], 1e-5)


@pytest.mark.parametrize("name", ["prompt0", "prompt1", "negative", "empty"])
def test_text(golden, near, name):
    _, encoder = networks.make_text_encoder(golden.folder)
    ids, mask = (golden[f"{name}_{part}"][None].astype(np.int32) for part in ("ids", "mask"))
    hidden, pooled = encoder.states(Tensor(ids), Tensor(mask))
    near(hidden, golden[f"{name}_text_last_hidden"][None], 1e-5)
    near(pooled, golden[f"{name}_text_pooled"][None], 1e-5)
    near(encoder(Tensor(ids), Tensor(mask)), golden[f"{name}_embedding"][None], 1e-5)
    real = mask.sum()
    near(encoder(Tensor(ids[:, :real]), Tensor(mask[:, :real])), golden[f"{name}_embedding"][None], 1e-5)


def test_vae(golden, near):
    vae = networks.make_vae(golden.folder)
    near(vae(lines(golden["vae_input"] / np.float32(0.9))), golden["vae_mel"][:, 0], 1e-5)
    near(vae(lines(golden["vae_random_input"])), golden["vae_random_mel"][:, 0], 1e-5)


def test_vocoder(golden, near):
    vocoder = networks.make_vocoder(golden.folder)
    near(vocoder(Tensor(golden["vae_mel"][:, 0])), golden["vocoder_audio"], 1e-5)
    near(vocoder(Tensor(golden["vocoder_random_mel"])), golden["vocoder_random_audio"], 1e-5)


@pytest.mark.parametrize("part, make", [("unet", networks.make_unet), ("vae", networks.make_vae)])
def test_weights_are_written_as_they_were_read(golden, unet, part, make):
    network = unet if part == "unet" else make(golden.folder)
    renames = names.UNET if part == "unet" else names.VAE
    read = open_safetensors(f"{golden.folder}/{part}/diffusion_pytorch_model.safetensors")
    written = {name: values() for name, _, _, values in stored_tensors(network, names.plan(network, renames))}
    assert {name for name in read if not names.VAE_UNUSED.match(name)} == set(written)
    assert all(np.array_equal(read[name].read(), values) for name, values in written.items())


def convolution(x, weight, bias, stride):
    """[B, H, W, C] and [O, C, 3, 3], in double precision."""
    x = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((n - 3) // stride + 1 for n in x.shape[1:3])
    y = np.zeros((len(x), height, width, len(weight)))
    for i in range(3):
        for j in range(3):
            part = x[:, i : i + stride * height : stride, j : j + stride * width : stride][:, :height, :width]
            y += part @ weight[:, :, i, j].astype(np.float64).T
    return y + bias


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 4), (4, 7), (3, 3), (8, 2)])
def test_convolutions(near, stride, size):
    rng = np.random.default_rng(0)
    weight, bias, x = (rng.standard_normal(s, np.float32) for s in ((5, 3, 3, 3), (5,), (2, *size, 3)))
    cell = Conv3x3(3, 5, stride)
    cell.weight.set_data(Tensor(np.ascontiguousarray(cell.pack(weight))))
    cell.bias.set_data(Tensor(bias))
    near(cell(Tensor(x)), convolution(x, weight, bias, stride), 1e-6)
    assert np.array_equal(cell.unpack(cell.pack(weight)), weight)


def test_norms_and_sizes(near):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32) + 30
    grouped = x.astype(np.float64).reshape(2, 12, 3, 2)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    norm = GroupNorm(3, 6, 1e-6)
    norm.weight.set_data(Tensor(np.ones(6, np.float32)))
    near(norm(Tensor(x)), (centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-6)).reshape(x.shape), 2e-5)
    found = resized(Tensor(x), 5, 8).asnumpy()
    assert np.array_equal(found, x[:, [0, 0, 1, 1, 2]][:, :, [0, 0, 1, 1, 2, 2, 3, 3]])


def test_attention_in_blocks_is_attention(near):
    """Longer than a block of queries; the kernel, where there is one, is held by the goldens."""
    qkv = np.random.default_rng(0).standard_normal((1, 300, 24), np.float32)
    q, k, v = qkv.astype(np.float64).reshape(300, 3, 2, 4).transpose(1, 2, 0, 3)
    weights = np.exp(q @ k.swapaxes(1, 2) / 2)
    expected = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(1, 300, 8)
    near(self_attention(Tensor(qkv), 2), expected, 1e-5)


@pytest.mark.parametrize(
    "part, changes, words",
    [
        ("unet", {"act_fn": "gelu"}, ("act_fn", "silu")),
        ("unet", {"class_embed_type": None}, ("class_embed_type", "simple_projection")),
        ("unet", {"cross_attention_dim": 768}, ("cross_attention_dim", "[8, 16, 24, 40]")),
        ("unet", {"block_out_channels": [8, 16.5]}, ("block_out_channels",)),
        ("unet", {"norm_num_groups": 7}, ("norm_num_groups", "divisor")),
        ("unet", {"attention_head_dim": 5}, ("attention_head_dim", "heads")),
        ("unet", {"down_block_types": ["DownBlock2D"]}, ("down_block_types",)),
        ("unet", {"up_block_types": [["UpBlock2D"]] * 4}, ("up_block_types", "4 of UpBlock2D")),
        ("unet", {"use_linear_projection": True}, ("use_linear_projection",)),
        ("unet", {"new_field": 1}, ("new_field", "does not know")),
        ("vae", {"shift_factor": 0.1}, ("shift_factor",)),
        ("vae", {"scaling_factor": float("nan")}, ("scaling_factor",)),
        ("vae", {"layers_per_block": 1000}, ("layers_per_block",)),
        ("vocoder", {"resblock_kernel_sizes": [3, 4]}, ("resblock_kernel_sizes", "odd")),
        ("vocoder", {"upsample_rates": [5, 4]}, ("upsample_kernel_sizes",)),
        ("vocoder", {"new_field": 1}, ("new_field",)),
        ("text_encoder", {"model_type": "bert"}, ("bert", "clap")),
        ("text_encoder", {"text_config": {"hidden_act": "relu"}}, ("hidden_act", "gelu")),
        ("text_encoder", {"audio_config": {"enable_fusion": True}}, ("enable_fusion",)),
        ("text_encoder", {"audio_config": {"patch_size": 4, "patch_stride": 4}}, ("patch_stride", "[4, 4]")),
        ("text_encoder", {"text_config": [1]}, ("text_config", "no object")),
    ],
)
def test_refused_configs(golden, refused, part, changes, words):
    read = {"unet": read_unet, "vae": read_vae, "vocoder": read_vocoder, "text_encoder": read_config}[part]
    values = golden.json(f"{part}/config.json")
    read(values, "there/config.json")
    refused(lambda: read(values | changes, "there/config.json"), "there/config.json", *words)


def test_half_precision(golden, near):
    """Norms, softmax and what comes out are float32; the rest is rounded to 11 bits."""
    half = networks.make_unet(golden.folder, ms.float16)
    found = half(lines(golden["unet8_input"]), Tensor([901.0], ms.float32), Tensor(golden["unet8_class"]))
    assert found.dtype == ms.float32 and half.conv_in.weight.dtype == ms.float16
    near(found.asnumpy().transpose(0, 3, 1, 2), golden["unet8_output"], 1e-2)
