"""Bark as its users know it: `from_pretrained`, `generate`, `save_pretrained`.

The model holds the three stages and the codec. Text becomes semantic tokens, those the codec's first two codebooks,
those all eight, and these audio; see `stages`.
"""

import os
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..arguments import as_whole, resolve_seeds
from ..checkpoint.config_file import config_errors
from ..checkpoint.source import resolve
from ..dtypes import resolve_dtype
from ..errors import InputError, shown, whole_number
from ..habits import changed_config, refuse_unsupported
from ..models.initial_weights import initial_weights as initial_codec_weights
from ..models.quantized import check_quantization
from ..ops.memory import release_free_memory
from ..outputs import Output
from ..parts import Codec
from ..runtime import device as devices
from ..runtime.callers import Unfinished, alone, serialised
from ..runtime.compiled import compiled, fingerprint
from ..runtime.telling import tell
from ..torch_names import Habits
from . import presets, settings, speech
from .checkpoint.folder import default_generation_config, fill, open_folder, save
from .checkpoint.suno_files import CODEC_OF_BARK
from .config import STAGES, BarkConfig, check
from .progress import Work
from .stages import Stages, check_spoken
from .submodels import BarkCoarseModel, BarkFineModel, BarkSemanticModel, opening_bark

SHORTEST = 8  # frames; shorter clips do not reach beyond the padding of every convolution, and are decoded uncompiled


@dataclass
class BarkOutput(Output):
    """What `generate(..., return_dict_in_generate=True)` returns.

    Attributes:
        audio_values (Tensor): [B, samples] float32, zeros behind each piece's end.
        lengths (numpy.ndarray): samples of each piece, [B] int.
        semantic_tokens (list[numpy.ndarray]): of each piece, [s] int32.
        audio_codes (list[numpy.ndarray]): of each piece, [8, frames] int32; fewer rows where it was stopped early.
        seeds (tuple[int]): the seed of each piece; giving them again gives the same again.
    """

    audio_values: Tensor = None
    lengths: np.ndarray = None
    semantic_tokens: list = None
    audio_codes: list = None
    seeds: tuple = None

    def preset(self, row=0):
        """The voice of a piece, as `history_prompt` of another call.

        Args:
            row (int): which piece.

        Returns:
            dict of semantic_prompt [s], coarse_prompt [2, n], fine_prompt [8, n].

        Raises:
            InputError: if nothing of it was made.
        """
        tokens, codes = self.semantic_tokens[row], self.audio_codes[row]
        made = {"semantic_prompt": tokens, "coarse_prompt": codes[:2], "fine_prompt": codes}
        return presets.checked(made, f"piece {row}")

    def save_voice(self, path, row=0):
        """Write the voice of a piece as an .npz file that the processor, suno's program and transformers take.

        Args:
            path (str): the file; ".npz" is appended where it is missing.
            row (int): which piece.

        Returns:
            str: the file.

        Raises:
            InputError: if nothing of the piece was made, or the file cannot be written.
        """
        return presets.save_preset(path, self.preset(row))


