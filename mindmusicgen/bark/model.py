"""Bark as its users know it: `from_pretrained`, `generate`, `save_pretrained`.

The model holds the three stages and the codec. Text becomes semantic tokens, those the codec's first two codebooks,
those all eight, and these audio; see `stages`.
"""

import os

import mindspore as ms
import numpy as np
from mindspore import nn

from ..checkpoint.config_file import config_errors
from ..checkpoint.source import resolve
from ..dtypes import resolve_dtype
from ..errors import InputError, shown
from ..habits import changed_config
from ..language import said
from ..models.initial_weights import initial_weights as initial_codec_weights
from ..models.quantized import check_quantization
from ..ops.memory import release_free_memory
from ..parts import Codec
from ..runtime import device as devices
from ..runtime.callers import Unfinished, serialised
from ..runtime.compiled import fingerprint
from ..runtime.telling import tell
from ..torch_names import Habits
from .checkpoint.folder import default_generation_config, fill, open_folder, save
from .checkpoint.suno_files import CODEC_OF_BARK
from .codec import CodecWindows
from .config import STAGES, BarkConfig, check
from .generator import Speaker
from .stages import Stages
from .submodels import BarkCoarseModel, BarkFineModel, BarkSemanticModel, opening_bark


class BarkModel(Speaker, Habits, nn.Cell):
    """Text to speech, songs and sounds: three stages and the EnCodec codec.

    Args:
        config (transformers.BarkConfig): sizes; None: those of bark-small.
        dtype (mindspore.dtype): of the stages, float32 or float16; logits, sampling and the codec are always float32.
        generation_config (transformers.GenerationConfig): defaults of `generate`.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.
        quantization (str): "int8" for stages with weights of 8 bits, which only a checkpoint can fill.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, config_class = BarkConfig.model_type, BarkConfig

    def __init__(self, config=None, *, dtype=ms.float32, generation_config=None, empty=False, quantization=None):
        super().__init__(auto_prefix=False)
        config = BarkConfig() if config is None else config
        if getattr(config, "model_type", None) != self.model_type:
            raise InputError(f"config is one of {shown(type(config).__name__)}; expected BarkConfig")
        check(config)
        check_quantization(quantization, dtype)
        self.config, self.dtype, self.quantization = config, dtype, quantization
        self.generation_config = generation_config or default_generation_config(config)
        semantic, coarse, fine = _stage_classes(quantization)
        self.semantic = semantic(config.semantic_config, dtype, empty)
        self.coarse_acoustics = coarse(config.coarse_acoustics_config, dtype, empty)
        self.fine_acoustics = fine(config.fine_acoustics_config, dtype, empty)
        self.codec_model = Codec(config.codec_config)
        self.update_parameters_name("")
        self.set_train(False)
        if not empty:
            initial_codec_weights(_CodecHolder(self.codec_model))
        self._windows = CodecWindows(self.codec_model, fingerprint(config.codec_config))
        self._stages = Stages(self.semantic, self.coarse_acoustics, self.fine_acoustics)
        self._unfinished = Unfinished()

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        dtype=None,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        device=None,
        config=None,
        codec=CODEC_OF_BARK,
        quantization=None,
        **habits,
    ):
        """Open a checkpoint: a Hugging Face folder, a hub id, or a folder with suno's own files.

        Args:
            model (str): folder or hub id, such as suno/bark-small.
            dtype (str | mindspore.dtype): float32, float16, or bfloat16 on Ascend; None or "auto": float16 on Ascend,
                float32 on a CPU.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            device (str): CPU, Ascend, or Ascend:1 for the second NPU, for the whole process; None: what the
                environment's MINDMUSICGEN_DEVICE says, or MindSpore's choice.
            config (transformers.BarkConfig): in place of the checkpoint's.
            codec (str): folder or hub id of EnCodec at 24 kHz, which suno's own files (text.pt, coarse.pt, fine.pt)
                lack; a Hugging Face folder has it inside.
            quantization (str): "int8" rounds the stages' weights to 8 bits, which is faster on a CPU and takes a third
                of the memory; None takes them as they are stored.
            **habits: fields of the config to change, and what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if there is no such device or model, or its files are damaged or do not fit its config.
        """
        model, dtype, device, changes = opening_bark(model, dtype, device, habits)
        devices.use(device)
        chosen = resolve_dtype("float32" if quantization and dtype is None else dtype)
        check_quantization(quantization, chosen)
        folder = resolve(model, revision, cache_dir, local_files_only)
        found, generation_config, tensors = open_folder(folder, cache_dir, local_files_only, codec)
        found = changed_config(found, config, changes)
        path = os.path.join(folder, "config.json")
        check(found, path)
        with config_errors(path):
            if not quantization:
                made, stores = cls(found, dtype=chosen, generation_config=generation_config, empty=True), None
            else:
                from .int8.loading import empty_model

                made, stores = empty_model(cls, found, generation_config, quantization)
        fill(made, folder, tensors=tensors, stores=stores)
        if quantization:
            release_free_memory()
        return made

    @serialised
    def save_pretrained(self, save_directory, dtype=None, **habits):
        """Write a Hugging Face folder: config, generation config and safetensors that transformers loads.

        Args:
            save_directory (str): where to write.
            dtype (str): how weights are stored, float32 or float16; None keeps the model's own.
            **habits: what else transformers takes here, such as max_shard_size: see docs/migration.md.

        Raises:
            InputError: if the folder cannot be written, or the model is quantised.
        """
        save(self, save_directory, dtype, habits, self.generation_config)

    @serialised
    def initialise(self, seed=0, std=0.02):
        """Fill the three stages with random weights; returns the model."""
        if self.quantization:
            raise InputError("a quantised model cannot be filled with random weights; open it from a checkpoint")
        for stage in STAGES:
            getattr(self, stage).initialise(seed, std)
        return self

    def enable_cpu_offload(self, accelerator_id=0, **others):
        """In transformers, keep all but the working stage out of a GPU's memory. Here all stages stay in the memory of
        the device, where their compiled graphs expect the weights: nothing changes, and a line says what helps."""
        if devices.current()[0] != "CPU":
            words = said("enable_cpu_offload changes nothing: compiled graphs expect their weights in the NPU's memory")
        elif self.quantization:
            words = said("enable_cpu_offload changes nothing on a CPU, and 8 bits are the least memory there is")
        else:
            words = said("enable_cpu_offload changes nothing on a CPU; quantization='int8' takes a third of the memory")
        tell(words, error=True)

    def to_bettertransformer(self):
        """Returns the model: the fastest attention of the device is chosen in any case."""
        return self

    def __call__(self, *arguments, **named):
        raise InputError("a Bark is not called as a whole; call generate, or one of its stages, such as model.semantic")

    def _decoded(self, codes):
        """Codes [K, frames] to audio [samples]."""
        return self._windows.decode(codes) if codes.shape[1] else np.zeros(0, np.float32)


def _stage_classes(quantization):
    """The classes of the three stages."""
    if not quantization:
        return BarkSemanticModel, BarkCoarseModel, BarkFineModel
    from .int8.network import KINDS

    return KINDS


class _CodecHolder(nn.Cell):
    """The codec under the name by which `models.initial_weights` knows one."""

    def __init__(self, codec):
        super().__init__(auto_prefix=False)
        self.audio_encoder, self.config = codec, codec.config
