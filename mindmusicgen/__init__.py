"""MusicGen on MindSpore: text in, music out, every step a compiled graph.

Names are imported on first use, so that `import mindmusicgen` does not start MindSpore.
"""

import importlib

from .interrupt import blocked

__version__ = "0.1.0"

_WHERE = {
    "MusicgenForConditionalGeneration": "composite",
    "MusicgenMelodyForConditionalGeneration": "melody",
    "MusicgenOutput": "submodels.outputs",
    "MusicgenProcessor": "processing",
    "MusicgenMelodyProcessor": "melody_processing",
    "AutoProcessor": "melody_processing",
    "EncodecFeatureExtractor": "feature_extractors",
    "MusicgenMelodyFeatureExtractor": "feature_extractors",
    "MusicgenForCausalLM": "submodels.decoder",
    "MusicgenModel": "submodels.decoder",
    "MusicgenMelodyForCausalLM": "submodels.melody",
    "MusicgenMelodyModel": "submodels.melody",
    "T5EncoderModel": "submodels.text",
    "EncodecModel": "submodels.codec",
    "AutoModelForTextToWaveform": "auto",
    "AutoConfig": "configs",
    "MusicgenConfig": "configs",
    "MusicgenDecoderConfig": "configs",
    "MusicgenMelodyConfig": "configs",
    "MusicgenMelodyDecoderConfig": "configs",
    "T5Config": "configs",
    "EncodecConfig": "configs",
    "InputError": "errors",
    "set_seed": "habits",
    "write_audio": "audio",
    "from_mindnlp": "mindnlp_bridge",
    "patch_mindnlp": "mindnlp_bridge",
}
__all__ = [*_WHERE, "__version__"]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'mindmusicgen' has no attribute {name!r}")
    with blocked():
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
