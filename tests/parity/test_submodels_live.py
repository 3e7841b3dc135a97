"""The sub-models and the call of the whole model against transformers with torch, live, on fresh random models."""

import secrets

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the live comparison needs torch")

import mindspore as ms  # noqa: E402
import oracle  # noqa: E402
import transformers  # noqa: E402
from mindspore import Tensor, nn  # noqa: E402

import mindmusicgen  # noqa: E402
from mindmusicgen.musicgen.alone.forward import decoder_forward, head_logits  # noqa: E402
from mindmusicgen.musicgen.checkpoint.names import pieces  # noqa: E402
from mindmusicgen.musicgen.loss import CodebookCrossEntropy  # noqa: E402
from mindmusicgen.submodels.forward import text_forward  # noqa: E402

SEED = secrets.randbits(20)
RECIPES = {  # with codecs whose bandwidth gives exactly the codebooks that the decoder takes from one side
    "mono": {"codec": {"target_bandwidths": [1.2]}},
    "stereo": {
        "codebooks": 4,
        "vocab": 32,
        "codec": {"target_bandwidths": [0.5]},
        "text": {"feed_forward_proj": "gated-gelu", "num_layers": 3},
        "decoder": {"audio_channels": 2, "num_hidden_layers": 3, "activation_function": "relu"},
    },
    "no projection": {
        "codebooks": 2,
        "codec": {"target_bandwidths": [0.6]},
        "text": {"d_model": 48},
        "decoder": {"num_attention_heads": 3},
    },
}
DECODER = ("hidden_states", "attentions", "cross_attentions")


class Case:
    """One random model on both sides, with inputs."""

    def __init__(self, name, folder):
        seed = SEED + list(RECIPES).index(name)
        print(f"random model {name!r} of seed {seed}")
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.reference = oracle.build(oracle.build_config(**RECIPES[name]), seed)
        self.reference.save_pretrained(folder)
        # Only the eager attention returns weights and takes head masks.
        self.reference.set_attn_implementation({"": "eager", "text_encoder": "eager", "decoder": "eager"})
        self.config = self.reference.config
        pad = self.config.decoder.vocab_size
        self.config.decoder.pad_token_id = self.config.decoder.decoder_start_token_id = pad
        self.model = mindmusicgen.MusicgenForConditionalGeneration.from_pretrained(str(folder))
        self.ids, self.mask = oracle.prompts(self.config.text_encoder.vocab_size, (7, 3), seed)

    def codes(self, columns, rows=2):
        decoder = self.config.decoder
        shape = (rows * decoder.num_codebooks, columns)
        return self.rng.integers(0, decoder.vocab_size + 1, shape).astype(np.int32)

    def labels(self, columns):
        decoder = self.config.decoder
        labels = self.rng.integers(0, decoder.vocab_size, (2, columns, decoder.num_codebooks))
        labels[1, -2:] = -100
        labels[0, 0, 0] = decoder.vocab_size
        return labels.astype(np.int32)

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def heads(self, which):
        config = getattr(self.config, which)
        shape = (config.num_hidden_layers, config.num_attention_heads)
        return self.rng.uniform(0, 1.5, shape).astype(np.float32)


@pytest.fixture(scope="module", params=RECIPES)
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp("whole"))


def theirs(model, **arguments):
    def convert(value):
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value if value.dtype == np.float32 else value.astype(np.int64))
        return value

    with torch.no_grad():
        return model(**{name: convert(value) for name, value in arguments.items()})


def ours(call, **arguments):
    return call(**{name: Tensor(v) if isinstance(v, np.ndarray) else v for name, v in arguments.items()})


def same_outputs(close, found, expected, names):
    for name in names:
        mine, other = found[name], expected[name]
        if isinstance(other, torch.Tensor):
            close(mine, other.numpy())
            continue
        assert len(mine) == len(other) > 0, name
        for one, two in zip(mine, other, strict=True):
            close(one, two.numpy())


KEEP = {"output_attentions": True, "output_hidden_states": True}


def call(case):
    return lambda **arguments: case.model(**arguments)


