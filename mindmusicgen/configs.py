"""transformers' config classes, with what its versions lack and the ways of this package to open one.

Objects made by transformers itself serve everywhere in this package too.
"""

import os

from .checkpoint.config_file import check_names, check_sizes, config_errors, quiet_transformers
from .checkpoint.json_file import read_json
from .checkpoint.source import resolve
from .errors import InputError, shown
from .habits import changed_config, opening
from .musicgen.checkpoint.audiocraft import is_audiocraft, open_checkpoint
from .runtime.quiet import unadvised

with unadvised():
    import transformers

__all__ = [
    "AutoConfig",
    "EncodecConfig",
    "MusicgenConfig",
    "MusicgenDecoderConfig",
    "MusicgenMelodyConfig",
    "MusicgenMelodyDecoderConfig",
    "T5Config",
]
PARTS = ("text_encoder", "audio_encoder", "decoder")  # of a composite


class _Config:
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
        values, source = _stored(model, revision, cache_dir, local_files_only)
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


def _stored(model, revision, cache_dir, local_files_only):
    """The values of a model's config.json, and what to call it in errors."""
    folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
    if is_audiocraft(folder):
        return open_checkpoint(folder, cache_dir=cache_dir, local_files_only=local_files_only)[0].to_dict(), folder
    path = os.path.join(folder, "config.json")
    return read_json(path), path


def _made(cls, values, source):
    """A config of values; those of its networks are of this package's classes too."""
    with quiet_transformers(), config_errors(source, "used"):
        check_names(cls, values, source)
        config = cls.from_dict(values)
        check_sizes(config, source)
        for name in PARTS:
            part = getattr(config, name, None)
            if getattr(part, "model_type", None) in KINDS:
                setattr(config, name, KINDS[part.model_type].from_dict(part.to_dict()))
    return config


class _Composite(_Config):
    """Of a whole model."""

    @classmethod
    def from_sub_models_config(cls, text_encoder_config, audio_encoder_config, decoder_config, **kwargs):
        """The config of a composite from those of its three networks.

        Args:
            text_encoder_config (transformers.T5Config): the text encoder's.
            audio_encoder_config (transformers.EncodecConfig): the codec's.
            decoder_config (transformers.MusicgenDecoderConfig | MusicgenMelodyDecoderConfig): the decoder's.
            **kwargs: further fields of the composite's config, such as chroma_length.

        Returns:
            this class.
        """
        with quiet_transformers():
            return cls(
                text_encoder=text_encoder_config.to_dict(),
                audio_encoder=audio_encoder_config.to_dict(),
                decoder=decoder_config.to_dict(),
                **kwargs,
            )


class T5Config(_Config, transformers.T5Config):
    """`transformers.T5Config`."""


class EncodecConfig(_Config, transformers.EncodecConfig):
    """`transformers.EncodecConfig`."""


class MusicgenDecoderConfig(_Config, transformers.MusicgenDecoderConfig):
    """`transformers.MusicgenDecoderConfig`."""


class MusicgenMelodyDecoderConfig(_Config, transformers.MusicgenMelodyDecoderConfig):
    """`transformers.MusicgenMelodyDecoderConfig`."""


class MusicgenConfig(_Composite, transformers.MusicgenConfig):
    """`transformers.MusicgenConfig`."""


class MusicgenMelodyConfig(_Composite, transformers.MusicgenMelodyConfig):
    """`transformers.MusicgenMelodyConfig`."""


KINDS = {
    kind.model_type: kind
    for kind in (
        MusicgenConfig,
        MusicgenMelodyConfig,
        MusicgenDecoderConfig,
        MusicgenMelodyDecoderConfig,
        T5Config,
        EncodecConfig,
    )
}


class AutoConfig:
    """The config that a model folder holds, of whichever of these kinds."""

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **changes):
        """Open a config without its weights; arguments as in `MusicgenConfig.from_pretrained`.

        Raises:
            InputError: if there is no such model, or it is of a kind that this package does not have.
        """
        model = opening(model, None, None, changes)[0]
        values, source = _stored(model, revision, cache_dir, local_files_only)
        kind = values.get("model_type")
        if not isinstance(kind, str) or kind not in KINDS:
            raise InputError(f"{source} describes a {shown(kind)} model; expected one of {', '.join(KINDS)}")
        changes.pop("pretrained_model_name_or_path", None)
        return KINDS[kind].from_pretrained(model, revision, cache_dir, local_files_only, **changes)

    @classmethod
    def for_model(cls, model_type, **values):
        """A config of a kind, such as "musicgen_decoder", with some fields set.

        Raises:
            InputError: if this package has no such kind.
        """
        if not isinstance(model_type, str) or model_type not in KINDS:
            raise InputError(f"model_type is {shown(model_type)}; expected one of {', '.join(KINDS)}")
        return KINDS[model_type](**values)
