"""The stages' networks: logits of suno's own program, caches, masks, and what calls refuse."""

import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.bark.config import BarkCoarseConfig, BarkConfig, BarkFineConfig, BarkSemanticConfig
from mindmusicgen.bark.submodels import BarkCausalModel, BarkCoarseModel, BarkFineModel, BarkSemanticModel

TINY = {"block_size": 32, "input_vocab_size": 40, "output_vocab_size": 40, "num_layers": 2, "num_heads": 2}
TINY |= {"hidden_size": 16, "initializer_range": 0.3}


@pytest.fixture(scope="module")
def tiny():
    return BarkSemanticModel(BarkSemanticConfig(**TINY)).initialise(1, 0.3)


@pytest.fixture(scope="module")
def fine():
    return BarkFineModel(BarkFineConfig(**TINY)).initialise(2, 0.3)


def test_semantic_logits(bark, golden, close):
    table = bark.semantic.get_input_embeddings()
    text, history = (table(Tensor(golden[f"semantic_input_{name}"])).asnumpy() for name in ("text", "history"))
    after = table(Tensor(golden["semantic_input_after"])).asnumpy()
    found = bark.semantic(input_embeds=Tensor(np.concatenate([text + history, after])[None])).logits
    close(found.asnumpy()[0, ::16], golden["semantic_logits"], 1e-5)


def test_coarse_logits(bark, golden, close):
    found = bark.coarse_acoustics(Tensor(golden["coarse_input"][None])).logits
    close(found.asnumpy()[0, ::32], golden["coarse_logits"], 1e-5)


@pytest.mark.parametrize("book", [1, 7])
def test_fine_logits(bark, golden, close, book):
    found = bark.fine_acoustics(book, Tensor(golden["fine_input"][None])).logits
    close(found.asnumpy()[0], golden[f"fine_logits_{book}"], 1e-5)


def test_a_cache_goes_on_where_it_ended(tiny, close):
    ids = np.random.default_rng(0).integers(0, 40, (2, 9)).astype(np.int32)
    whole = tiny(Tensor(ids), output_hidden_states=True, output_attentions=True)
    begun = tiny(Tensor(ids[:, :5]))
    rest = tiny(Tensor(ids[:, 5:]), past_key_values=begun.past_key_values, output_attentions=True)
    close(rest.logits, whole.logits.asnumpy()[:, 5:], 1e-5)
    close(rest.attentions[1], whole.attentions[1].asnumpy()[:, :, 5:], 1e-5)
    assert [len(part) for part in (whole.hidden_states, whole.attentions, rest.past_key_values)] == [3, 2, 2]
    assert tiny(Tensor(ids), use_cache=False).past_key_values is None
    logits, past = tiny(Tensor(ids), return_dict=False)
    close(logits, whole.logits.asnumpy(), 1e-6)
    assert past[0][0].shape == (2, 2, 9, 8)


def test_the_compiled_step_is_the_call(tiny, close):
    """Prefill and step, which generation compiles, against the call that keeps everything."""
    from mindspore import Parameter

    ids = np.random.default_rng(1).integers(0, 40, (1, 6)).astype(np.int32)
    expected = tiny(Tensor(ids)).logits.asnumpy()
    cache = [Parameter(Tensor(np.zeros((1, 2, 32, 8), np.float32)), name=f"c{i}") for i in range(4)]
    x = tiny.prefill(tiny.input_embeds_layer(Tensor(ids[:, :5])), cache)
    close(tiny.lm_head(x), expected[:, :5], 1e-5)
    y = tiny.step(Tensor(ids[:, 5]), Tensor(np.array([5], np.int32)), cache)
    close(tiny.lm_head(y), expected[:, 5], 1e-5)
    for first, count in ((3, 10), (0, 40), (5, 30)):
        close(tiny.some_logits(y, Tensor(first), count), expected[:, 5, first : first + count], 1e-5)


def test_masks_hide_keys(tiny, fine, close):
    ids = np.random.default_rng(2).integers(0, 40, (1, 6)).astype(np.int32)
    mask = np.array([[1, 1, 0, 1, 1, 1]])
    other = ids.copy()
    other[0, 2] = (ids[0, 2] + 1) % 40
    one, two = (tiny(Tensor(x), attention_mask=Tensor(mask)).logits.asnumpy()[:, 3:] for x in (ids, other))
    close(one, two, 1e-6)
    assert not np.allclose(one, tiny(Tensor(ids)).logits.asnumpy()[:, 3:])
    codes = np.repeat(ids[:, :, None], 8, 2)
    far = np.repeat(other[:, :, None], 8, 2)
    one, two = (fine(3, Tensor(x), attention_mask=mask).logits.asnumpy()[:, 3:] for x in (codes, far))
    close(one, two, 1e-6)