class TestWhole:
    def test_everything_that_a_call_returns(self, case, close):
        arguments = {"input_ids": case.ids, "attention_mask": case.mask, "decoder_input_ids": case.codes(6), **KEEP}
        names = ["logits", *(f"decoder_{name}" for name in DECODER[:2]), "cross_attentions"]
        names += ["encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions"]
        found, expected = ours(call(case), **arguments), theirs(case.reference, **arguments)
        same_outputs(close, found, expected, names)
        assert found.logits.shape == (2 * case.config.decoder.num_codebooks, 6, case.config.decoder.vocab_size)
        assert found.keys() == [name for name in expected if name != "loss"]

    def test_plain_tuple(self, case, close):
        arguments = {"input_ids": case.ids, "attention_mask": case.mask, "labels": case.labels(5)}
        arguments |= {"return_dict": False, "use_cache": False}
        found, expected = ours(call(case), **arguments), theirs(case.reference, **arguments)
        assert isinstance(found, tuple) and len(found) == len(expected) == 3
        for mine, other in zip(found, expected, strict=True):
            close(mine, other.numpy())

    def test_loss_of_labels(self, case, close):
        arguments = {"input_ids": case.ids, "attention_mask": case.mask, "labels": case.labels(6)}
        found, expected = ours(call(case), **arguments), theirs(case.reference, **arguments)
        close(found.logits, expected.logits.numpy())
        np.testing.assert_allclose(float(found.loss.asnumpy()), float(expected.loss), rtol=1e-5)
        arguments["decoder_input_ids"] = case.codes(8)  # labels are those of the last columns
        found, expected = ours(call(case), **arguments), theirs(case.reference, **arguments)
        np.testing.assert_allclose(float(found.loss.asnumpy()), float(expected.loss), rtol=1e-5)

    def test_embeddings_in_place_of_tokens(self, case, close):
        arguments = {"inputs_embeds": case.normal(2, 7, case.config.text_encoder.d_model)}
        arguments |= {"attention_mask": case.mask, "decoder_input_ids": case.codes(4)}
        same_outputs(close, ours(call(case), **arguments), theirs(case.reference, **arguments), ["logits"])

    def test_states_in_place_of_tokens(self, case, close):
        states = case.normal(2, 7, case.config.text_encoder.d_model)
        arguments = {"attention_mask": case.mask, "decoder_input_ids": case.codes(4)}
        found = case.model(encoder_outputs=(Tensor(states),), **arguments)
        expected = theirs(case.reference, encoder_outputs=(torch.from_numpy(states),), **arguments)
        same_outputs(close, found, expected, ["logits", "encoder_last_hidden_state"])
        text = mindmusicgen.T5EncoderModel.from_pretrained(str(case.folder))(case.ids, case.mask)
        whole = case.model(input_ids=case.ids, **arguments).logits
        close(case.model(encoder_outputs=text, **arguments).logits, whole.asnumpy())

    def test_head_masks(self, case, close):
        """Of the decoder as transformers has them; of the text encoder through what the encoder alone returns."""
        factors, cross = case.heads("decoder"), case.heads("decoder")
        arguments = {"input_ids": case.ids, "attention_mask": case.mask, "decoder_input_ids": case.codes(5), **KEEP}
        found = ours(call(case), decoder_head_mask=factors, cross_attn_head_mask=cross, **arguments)
        expected = theirs(
            case.reference, decoder_head_mask=factors, decoder_cross_attn_head_mask=torch.from_numpy(cross), **arguments
        )
        same_outputs(close, found, expected, ["logits", "decoder_attentions", "cross_attentions"])
        text = case.heads("text_encoder")
        states = theirs(
            case.reference.text_encoder, input_ids=case.ids, attention_mask=case.mask, head_mask=text
        ).last_hidden_state
        expected = theirs(
            case.reference,
            encoder_outputs=(states,),
            **{name: arguments[name] for name in ("attention_mask", "decoder_input_ids")},
        )
        same_outputs(close, ours(call(case), head_mask=text, **arguments), expected, ["logits"])

    def test_decoder_attention_mask(self, case, close):
        hidden = np.ones((2, 6), np.int32)
        hidden[0, 2] = hidden[1, 3:5] = 0
        arguments = {"input_ids": case.ids, "attention_mask": case.mask, "decoder_input_ids": case.codes(6)}
        arguments["decoder_attention_mask"] = hidden
        same_outputs(close, ours(call(case), **arguments), theirs(case.reference, **arguments), ["logits"])

    def test_cache(self, case, close):
        """Column by column and in blocks, with our cache and theirs: the logits of one call with all columns."""
        codes = case.codes(7)
        text = {"input_ids": case.ids, "attention_mask": case.mask}
        whole = theirs(case.reference, decoder_input_ids=codes, **text).logits.numpy()
        mine, other = None, None
        for start, end in ((0, 3), (3, 4), (4, 7)):
            block = codes[:, start:end]
            found = ours(call(case), decoder_input_ids=block, past_key_values=mine, **text)
            expected = theirs(case.reference, decoder_input_ids=block, past_key_values=other, use_cache=True, **text)
            mine, other = found.past_key_values, expected.past_key_values
            close(found.logits, whole[:, start:end])
            same_outputs(close, found, expected, ["logits"])
            legacy = other.to_legacy_cache()
            assert len(mine) == len(legacy)
            for one, two in zip(mine, legacy, strict=True):
                for tensor, expected_tensor in zip(one, two, strict=True):
                    close(tensor, expected_tensor.numpy())

    def test_audio_in_place_of_codes(self, case, close):
        hop = case.config.audio_encoder.hop_length
        audio = (0.3 * case.normal(2, 1, 3 * hop)).astype(np.float32)  # one channel serves stereo models too
        padding = np.ones((2, 3 * hop), np.int32)
        padding[1, :hop] = 0
        arguments = {"input_ids": case.ids, "attention_mask": case.mask}
        arguments |= {"input_values": audio, "padding_mask": padding}
        same_outputs(close, ours(call(case), **arguments), theirs(case.reference, **arguments), ["logits"])

    def test_gradients_of_labels(self, case):
        """Through the call itself, operation by operation."""
        labels = case.labels(5)
        case.reference.zero_grad()
        case.reference(
            input_ids=torch.from_numpy(case.ids).long(),
            attention_mask=torch.from_numpy(case.mask).long(),
            labels=torch.from_numpy(labels).long(),
        ).loss.backward()

        def loss(ids, mask, wanted):
            return case.model(input_ids=ids, attention_mask=mask, labels=wanted).loss

        chosen = [p for n, p in case.model.parameters_and_names() if not n.startswith("audio_encoder")]
        inputs = [Tensor(value) for value in (case.ids, case.mask, labels)]
        same_gradients(case, ms.grad(loss, None, ms.ParameterTuple(chosen))(*inputs), chosen)

    def test_gradients_in_graph_mode(self, case):
        """The same through the pure functions, compiled."""
        labels = case.labels(5)
        case.reference.zero_grad()
        case.reference(
            input_ids=torch.from_numpy(case.ids).long(),
            attention_mask=torch.from_numpy(case.mask).long(),
            labels=torch.from_numpy(labels).long(),
        ).loss.backward()
        pad, wanted = case.config.decoder.vocab_size, labels.transpose(0, 2, 1)
        known = np.pad(wanted, ((0, 0), (0, 0), (1, 0)), constant_values=pad)[:, :, :-1]
        inputs = [Tensor(value.astype(np.int32)) for value in (case.ids, case.mask, np.abs(known), wanted)]
        inputs[2] = Tensor(np.where(known == -100, pad, known).astype(np.int32))
        loss = PureLoss(case.model)
        chosen = loss.trainable_params()
        made = ms.jit(ms.grad(loss, None, ms.ParameterTuple(chosen)), fullgraph=True)(*inputs)
        same_gradients(case, made, chosen)


