"""audiocraft's files against transformers, live: fresh random models, written by torch.save in audiocraft's layout."""

import secrets
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import audiocraft_files  # noqa: E402
import oracle  # noqa: E402
import transformers  # noqa: E402
from mindspore import Tensor  # noqa: E402

from mindmusicgen import InputError, MusicgenForConditionalGeneration  # noqa: E402
from mindmusicgen.musicgen.checkpoint.audiocraft import convert  # noqa: E402

SEED = secrets.randbits(20)
DECODER, CODEC = "state_dict.bin", "compression_state_dict.bin"

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))


def random_recipe(rng, channels):
    """Sizes of a tiny model, varied in what audiocraft's settings may vary in."""
    heads = int(rng.integers(1, 4))
    hidden = heads * int(rng.choice([8, 16]))
    return {
        "vocab": int(rng.choice([32, 64])),
        "codebooks": channels * int(rng.integers(1, 5)),
        "ratios": [(5, 4, 2), (2, 4, 5), (10, 4)][int(rng.integers(3))],
        "rate": 2000,
        "text": {"d_model": hidden + 4, "num_layers": int(rng.integers(1, 3))},
        "codec": {
            "use_causal_conv": bool(rng.integers(2)),
            "use_conv_shortcut": bool(rng.integers(2)),
            "num_residual_layers": int(rng.integers(1, 3)),
            "pad_mode": str(rng.choice(["reflect", "constant"])),
        },
        "decoder": {
            "hidden_size": hidden,
            "ffn_dim": int(rng.integers(1, 5)) * hidden,
            "num_attention_heads": heads,
            "num_hidden_layers": int(rng.integers(1, 4)),
            "audio_channels": channels,
            "activation_function": str(rng.choice(["gelu", "relu"])),
        },
    }


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def reference(request):
    """A model of transformers that no one has seen before."""
    seed = SEED + request.param
    recipe = random_recipe(np.random.default_rng(seed), request.param)
    print(f"random model of seed {seed}: {recipe}")
    return oracle.build(oracle.build_config(**recipe), seed)


def export(model, folder):
    """Write a model of transformers as audiocraft exports it, and its T5 into the subfolder t5."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, content in audiocraft_files.packages(weights, model.config.to_dict()).items():
        state = content["best_state"]
        # audiocraft's own state dicts are OrderedDicts with _metadata; Module.state_dict() of a cell gives that form.
        content["best_state"] = module = torch.nn.Module().state_dict()
        module.update({key: torch.from_numpy(value).clone() for key, value in state.items()})
        torch.save(content, folder / name)
    model.text_encoder.save_pretrained(folder / "t5")
    return folder


def point(model, folder, inside):
    """Replace the codec by its name, as in the files of the stereo models."""
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.4.0a1"}, folder / CODEC)
    model.audio_encoder.save_pretrained(inside)
    return folder


def inputs(config):
    ids, mask = oracle.prompts(config.text_encoder.vocab_size, (7, 3), 1)
    shape = (2 * config.decoder.num_codebooks, 6)
    return ids, mask, np.random.default_rng(2).integers(0, config.decoder.vocab_size + 1, shape).astype(np.int32)


def compare(reference, model, close):
    ids, mask, codes = inputs(reference.config)
    close(model.logits(Tensor(ids), Tensor(mask), Tensor(codes)), oracle.logits(reference, ids, mask, codes))
    arguments = {"do_sample": False, "max_new_tokens": 11, "guidance_scale": 3.0}
    expected_codes, expected_audio = oracle.generate(reference, ids, mask, **arguments)
    out = model.generate(Tensor(ids), Tensor(mask), return_dict_in_generate=True, **arguments)
    np.testing.assert_array_equal(out.audio_codes.asnumpy(), expected_codes)
    close(out.audio_values, expected_audio)


def open_model(folder):
    return MusicgenForConditionalGeneration.from_pretrained(str(folder))


def test_logits_codes_and_audio(reference, tmp_path, close):
    compare(reference, open_model(export(reference, tmp_path)), close)


def test_pointer_form(reference, tmp_path, close):
    folder = point(reference, export(reference, tmp_path), tmp_path / "encodec")
    compare(reference, open_model(folder), close)


def test_converted_folder_in_transformers(reference, tmp_path):
    """transformers opens it without a missing or unexpected tensor, and computes the same."""
    from random_checkpoint import build_tokenizer

    folder = export(reference, tmp_path / "audiocraft")
    build_tokenizer().save_pretrained(folder / "t5")
    convert(str(folder), str(tmp_path / "converted"))
    again, report = transformers.MusicgenForConditionalGeneration.from_pretrained(
        tmp_path / "converted", output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, report[kind])
    settings = again.generation_config
    start = reference.config.decoder.vocab_size
    assert settings.do_sample and settings.guidance_scale == 3.0 and settings.max_length == 1500
    assert settings.bos_token_id == settings.decoder_start_token_id == settings.pad_token_id == start
    ids, mask, _ = inputs(reference.config)
    arguments = {"do_sample": False, "max_new_tokens": 11, "guidance_scale": 3.0}
    codes, audio = oracle.generate(reference, ids, mask, **arguments)
    again_codes, again_audio = oracle.generate(again.eval(), ids, mask, **arguments)
    np.testing.assert_array_equal(again_codes, codes)
    np.testing.assert_allclose(again_audio, audio, rtol=0, atol=1e-4 * np.abs(audio).max())
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "converted")
    assert isinstance(processor, transformers.MusicgenProcessor)
    assert processor.feature_extractor.feature_size == reference.config.decoder.audio_channels


def test_files_that_hold_an_object_are_refused(reference, tmp_path):
    """torch.save pickles whatever it is given; nothing but tensors and plain data is taken back."""
    folder = export(reference, tmp_path)
    content = torch.load(folder / DECODER)
    torch.save(content | {"xp.cfg": reference.config}, folder / DECODER)  # an object where the text should be
    with pytest.raises(InputError, match=r"asks for transformers\.models\.musicgen\S+\.MusicgenConfig"):
        open_model(folder)
    torch.save(content | {"best_state": torch.nn.Linear(2, 2)}, folder / DECODER)
    with pytest.raises(InputError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        open_model(folder)
    torch.save(content, folder / DECODER)
    (folder / CODEC).unlink()
    with pytest.raises(InputError, match=CODEC):
        open_model(folder)