class BarkModel(Habits, nn.Cell):
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
        self._to_audio = compiled(self.codec_model.to_audio, fingerprint(config.codec_config))
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

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.config.codec_config.sampling_rate

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.config.codec_config.frame_rate

    def enable_cpu_offload(self, accelerator_id=0, **others):
        """In transformers, keep all but the working stage out of a GPU's memory. Here all stages lie in the memory of
        the device, and graphs share their weights: nothing changes, and a line says so."""
        tell(
            "enable_cpu_offload changes nothing here: open the model with dtype='float16' for half the memory",
            error=True,
        )

    def to_bettertransformer(self):
        """Returns the model: the fastest attention of the device is chosen in any case."""
        return self

    def __call__(self, *arguments, **named):
        raise InputError("a Bark is not called as a whole; call generate, or one of its stages, such as model.semantic")

    def generate(
        self,
        input_ids=None,
        history_prompt=None,
        return_output_lengths=None,
        *,
        attention_mask=None,
        num_return_sequences=1,
        return_dict_in_generate=None,
        seed=None,
        callback=None,
        progress=None,
        **arguments,
    ):
        """Speak texts.

        Args:
            input_ids (Tensor): tokens of the texts from the processor, [B, n]; the first 256 count.
            history_prompt (dict | Sequence[dict]): the voice, as the processor returns it: semantic_prompt [s],
                coarse_prompt [2, n], fine_prompt [8, n]; a list has one, or None, for each text.
            return_output_lengths (bool): return the number of samples of each piece too.
            attention_mask (Tensor): [B, n], 0 where input_ids are padding.
            num_return_sequences (int): pieces for each text, one behind the other.
            return_dict_in_generate (bool): return a `BarkOutput` in place of the audio alone.
            seed (int | Sequence[int]): piece i uses seed + i, or its own of a list; None draws a fresh one.
            callback (callable): called with how much of how much work is done; returning False stops, with what can be
                heard by then. While it runs no other thread computes, so it must not wait for one that does.
            progress (bool): show a progress bar; None shows it in a terminal or notebook.
            do_sample, temperature, top_k, top_p: with transformers' meanings, for all stages; with the prefix
                semantic_, coarse_ or fine_ for one, over those without. What is not given comes from the generation
                config. The fine stage takes the most probable codes at temperature 1.
            max_new_tokens, semantic_max_new_tokens (int): at most so many semantic tokens, 49.9 a second, at most 768.
            min_eos_p (float): end where the end is more probable than this, above 0 and at most 1.
            max_coarse_history, sliding_window_len (int): how far the coarse stage looks back, 60 to 630, and how far it
                goes between two looks.

        Returns:
            Tensor of float32 audio, [B, samples], zeros behind each piece's end; with return_output_lengths a tuple of
            it and the lengths, [B]; or a `BarkOutput`.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts.
        """
        refuse_unsupported(arguments)
        with alone() as interrupts, self._unfinished.piece() as stopped:
            self._unfinished.works(stopped)
            ids, mask = self._texts(input_ids, attention_mask)
            copies = whole_number("num_return_sequences", num_return_sequences, 1)
            if isinstance(history_prompt, (list, tuple)):
                history_prompt = [voice for voice in history_prompt for _ in range(copies)]
            ids, mask = np.repeat(ids, copies, 0), np.repeat(mask, copies, 0)
            chosen = settings.resolve(self.config, self.generation_config, arguments, len(ids), seed)
            voices = self._voices(history_prompt, chosen, len(ids))
            with Work(chosen, len(ids), progress, callback, stopped, interrupts) as work:
                tokens, codes = self._codes(ids, mask, voices, chosen, work)
                audio = [self._decoded(one) for one in codes]
        values, lengths = _padded(audio)
        if return_dict_in_generate:
            return BarkOutput(values, lengths, tokens, codes, chosen.seeds)
        return (values, lengths) if return_output_lengths else values

    def _codes(self, ids, mask, voices, chosen, work):
        """The three stages: semantic tokens and codes of each row."""

        def of(*keys):
            return [
                voice and (voice[keys[0]] if len(keys) == 1 else tuple(voice[key] for key in keys)) for voice in voices
            ]

        tokens = self._stages.semantic(ids, mask, of("semantic_prompt"), chosen, work.semantic)
        if work.stopped:  # nothing can be heard yet
            return tokens, [np.zeros((chosen.fine.n_fine_codebooks, 0), np.int32)] * len(ids)
        check_spoken(tokens)
        work.spoken(tokens)
        codes = self._stages.coarse(tokens, of("semantic_prompt", "coarse_prompt"), chosen, work.coarse)
        if work.stopped:
            return tokens, codes
        return tokens, self._stages.fine(codes, of("fine_prompt"), chosen, work.fine)

    def speak(self, processor, text, voice_preset=None, *, voices=None, follow=False, seed=None, **arguments):
        """Speak a text of any length, or a dialogue: part by part, with short silences between them.

        Args:
            processor (BarkProcessor): of this model.
            text (str): what to say; with voices, lines such as "Ann: Hello!".
            voice_preset (str | dict): the voice, as the processor takes it; None: whatever voice the first part gets.
            voices (dict): the voice of each speaker of a dialogue, by name; None for one that is to be found.
            follow (bool): let each part go on from the one before it, whose voice may drift, and not from the preset.
            seed (int): part i uses seed + i; None draws a fresh one.
            **arguments: those of `generate`; min_eos_p is 0.05 unless given.

        Returns:
            Tensor of float32 audio, [1, samples].

        Raises:
            InputError: if there is nothing to say, a speaker has no voice, or as `generate` does.
            KeyboardInterrupt: if the user interrupts.
        """
        own = settings.resolve(self.config, self.generation_config, {}, 1, 0).semantic
        share = own.max_input_semantic_length / settings.SemanticSettings.max_input_semantic_length
        parts = speech.plan(processor, text, voices, share)
        known = {None: voice_preset} if voices is None else dict(voices)
        known = {name: None if voice is None else processor.preset(voice) for name, voice in known.items()}
        seed = resolve_seeds(seed, 1)[0]
        arguments = {"min_eos_p": speech.MIN_EOS_P} | arguments | {"return_dict_in_generate": True}
        pieces = []
        for number, (name, words, _) in enumerate(parts):
            inputs = processor(words)
            made = self.generate(**inputs, history_prompt=known[name], seed=seed + number, **arguments)
            pieces.append(made.audio_values.asnumpy()[0])
            if len(made.audio_codes[0]) < self.fine_acoustics.config.n_codes_total or not made.lengths[0]:
                break  # stopped: a voice of half the codebooks is none
            long_enough = len(made.semantic_tokens[0]) >= speech.LEAST_TOKENS
            if long_enough and (follow or known[name] is None):
                known[name] = made.preset()
        gaps = [gap for *_, gap in parts[: len(pieces)]]
        return Tensor(speech.joined(pieces, gaps, self.sampling_rate)[None])

    def stop(self):
        """End the running `generate` with what can be heard so far; for a second thread.

        After the semantic stage that is nothing, after the coarse one a rough version, later what is finished.
        """
        self._unfinished.stop()

    @serialised
    def codec_decode(self, fine_output, output_lengths=None):
        """Codes to audio.

        Args:
            fine_output (numpy.ndarray | Tensor): codes, [B, 8, frames].
            output_lengths (Sequence[int]): frames of each row; None: all.

        Returns:
            Tensor of float32 audio, [B, samples]; with lengths a list of them, one for each row.

        Raises:
            InputError: for numbers that are no codes.
        """
        codes, codec = as_whole("fine_output", fine_output, 3), self.config.codec_config
        if not codes.size or codes.shape[1] > codec.num_quantizers:
            raise InputError(f"fine_output has shape {codes.shape}; expected (batch, codebooks, frames)")
        if codes.min() < 0 or codes.max() >= codec.codebook_size:
            raise InputError(
                f"fine_output holds {codes.min()} to {codes.max()}; expected 0 to {codec.codebook_size - 1}"
            )
        lengths = [codes.shape[2]] * len(codes) if output_lengths is None else [int(n) for n in output_lengths]
        if len(lengths) != len(codes) or not all(0 < n <= codes.shape[2] for n in lengths):
            raise InputError(f"output_lengths is {shown(output_lengths)}; expected 1 to {codes.shape[2]} for each row")
        audio = [self._decoded(row[:, :n].astype(np.int32)) for row, n in zip(codes, lengths, strict=True)]
        if output_lengths is not None:
            return [Tensor(one) for one in audio]
        return Tensor(np.stack(audio))

    def _decoded(self, codes):
        """Codes [K, frames] to audio [samples], in a graph of one length: what follows a frame does not change it."""
        config, frames = self.config.codec_config, codes.shape[1]
        if not frames:
            return np.zeros(0, np.float32)
        blind = config.use_causal_conv and config.trim_right_ratio == 1 and config.norm_type == "weight_norm"
        if not blind or frames < SHORTEST:
            return self.codec_model.to_audio(Tensor(codes[None])).asnumpy()[0, 0]
        longest = settings.resolve(self.config, self.generation_config, {}, 1, 0).frames(settings.LONGEST)
        room = -(-frames // longest) * longest
        audio = self._to_audio(Tensor(np.pad(codes, ((0, 0), (0, room - frames)))[None])).asnumpy()[0, 0]
        return audio[: len(audio) // room * frames].copy()

    def _texts(self, input_ids, attention_mask):
        """Token ids and their mask, [B, n] int32 each."""
        if input_ids is None:
            raise InputError("generate needs input_ids; BarkProcessor makes them of text")
        ids = as_whole("input_ids", input_ids, 2)
        if not ids.size:
            raise InputError("input_ids is empty; give the tokens of at least one word")
        given = np.ones_like(ids) if attention_mask is None else as_whole("attention_mask", attention_mask, 2)
        if given.shape != ids.shape or not np.isin(given, (0, 1)).all():
            raise InputError(
                f"attention_mask has shape {given.shape}; expected zeros and ones in the shape {ids.shape}"
            )
        if (given.sum(1) == 0).any():
            raise InputError("the text is empty; give at least one word")
        stored = settings.resolve(self.config, self.generation_config, {}, 1, 0).semantic
        room = self.config.semantic_config.input_vocab_size - stored.text_encoding_offset
        known = ids[given != 0]
        if known.min() < 0 or known.max() >= room:
            raise InputError(f"input_ids holds {known.min()} to {known.max()}; this model's go from 0 to {room - 1}")
        return ids.astype(np.int32), given.astype(np.int32)

    @staticmethod
    def _voices(history_prompt, chosen, rows):
        """A checked preset, or None, for each row."""
        several = isinstance(history_prompt, (list, tuple))
        given = list(history_prompt) if several else [history_prompt] * rows
        if len(given) != rows:
            raise InputError(
                f"history_prompt has {len(given)} entries for {rows} texts; give one, or one for each text"
            )
        return [presets.fitting(voice, chosen) for voice in given]


def _stage_classes(quantization):
    """The classes of the three stages."""
    if not quantization:
        return BarkSemanticModel, BarkCoarseModel, BarkFineModel
    from .int8.network import KINDS

    return KINDS


def _padded(audio):
    """Pieces of [samples] each as one tensor [B, samples], zeros behind each end; and their lengths."""
    lengths = np.array([len(one) for one in audio])
    padded = np.zeros((len(audio), max(lengths)), np.float32)
    for row, one in enumerate(audio):
        padded[row, : len(one)] = one
    return Tensor(padded), lengths


class _CodecHolder(nn.Cell):
    """The codec under the name by which `models.initial_weights` knows one."""

    def __init__(self, codec):
        super().__init__(auto_prefix=False)
        self.audio_encoder, self.config = codec, codec.config
