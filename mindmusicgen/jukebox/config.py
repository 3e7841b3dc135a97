"""Jukebox's configs: transformers 5 has none any more, so these are the package's own, with the same names and fields.

Priors are numbered from the top, 0, to the finest; levels of the VQ-VAE from the finest, 0, to the coarsest.
"""

import copy
import json
import math
import os

from ..checkpoint.fields import GENERAL, OF_FILES
from ..checkpoint.json_file import read_json
from ..checkpoint.source import resolve
from ..errors import InputError, clip, shown
from ..habits import changed_config, nearest, opening
from ..language import said
from ..runtime.files import whole_file
from ..runtime.telling import tell

WIDTH, COUNT, TABLE = (1, 1 << 16), (1, 256), (1, 1 << 22)
CYCLE = ("row", "column", "previous")  # kinds of attention, as layers take turns
MOST_PRIORS = 8  # as levels of a VQ-VAE
UNUSED = {"embed_dim", "chunk_size_feed_forward", "is_decoder", "output_attentions", "output_hidden_states"}
UNUSED |= {"return_dict", "cache_dir", "vqvae_config_dict", "vqvae_commit"} | set(GENERAL.split()) | set(OF_FILES)
OLD_NAMES = {"depth": "num_layers", "width": "hidden_size", "music_embed_dim": "music_vocab_size"}


class _Config:
    """Fields with defaults; a name that is no field is refused in Python, and told of in a file."""

    model_type, fields, sizes = "", {}, {}

    def __init__(self, **values):
        for name, default in self.fields.items():
            setattr(self, name, copy.deepcopy(values.pop(name, default)))
        extra = sorted(set(values) - UNUSED)
        if extra:
            raise InputError(f"{type(self).__name__} has no field {shown(extra[0])}{nearest(extra[0], self.fields)}")

    @classmethod
    def from_dict(cls, values, path="the config"):
        """The config of a dict, such as a file holds.

        Args:
            values (dict): names and values; what this version does not know is told and passed over.
            path (str): the file, for errors.

        Raises:
            InputError: if a value is none that a model has.
        """
        known = cls._known(values, path)
        config = cls(**known)
        check(config, path)
        return config

    @classmethod
    def _known(cls, values, path):
        """The fields of a dict under their names of today."""
        found = {}
        for name, value in values.items():
            if name in cls.fields:
                found[name] = value
            elif OLD_NAMES.get(name) in cls.fields:
                found.setdefault(OLD_NAMES[name], value)
            elif name not in UNUSED:
                tell(said(f"{path} sets {shown(name)}, which this version does not know; it has no effect"), error=True)
        return found

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **changes):
        """Open a config without its weights; that of a part also out of a whole model's.

        Args:
            model (str): folder or hub id.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            **changes: fields to change; `level` chooses among the priors of a whole model.

        Raises:
            InputError: if there is no such model, it is of another kind, or it has no such field.
        """
        model, _, _, changes = opening(model, None, None, changes)
        folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
        path = os.path.join(folder, "config.json")
        found = changed_config(cls._of_file(read_json(path), path, changes), None, changes)
        return cls.from_dict(found.to_dict(), path)  # changes of the whole reach its priors

    @classmethod
    def _of_file(cls, values, path, changes):
        found = values.get("model_type")
        if found == JukeboxConfig.model_type and cls is not JukeboxConfig:
            whole = JukeboxConfig.from_dict(values, path)
            level = changes.pop("level", 0)
            if type(level) is not int or not 0 <= level < whole.nb_priors:
                raise InputError(f"level is {shown(level)}; expected 0 to {whole.nb_priors - 1}, 0 is the top")
            return whole.vqvae_config if cls is JukeboxVQVAEConfig else whole.prior_configs[level]
        if found != cls.model_type:
            raise InputError(f"{path} describes a {clip(found)!r} model; expected model_type {cls.model_type!r}")
        return cls.from_dict(values, path)

    def to_dict(self):
        """The fields and their values, as config.json holds them."""
        values = {name: copy.deepcopy(getattr(self, name)) for name in self.fields}
        return values | {"model_type": self.model_type}

    def save_pretrained(self, save_directory):
        """Write config.json into a folder, which is made if it is not there."""
        os.makedirs(save_directory, exist_ok=True)
        with (
            whole_file(os.path.join(save_directory, "config.json")) as partial,
            open(partial, "w", encoding="utf-8") as file,
        ):
            json.dump(self.to_dict() | {"architectures": [ARCHITECTURES[self.model_type]]}, file, indent=2)

    def keys(self):
        """The names of the fields, so that `**config` passes them on."""
        return self.to_dict().keys()

    def __getitem__(self, name):
        return self.to_dict()[name]

    def __eq__(self, other):
        return type(self) is type(other) and self.to_dict() == other.to_dict()

    __hash__ = None

    def __repr__(self):
        return f"{type(self).__name__} {json.dumps(self.to_dict(), indent=2, sort_keys=True)}"


