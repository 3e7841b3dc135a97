"""Bark's three stages under transformers' names: opened and saved alone, called for logits.

Calls run uncompiled, in float32 softmax, and give hidden states and attention weights where asked; what generates is in
`stages`. Shapes: B rows, T positions, D hidden size, H heads, V ids.
"""

import math
import os
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..arguments import as_whole, exclusive, head_mask, mask, states, tokens
from ..checkpoint.config_file import config_errors
from ..checkpoint.source import resolve
from ..dtypes import resolve_dtype
from ..errors import InputError, shown
from ..habits import changed_config, opening
from ..models.layers import additive_mask
from ..ops.attention import lowest
from ..outputs import Output
from ..runtime import device as devices
from ..runtime.callers import serialised
from ..submodels.base import returned, wants
from ..torch_names import Habits
from .checkpoint.folder import fill, save
from .config import BarkCoarseConfig, BarkFineConfig, BarkSemanticConfig, check, open_config
from .gpt import CausalGpt, FineGpt
from .initial_weights import initial_weights


@dataclass
class CausalLMOutputWithPast(Output):
    """Of the semantic and the coarse stage.

    Attributes:
        logits (Tensor): [B, T, V] float32.
        past_key_values (tuple): for each layer (keys, values), [B, H, positions, d] each; with use_cache.
        hidden_states (tuple[Tensor]): what enters each layer, then the normed last states, [B, T, D]; on request.
        attentions (tuple[Tensor]): weights of each layer, [B, H, T, positions]; on request.
    """

    loss: Tensor = None
    logits: Tensor = None
    past_key_values: tuple = None
    hidden_states: tuple = None
    attentions: tuple = None


@dataclass
class MaskedLMOutput(Output):
    """Of the fine stage: as `CausalLMOutputWithPast`, without a cache."""

    loss: Tensor = None
    logits: Tensor = None
    hidden_states: tuple = None
    attentions: tuple = None


class Stage(Habits):
    """What the three stages have in common."""

    model_type = ""  # of a config of its own, and the name in a whole model
    config_class = None

    def __init__(self, config, dtype=ms.float32, empty=False):
        check(config)
        super().__init__(config, dtype)
        self.set_train(False)
        if not empty:
            initial_weights(self)

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        dtype=None,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        device=None,
        config=None,
        **habits,
    ):
        """Open this stage's own folder, or take it out of a whole Bark, of which nothing else is read.

        Args:
            model (str): folder or hub id, such as suno/bark-small.
            dtype (str | mindspore.dtype): float32, float16, or bfloat16 on Ascend; None or "auto": float16 on Ascend,
                float32 on a CPU.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            device (str): CPU, Ascend, or Ascend:1 for the second NPU, for the whole process; None: what the
                environment's MINDMUSICGEN_DEVICE says, or MindSpore's choice.
            config (transformers.PretrainedConfig): in place of the checkpoint's.
            **habits: fields of the config to change, and what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if there is no such device or model, if weights are missing or left over, by name, or if
                files are damaged or do not fit their config.
        """
        if not cls.model_type:
            raise InputError(f"{cls.__name__} has no checkpoint; open BarkSemanticModel or BarkCoarseModel")
        model, dtype, device, changes = opening_bark(model, dtype, device, habits)
        devices.use(device)
        chosen = resolve_dtype(dtype)
        folder = resolve(model, revision, cache_dir, local_files_only)
        found, inside = open_config(folder, cls.model_type)
        found = changed_config(found, config, changes)
        path = os.path.join(folder, "config.json")
        check(found, path)
        with config_errors(path):
            made = cls(found, chosen, empty=True)
        fill(made, folder, f"{cls.model_type}." if inside else "")
        return made

    @serialised
    def save_pretrained(self, save_directory, dtype=None, **habits):
        """Write config and weights as transformers' class of this name expects them.

        Args:
            save_directory (str): folder to write.
            dtype (str): how weights are stored, float32 or float16; None keeps the model's own.
            **habits: what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if the folder cannot be written.
        """
        save(self, save_directory, dtype, habits)

    @serialised
    def initialise(self, seed=0, std=0.02):
        """Fill all parameters with random weights; returns the stage."""
        initial_weights(self, np.random.default_rng(seed), std)
        return self

    def _positions(self, position_ids, rows, start, columns):
        """Embeddings of the positions, [B or 1, T, D]."""
        end, room = start + columns, self.config.block_size
        if end > room:
            raise InputError(f"the call reaches position {end}; this model has {room}")
        if position_ids is None:
            return self.position_embeds_layer(Tensor(np.arange(start, end, dtype=np.int32)[None]))
        ids = as_whole("position_ids", position_ids, 2)
        if ids.shape not in ((1, columns), (rows, columns)) or ids.min() < 0 or ids.max() >= room:
            raise InputError(f"position_ids must be 0 to {room - 1} in the shape ({rows}, {columns}) or (1, {columns})")
        return self.position_embeds_layer(Tensor(ids.astype(np.int32)))

    def _run(self, x, hidden, past, factors, keep_weights, keep_hidden):
        """The layers, with everything kept that was asked for.

        Args:
            x (Tensor): [B, T, D], positions added.
            hidden (Sequence): of ("causal" or "keys", Tensor): what hides keys from queries.
            past (tuple): (k, v) of each layer, or None.
            factors (Tensor): of the weights, [layers, H], or None.

        Returns:
            normed states, the cache, hidden states or None, weights or None.
        """
        cache, kept, weights = (), (), ()
        for i, layer in enumerate(self.layers):
            kept += (x,)
            q, k, v = layer.attn.project(layer.layernorm_1(x))
            if past is not None:
                k, v = (ops.concat(pair, 2) for pair in zip(past[i], (k, v), strict=True))
            cache += ((k, v),)
            y, found = _attend(q, k, v, hidden, None if factors is None else factors[i])
            weights += (found,)
            x = layer.feed_forward(x, layer.attn.merge(y))
        x = self.layernorm_final(x)
        return x, cache, kept + (x,) if keep_hidden else None, weights if keep_weights else None


