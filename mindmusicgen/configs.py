"""transformers' config classes, with what its versions lack and the ways of this package to open one.

Objects made by transformers itself serve everywhere in this package too.
"""

from .checkpoint.config_file import check_names, check_sizes, config_errors, quiet_transformers
from .checkpoint.source import resolve
from .errors import InputError, shown
from .families import FOREIGN, PART_CONFIGS, public, room
from .habits import changed_config, opening
from .runtime.quiet import unadvised

with unadvised():
    import transformers

PARTS = ("text_encoder", "audio_encoder", "decoder")  # of a composite


class Config:
    """What transformers' classes lack: names of this package, and `**config`."""

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        return_unused_kwargs=False,
        **changes,
    ):
        """Open a config without its weights; that of a network also out of a whole model's.

        Args:
            model (str): folder, hub id, or "demo".
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            return_unused_kwargs (bool): return what is no field beside the config, in place of an error.
            **changes: fields to change, and what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if there is no such model, it is of another kind, or it has no such field.
        """
        model, _, _, changes = opening(model, None, None, changes)
        values, source = stored(model, revision, cache_dir, local_files_only)
        own = [part for part in (values.get(name) for name in PARTS) if isinstance(part, dict)]
        if values.get("model_type") != cls.model_type:
            others = [part for part in own if part.get("model_type") == cls.model_type]
            if not others:
                kind = shown(values.get("model_type"))
                raise InputError(f"{source} describes a {kind} model; expected model_type {cls.model_type!r}")
            values = others[0]
        config = _made(cls, values, source)
        unused = {}
        if return_unused_kwargs:
            unused = {name: value for name, value in changes.items() if not hasattr(config, name)}
        config = changed_config(config, None, {n: v for n, v in changes.items() if n not in unused})
        return (config, unused) if return_unused_kwargs else config

    def keys(self):
        """The names of the fields, so that `**config` passes them on."""
        return self.to_dict().keys()

    def __getitem__(self, name):
        return self.to_dict()[name]


def stored(model, revision, cache_dir, local_files_only):
    """The values of a model's config.json, and what to call it in errors; a layout without one is its family's."""
    folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
    if folder.layout in FOREIGN:
        family = room(FOREIGN[folder.layout], "checkpoint.folder")
        return family.load_config(folder, cache_dir, local_files_only).to_dict(), folder
    return folder.json("config.json"), folder.file("config.json")


def _made(cls, values, source):
    """A config of values; those of its networks are of this package's classes too."""
    with quiet_transformers(), config_errors(source, "used"):
        check_names(cls, values, source)
        config = cls.from_dict(values)
        check_sizes(config, source)
        for name in PARTS:
            part = getattr(config, name, None)
            if getattr(part, "model_type", None) in PART_CONFIGS:
                setattr(config, name, public(PART_CONFIGS[part.model_type]).from_dict(part.to_dict()))
    return config


class T5Config(Config, transformers.T5Config):
    """`transformers.T5Config`."""


class EncodecConfig(Config, transformers.EncodecConfig):
    """`transformers.EncodecConfig`."""
