"""What the decoder's own `generate` was given, checked and brought into the form that the generator takes."""

import numpy as np
from mindspore import Tensor

from ... import arguments as checks
from ...errors import InputError
from ...generation.decode_loop import TEXT_BUCKETS, bucket
from .. import settings
from ..inputs import Request
from . import arguments as decoder_checks


def request(config, frame_rate, generation_config, pad, codes, states, mask, seed, arguments):
    """Check a call of `MusicgenForCausalLM.generate`.

    Args:
        config (transformers.MusicgenDecoderConfig): config of the decoder.
        frame_rate (int): frames of codes per second of audio.
        generation_config (transformers.GenerationConfig): defaults.
        pad (int): the start and padding code.
        codes, states, mask: `inputs`, `encoder_hidden_states` and `encoder_attention_mask` of the call.
        seed (int | Sequence[int]): see `settings.resolve_seeds`.
        arguments (dict): see `settings.PASSED_ON`.

    Returns:
        Request

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
    """
    sizes = settings.Sizes.of_decoder(config, frame_rate)
    settings.check(sizes, generation_config, arguments)
    checks.belongs("encoder_hidden_states", states is not None, encoder_attention_mask=mask)
    prompt = None if codes is None else _prompt(codes, pad, config)
    guided = states is not None and max(settings.guidance_of(generation_config, arguments)) > 1
    if not guided:
        arguments = arguments | {"guidance_scale": 1.0}
    if states is None:
        rows = 1 if prompt is None else len(prompt)
        states = np.zeros((rows, 1, config.hidden_size), np.float32)
        mask = np.zeros((rows, 1), np.int32)
    else:
        states = checks.states("encoder_hidden_states", states, config.hidden_size).asnumpy()
        mask = checks.mask("encoder_attention_mask", mask, states.shape[:2]).asnumpy()
    if prompt is None:
        prompt = np.zeros((len(states), config.num_codebooks, 0), np.int32)
    if len(states) != len(prompt) and not (guided and len(states) == 2 * len(prompt)):
        raise InputError(f"encoder_hidden_states has {len(states)} rows; inputs has codes of {len(prompt)} pieces")
    copies = settings.sequences_per_prompt(generation_config, arguments)
    frames = prompt.shape[2]
    chosen = settings.resolve(sizes, generation_config, arguments, len(prompt) * copies, frames, seed)
    if chosen.return_dict:
        raise InputError("return_dict_in_generate is for a whole model; the decoder alone returns its codes")
    states, mask, prompt = (np.repeat(value, copies, axis=0) for value in (states, mask, prompt))
    padding = (0, bucket(states.shape[1], TEXT_BUCKETS) - states.shape[1])
    states, mask = np.pad(states, ((0, 0), padding, (0, 0))), np.pad(mask, ((0, 0), padding))
    return Request(Tensor(states), Tensor(mask), prompt, chosen)


def _prompt(value, pad, config):
    """Codes [B * K, frames] or [B, K, frames] -> [B, K, frames] int32, without the start code."""
    codes = decoder_checks.codes("inputs", value, config).asnumpy()
    if (codes[:, :, 0] == pad).all():
        codes = codes[:, :, 1:]
    if (codes >= config.vocab_size).any():
        raise InputError(
            f"inputs holds {codes.max()} behind the start; expected codes 0 to {config.vocab_size - 1}, without delay"
        )
    return codes
