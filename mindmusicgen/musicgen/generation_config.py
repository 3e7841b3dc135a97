"""What a GenerationConfig may say: a field that `generate` does not honour is refused by name."""

import functools

import numpy as np

from ..errors import InputError

HONOURED = {
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "guidance_scale",
    "max_length",
    "max_new_tokens",
    "num_return_sequences",
    "return_dict_in_generate",
    "num_beams",  # checked where a call's own is
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
}
# How the loop runs, not what it makes; or about a second model, which there is none of.
WITHOUT_EFFECT = {
    "use_cache",
    "cache_implementation",
    "cache_config",
    "return_legacy_cache",
    "low_memory",
    "compile_config",
    "disable_compile",
    "prefill_chunk_size",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "generation_kwargs",
    "transformers_version",
}
# What version 4 of transformers writes for "not set"; in version 5 that is None.
UNSET = {
    "min_length": 0,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}


@functools.cache
def _defaults(kind):
    return vars(kind())


def check_generation_config(config, vocab_size):
    """Refuse what is asked for and would not be done.

    Args:
        config (transformers.GenerationConfig): of a model, or of a call.
        vocab_size (int): codes of each codebook.

    Raises:
        InputError: naming the field.
    """
    if not hasattr(config, "num_beams") or not hasattr(config, "to_dict"):
        raise InputError(f"generation_config is a {type(config).__name__}; expected a transformers.GenerationConfig")
    defaults = _defaults(type(config))
    for name, value in vars(config).items():
        if name in HONOURED or name in WITHOUT_EFFECT or name.startswith("_"):
            continue
        if name == "eos_token_id" and value is not None:
            if not np.any((np.asarray(value) >= 0) & (np.asarray(value) < vocab_size)):
                continue  # no code that could be drawn
        elif value is None or value is False or value in ([], {}, UNSET.get(name), defaults.get(name)):
            continue
        said = repr(value)
        raise InputError(
            f"{name} of the generation config is {said if len(said) < 60 else said[:57] + '...'}, which is not "
            f"supported here; set it to {defaults.get(name, UNSET.get(name))!r}"
        )
