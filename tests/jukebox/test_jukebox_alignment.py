"""Which characters go with which codes: the original program's numbers, and the layer and head they are taken from."""

import copy

import numpy as np
import pytest

from mindmusicgen.jukebox.alignment import alignment_place
from mindmusicgen.jukebox.config import JukeboxPriorConfig
from mindmusicgen.jukebox.model import JukeboxModel
from mindmusicgen.jukebox.run_folder import ALIGNMENTS


def asked(golden, run):
    """What `align` is told of a run."""
    names = "offset", "total_length_in_seconds"
    return {name: golden.asked(run)[name] for name in names}


@pytest.mark.parametrize("variant, run", [("1b", "B"), ("1b", "E"), ("5b", "D")])
def test_alignments_are_the_original_programs(both, variant, run):
    golden = both[variant]
    codes = [golden.codes(run, 0), *[np.zeros((2, 0), np.int32)] * 2]
    found = golden.model.align(codes, golden.labels, **asked(golden, run))
    for i, one in enumerate(found):
        wanted = golden[f"{run}_alignment_{i}"]
        assert one.shape == wanted.shape and one.dtype == np.float32
        np.testing.assert_allclose(one, wanted, atol=1e-5)


def test_a_run_keeps_its_alignments(both, tmp_path):
    golden = both["1b"]
    golden.model.priors.eager = frozenset({0, 1, 2})
    codes = [golden.codes("E", 0), *[np.zeros((2, 0), np.int32)] * 2]
    settings = golden.asked("E") | {"save_results": True, "output_dir": str(tmp_path), "sample_tokens": 1}
    golden.model.upsample(codes, golden.labels, sample_levels=[1], compute_alignments=True, **settings)
    with np.load(tmp_path / ALIGNMENTS) as stored:
        assert sorted(stored) == ["sample_0", "sample_1"]
        for i in range(2):
            np.testing.assert_allclose(stored[f"sample_{i}"], golden[f"E_alignment_{i}"], atol=1e-5)
            np.testing.assert_array_equal(stored[f"sample_{i}"], golden.model.alignments[i])
    golden.model.upsample(codes, golden.labels, sample_levels=[1], **settings)
    assert not (tmp_path / ALIGNMENTS).exists(), "it was another run's"


def test_the_layer_and_head_are_those_that_read_lyrics():
    of_1b = JukeboxPriorConfig(mask=True, merged_decoder=False)
    assert (of_1b.alignment_layer, of_1b.alignment_head) == (68, 2), "as the hub's config has it"
    assert alignment_place(of_1b) == (63, 0)
    of_5b = JukeboxPriorConfig(
        num_layers=79, n_heads=8, attention_pattern="large_separated_enc_dec_w_lyrics", is_encoder_decoder=False
    )
    assert alignment_place(of_5b) == (68, 2)
    assert alignment_place(JukeboxPriorConfig(alignment_layer=31, alignment_head=1)) == (31, 1)
    assert alignment_place(JukeboxPriorConfig(alignment_layer=31, alignment_head=2)) == (63, 0), "it has two heads"
    assert alignment_place(JukeboxPriorConfig(alignment_layer=47, alignment_head=0)) == (63, 0), "47 is dense"


def test_another_layer_than_the_config_names_is_told(both, monkeypatch, capsys):
    golden = both["1b"]
    monkeypatch.setattr(golden.model.priors[0].config, "alignment_layer", 47)
    codes = [golden.codes("E", 0), *[np.zeros((2, 0), np.int32)] * 2]
    golden.model.align(codes, golden.labels, **asked(golden, "E"))
    assert "alignment_layer 47 and alignment_head 1 read no lyrics; layer 31 and head 0" in capsys.readouterr().err


def test_a_song_without_words_has_no_columns(both):
    golden = both["5b"]
    labels = [row[:, : 9 if i == 0 else None] for i, row in enumerate(golden.labels)]
    (first, second) = golden.model.align([golden.codes("E", 0)] + [np.zeros((2, 0), np.int32)] * 2, labels)
    assert first.shape == second.shape == (16, 0)


def test_models_that_read_no_lyrics_are_refused_before_any_work(both, refused):
    golden = both["1b"]
    config = copy.deepcopy(golden.model.config)
    config.prior_configs[0].num_layers = 15
    model = JukeboxModel(config)
    ask = golden.asked("E") | {"compute_alignments": True}
    refused(lambda: model.ancestral_sample(golden.labels, 2, **ask), "no layer of prior 0", "at least 16 layers")
    codes = [golden.codes("E", 0)] * 3
    refused(lambda: golden.model.align(codes, golden.labels), "music_tokens[1] has 16 codes for 16 above")
    empty = [np.zeros((2, 0), np.int32)] * 3
    refused(lambda: golden.model.align(empty, golden.labels), "sample_length is 0")