class PureLoss(nn.Cell):
    """The loss out of the pure functions alone."""

    def __init__(self, model):
        super().__init__(auto_prefix=False)
        self.text_encoder, self.conditioner, self.decoder = model.text_encoder, model.conditioner, model.decoder
        self.cross_entropy = CodebookCrossEntropy(model.config.decoder.vocab_size)

    def construct(self, ids, mask, known, wanted):
        text, _, _ = text_forward(self.text_encoder, self.text_encoder.shared(ids), mask)
        states = self.conditioner(text, mask)
        seen = ms.ops.ones((known.shape[0], known.shape[2]), ms.int32)
        last, _, _, _, _ = decoder_forward(self.decoder, self.decoder.embed_tokens(known), seen, states, mask)
        return self.cross_entropy(head_logits(self.decoder, last), wanted).mean()


def same_gradients(case, made, chosen):
    gradients = {key: p.grad for key, p in case.reference.named_parameters() if p.grad is not None}
    largest = max(float(g.abs().max()) for g in gradients.values())
    plan, places = pieces(case.model), {id(p): key for key, p in case.model.parameters_and_names()}
    seen = set()
    for parameter, gradient in zip(chosen, made, strict=True):
        values = gradient.asnumpy()
        for piece in plan[places[id(parameter)]]:
            key = next(key for key in piece.names if key in gradients)
            want = gradients[key].numpy()
            np.testing.assert_allclose(
                piece.unpack(values[piece.place]), want, rtol=1e-4, atol=1e-5 * largest, err_msg=key
            )
            seen.add(key)
    assert seen == set(gradients)


