"""From a folder or hub id to the class that opens it."""

from .checkpoint.source import resolve
from .errors import InputError, shown
from .habits import opening
from .musicgen.checkpoint.folder import MODELS, model_class


class AutoModelForTextToWaveform:
    """The model that a folder holds: `MusicgenForConditionalGeneration` or `MusicgenMelodyForConditionalGeneration`."""

    @classmethod
    def from_pretrained(cls, model=None, *arguments, **options):
        """Open a checkpoint; arguments as in `MusicgenForConditionalGeneration.from_pretrained`.

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
        """A model with random weights; options as in `MusicgenForConditionalGeneration`.

        Raises:
            InputError: if that is the config of another kind of model.
        """
        import mindmusicgen

        kind = getattr(config, "model_type", None)
        if kind not in MODELS:
            raise InputError(f"config is one of {shown(kind or type(config).__name__)}; expected {' or '.join(MODELS)}")
        return getattr(mindmusicgen, MODELS[kind][1])(config, **options)
