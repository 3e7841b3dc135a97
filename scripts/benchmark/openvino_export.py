"""MusicGen as OpenVINO files, for peers.py: text encoder, decode step and codec, traced from transformers' own modules.

    text    ids [B, S]                              -> text.i: keys and values of the text in every decoder layer
    step    codes [2 B, K], position [1], rows [2 B], past.i, text.i -> logits [2 B, K, V], present.i
    codec   codes [B, K, T]                         -> audio [B, 1, samples]

i counts keys and values of all layers, [2 B, heads, length, head size] each: the prompts' rows, then as many without.
The step is written with float32 weights and with int8 ones (a scale per output channel, by nncf). `rows` says which row
of the cache each row goes on from; beam search would use it, and OpenVINO's CPU plugin knows a cache by it. Prompts of
a batch are of one length, so that there is nothing to mask.
"""

from pathlib import Path

import nncf
import openvino
import torch
from transformers import MusicgenForConditionalGeneration
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache


class Text(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder, self.layers = model.text_encoder, model.decoder.model.decoder.layers
        self.project = getattr(model, "enc_to_dec_proj", torch.nn.Identity())
        self.heads = model.config.decoder.num_attention_heads

    def forward(self, ids):
        states = self.project(self.encoder(input_ids=ids).last_hidden_state)
        states = torch.cat((states, torch.zeros_like(states)))
        for layer in self.layers:
            for projection in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj):
                found = projection(states)  # [2 B, S, hidden]
                yield found.view(*found.shape[:2], self.heads, -1).transpose(1, 2)


class TextTensors(Text):
    def forward(self, ids):  # tracing follows no generators
        return tuple(super().forward(ids))


def layer_cache(keys, values):
    """transformers' cache of one layer. Its update() would join what it gets to an empty tensor."""
    layer = DynamicLayer()
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    return layer


class Step(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.decoder, self.heads = model.decoder.model.decoder, model.decoder.lm_heads

    def forward(self, codes, position, rows, *tensors):
        past, text = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for i in range(0, len(past), 2):
            cache.self_attention_cache.layers.append(layer_cache(*(t.index_select(0, rows) for t in past[i : i + 2])))
            cache.cross_attention_cache.layers.append(layer_cache(*text[i : i + 2]))
            cache.is_updated[i // 2] = True
        hidden = sum(
            table(codes[:, k : k + 1]) for k, table in enumerate(self.decoder.embed_tokens)
        )  # [2 B, 1, hidden]
        hidden = hidden + self.decoder.embed_positions.weights.index_select(0, position)
        for layer in self.decoder.layers:
            hidden = layer(hidden, encoder_hidden_states=hidden, past_key_values=cache)[
                0
            ]  # only the states' length is read
        hidden = self.decoder.layer_norm(hidden)
        present = (t for layer in cache.self_attention_cache.layers for t in (layer.keys, layer.values))
        return torch.cat([head(hidden) for head in self.heads], 1), *present


class Codec(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.codec = model.audio_encoder

    def forward(self, codes):
        return self.codec.decoder(self.codec.quantizer.decode(codes.transpose(0, 1)))


def convert(module, examples, inputs, outputs):
    """An OpenVINO model of a module with named inputs and outputs."""
    model = openvino.convert_model(module.eval(), example_input=examples)
    for places, names in ((model.inputs, inputs), (model.outputs, outputs)):
        for place, name in zip(places, names, strict=True):
            place.get_tensor().set_names({name})
    return model


def export(folder, target):
    """Write text, codec, step-float32 and step-int8 (.xml, .bin) of the model in `folder` into the folder `target`."""
    torch.set_grad_enabled(False)
    model = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    config, target = model.config.decoder, Path(target)
    count, heads = 2 * config.num_hidden_layers, config.num_attention_heads
    size = config.hidden_size // heads

    def names(kind):
        return [f"{kind}.{i}" for i in range(count)]

    def save(model, name):
        openvino.save_model(model, target / f"{name}.xml", compress_to_fp16=False)

    ids, codes = torch.ones((1, 7), dtype=torch.long), torch.zeros((1, config.num_codebooks, 50), dtype=torch.long)
    save(convert(TextTensors(model), ids, ["ids"], names("text")), "text")
    save(convert(Codec(model), codes, ["codes"], ["audio"]), "codec")
    rows = torch.arange(2, dtype=torch.int32)  # the plugin asks for int32 and a size that is not fixed
    examples = [torch.zeros((2, config.num_codebooks), dtype=torch.long), torch.tensor([3]), rows]
    examples += [torch.randn(2, heads, length, size) for length in (3, 7) for _ in range(count)]
    inputs = ["codes", "position", "rows", *names("past"), *names("text")]
    step = convert(Step(model), tuple(examples), inputs, ["logits", *names("present")])
    shapes = {"codes": [-1, config.num_codebooks], "position": [1], "rows": [-1]}
    step.reshape(shapes | {name: [-1, heads, -1, size] for name in inputs[3:]})
    for node in step.get_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            node.set_arguments(
                node.input_values()[:3]
            )  # a mask of one zero and the usual scale, which the plugin refuses
    save(step, "step-float32")
    save(nncf.compress_weights(step, mode=nncf.CompressWeightsMode.INT8_SYM), "step-int8")