@pytest.fixture(scope="module", params=["own folder", "composite folder"])
def pair(request, case, tmp_path_factory):
    folder = case.folder
    if request.param == "own folder":
        folder = tmp_path_factory.mktemp("decoder")
        case.reference.decoder.save_pretrained(folder)
    return case.reference.decoder, mindmusicgen.MusicgenForCausalLM.from_pretrained(str(folder))


class TestDecoder:
    def test_with_text(self, case, pair, close):
        reference, model = pair
        arguments = {"input_ids": case.codes(6), "encoder_attention_mask": case.mask, **KEEP}
        arguments["encoder_hidden_states"] = case.normal(2, 7, case.config.decoder.hidden_size)
        arguments |= {"head_mask": case.heads("decoder"), "cross_attn_head_mask": case.heads("decoder")}
        found, expected = ours(model, **arguments), theirs(reference, **arguments)
        same_outputs(close, found, expected, ["logits", *DECODER])
        assert found.keys() == [name for name in expected if name != "loss"]

    def test_without_text(self, case, pair, close):
        reference, model = pair
        arguments = {"labels": case.labels(6), **KEEP}
        found, expected = ours(model, **arguments), theirs(reference, **arguments)
        same_outputs(close, found, expected, ["logits", *DECODER[:2]])
        np.testing.assert_allclose(float(found.loss.asnumpy()), float(expected.loss), rtol=1e-5)
        assert found.cross_attentions is None and len(found.past_key_values[0]) == 2
        assert found.keys() == [name for name in expected if expected[name] is not None]

    def test_embeddings_get_their_positions(self, case, pair, close):
        """transformers gives every column the first one's position, so it is asked column by column."""
        reference, model = pair
        embeds = 0.5 * case.normal(2, 5, case.config.decoder.hidden_size)
        cache, expected = None, []
        for column in range(5):
            out = theirs(reference, inputs_embeds=embeds[:, column : column + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            expected.append(out.logits.numpy())
        close(model(inputs_embeds=Tensor(embeds)).logits, np.concatenate(expected, axis=1))

    def test_without_heads(self, case, pair, close, tmp_path):
        reference, _ = pair
        arguments = {"input_ids": case.codes(6), "encoder_attention_mask": case.mask, **KEEP}
        arguments["encoder_hidden_states"] = case.normal(2, 7, case.config.decoder.hidden_size)
        expected = theirs(reference.model, **arguments)
        reference.save_pretrained(tmp_path / "with heads")
        reference.model.save_pretrained(tmp_path / "without")
        for folder in (tmp_path / "with heads", tmp_path / "without", case.folder):
            model = mindmusicgen.MusicgenModel.from_pretrained(str(folder))
            found = ours(model, **arguments)
            same_outputs(close, found, expected, ["last_hidden_state", *DECODER])
            assert found.keys() == list(expected)
        with pytest.raises(mindmusicgen.InputError, match="lacks lm_heads.0.weight"):
            mindmusicgen.MusicgenForCausalLM.from_pretrained(str(tmp_path / "without"))


class TestText:
    @pytest.mark.parametrize("kind", ["own folder", "composite folder", "folder of a whole T5"])
    def test_everything_that_a_call_returns(self, case, close, tmp_path, kind):
        reference, folder = case.reference.text_encoder, case.folder
        if kind == "own folder":
            reference.save_pretrained(folder := tmp_path)
        elif kind == "folder of a whole T5":
            torch.manual_seed(0)
            whole = transformers.T5ForConditionalGeneration(case.config.text_encoder).eval()
            whole.save_pretrained(folder := tmp_path)
            reference = transformers.T5EncoderModel.from_pretrained(folder, attn_implementation="eager").eval()
        model = mindmusicgen.T5EncoderModel.from_pretrained(str(folder))
        arguments = {"input_ids": case.ids, "attention_mask": case.mask, **KEEP}
        found, expected = ours(model, **arguments), theirs(reference, **arguments)
        same_outputs(close, found, expected, ["last_hidden_state", "hidden_states", "attentions"])
        assert found.keys() == list(expected)
        arguments["head_mask"] = case.heads("text_encoder")
        same_outputs(close, ours(model, **arguments), theirs(reference, **arguments), ["last_hidden_state"])
        close(model(Tensor(case.ids))[0], theirs(reference, input_ids=case.ids)[0].numpy())


CODECS = {
    "one chunk": {"target_bandwidths": [1.0, 2.2], "codebook_size": 64, "sampling_rate": 2000},
    "chunks": {
        "target_bandwidths": [1.0, 2.2],
        "codebook_size": 64,
        "sampling_rate": 2000,
        "chunk_length_s": 0.2,
        "overlap": 0.1,
        "normalize": True,
        "audio_channels": 2,
        "norm_type": "time_group_norm",
    },
}


@pytest.fixture(scope="module", params=CODECS)
def codecs(request, tmp_path_factory):
    torch.manual_seed(SEED)
    config = transformers.EncodecConfig(
        num_filters=2, hidden_size=12, codebook_dim=12, upsampling_ratios=[5, 4], **CODECS[request.param]
    )
    reference = transformers.EncodecModel(config).eval()
    for layer in reference.quantizer.layers:
        layer.codebook.embed.normal_(std=0.5)
    folder = tmp_path_factory.mktemp("codec")
    reference.save_pretrained(folder)
    return reference, mindmusicgen.EncodecModel.from_pretrained(str(folder))


class TestCodec:
    @pytest.mark.parametrize("bandwidth", [None, 2.2])
    def test_there_and_back(self, codecs, close, bandwidth):
        reference, model = codecs
        rng = np.random.default_rng(SEED)
        audio = (0.3 * rng.standard_normal((2, model.config.audio_channels, 700))).astype(np.float32)
        padding = np.ones((2, 700), np.int32)
        padding[0, :60] = 0
        with torch.no_grad():
            arguments = {"bandwidth": bandwidth, "padding_mask": torch.from_numpy(padding)}
            coded = reference.encode(torch.from_numpy(audio), **arguments)
            expected = reference.decode(coded.audio_codes, coded.audio_scales, arguments["padding_mask"])
            both = reference(torch.from_numpy(audio), **arguments)
        found = model.encode(Tensor(audio), Tensor(padding), bandwidth)
        np.testing.assert_array_equal(found.audio_codes.asnumpy(), coded.audio_codes.numpy())
        assert len(found.audio_scales) == len(coded.audio_scales)
        for mine, other in zip(found.audio_scales, coded.audio_scales, strict=True):
            assert (mine is None) == (other is None)
            if other is not None:
                close(mine, other.numpy())
        close(model.decode(found.audio_codes, found.audio_scales, Tensor(padding)).audio_values, expected[0].numpy())
        whole = model(Tensor(audio), Tensor(padding), bandwidth)
        close(whole.audio_values, both.audio_values.numpy())
        np.testing.assert_array_equal(whole.audio_codes.asnumpy(), both.audio_codes.numpy())

    def test_of_a_composite_folder(self, case, close):
        model = mindmusicgen.EncodecModel.from_pretrained(str(case.folder))
        audio = 0.3 * case.normal(2, 1, 2500)
        both = theirs(case.reference.audio_encoder, input_values=audio)
        found = model(Tensor(audio))
        np.testing.assert_array_equal(found.audio_codes.asnumpy(), both.audio_codes.numpy())
        close(found.audio_values, both.audio_values.numpy())