def test_the_fine_stage_reads_the_codebooks_below_alone(fine):
    codes = np.random.default_rng(3).integers(0, 40, (1, 5, 8)).astype(np.int32)
    changed = codes.copy()
    changed[..., 5:] = 0
    assert (fine(4, Tensor(codes)).logits.asnumpy() == fine(4, Tensor(changed)).logits.asnumpy()).all()
    assert (fine(5, Tensor(codes)).logits.asnumpy() != fine(5, Tensor(changed)).logits.asnumpy()).any()


def test_heads_that_are_not_tied_have_weights_of_their_own():
    made = BarkFineModel(BarkFineConfig(**TINY, tie_word_embeddings=False))
    assert made.get_output_embeddings() is made.lm_heads and made.lm_heads.weight.shape == (7 * 40, 16)
    assert made(1, Tensor(np.zeros((1, 2, 8), np.int32))).logits.shape == (1, 2, 40)


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_is_there_only_if_the_config_says_so(bias):
    names = [name for name, _ in BarkCoarseModel(BarkCoarseConfig(**TINY, bias=bias)).parameters_and_names()]
    assert any(name.endswith("bias") for name in names) is bias
    fine = [name for name, _ in BarkFineModel(BarkFineConfig(**TINY, bias=bias)).parameters_and_names()]
    assert "layernorm_final.bias" in fine and ("layers.0.mlp.in_proj.bias" in fine) is bias


def test_calls_refuse_what_they_cannot(tiny, fine, refused):
    ids, codes = Tensor(np.zeros((1, 3), np.int32)), Tensor(np.zeros((1, 3, 8), np.int32))
    refused(lambda: tiny(ids, labels=ids), "labels")
    refused(lambda: tiny(), "input_ids", "input_embeds")
    refused(lambda: tiny(ids, input_embeds=Tensor(np.zeros((1, 3, 16), np.float32))), "both given")
    refused(lambda: tiny(Tensor(np.full((1, 3), 40, np.int32))), "0 to 39")
    refused(lambda: tiny(Tensor(np.zeros((1, 33), np.int32))), "33", "32")
    refused(lambda: tiny(ids, past_key_values=((ids, ids),)), "past_key_values")
    refused(lambda: tiny(ids, position_ids=Tensor(np.full((1, 3), 32))), "position_ids", "31")
    refused(lambda: tiny(ids, attention_mask=Tensor(np.ones((1, 4)))), "attention_mask")
    refused(lambda: tiny(ids, head_mask=np.ones((3, 2))), "head_mask")
    for book in (0, 8, -1, True, 1.0, None):
        refused(lambda book=book: fine(book, codes), "codebook_idx", "1 to 7")
    refused(lambda: fine(1, ids), "input_ids")
    refused(lambda: fine(1, codes, labels=codes), "labels")
    refused(lambda: BarkCausalModel.from_pretrained("x"), "BarkSemanticModel")


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (BarkSemanticConfig, {"num_heads": 3}, ("3 heads", "16")),
        (BarkSemanticConfig, {"num_layers": 0}, ("num_layers", "0")),
        (BarkCoarseConfig, {"hidden_size": "16"}, ("hidden_size",)),
        (BarkFineConfig, {"n_codes_given": 8}, ("n_codes_given",)),
        (BarkFineConfig, {"n_codes_total": 1}, ("n_codes_total",)),
    ],
)
def test_sizes_that_no_model_has(kind, values, words, refused):
    network = {BarkSemanticConfig: BarkSemanticModel, BarkCoarseConfig: BarkCoarseModel}.get(kind, BarkFineModel)
    config = kind(**TINY)
    vars(config).update(values)  # version 5 of transformers refuses some of them itself
    refused(lambda: network(config), *words)


def test_configs_open_alone_and_inside(golden, tmp_path, refused):
    whole = BarkConfig.from_pretrained(golden.folder)
    inside = BarkFineConfig.from_pretrained(golden.folder, dropout=0.5)
    assert inside.n_codes_total == whole.fine_acoustics_config.n_codes_total == 8 and inside.dropout == 0.5
    assert {**inside}["hidden_size"] == 16
    inside.save_pretrained(tmp_path)
    assert BarkFineConfig.from_pretrained(str(tmp_path)).to_dict() == inside.to_dict()
    refused(lambda: BarkSemanticConfig.from_pretrained(str(tmp_path)), "'fine_acoustics'", "'semantic'")
    refused(lambda: BarkConfig.from_pretrained(str(tmp_path)), "'fine_acoustics'", "'bark'")
    refused(lambda: BarkConfig.from_pretrained(golden.folder, nonsense=1), "nonsense")
    parts = whole.semantic_config, whole.coarse_acoustics_config, whole.fine_acoustics_config, whole.codec_config
    assert BarkConfig.from_sub_model_configs(*parts).semantic_config.hidden_size == 16
