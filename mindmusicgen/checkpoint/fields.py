"""The fields of a config file that no class of transformers reads: each honoured, without a meaning, or refused."""

from ..errors import InputError, clip, shown

OF_FILES = ("_class_name", "_diffusers_version", "_name_or_path", "architectures", "transformers_version", "dtype")
OF_FILES += ("torch_dtype", "model_type")
GENERAL = """
    torchscript tf_legacy_loss use_bfloat16 pruned_heads is_decoder cross_attention_hidden_size add_cross_attention
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
    remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens finetuning_task
    id2label label2id tokenizer_class prefix bos_token_id pad_token_id eos_token_id sep_token_id
    decoder_start_token_id task_specific_params problem_type tie_encoder_decoder tie_word_embeddings use_cache
    initializer_range initializer_factor classifier_dropout num_labels
"""  # what earlier versions of transformers wrote of any model
WIDTH, COUNT, TABLE = (1, 1 << 14), (1, 64), (1, 1 << 22)  # what axes, layers and tables may be


class Fields:
    """The values of a config file, asked for one by one; `finish` refuses what nobody asked for.

    Args:
        values (dict): of the file.
        path (str): the file, for errors.
    """

    def __init__(self, values, path):
        self.values, self.path, self.asked = values, path, set(OF_FILES)

    def refuse(self, name, expected):
        """Raise the sentence that names a field, what it is and what is expected."""
        raise InputError(f"{self.path} sets {name} to {clip(repr(self.values.get(name)), 60)}; expected {expected}")

    def get(self, name, default=None):
        """Whatever the field is."""
        self.asked.add(name)
        return self.values.get(name, default)

    def whole(self, name, default, limits=WIDTH):
        """A whole number within limits."""
        return self._whole(name, self.get(name, default), limits)

    def _whole(self, name, value, limits):
        if type(value) is not int or not limits[0] <= value <= limits[1]:
            self.refuse(name, f"whole numbers from {limits[0]} to {limits[1]}")
        return value

    def wholes(self, name, default, limits=WIDTH, length=None):
        """A tuple of whole numbers; one number stands for `length` of them."""
        value = self.get(name, default)
        if length is not None and type(value) is int:
            value = [value] * length
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= 16 or length not in (None, len(value)):
            self.refuse(name, f"a list of {length or '1 to 16'} whole numbers")
        return tuple(self._whole(name, one, limits) for one in value)

    def number(self, name, default, least, most):
        """A number, as a float."""
        value = self.get(name, default)
        if type(value) not in (int, float) or not least <= value <= most:
            self.refuse(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name, default):
        """True or false."""
        value = self.get(name, default)
        if type(value) is not bool:
            self.refuse(name, "true or false")
        return value

    def text(self, name, default, allowed):
        """One of several words."""
        value = self.get(name, default)
        if value not in allowed:
            self.refuse(name, " or ".join(map(repr, allowed)))
        return value

    def fixed(self, **wanted):
        """Fields that may only be what they are in published models; what is missing is so by default."""
        for name, value in wanted.items():
            if self.get(name, value) != value:
                self.refuse(name, f"{value!r}: nothing else is built here")

    def unused(self, *names):
        """Fields without a meaning for what is computed here, such as dropout."""
        self.asked.update(names)

    def general(self):
        """Fields that transformers writes of a model of any kind, generation's among them."""
        from transformers import PretrainedConfig

        self.unused(*PretrainedConfig().to_dict(), *GENERAL.split())

    def finish(self):
        """Refuse fields that nobody asked for.

        Raises:
            InputError: naming one.
        """
        extra = sorted(set(self.values) - self.asked)
        if extra:
            raise InputError(
                f"{self.path} sets {shown(extra[0])}, which this version does not know; it would be ignored"
            )
