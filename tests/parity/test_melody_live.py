"""Melody models against transformers and torch, live: chroma, logits, codes, audio, and checkpoints both ways.

transformers' feature extractor wants torchaudio for its spectrogram; here torch.stft stands in for it, with what
torchaudio documents, and everything else is the extractor's own code.

transformers 4.57.6 drops text and melody in `generate` before its first step, because a cache, though empty, is there
already (its issue 45647, mended in version 5); without a cache it uses both, so that is how it is asked here.
"""

import importlib
import secrets
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import oracle  # noqa: E402
import transformers  # noqa: E402
from mindspore import Tensor  # noqa: E402
from transformers.audio_utils import chroma_filter_bank  # noqa: E402

from mindmusicgen import MusicgenMelodyForConditionalGeneration, MusicgenMelodyProcessor  # noqa: E402
from mindmusicgen.musicgen.melody.chroma import chroma_energies, chroma_filters  # noqa: E402
from mindmusicgen.musicgen.melody.feature_extractor import MusicgenMelodyFeatureExtractor  # noqa: E402

# By name: transformers' lazy import puts a placeholder in its place where torchaudio is missing.
reference_features = importlib.import_module("transformers.models.musicgen_melody.feature_extraction_musicgen_melody")

SEED = secrets.randbits(20)
RECIPES = {
    "mono": {"melody": {"chroma_length": 9}},
    "stereo": {
        "codebooks": 4,
        "ratios": (5, 4, 2),
        "rate": 2000,
        "decoder": {"hidden_size": 24, "num_attention_heads": 2, "audio_channels": 2},
        "melody": {"chroma_length": 5},
    },
    # As wide as the text encoder and as the chroma: no projections.
    "plain": {
        "codebooks": 2,
        "ratios": (5, 4, 2),
        "rate": 2000,
        "text": {"d_model": 36, "num_heads": 3},
        "decoder": {"hidden_size": 36, "ffn_dim": 50, "num_attention_heads": 3, "activation_function": "relu"},
        "melody": {"chroma_length": 12, "num_chroma": 36},
    },
}


class Spectrogram:
    """torchaudio's, as far as the extractor uses it: power, centred, reflected, divided by the window's norm."""

    def __init__(self, n_fft, win_length, hop_length, power, center, pad, normalized):
        assert (win_length, power, center, pad, normalized) == (n_fft, 2, True, 0, True)
        self.n_fft, self.hop_length = n_fft, hop_length

    def __call__(self, waveform):
        window = torch.hann_window(self.n_fft)
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, window=window, pad_mode="reflect", return_complex=True
        )
        return (spectrum / window.pow(2).sum().sqrt()).abs().pow(2)


@pytest.fixture
def extractor(monkeypatch):
    """transformers' feature extractor."""
    torchaudio = SimpleNamespace(transforms=SimpleNamespace(Spectrogram=Spectrogram))
    monkeypatch.setattr(reference_features, "torchaudio", torchaudio, raising=False)
    return reference_features.MusicgenMelodyFeatureExtractor


