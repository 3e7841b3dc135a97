"""MusicGen on MindSpore: text in, music out, every step a compiled graph.

Names are imported on first use, so that `import mindmusicgen` does not start MindSpore.
"""

import importlib

from .runtime.interrupt import blocked

__version__ = "0.1.0"

_WHERE = {
    "MusicgenForConditionalGeneration": "musicgen.model",
    "MusicgenMelodyForConditionalGeneration": "musicgen.melody.model",
    "MusicgenOutput": "musicgen.outputs",
    "MusicgenProcessor": "musicgen.processing",
    "MusicgenMelodyProcessor": "musicgen.melody.processing",
    "AutoProcessor": "auto",
    "EncodecFeatureExtractor": "musicgen.feature_extractors",
    "MusicgenMelodyFeatureExtractor": "musicgen.melody.feature_extractor",
    "MusicgenForCausalLM": "musicgen.alone.decoder",
    "MusicgenModel": "musicgen.alone.decoder",
    "MusicgenMelodyForCausalLM": "musicgen.alone.melody",
    "MusicgenMelodyModel": "musicgen.alone.melody",
    "T5EncoderModel": "submodels.text",
    "EncodecModel": "submodels.codec",
    "AutoModelForTextToWaveform": "auto",
    "AutoConfig": "auto",
    "MusicgenConfig": "musicgen.configs",
    "MusicgenDecoderConfig": "musicgen.configs",
    "MusicgenMelodyConfig": "musicgen.configs",
    "MusicgenMelodyDecoderConfig": "musicgen.configs",
    "T5Config": "configs",
    "EncodecConfig": "configs",
    "BarkModel": "bark.model",
    "BarkOutput": "bark.generator",
    "BarkProcessor": "bark.processing",
    "BarkCausalModel": "bark.submodels",
    "BarkSemanticModel": "bark.submodels",
    "BarkCoarseModel": "bark.submodels",
    "BarkFineModel": "bark.submodels",
    "BarkConfig": "bark.config",
    "BarkSemanticConfig": "bark.config",
    "BarkCoarseConfig": "bark.config",
    "BarkFineConfig": "bark.config",
    "MusicLDMPipeline": "musicldm.model",
    "Scorer": "clap.scorer",
    "AudioPipelineOutput": "musicldm.generator",
    "DDIMScheduler": "musicldm.schedulers",
    "PNDMScheduler": "musicldm.schedulers",
    "LMSDiscreteScheduler": "musicldm.schedulers",
    "EulerDiscreteScheduler": "musicldm.schedulers",
    "DPMSolverMultistepScheduler": "musicldm.schedulers",
    "JukeboxModel": "jukebox.model",
    "JukeboxPrior": "jukebox.prior",
    "JukeboxVQVAE": "jukebox.vqvae",
    "JukeboxTokenizer": "jukebox.tokenizer",
    "JukeboxConfig": "jukebox.config",
    "JukeboxPriorConfig": "jukebox.config",
    "JukeboxVQVAEConfig": "jukebox.config",
    "InputError": "errors",
    "MindIRMusicgen": "musicgen.mindir.runtime",
    "MindIRBark": "bark.mindir.runtime",
    "MindIRMusicLDM": "musicldm.mindir.runtime",
    "set_seed": "habits",
    "write_audio": "audio",
    "from_mindnlp": "musicgen.mindnlp_bridge",
    "patch_mindnlp": "musicgen.mindnlp_bridge",
}
__all__ = [*_WHERE, "__version__"]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'mindmusicgen' has no attribute {name!r}")
    with blocked():
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
