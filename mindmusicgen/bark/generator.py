"""What generates: Bark's call from token ids to audio, over the three stages and a codec, however these are run.

`BarkModel` runs its own networks, `mindir.runtime.MindIRBark` graphs out of files.
"""

from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from ..arguments import as_whole, resolve_seeds
from ..errors import InputError, shown, whole_number
from ..habits import refuse_unsupported
from ..outputs import Output
from ..runtime.callers import alone, serialised
from . import presets, settings, speech
from .progress import Work
from .stages import check_spoken


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


class Speaker:
    """A mixin of what has `config`, `generation_config`, `_stages`, `_unfinished` and `_decoded`, which turns codes
    [K, frames] into audio [samples]."""

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.config.codec_config.sampling_rate

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.config.codec_config.frame_rate

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
            chosen = self._settings(arguments, len(ids), seed)
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
        own = self._settings().semantic
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
            if len(made.audio_codes[0]) < self.config.fine_acoustics_config.n_codes_total or not made.lengths[0]:
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
        stored = self._settings().semantic
        room = self.config.semantic_config.input_vocab_size - stored.text_encoding_offset
        known = ids[given != 0]
        if known.min() < 0 or known.max() >= room:
            raise InputError(f"input_ids holds {known.min()} to {known.max()}; this model's go from 0 to {room - 1}")
        return ids.astype(np.int32), given.astype(np.int32)

    def _settings(self, arguments=None, rows=1, seed=0):
        """The checked settings of a call; without arguments the model's own."""
        return settings.resolve(self.config, self.generation_config, arguments or {}, rows, seed)

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


def _padded(audio):
    """Pieces of [samples] each as one tensor [B, samples], zeros behind each end; and their lengths."""
    lengths = np.array([len(one) for one in audio])
    padded = np.zeros((len(audio), max(lengths)), np.float32)
    for row, one in enumerate(audio):
        padded[row, : len(one)] = one
    return Tensor(padded), lengths
