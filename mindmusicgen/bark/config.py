"""transformers' config classes of Bark, opened in this package's ways and checked before anything is made of them."""

import os

from ..checkpoint.config_file import (
    COUNT,
    TABLE,
    WIDTH,
    check_names,
    check_ranges,
    check_sizes,
    config_errors,
    quiet_transformers,
)
from ..checkpoint.json_file import read_json
from ..checkpoint.source import resolve
from ..errors import InputError, clip
from ..habits import changed_config, opening
from ..runtime.quiet import unadvised

with unadvised():
    import transformers

STAGES = ("semantic", "coarse_acoustics", "fine_acoustics")  # names in a whole model; also model_type of the configs
CODEC = "codec_model"  # the name in a whole model
SIZES = {
    "block_size": (1, 1 << 16),
    "input_vocab_size": TABLE,
    "output_vocab_size": TABLE,
    "num_layers": COUNT,
    "num_heads": WIDTH,
    "hidden_size": WIDTH,
}
FINE_SIZES = {"n_codes_total": (2, 64), "n_codes_given": (1, 63)}


class _Config:
    """What transformers' classes lack: the names of this package, and `**config`."""

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **changes):
        """Open a config without its weights; that of a stage also out of a whole model's.

        Args:
            model (str): folder or hub id.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            **changes: fields to change, and what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if there is no such model, it is of another kind, or it has no such field.
        """
        model, _, _, changes = opening(model, None, None, changes)
        folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
        config, _ = open_config(folder, cls.model_type)
        return changed_config(config, None, changes)

    def keys(self):
        """The names of the fields, so that `**config` passes them on."""
        return self.to_dict().keys()

    def __getitem__(self, name):
        return self.to_dict()[name]


class BarkSemanticConfig(_Config, transformers.BarkSemanticConfig):
    """`transformers.BarkSemanticConfig`: the stage from text to semantic tokens."""


class BarkCoarseConfig(_Config, transformers.BarkCoarseConfig):
    """`transformers.BarkCoarseConfig`: the stage from semantic tokens to the codec's first two codebooks."""


class BarkFineConfig(_Config, transformers.BarkFineConfig):
    """`transformers.BarkFineConfig`: the stage that fills in the other codebooks."""


class BarkConfig(_Config, transformers.BarkConfig):
    """`transformers.BarkConfig`: the three stages and the codec.

    Stages that are not given have the sizes of bark-small, the codec those of EnCodec at 24 kHz.
    """

    @classmethod
    def from_sub_model_configs(
        cls, semantic_config, coarse_acoustics_config, fine_acoustics_config, codec_config, **kwargs
    ):
        """The config of a whole model from those of its parts; version 5 of transformers has no such method.

        Args:
            semantic_config (transformers.BarkSemanticConfig): of the first stage.
            coarse_acoustics_config (transformers.BarkCoarseConfig): of the second stage.
            fine_acoustics_config (transformers.BarkFineConfig): of the third stage.
            codec_config (transformers.EncodecConfig): of the codec.
            **kwargs: further fields, such as initializer_range.

        Returns:
            BarkConfig
        """
        with quiet_transformers():
            return cls(
                semantic_config=semantic_config.to_dict(),
                coarse_acoustics_config=coarse_acoustics_config.to_dict(),
                fine_acoustics_config=fine_acoustics_config.to_dict(),
                codec_config=codec_config.to_dict(),
                **kwargs,
            )


KINDS = {kind.model_type: kind for kind in (BarkSemanticConfig, BarkCoarseConfig, BarkFineConfig, BarkConfig)}


def open_config(folder, wanted=BarkConfig.model_type):
    """A config out of a folder's config.json.

    Args:
        folder (str): of a whole Bark, or of one of its stages.
        wanted (str): model_type of the config.

    Returns:
        the config, and whether it was that of a stage inside a whole model's.

    Raises:
        InputError: if the file is missing, damaged, or of another kind of model.
    """
    path = os.path.join(folder, "config.json")
    values, inside = read_json(path), False
    found = values.get("model_type")
    if found == BarkConfig.model_type and wanted in STAGES:
        values, inside = values.get(f"{wanted}_config") or {}, True
        if not isinstance(values, dict):
            raise InputError(f"{path} sets {wanted}_config to no object; download it again")
    elif found != wanted:
        also = f", or {BarkConfig.model_type!r}" if wanted in STAGES else ""
        raise InputError(f"{path} describes a {clip(found)!r} model; expected model_type {wanted!r}{also}")
    with quiet_transformers(), config_errors(path, "used"):
        check_names(KINDS[wanted], values, path)
        config = KINDS[wanted].from_dict(values)
        check(config, path)
    return config, inside


def check(config, path="the config"):
    """Refuse sizes that no model has, or that do not fit each other.

    Raises:
        InputError: naming the size.
    """
    if config.model_type == BarkConfig.model_type:
        for stage in STAGES:
            check(getattr(config, f"{stage}_config"), path)
        if config.codec_config.model_type != "encodec":
            raise InputError(f"{path} has a codec {clip(config.codec_config.model_type)!r}; expected encodec")
        check_sizes(config.codec_config, path)
        return
    check_ranges(config, path, SIZES | (FINE_SIZES if config.model_type == "fine_acoustics" else {}))
    if config.hidden_size % config.num_heads:
        raise InputError(f"{path} has {config.num_heads} heads, which do not divide hidden_size {config.hidden_size}")
    if config.model_type == "fine_acoustics" and config.n_codes_given >= config.n_codes_total:
        raise InputError(f"{path} sets n_codes_given to {config.n_codes_given}; expected less than n_codes_total")


def parameters(config):
    """How many numbers the weights of a stage hold: tables, layers, norms, heads."""
    dim, fine = config.hidden_size, config.model_type == "fine_acoustics"
    books = config.n_codes_total if fine else 1
    heads = config.output_vocab_size if not fine else 0
    if fine and not getattr(config, "tie_word_embeddings", True):
        heads = (books - config.n_codes_given) * config.output_vocab_size
    layer = 12 * dim * dim + (9 * dim if config.bias else 0)
    norms = (2 * config.num_layers + 1) * dim * (2 if config.bias or fine else 1)
    return dim * (config.input_vocab_size * books + config.block_size + heads) + config.num_layers * layer + norms