def tunes(lengths, seed=0):
    """Notes of half a second with some noise, one clip for each length in samples at 32 kHz."""
    rng, clips = np.random.default_rng(seed), []
    for length in lengths:
        notes = 220 * 2 ** (rng.integers(0, 36, -(-length // 16000)) / 12)
        phase = np.cumsum(np.repeat(notes, 16000)[:length]) * 2 * np.pi / 32000
        clips.append((0.4 * np.sin(phase) + 0.01 * rng.standard_normal(length)).astype(np.float32))
    return clips


@pytest.mark.parametrize(("rate", "n_fft", "classes"), [(32000, 16384, 12), (44100, 4096, 12), (16000, 2048, 24)])
def test_filters(rate, n_fft, classes):
    expected = chroma_filter_bank(num_frequency_bins=n_fft, num_chroma=classes, sampling_rate=rate, tuning=0)
    np.testing.assert_allclose(chroma_filters(rate, n_fft, classes), expected, atol=1e-12)


def test_energies(extractor, close):
    clip = tunes([50000])[0]
    theirs = extractor()
    expected = torch.einsum("cf,ft->tc", theirs.chroma_filters, theirs.spectrogram(torch.as_tensor(clip)))
    close(chroma_energies(clip, 32000), expected.numpy())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("lengths", [[48000], [5000], [16383, 100, 70000], [32000 * 31, 64000]])
def test_features(extractor, lengths, side):
    clips = tunes(lengths)
    expected = extractor(padding_side=side)(clips, sampling_rate=32000, return_tensors="np")["input_features"]
    ours = MusicgenMelodyProcessor(MusicgenMelodyFeatureExtractor(padding_side=side))
    if max(lengths) > 960000:
        with pytest.warns(UserWarning, match="melody 1 has 31.0 s and the model hears 30 s"):
            found = ours(audio=clips, sampling_rate=32000, return_tensors="np")["input_features"]
    else:
        found = ours(audio=clips, sampling_rate=32000, return_tensors="np")["input_features"]
    assert found.shape == (len(lengths), 1 + max(16384, min(max(lengths), 960000)) // 4096, 12)
    assert found.shape == expected.shape
    differing = (found != expected).any(axis=2).mean()
    assert differing <= 0.01  # ties between neighbours, decided by rounding


def test_stems_and_stereo(extractor):
    rng = np.random.default_rng(1)
    stems = (0.2 * rng.standard_normal((2, 4, 2, 40000))).astype(np.float32)
    expected = extractor()(torch.as_tensor(stems), sampling_rate=32000, return_tensors="np")["input_features"]
    ours = MusicgenMelodyProcessor(None)
    np.testing.assert_array_equal(
        ours(audio=stems, sampling_rate=32000, return_tensors="np")["input_features"], expected
    )
    mixed = list(stems[:, [3, 2]].sum(axis=1))
    np.testing.assert_array_equal(
        ours(audio=mixed, sampling_rate=32000, return_tensors="np")["input_features"], expected
    )


@pytest.fixture(scope="module", params=RECIPES)
def pair(request, tmp_path_factory):
    """A model of transformers that no one has seen before, and ours from its files."""
    print(f"random melody model of seed {SEED}: {request.param}")
    reference = oracle.build(oracle.build_config(**RECIPES[request.param]), SEED)
    folder = tmp_path_factory.mktemp(request.param)
    reference.save_pretrained(folder)
    return reference, MusicgenMelodyForConditionalGeneration.from_pretrained(str(folder))


def melodies(config, frames, rows=2):
    """Random one-hot chroma, [rows, frames, num_chroma]."""
    classes = np.random.default_rng(frames).integers(0, config.num_chroma, (rows, frames))
    return np.eye(config.num_chroma, dtype=np.float32)[classes]


def same_music(pair, close, ids=None, mask=None, **arguments):
    reference, model = pair
    arguments = {"do_sample": False, "max_new_tokens": 11, **arguments}
    text = {} if ids is None else {"input_ids": torch.as_tensor(ids).long(), "attention_mask": torch.as_tensor(mask)}
    named = {name: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for name, v in arguments.items()}
    with torch.no_grad(), oracle.captured_codes(reference) as calls:
        expected = reference.generate(**text, **named, use_cache=False).numpy()
    codes = np.stack(calls, axis=2).reshape(calls[0].shape[0], -1, calls[0].shape[2])
    text = {} if ids is None else {"input_ids": Tensor(ids), "attention_mask": Tensor(mask)}
    out = model.generate(**text, **arguments, return_dict_in_generate=True)
    np.testing.assert_array_equal(out.audio_codes.asnumpy(), codes)
    close(out.audio_values, expected)


@pytest.mark.parametrize("frames", [None, 3, 40])
def test_logits(pair, close, frames):
    """Without a melody, with one that is repeated, and with one that is cut."""
    reference, model = pair
    ids, mask = oracle.prompts(100, (7, 3), 1)
    books, vocab = reference.config.decoder.num_codebooks, reference.config.decoder.vocab_size
    codes = np.random.default_rng(2).integers(0, vocab + 1, (2 * books, 6)).astype(np.int32)
    more = {} if frames is None else {"input_features": melodies(reference.config, frames)}
    expected = oracle.logits(reference, ids, mask, codes, **more)
    given = {name: Tensor(value) for name, value in more.items()}
    found = model(Tensor(ids), Tensor(mask), decoder_input_ids=Tensor(codes), **given)
    close(found.logits, expected)
    assert found.encoder_hidden_states.shape[1] == reference.config.chroma_length + 7
    if frames is not None:
        close(model.logits(Tensor(ids), Tensor(mask), Tensor(codes), *given.values()), expected)


def test_loss(pair):
    reference, model = pair
    ids, mask = oracle.prompts(100, (5,), 1)
    decoder = reference.config.decoder
    labels = np.random.default_rng(3).integers(0, decoder.vocab_size, (1, 7, decoder.num_codebooks))
    labels[0, 2] = -100
    with torch.no_grad():
        expected = reference(
            input_ids=torch.as_tensor(ids).long(), attention_mask=torch.as_tensor(mask), labels=torch.as_tensor(labels)
        ).loss
    found = model(Tensor(ids), Tensor(mask), labels=Tensor(labels.astype(np.int32))).loss
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("frames", [None, 4])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_greedy(pair, close, frames, scale):
    """Text with and without a melody, with and without guidance; of two lengths: the shorter one's padding counts."""
    ids, mask = oracle.prompts(100, (7, 3), 1)
    more = {} if frames is None else {"input_features": melodies(pair[0].config, frames)}
    same_music(pair, close, ids, mask, guidance_scale=scale, **more)


def test_greedy_of_a_melody_alone(pair, close):
    same_music(pair, close, guidance_scale=3.0, input_features=melodies(pair[0].config, 6))


def test_codes_are_continued(pair, close):
    ids, mask = oracle.prompts(100, (7, 3), 1)
    decoder = pair[0].config.decoder
    prompt = np.random.default_rng(4).integers(0, decoder.vocab_size, (2 * decoder.num_codebooks, 8))
    more = {"input_features": melodies(pair[0].config, 6), "decoder_input_ids": prompt}
    same_music(pair, close, ids, mask, guidance_scale=3.0, max_new_tokens=12, **more)


def test_unconditional(pair, close):
    """transformers' processor asks with an empty prompt that is masked; our model has its own way too."""
    reference, model = pair
    ids, mask = np.ones((2, 1), np.int32), np.zeros((2, 1), np.int32)
    same_music(pair, close, ids, mask, guidance_scale=3.0)
    one = model.generate(Tensor(ids), Tensor(mask), do_sample=False, max_new_tokens=9).asnumpy()
    free = model.generate(**model.get_unconditional_inputs(2), do_sample=False, max_new_tokens=9).asnumpy()
    np.testing.assert_array_equal(one, free)


def test_round_trip_into_transformers(pair, tmp_path):
    reference, model = pair
    model.save_pretrained(str(tmp_path))
    again, info = transformers.MusicgenMelodyForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert again.config.architectures == ["MusicgenMelodyForConditionalGeneration"]
    state = again.state_dict()
    for name, tensor in reference.state_dict().items():
        # Weight norm is folded and taken apart in another way; statistics of the codec's training are not kept.
        if not name.endswith(("original0", "original1", "cluster_size", "embed_avg")):
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=0, msg=name)


def test_torch_file(pair, tmp_path):
    reference, model = pair
    reference.config.save_pretrained(tmp_path)
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    found = MusicgenMelodyForConditionalGeneration.from_pretrained(str(tmp_path))
    for (name, one), (other, two) in zip(found.parameters_and_names(), model.parameters_and_names(), strict=True):
        assert name == other
        np.testing.assert_array_equal(one.asnumpy(), two.asnumpy(), err_msg=name)