class JukeboxVQVAEConfig(_Config):
    """The VQ-VAE's sizes; the defaults are those of the published models.

    Attributes:
        nb_discrete_codes, embed_dim (int): codes of each codebook, and their size.
        levels (int): codebooks; res_downs_t and res_strides_t say how often each halves time.
        res_conv_width, res_conv_depth (int): channels, and residual blocks of a stack, times each level's multiplier.
        res_dilation_growth_rate, res_dilation_cycle (int): a block is dilated so much more than the one before.
        hop_fraction (list[float]): how far a prior's window moves, the top prior's first.
        sample_length (int): samples of a clip in training; decides nothing here.
        commit, lmu, init_scale, zero_out: of training.
    """

    model_type = "jukebox_vqvae"
    fields = {
        "act_fn": "relu",
        "nb_discrete_codes": 2048,
        "commit": 0.02,
        "conv_input_shape": 1,
        "conv_res_scale": False,
        "embed_dim": 64,
        "hop_fraction": [0.125, 0.5, 0.5],
        "levels": 3,
        "lmu": 0.99,
        "multipliers": [2, 1, 1],
        "res_conv_depth": 4,
        "res_conv_width": 32,
        "res_convolution_multiplier": 1,
        "res_dilation_cycle": None,
        "res_dilation_growth_rate": 3,
        "res_downs_t": [3, 2, 2],
        "res_strides_t": [2, 2, 2],
        "sample_length": 1058304,
        "init_scale": 0.2,
        "zero_out": False,
    }
    sizes = {
        "nb_discrete_codes": TABLE,
        "conv_input_shape": (1, 1),
        "embed_dim": WIDTH,
        "levels": (1, 8),
        "res_conv_depth": (1, 64),
        "res_conv_width": WIDTH,
        "res_convolution_multiplier": (1, 64),
        "res_dilation_growth_rate": (1, 16),
    }

    @property
    def hops(self):
        """Samples of a code at each level, the finest first: 8, 32, 128."""
        halvings = [s**d for s, d in zip(self.res_strides_t, self.res_downs_t, strict=True)]
        return [math.prod(halvings[: i + 1]) for i in range(self.levels)]


