"""bfloat16 on a CPU: weights and products of bfloat16, sums and all else of float32, where there is a tile unit."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import MusicLDMPipeline
from mindmusicgen.checkpoint.safetensors_file import open_safetensors
from mindmusicgen.dtypes import resolve_dtype
from mindmusicgen.ops import bfloat16, native, pictures, sequence

UNET = "unet/diffusion_pytorch_model.safetensors"


def rounded(values):
    return bfloat16.from_bits(bfloat16.to_bits(values))


def drawn(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def convolved(x, weight, bias, reach):
    """By taps, of the rounded: x [B, N, C] and weight [O, k C] along time."""
    x, weight = rounded(x), rounded(weight)
    taps = weight.shape[1] // x.shape[2]
    padded = np.pad(x, ((0, 0), (taps // 2 * reach,) * 2, (0, 0)))
    parts = [padded[:, i * reach : i * reach + x.shape[1]] for i in range(taps)]
    return np.concatenate(parts, 2) @ weight.T + bias


@pytest.fixture(scope="module")
def can():
    return pictures.can_multiply_bfloat16()


def test_bits():
    values = np.array([1, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3e38, 0, -0.0], np.float32)
    expected = np.array([1, -2.5, 1, 1 + 2**-6, 1 + 2**-7, 3e38, 0, -0.0], np.float32)  # of two equally near, the even
    found = rounded(values)
    assert np.array_equal(found[:5], expected[:5]) and abs(found[5] / 3e38 - 1) < 2**-8
    assert np.array_equal(np.signbit(found), np.signbit(expected))
    assert np.array_equal(rounded(found), found)


@pytest.mark.parametrize("rows, columns, out", [(1, 33, 5), (40, 64, 70), (300, 7, 33)])
def test_products(can, near, rows, columns, out):
    x, weight = drawn(rows, columns), drawn(out, columns)
    operator = pictures.bfloat16_product_op()
    assert (operator is None) != can
    if can:
        near(operator(Tensor(x), Tensor(bfloat16.to_bits(weight))), rounded(x) @ rounded(weight).T, 1e-6)


def test_convolutions(can, near):
    x, bias, weight = drawn(2, 37, 9), drawn(6), drawn(6, 5 * 9)
    picture, window = drawn(2, 7, 5, 9), drawn(6, 81)
    if can:
        bits, reach = Tensor(bfloat16.to_bits(weight)), Tensor(np.array([3], np.int32))
        found = pictures.conv_time_op(ms.bfloat16)(Tensor(x), bits, Tensor(bias), reach)
        near(found, convolved(x, weight, bias, 3), 1e-6)
        padded = np.pad(rounded(picture), ((0, 0), (1, 1), (1, 1), (0, 0)))
        parts = [padded[:, i : i + 7, j : j + 5] for i in range(3) for j in range(3)]
        expected = np.concatenate(parts, 3) @ rounded(window).T + bias
        for stride in (1, 2):
            operator = pictures.conv3x3_op(ms.bfloat16, stride)
            found = operator(Tensor(picture), Tensor(bfloat16.to_bits(window)), Tensor(bias))
            near(found, expected[:, ::stride, ::stride], 1e-6)
    assert can == (pictures.conv_time_op(ms.bfloat16) is not None)


@pytest.mark.parametrize("columns, heads", [(20, 2), (130, 3)])
def test_attention(can, near, columns, heads):
    qkv, numbers = drawn(2, columns, 3 * 24), [Tensor(np.array([n], np.int32)) for n in (heads, 0)]
    exact, rough = sequence.attention_op(ms.float32), sequence.attention_op(ms.bfloat16)
    assert (exact is None) == (rough is None) == bool(native.why_not())
    if rough is not None:
        found, expected = (one(Tensor(qkv), *numbers) for one in (rough, exact))
        near(found, expected.asnumpy(), 2e-2)
        alike = np.array_equal(found.asnumpy(), expected.asnumpy())
        assert alike == (columns < 64 or not can), (
            "few columns go another way, MANY of csrc/sequence.c, and more must not"
        )


def test_the_pipeline(golden, near, can, refused, tmp_path):
    if not can:
        refused(lambda: MusicLDMPipeline.from_pretrained(golden.folder, dtype="bfloat16"), "tile unit", "float32")
        return
    pipe = MusicLDMPipeline.from_pretrained(golden.folder, torch_dtype="bfloat16")
    assert str(pipe.dtype) == "BFloat16" and pipe.vae.dtype == pipe.vocoder.dtype == pipe.dtype
    call = {"num_inference_steps": 10, "audio_length_in_s": 0.5, "latents": golden["latents"]}
    call |= {"negative_prompt": golden.negative}
    near(pipe(golden.prompts[0], output_type="latent", **call).audios, golden["ddim_final_latents"], 2e-2)
    found, expected = pipe(golden.prompts[0], **call).audios, golden["audio_ddim"]
    noise = (found - expected).astype(np.float64)
    assert 30 < 10 * np.log10((expected.astype(np.float64) ** 2).sum() / (noise**2).sum()) < 60
    pipe.save_pretrained(tmp_path / "saved")
    saved, source = (open_safetensors(folder / UNET) for folder in (tmp_path / "saved", Path(golden.folder)))
    assert set(saved) == set(source)
    for name in ("conv_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight"):
        assert np.array_equal(saved[name].read(), rounded(source[name].read()))
    assert np.array_equal(saved["conv_in.bias"].read(), source["conv_in.bias"].read())


def test_who_cannot(monkeypatch, refused):
    refused(lambda: resolve_dtype("bfloat16"), "no CPU kernels in MindSpore")  # other families
    monkeypatch.setattr(pictures, "can_multiply_bfloat16", lambda: False)
    refused(
        lambda: resolve_dtype("bfloat16", bfloat16_products=True), "needs a CPU with a tile unit (AMX)", "use float32"
    )
