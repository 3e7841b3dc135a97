"""From a folder or hub id to the family that it belongs to, and to the classes that open it."""

from .checkpoint.source import as_folder, resolve
from .errors import InputError, clip, shown
from .families import CONFIGS, FOREIGN, KINDS, public, room, rooms_with
from .habits import opening


def kind_of(folder):
    """What kind of model a folder says that it holds: one of `families.KINDS`, something else, or None.

    Args:
        folder (ModelFolder | str): where it is.

    Raises:
        InputError: if config.json is missing or not JSON.
    """
    folder = as_folder(folder)
    if folder.layout in FOREIGN:
        return FOREIGN[folder.layout]
    kind = folder.json("config.json").get("model_type")
    return kind if isinstance(kind, str) or kind is None else clip(kind)


def known_kind(folder):
    """The kind of model that a folder holds, which must be one of `families.KINDS`.

    Raises:
        InputError: also if it is none.
    """
    kind = kind_of(folder)
    if kind not in KINDS:
        file, expected = as_folder(folder).file("config.json"), " or ".join(map(repr, KINDS))
        raise InputError(f"{file} describes a {kind!r} model; expected model_type {expected}")
    return kind


def part_of_family(folder, module):
    """A module of the family whose model a folder holds, such as "checkpoint.folder".

    Raises:
        InputError: if it holds no model of this package, or one of a family that has no such module.
    """
    kind, those = known_kind(folder), rooms_with(module)
    if KINDS[kind].room not in those:
        raise InputError(f"{clip(folder)} holds a {kind!r} model; this is for models of {' and '.join(those)}")
    return room(kind, module)


def model_class(folder):
    """The class whose `from_pretrained` opens the model of a folder.

    Raises:
        InputError: if it holds no model of this package.
    """
    return public(KINDS[known_kind(folder)].model)


class AutoModelForTextToWaveform:
    """The model that a folder holds: `MusicgenForConditionalGeneration`, `MusicgenMelodyForConditionalGeneration` or
    `BarkModel`."""

    @classmethod
    def from_pretrained(cls, model=None, *arguments, **options):
        """Open a checkpoint; arguments as in the `from_pretrained` of its class.

        Raises:
            InputError: if there is no such model, or it is of another kind.
        """
        model = opening(model, None, None, options)[0]
        options.pop("pretrained_model_name_or_path", None)
        where = {name: options.get(name) for name in ("revision", "cache_dir")}
        folder = resolve(model, **where, local_files_only=options.get("local_files_only", False))
        return model_class(folder).from_pretrained(folder, *arguments, **options)

    @classmethod
    def from_config(cls, config, **options):
        """A model with random weights; options as in its class.

        Raises:
            InputError: if that is the config of another kind of model.
        """
        kind = getattr(config, "model_type", None)
        if kind not in KINDS:
            raise InputError(f"config is one of {shown(kind or type(config).__name__)}; expected {' or '.join(KINDS)}")
        return public(KINDS[kind].model)(config, **options)


class AutoProcessor:
    """The processor that fits a model folder: `MusicgenProcessor`, `MusicgenMelodyProcessor` or `BarkProcessor`."""

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **habits):
        """Open a processor; arguments as in the `from_pretrained` of its class.

        Raises:
            InputError: if there is no such model, or it is of another kind.
        """
        model = opening(model, None, None, habits)[0]
        habits.pop("pretrained_model_name_or_path", None)
        folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
        where = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        return public(_processor(folder)).from_pretrained(folder, **where, **habits)


def _processor(folder):
    """The name of a processor's class: what its own file says, else what fits the model; a tokenizer alone is T5's."""
    if folder.has("preprocessor_config.json"):
        extractor = folder.json("preprocessor_config.json").get("feature_extractor_type")
        for kind in KINDS.values():
            if extractor is not None and kind.extractor == extractor:
                return kind.processor
    kind = kind_of(folder) if folder.layout in FOREIGN or folder.has("config.json") else None
    found = KINDS[kind if kind in KINDS else next(iter(KINDS))]
    if not found.processor:
        raise InputError(f"{clip(folder)} holds a {found.model}, which takes texts as they are; it needs no processor")
    return found.processor


class AutoConfig:
    """The config that a model folder holds, of whichever of these kinds."""

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **changes):
        """Open a config without its weights; arguments as in `MusicgenConfig.from_pretrained`.

        Raises:
            InputError: if there is no such model, or it is of a kind that this package does not have.
        """
        model = opening(model, None, None, changes)[0]
        from .configs import stored

        values, source = stored(model, revision, cache_dir, local_files_only)
        kind = values.get("model_type")
        if not isinstance(kind, str) or kind not in CONFIGS:
            raise InputError(f"{source} describes a {shown(kind)} model; expected one of {', '.join(CONFIGS)}")
        changes.pop("pretrained_model_name_or_path", None)
        return public(CONFIGS[kind]).from_pretrained(model, revision, cache_dir, local_files_only, **changes)

    @classmethod
    def for_model(cls, model_type, **values):
        """A config of a kind, such as "musicgen_decoder", with some fields set.

        Raises:
            InputError: if this package has no such kind.
        """
        if not isinstance(model_type, str) or model_type not in CONFIGS:
            raise InputError(f"model_type is {shown(model_type)}; expected one of {', '.join(CONFIGS)}")
        return public(CONFIGS[model_type])(**values)