class JukeboxPriorConfig(_Config):
    """A prior's sizes. The defaults are those of transformers, which are of no published model: the 1b model and the
    upsamplers need mask=True and merged_decoder=False.

    Attributes:
        hidden_size, num_layers, n_heads (int): of the transformer; attention is attention_multiplier times as wide.
        n_ctx (int): music codes of a window; nb_relevant_lyric_tokens characters come with them.
        blocks (int): rows that the sequence is seen as by attention along rows and columns.
        attention_pattern (str): which kind of attention each layer has; see `kinds`.
        is_encoder_decoder (bool): whether lyrics and music are one sequence; else encoder_config is a network that
            reads the lyrics.
        merged_decoder (bool): whether the head has weights of its own, and the condition is added only once.
        metadata_dims (list[int]): genres and artists; max_nb_genres of them for a song.
        timing_dims (int), min_duration, max_duration (float): bins of time, and the seconds that a song may have.
    """

    model_type = "jukebox_prior"
    fields = {
        "act_fn": "quick_gelu",
        "level": 0,
        "alignment_head": 2,
        "alignment_layer": 68,
        "attention_multiplier": 0.25,
        "attention_pattern": "enc_dec_with_lyrics",
        "attn_dropout": 0,
        "attn_res_scale": False,
        "blocks": 64,
        "conv_res_scale": None,
        "num_layers": 72,
        "emb_dropout": 0,
        "encoder_config": None,
        "encoder_loss_fraction": 0.4,
        "hidden_size": 2048,
        "init_scale": 0.2,
        "is_encoder_decoder": True,
        "lyric_vocab_size": 80,
        "mask": False,
        "max_duration": 600.0,
        "max_nb_genres": 1,
        "merged_decoder": True,
        "metadata_conditioning": True,
        "metadata_dims": [604, 7898],
        "min_duration": 0,
        "mlp_multiplier": 1.0,
        "music_vocab_size": 2048,
        "n_ctx": 6144,
        "n_heads": 2,
        "nb_relevant_lyric_tokens": 384,
        "res_conv_depth": 3,
        "res_conv_width": 128,
        "res_convolution_multiplier": 1,
        "res_dilation_cycle": None,
        "res_dilation_growth_rate": 1,
        "res_downs_t": [3, 2, 2],
        "res_strides_t": [2, 2, 2],
        "resid_dropout": 0,
        "sampling_rate": 44100,
        "spread": None,
        "timing_dims": 64,
        "zero_out": False,
    }
    sizes = {
        "blocks": TABLE,
        "num_layers": COUNT,
        "hidden_size": WIDTH,
        "lyric_vocab_size": TABLE,
        "max_nb_genres": (1, 64),
        "music_vocab_size": TABLE,
        "n_ctx": (1, 1 << 20),
        "n_heads": WIDTH,
        "nb_relevant_lyric_tokens": (0, 1 << 16),
        "res_conv_depth": (1, 64),
        "res_conv_width": WIDTH,
        "res_convolution_multiplier": (1, 64),
        "res_dilation_growth_rate": (1, 16),
        "sampling_rate": (100, 1_000_000),
        "timing_dims": WIDTH,
    }

    def __init__(self, **values):
        super().__init__(**values)
        if isinstance(self.encoder_config, dict):
            self.encoder_config = JukeboxPriorConfig(**JukeboxPriorConfig._known(self.encoder_config, "encoder_config"))

    def to_dict(self):
        values = super().to_dict()
        if self.encoder_config is not None:
            values["encoder_config"] = self.encoder_config.to_dict()
        return values

    @property
    def positions(self):
        """Positions of the sequence: music, and lyrics where they are in it."""
        return self.n_ctx + (self.nb_relevant_lyric_tokens if self.is_encoder_decoder else 0)

    @property
    def attention_width(self):
        """Width of queries, keys and values."""
        return int(self.attention_multiplier * self.hidden_size)

    @property
    def prime_length(self):
        """Positions that prime attention sees: the lyrics, and what fills them up to whole rows, at least one code."""
        return (self.nb_relevant_lyric_tokens // self.blocks + 1) * self.blocks

    @property
    def kinds(self):
        """The kind of attention of each layer: row, column, previous, prime, dense or cross."""
        return [PATTERNS[self.attention_pattern](layer) for layer in range(self.num_layers)]

    @property
    def reads_lyrics(self):
        """Whether a network of its own reads the lyrics."""
        return not self.is_encoder_decoder and self.nb_relevant_lyric_tokens > 0


def _merged(layer):
    return ("prime", "prime", "dense")[layer % 3] if layer % 16 == 15 else CYCLE[layer % 3]


def _separate(layer):
    layer %= 79
    if layer < 18:
        return CYCLE[layer % 3]
    return ("cross", *CYCLE * 3)[(layer - 18) % 10]


PATTERNS = {
    "full_dense_attention": lambda layer: "dense",
    "raw_column_previous_row_attention": lambda layer: CYCLE[layer % 3],
    "large_separated_enc_dec_w_lyrics": _separate,
    "enc_dec_with_lyrics": _merged,
}


class JukeboxConfig(_Config):
    """The config of a whole model: the VQ-VAE's and those of the priors, the top first.

    Args:
        vqvae_config (dict | JukeboxVQVAEConfig): None: the published models'.
        prior_config_list (list): of dicts or `JukeboxPriorConfig`; None: prior_0, prior_1, ..., each a dict, or
            transformers' defaults.
        nb_priors (int): 3.
        sampling_rate, timing_dims, min_duration, max_duration, max_nb_genres, metadata_conditioning: take the place of
            each prior's.
    """

    model_type = "jukebox"
    of_priors = {
        "sampling_rate": 44100,
        "timing_dims": 64,
        "min_duration": 0,
        "max_duration": 600.0,
        "max_nb_genres": 5,
        "metadata_conditioning": True,
    }
    fields = {"vqvae_config": None, "prior_config_list": None, "nb_priors": 3, "hop_fraction": None} | of_priors

    def __init__(self, vqvae_config=None, prior_config_list=None, nb_priors=3, **values):
        if type(nb_priors) is not int or not 1 <= nb_priors <= MOST_PRIORS:
            raise InputError(f"nb_priors is {shown(nb_priors)}; expected 1 to {MOST_PRIORS}")
        singly = [values.pop(f"prior_{level}", None) for level in range(nb_priors)]
        priors = singly if prior_config_list is None else prior_config_list
        hops = values.pop("hop_fraction", None)
        super().__init__(nb_priors=nb_priors, **values)
        del self.prior_config_list
        self.vqvae_config = _made(JukeboxVQVAEConfig, vqvae_config)
        self.prior_configs = [_made(JukeboxPriorConfig, prior) for prior in priors]
        self.hop_fraction = copy.copy(self.vqvae_config.hop_fraction if hops is None else hops)
        for prior in self.prior_configs:
            for name in self.of_priors:
                setattr(prior, name, getattr(self, name))

    @classmethod
    def from_configs(cls, prior_configs, vqvae_config, **fields):
        """The config of a whole model from those of its parts.

        Args:
            prior_configs (list[JukeboxPriorConfig]): the top prior's first.
            vqvae_config (JukeboxVQVAEConfig): transformers drops it here.
            **fields: such as max_duration.
        """
        return cls(vqvae_config, prior_configs, len(prior_configs), **fields)

    @classmethod
    def _known(cls, values, path):
        singly = {name: values[name] for name in values if name.startswith("prior_") and name[6:].isdigit()}
        found = super()._known({name: value for name, value in values.items() if name not in singly}, path) | singly
        for name in ("vqvae_config", *singly):
            if not isinstance(found.get(name, {}), dict):
                raise InputError(f"{path} sets {name} to no object; download it again")
        listed = found.get("prior_config_list")
        if listed is not None and not (isinstance(listed, list) and all(isinstance(one, dict) for one in listed)):
            raise InputError(f"{path} sets prior_config_list to no list of objects; download it again")
        parts = {"vqvae_config": JukeboxVQVAEConfig._known(found.get("vqvae_config") or {}, path)}
        parts |= {name: JukeboxPriorConfig._known(found[name] or {}, path) for name in singly}
        if listed is not None:
            parts["prior_config_list"] = [JukeboxPriorConfig._known(one, path) for one in listed]
        return found | parts

    @property
    def raws(self):
        """Samples of a code of each prior, the top's first: 128, 32, 8."""
        return self.vqvae_config.hops[self.nb_priors - 1 :: -1]

    @property
    def frame_rate(self):
        """Codes of the top level per second."""
        return self.sampling_rate / self.raws[0]

    @property
    def codebooks(self):
        """Rows that an array of codes may have: see `codec.packed`."""
        counts = [self.raws[0] // raw for raw in self.raws]
        return [sum(counts[: level + 1]) for level in range(self.nb_priors)]

    def to_dict(self):
        values = {name: copy.deepcopy(getattr(self, name)) for name in (*self.of_priors, "nb_priors", "hop_fraction")}
        values["vqvae_config"] = self.vqvae_config.to_dict()
        values["prior_config_list"] = [prior.to_dict() for prior in self.prior_configs]
        return values | {"model_type": self.model_type}


ARCHITECTURES = {"jukebox": "JukeboxModel", "jukebox_prior": "JukeboxPrior", "jukebox_vqvae": "JukeboxVQVAE"}


def _made(cls, values):
    if values is not None and not isinstance(values, (dict, cls)):
        raise InputError(f"{shown(values)} stands where {cls.__name__} or a dict is expected")
    return copy.deepcopy(values) if isinstance(values, cls) else cls(**(values or {}))


def check(config, path="the config"):
    """Refuse sizes that no model has, or that do not fit each other.

    Raises:
        InputError: naming the size.
    """
    from .config_checks import check_model, check_prior, check_sizes, check_vqvae

    check_sizes(config, path)
    checks = {"jukebox": check_model, "jukebox_prior": check_prior, "jukebox_vqvae": check_vqvae}
    checks[config.model_type](config, path)
