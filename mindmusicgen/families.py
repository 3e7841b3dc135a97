"""The families of models: the one list. Modules and classes are named as strings, so that nothing is loaded unasked."""

import contextlib
import importlib
import importlib.util
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """A kind of model, by the model_type of its config.json.

    Attributes:
        room (str): the family's folder in this package.
        config, model, processor (str): names of classes at the top of this package; "" for what it does not have.
        extractor (str): feature_extractor_type of its preprocessor_config.json, if it has one.
        published (str): how the names of its models on the hub begin, whose sizes are known without a download.
        parts (dict[str, str]): its networks: what the whole calls each, and the model_type of a config of its own.
    """

    room: str
    config: str
    model: str
    processor: str
    extractor: str = ""
    published: str = ""
    parts: dict = field(default_factory=dict)


_MUSICGEN = {"text_encoder": "t5", "audio_encoder": "encodec"}
KINDS = {
    "musicgen": Kind(
        "musicgen",
        "MusicgenConfig",
        "MusicgenForConditionalGeneration",
        "MusicgenProcessor",
        "EncodecFeatureExtractor",
        "facebook/musicgen-",
        _MUSICGEN | {"decoder": "musicgen_decoder"},
    ),
    "musicgen_melody": Kind(
        "musicgen",
        "MusicgenMelodyConfig",
        "MusicgenMelodyForConditionalGeneration",
        "MusicgenMelodyProcessor",
        "MusicgenMelodyFeatureExtractor",
        "facebook/musicgen-",
        _MUSICGEN | {"decoder": "musicgen_melody_decoder"},
    ),
    "bark": Kind("bark", "BarkConfig", "BarkModel", "BarkProcessor", published="suno/bark"),
    "musicldm": Kind("musicldm", "", "MusicLDMPipeline", ""),  # no config.json
    "jukebox": Kind("jukebox", "JukeboxConfig", "JukeboxModel", "JukeboxTokenizer", published="openai/jukebox"),
}
PART_CONFIGS = {  # model_type of the config of one network: its class at the top of this package
    "t5": "T5Config",
    "encodec": "EncodecConfig",
    "musicgen_decoder": "MusicgenDecoderConfig",
    "musicgen_melody_decoder": "MusicgenMelodyDecoderConfig",
    "semantic": "BarkSemanticConfig",
    "coarse_acoustics": "BarkCoarseConfig",
    "fine_acoustics": "BarkFineConfig",
    "jukebox_prior": "JukeboxPriorConfig",
    "jukebox_vqvae": "JukeboxVQVAEConfig",
}
CONFIGS = {kind: found.config for kind, found in KINDS.items() if found.config} | PART_CONFIGS
OF_SONGS = ("artist", "genre", "lyrics", "resume", "upsample", "total_length", "offset", "levels", "keep", "batch_size")
SINGERS = {"models that sing, such as openai/jukebox-1b-lyrics": OF_SONGS}  # words of theirs alone, by whose they are
FIRST_EXPORTED = "musicgen"  # the kind of MindIR files whose manifest names none: there was no other
FOREIGN = {
    "audiocraft": "musicgen",
    "suno": "bark",
    "diffusers": "musicldm",
    "openai": "jukebox",
}  # layouts of folders that say no model_type: what they hold


def room(kind, module):
    """A module of the family of a kind of model, such as "checkpoint.folder"."""
    return importlib.import_module(f"{__package__}.{KINDS[kind].room}.{module}")


def rooms_with(module):
    """The families that have a module, by their rooms' names."""
    found = []
    for name in dict.fromkeys(kind.room for kind in KINDS.values()):
        with contextlib.suppress(ModuleNotFoundError):  # the module would lie in a package that is not there either
            if importlib.util.find_spec(f"{__package__}.{name}.{module}"):
                found.append(name)
    return found


def public(name):
    """A class at the top of this package, by its name."""
    return getattr(importlib.import_module(__package__), name)