def opening_bark(model, dtype, device, habits):
    """`habits.opening`; attn_implementation may also be flash_attention_2, as the page shows it."""
    if habits.get("attn_implementation") == "flash_attention_2":
        habits = {name: value for name, value in habits.items() if name != "attn_implementation"}
    return opening(model, dtype, device, habits)


def _attend(q, k, v, hidden, factors):
    """Attention with its weights. What is not causal becomes the lowest float, what a mask hides has that added."""
    scores = ops.BatchMatMul(transpose_b=True)(q, k).astype(ms.float32) / math.sqrt(q.shape[-1])
    if hidden.get("causal") is not None:
        scores = ops.select(hidden["causal"], scores, ops.full_like(scores, lowest(ms.float32)))
    if hidden.get("keys") is not None:
        scores = scores + hidden["keys"]
    weights = ops.softmax(scores, -1).astype(v.dtype)
    if factors is not None:
        weights = weights * factors.reshape(1, -1, 1, 1).astype(v.dtype)
    return ops.BatchMatMul()(weights, v), weights


def _key_mask(attention_mask, rows, length):
    """[B, 1, 1, length] to add to scores, or None."""
    if attention_mask is None:
        return None
    return additive_mask(mask("attention_mask", attention_mask, (rows, length))).reshape(rows, 1, 1, length)


def _refuse_labels(labels):
    if labels is not None:
        raise InputError("labels are not taken: the stages of Bark are not trained here; leave them out for logits")


