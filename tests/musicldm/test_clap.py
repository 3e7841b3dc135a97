"""CLAP as a judge: features, vectors and scores against transformers', and the ranking of a pipeline."""

import shutil

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen import MusicLDMPipeline, Scorer
from mindmusicgen.clap.features import FeatureConfig, log_mel, mel_filters, pieces, read_features


@pytest.fixture(scope="module")
def scorer(golden):
    return Scorer.from_pretrained(golden.folder)


def test_features(golden, near, scorer):
    (piece,) = pieces(golden["clip"], scorer.features)
    near(log_mel(piece, scorer.features)[None, None], golden["clip_features"], 1e-5)
    assert mel_filters(FeatureConfig()).shape == (513, 64)


def test_vectors(golden, near, scorer):
    hidden, pooled = scorer.audio_encoder.states(Tensor(golden["clip_features"][0]))
    near(pooled, golden["clip_pooled"][None], 1e-5)
    assert hidden.shape[2] == 32
    near(scorer.vector(golden["clip_features"][0, 0]), golden["clip_embedding"], 1e-5)
    near(scorer.audio_vectors([golden["clip"]], 48000)[0], golden["clip_embedding"], 1e-4)
    for features, expected in zip(golden["rank_features"], golden["rank_embeddings"], strict=True):
        near(scorer.vector(features[0]), expected, 1e-5)


def test_scores(golden, near, scorer):
    texts = [*golden.prompts, golden.negative, ""]
    found = [scorer.scores(text, [golden["clip"]], 48000)[0] for text in texts]
    near(np.array(found), golden["clip_similarity"], 1e-4)


def test_long_recordings_are_heard_at_both_ends(scorer, near):
    rng = np.random.default_rng(0)
    clip = rng.standard_normal(48000 * 11).astype(np.float32) * np.linspace(0, 0.5, 48000 * 11, dtype=np.float32)
    ends = scorer.audio_vectors([clip[:480000], clip[-480000:]], 48000).sum(0)
    near(scorer.audio_vectors([clip], 48000)[0], ends / np.sqrt((ends**2).sum()), 1e-5)
    stereo = np.stack([clip[:48000], clip[:48000]])
    near(scorer.audio_vectors([stereo], 48000), scorer.audio_vectors([clip[:48000]], 48000), 1e-4)


def test_ranking(golden, near, scorer, ddim):
    call = {"audio_length_in_s": 0.5, "num_inference_steps": 10, "num_waveforms_per_prompt": 3}
    made = ddim(golden.prompts[0], latents=golden["latents_rank"], seed=[5, 6, 7], **call)
    order = golden["rank_order"]
    near(made.audios, golden["rank_audio_unranked"][order], 1e-4)
    assert made.scores.shape == (1, 3) and (np.diff(made.scores) <= 0).all()
    assert made.seeds == tuple(np.array([5, 6, 7])[order])
    again = [scorer.scores(golden.prompts[0], [clip], 16000)[0] for clip in made.audios]
    near(made.scores[0], np.array(again), 1e-5)


def test_each_prompt_keeps_its_own(golden, near, scorer, unstepped):
    """diffusers gives one prompt the clips of another."""
    call = {"audio_length_in_s": 0.5, "num_inference_steps": 2, "seed": [1, 2, 3, 4]}
    plain = unstepped([prompt for prompt in golden.prompts for _ in range(2)], **call)
    made = unstepped(golden.prompts, num_waveforms_per_prompt=2, **call)
    assert made.scores.shape == (2, 2)
    for number, prompt in enumerate(golden.prompts):
        own = plain.audios[2 * number : 2 * number + 2]
        scores = np.array([scorer.scores(prompt, [clip], 16000)[0] for clip in own])
        best = np.argsort(-scores)
        near(made.audios[2 * number : 2 * number + 2], own[best], 1e-4)
        near(made.scores[number], scores[best], 1e-4)
        assert set(made.seeds[2 * number : 2 * number + 2]) == {2 * number + 1, 2 * number + 2}


def test_what_cannot_rank(golden, refused, tmp_path):
    folder = shutil.copytree(golden.folder, tmp_path / "model", ignore=shutil.ignore_patterns("expected.npz"))
    shutil.rmtree(folder / "feature_extractor")
    pipe = MusicLDMPipeline.from_pretrained(str(folder))
    refused(lambda: pipe("a", num_waveforms_per_prompt=2), "feature_extractor", "num_waveforms_per_prompt")
    refused(lambda: Scorer.from_pretrained(str(folder)), "preprocessor_config.json")


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"truncation": "fusion"}, ("truncation", "rand_trunc")),
        ({"top_db": 80}, ("top_db",)),
        ({"hop_length": 0}, ("hop_length",)),
        ({"frequency_max": 20}, ("frequency_max", "frequency_min")),
        ({"feature_extractor_type": "EncodecFeatureExtractor"}, ("feature_extractor_type",)),
        ({"loudness": 1}, ("loudness",)),
    ],
)
def test_refused_features(golden, refused, fields, words):
    values = golden.json("feature_extractor/preprocessor_config.json")
    refused(lambda: read_features(values | fields, "there.json"), "there.json", *words)
