"""EnCodec: codes and audio equal to transformers' for every layout, at lengths around the padding and the hop."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

CODECS = ("quad", "causal", "constant", "stereo48")


def lengths(golden):
    return sorted(int(name[5:-6]) for name in golden.arrays if name.startswith("codec") and name.endswith(".audio"))


@pytest.fixture(params=CODECS)
def golden(request, goldens):
    return goldens(request.param)


def encode(golden, codec, length):
    audio = golden[f"codec{length}.audio"].astype(np.float32)
    return codec(Tensor(audio), golden[f"codec{length}.codes"].shape[1])


def test_encode(golden, close):
    found = lengths(golden)
    hop = golden.model.config.audio_encoder.hop_length
    assert found[:3] == [1, 3, 7] and {hop - 1, hop, hop + 1} < set(found) and found[-1] > 5 * hop
    for length in found:
        codes, scale = encode(golden, golden.model.audio_encoder.to_codes, length)
        assert codes.dtype == ms.int32
        np.testing.assert_array_equal(codes.asnumpy(), golden[f"codec{length}.codes"])
        if golden.model.config.audio_encoder.normalize:
            close(scale, golden[f"codec{length}.scale"].reshape(2, 1))


def test_decode(golden, close):
    model, checked = golden.model, set()
    for length in lengths(golden):
        codes, expected = golden[f"codec{length}.codes"], golden[f"codec{length}.decoded"]
        scale = golden.arrays.get(f"codec{length}.scale")
        arguments = () if scale is None else (Tensor(scale.reshape(2, 1)),)
        found = model.audio_encoder.to_audio(Tensor(codes), *arguments).asnumpy()
        # transformers cuts the audio to nothing else than frames * hop; neither do we.
        close(found[..., : expected.shape[-1]], expected, 2e-5)
        assert found.shape[-1] == codes.shape[2] * model.config.audio_encoder.hop_length
        checked.add(codes.shape[2])
    assert len(checked) >= 3


@pytest.mark.parametrize("name", ["causal", "stereo48"])  # the pipelines' goldens compile the other layouts
def test_compiled_graphs_give_the_same(goldens, close, name):
    golden = goldens(name)
    codec, length = golden.model.audio_encoder, lengths(golden)[-1]
    codes, scale = encode(golden, ms.jit(codec.to_codes, fullgraph=True), length)
    np.testing.assert_array_equal(codes.asnumpy(), golden[f"codec{length}.codes"])
    arguments = (scale,) if golden.model.config.audio_encoder.normalize else ()
    close(ms.jit(codec.to_audio, fullgraph=True)(codes, *arguments), golden[f"codec{length}.decoded"], 2e-5)


def test_silence_has_a_loudness(goldens):
    """A normalising codec must not divide by zero."""
    golden = goldens("stereo48")
    codes, scale = golden.model.audio_encoder.to_codes(Tensor(np.zeros((1, 2, 50), np.float32)), 2)
    assert np.isfinite(scale.asnumpy()).all() and (codes.asnumpy() >= 0).all()


def test_fewer_codebooks_are_a_prefix(quad):
    length = lengths(quad)[-1]
    audio = Tensor(quad[f"codec{length}.audio"].astype(np.float32))
    two, _ = quad.model.audio_encoder.to_codes(audio, 2)
    np.testing.assert_array_equal(two.asnumpy(), quad[f"codec{length}.codes"][:, :2])


@pytest.mark.parametrize(
    "change, word",
    [({"pad_mode": "replicate"}, "pad_mode 'replicate'"), ({"norm_type": "batch_norm"}, "norm_type 'batch_norm'")],
)
def test_unknown_layouts_are_refused(quad, tmp_path, change, word):
    import json

    from mindmusicgen import InputError, MusicgenForConditionalGeneration

    folder = quad.write(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["audio_encoder"].update(change)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="config.json") as caught:
        MusicgenForConditionalGeneration.from_pretrained(str(folder))
    if change.get("pad_mode"):  # transformers itself refuses the other one
        assert word in str(caught.value)