class BarkCausalModel(Stage, CausalGpt):
    """What the semantic and the coarse stage have in common: ids in, logits of the next id out.

    Args:
        config (transformers.BarkSemanticConfig | transformers.BarkCoarseConfig): sizes.
        dtype (mindspore.dtype): of weights and activations; logits are float32.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    @serialised
    def forward(
        self,
        input_ids=None,
        past_key_values=None,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        labels=None,
        input_embeds=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """Logits for known ids.

        Args:
            input_ids (Tensor): [B, T] int32.
            past_key_values (tuple): of an earlier call; the ids follow those.
            attention_mask (Tensor): [B, positions], 0 where a key is hidden; those before count too.
            position_ids (Tensor): [B, T] or [1, T] in place of those that follow.
            head_mask (Tensor): factors of the attention weights, [layers, heads].
            labels: not taken.
            input_embeds (Tensor): [B, T, D] in place of ids.
            use_cache (bool): whether to return past_key_values; None: what the config says.
            output_attentions, output_hidden_states (bool): whether to return them.
            return_dict (bool): False returns a tuple.

        Returns:
            CausalLMOutputWithPast

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        _refuse_labels(labels)
        exclusive(input_ids=input_ids, input_embeds=input_embeds)
        config = self.config
        if input_ids is not None:
            x = self.input_embeds_layer(tokens("input_ids", input_ids, config.input_vocab_size))
        else:
            x = states("input_embeds", input_embeds, config.hidden_size).astype(self.dtype)
        rows, columns, _ = x.shape
        past = self._past(past_key_values, rows)
        start = 0 if past is None else past[0][0].shape[2]
        x = x + self._positions(position_ids, rows, start, columns)
        order = np.arange(start + columns)
        hidden = {
            "causal": Tensor(np.broadcast_to(order[None] <= order[start:, None], (1, 1, columns, start + columns))),
            "keys": _key_mask(attention_mask, rows, start + columns),
        }
        factors = _factors(head_mask, config)
        keep = wants(output_attentions, output_hidden_states, config)
        x, cache, kept, weights = self._run(x, hidden, past, factors, **keep)
        use_cache = getattr(config, "use_cache", True) if use_cache is None else use_cache
        output = CausalLMOutputWithPast(
            logits=self.lm_head(x).astype(ms.float32),
            past_key_values=cache if use_cache or past is not None else None,
            hidden_states=kept,
            attentions=weights,
        )
        return returned(output, return_dict, config)

    __call__ = construct = forward

    def _past(self, value, rows):
        """`past_key_values` checked; None for none."""
        if value is None or len(value) == 0:
            return None
        config = self.config
        wanted = (rows, config.num_heads, config.hidden_size // config.num_heads)
        shapes = {
            (*part.shape[:2], *part.shape[3:])
            for layer in value
            for part in (layer if isinstance(layer, (tuple, list)) else [np.zeros(0)])
        }
        if len(value) != config.num_layers or shapes != {wanted} or any(len(layer) != 2 for layer in value):
            raise InputError(
                f"past_key_values does not fit this call; expected what a call with {rows} rows returned: for each of "
                f"{config.num_layers} layers keys and values of shape {(*wanted[:2], 'positions', wanted[2])}"
            )
        return tuple(tuple(layer) for layer in value)

    def get_input_embeddings(self):
        """The table that ids are looked up in."""
        return self.input_embeds_layer

    def get_output_embeddings(self):
        """The head."""
        return self.lm_head


def _factors(value, config):
    return head_mask("head_mask", value, config.num_layers, config.num_heads)


class BarkSemanticModel(BarkCausalModel):
    """From text to semantic tokens, 49.9 a second; see `BarkCausalModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, config_class = "semantic", BarkSemanticConfig


class BarkCoarseModel(BarkCausalModel):
    """From semantic tokens to the first two codebooks, 150 codes a second; see `BarkCausalModel`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, config_class = "coarse_acoustics", BarkCoarseConfig


class BarkFineModel(Stage, FineGpt):
    """From the first codebooks to all of them, a codebook at a time.

    Args:
        config (transformers.BarkFineConfig): sizes.
        dtype (mindspore.dtype): of weights and activations; logits are float32.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, config_class = "fine_acoustics", BarkFineConfig

    @serialised
    def forward(
        self,
        codebook_idx,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        labels=None,
        input_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """Logits of one codebook for frames of which those below it are known.

        Args:
            codebook_idx (int): the codebook, from n_codes_given to n_codes_total - 1.
            input_ids (Tensor): codes, [B, T, n_codes_total] int32; those above the codebook are not used.
            attention_mask (Tensor): [B, T], 0 where a frame is hidden.
            position_ids (Tensor): [B, T] or [1, T] in place of 0, 1, ...
            head_mask (Tensor): factors of the attention weights, [layers, heads].
            labels: not taken.
            input_embeds (Tensor): [B, T, D] in place of codes: the sum of the known codebooks' embeddings.
            output_attentions, output_hidden_states (bool): whether to return them.
            return_dict (bool): False returns a tuple.

        Returns:
            MaskedLMOutput

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        _refuse_labels(labels)
        exclusive(input_ids=input_ids, input_embeds=input_embeds)
        config = self.config
        book = self._book(codebook_idx)
        if input_ids is not None:
            x = self.embed(self._codes(input_ids), book)
        else:
            x = states("input_embeds", input_embeds, config.hidden_size).astype(self.dtype)
        rows, columns, _ = x.shape
        x = x + self._positions(position_ids, rows, 0, columns)
        factors = _factors(head_mask, config)
        hidden = {"keys": _key_mask(attention_mask, rows, columns)}
        keep = wants(output_attentions, output_hidden_states, config)
        x, _, kept, weights = self._run(x, hidden, None, factors, **keep)
        output = MaskedLMOutput(logits=self.head(x, book), hidden_states=kept, attentions=weights)
        return returned(output, return_dict, config)

    __call__ = construct = forward

    def _book(self, codebook_idx):
        """A codebook's number, [] int32. MindSpore reads the call of any cell in a graph: nothing is raised there."""
        given, total = self.config.n_codes_given, self.config.n_codes_total
        whole = isinstance(codebook_idx, (int, np.integer)) and not isinstance(codebook_idx, bool)
        if not whole or not given <= codebook_idx < total:
            raise InputError(
                f"codebook_idx is {shown(codebook_idx)}; expected {given} to {total - 1}: the coarse stage makes the "
                "codebooks below"
            )
        return Tensor(int(codebook_idx), ms.int32)

    def _codes(self, input_ids):
        """Codes [B, T, K] int32."""
        codes, (books, size) = (
            as_whole("input_ids", input_ids, 3),
            (self.config.n_codes_total, self.config.input_vocab_size),
        )
        if codes.shape[2] != books or not codes.size or codes.min() < 0 or codes.max() >= size:
            raise InputError(f"input_ids must be codes 0 to {size - 1} in the shape (batch, frames, {books})")
        return Tensor(codes.astype(np.int32))

    def get_input_embeddings(self):
        """The codebooks' tables, one under the other."""
        return self.input_embeds_layers

    def get_output_embeddings(self):
        """The same, unless the heads have weights of their own."""
        return self.input_embeds_layers if self.tied else self.lm_heads
