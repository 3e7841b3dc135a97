"""MusicGen as its users know it: `from_pretrained`, `generate`, `stream`, `encode`, `decode`, `save_pretrained`.

The whole holds three networks: T5 (`models.t5`), the decoder (`decoder`) and EnCodec (`models.encodec`, behind
`codec`). A call of `generate` is checked in `inputs`, and `generator` runs it.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..arguments import exclusive
from ..errors import InputError
from ..families import KINDS, public
from ..habits import refuse_unsupported
from ..models.initial_weights import initial_weights
from ..models.layers import additive_mask, initialise
from ..ops.memory import release_mapped
from ..parts import Codec, Elsewhere, TextEncoder
from ..runtime.callers import Unfinished, alone, serialised, turn
from ..runtime.compiled import compiled, fingerprint
from ..torch_names import CompositeHabits
from . import inputs
from .checkpoint import folder as checkpoint_folder
from .codec import MusicgenCodec
from .decoder import TextConditioner
from .generator import CodeGenerator
from .parts import TextDecoder
from .streamer import to_streamer


class MusicgenForConditionalGeneration(CompositeHabits, nn.Cell):
    """Text to music: T5 encoder, MusicGen decoder and EnCodec codec.

    Args:
        config (transformers.MusicgenConfig): sizes of the three networks; not needed where all three are given.
        text_encoder (T5EncoderModel): becomes part of this model, as it is; None makes one with random weights.
        audio_encoder (EncodecModel): the same.
        decoder (MusicgenForCausalLM): the same.
        dtype (mindspore.dtype): dtype of text encoder and decoder, float32 or float16; logits, sampling and the
            codec are always float32. None: that of the networks that are given, else float32.
        generation_config (transformers.GenerationConfig): defaults of `generate`.
        quantization (str): "int8" or "int4" for a decoder with weights of 8 or 4 bits, which a checkpoint must fill.
        empty (bool): leave the parameters zeros in place of random weights, for a checkpoint to fill.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "musicgen"  # of the config.json that this class opens
    generator = CodeGenerator
    decoder_class = TextDecoder
    forward = construct = Elsewhere("musicgen.alone.call", "forward")

    def __init__(
        self,
        config=None,
        text_encoder=None,
        audio_encoder=None,
        decoder=None,
        *,
        dtype=None,
        generation_config=None,
        quantization=None,
        empty=False,
    ):
        super().__init__(auto_prefix=False)
        given = {"text_encoder": text_encoder, "audio_encoder": audio_encoder, "decoder": decoder}
        if all(part is None for part in given.values()) and self._fits(config):
            given = {}
        else:
            from .alone.assembly import assembled

            given, config, dtype = assembled(type(self), config, given, dtype)
        dtype = ms.float32 if dtype is None else dtype
        self.config, self.quantization, self.mapped = config, quantization, {}
        self.generation_config = generation_config or checkpoint_folder.default_generation_config(config.decoder)
        self.dtype = dtype
        self.text_encoder = given.get("text_encoder") or TextEncoder(config.text_encoder, dtype)
        self.audio_encoder = given.get("audio_encoder") or Codec(config.audio_encoder)
        self.decoder = given.get("decoder") or self.decoder_of(quantization)(config.decoder, dtype)
        self.conditioner = self._conditioner(config, dtype)
        self.decoder.generation_config, self.decoder.frame_rate = self.generation_config, self.frame_rate
        self.update_parameters_name("")
        self.set_train(False)
        if not (empty or quantization):
            initial_weights(self, given)
        key = fingerprint(config.text_encoder, config.audio_encoder, str(dtype))
        self._encode_text, self.eager = compiled(self.text_encoder.construct, key), False
        self.codec = MusicgenCodec(config, self.audio_encoder, key)
        self.codec_graphs = self.codec.graphs
        self.codec_graphs.round_lstm(bool(quantization))
        self._generator = self._make_generator()
        self._unfinished = Unfinished()

    @classmethod
    def _fits(cls, config):
        """Whether a config is of this class's kind of model."""
        return getattr(config, "model_type", None) == cls.model_type

    @classmethod
    def decoder_of(cls, quantization):
        """The class of the decoder, with weights of 8 or 4 bits for "int8" or "int4"."""
        if not quantization:
            return cls.decoder_class
        from .int8.decoder import DECODERS

        return DECODERS[quantization]

    @classmethod
    def config_kind(cls):
        """The class of its config."""
        return public(KINDS[cls.model_type].config)

    @staticmethod
    def _conditioner(config, dtype):
        """What makes of the text what the decoder reads."""
        return TextConditioner(config.text_encoder.hidden_size, config.decoder.hidden_size, dtype)

    def _make_generator(self):
        kind = self.generator
        if self.quantization:
            from .int8.decode_loop import QuantizedGenerator as kind
        return kind(self.decoder, self.conditioner, self.config.decoder)

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        dtype=None,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        quantization=None,
        device=None,
        config=None,
        **habits,
    ):
        """Open a checkpoint: a Hugging Face folder, a folder written by `mindmusicgen convert`, a hub id, or the demo.

        Args:
            model (str): folder, hub id, or "demo" for the small model in this package.
            dtype (str | mindspore.dtype): float32, float16, or bfloat16 on Ascend; None or "auto": float16 on Ascend,
                float32 on a CPU and for int8 and int4.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            quantization (str): "int8" rounds the decoder's weights to 8 bits, which is faster on a CPU, "int4" to 4,
                which is faster still and less exact; None takes them as they are stored, and a folder that was
                converted to int8 or int4 stays so.
            device (str): CPU, Ascend, or Ascend:1 for the second NPU, for the whole process; None: what the
                environment's MINDMUSICGEN_DEVICE says, or MindSpore's choice.
            config (transformers.MusicgenConfig): in place of the checkpoint's.
            **habits: fields of the config to change, and what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if there is no such device or model, or its files are damaged or do not fit its config.
        """
        options = (dtype, revision, cache_dir, local_files_only, quantization, device, config, habits)
        return checkpoint_folder.load(cls, model, *options)

    from_sub_models_pretrained = Elsewhere("musicgen.alone.assembly", "from_sub_models_pretrained", True)

    @serialised
    def quantize(self, quantization="int8"):
        """Round the decoder's weights to 8 or 4 bits, in place. Where the kernels cannot run they are expanded again.

        Args:
            quantization (str): "int8" or "int4".

        Returns:
            MusicgenForConditionalGeneration: the model itself.

        Raises:
            InputError: for another name, dtype or kind of model.
        """
        from .int8.quantization import expand_without_kernels, quantise_model

        quantise_model(self, quantization)
        expand_without_kernels(self)
        return self

    def use_decoder(self, decoder, quantization):
        """Go on with another decoder of the same sizes; `quantization` says what it is."""
        self._generator.retire()
        self.decoder, self.quantization = decoder, quantization
        self.update_parameters_name("")
        self.set_train(False)
        self._generator = self._make_generator()
        self.codec_graphs.round_lstm(bool(quantization))

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
        checkpoint_folder.save_huggingface(self, save_directory, dtype, habits=habits)

    @serialised
    def initialise(self, seed=0, std=0.02):
        """Fill all parameters with random weights; returns the model."""
        if self.quantization:
            raise InputError("a quantised model cannot be filled with random weights; quantise after initialise")
        initialise(self, seed, std)
        return self

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.config.audio_encoder.sampling_rate

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.config.audio_encoder.frame_rate

    @property
    def pad_code(self):
        """The start and padding code."""
        candidates = (
            self.generation_config.decoder_start_token_id,
            getattr(self.config.decoder, "pad_token_id", None),
            self.config.decoder.vocab_size,
        )
        code = next(value for value in candidates if value is not None)
        if not 0 <= code <= self.config.decoder.vocab_size:
            raise InputError(f"decoder_start_token_id is {code}; expected 0 to {self.config.decoder.vocab_size}")
        return code

    def __call__(self, *args, **kwargs):
        # Arguments are checked in Python, which a context in graph mode would try to compile.
        with turn():
            if ms.get_context("mode") == ms.GRAPH_MODE:
                return self.construct(*args, **kwargs)
            return super().__call__(*args, **kwargs)

    def logits(self, input_ids, attention_mask, decoder_input_ids):
        """Logits for known codes and nothing else, by the networks that generate; compiles with `mindspore.jit`.

        Args:
            input_ids (Tensor): prompt tokens, [B, S] int32.
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
            decoder_input_ids (Tensor): codes, [B * K, T] int32.

        Returns:
            Tensor: float32 logits, [B * K, T, V].
        """
        states = self.conditioner(self.text_encoder.construct(input_ids, attention_mask), attention_mask)
        mask = additive_mask(attention_mask, self.dtype).reshape(attention_mask.shape[0], 1, 1, -1)
        columns = decoder_input_ids.shape[-1]
        ids = decoder_input_ids.reshape(-1, self.config.decoder.num_codebooks, columns)
        x, _ = self.decoder.construct(ids, self.decoder.cross_keys_values(states), mask)
        return self.decoder.logits(x).reshape(-1, columns, self.config.decoder.vocab_size)

    def run_eagerly(self):
        """Run text encoder and codec uncompiled from now on: for a program that makes one piece and ends, compiling
        them takes seconds longer than it saves. What repeats, decode steps and a stream's pieces, stays compiled.
        Returns the model."""
        self.eager, self.codec_graphs.eager = True, self.codec_graphs.eager | {"encode", "decode"}
        return self

    def encode_text(self, input_ids, attention_mask):
        """Text states [B, S, text dim] of tokens and their mask, [B, S] int32 each, padded to a bucket."""
        run = self.text_encoder.construct if self.eager else self._encode_text.patient
        return run(input_ids, attention_mask)

    def get_unconditional_inputs(self, num_samples=1):
        """Arguments of `generate` for music without a prompt, to be passed with `**`.

        Args:
            num_samples (int): pieces to make.

        Returns:
            dict: encoder_outputs, attention_mask and guidance_scale; also readable as attributes.
        """
        return inputs.unconditional_inputs(self.config.text_encoder.hidden_size, num_samples)

    def generate(self, input_ids=None, attention_mask=None, *, return_dict_in_generate=None, **arguments):
        """Generate music for prompts.

        Args:
            input_ids (Tensor): prompt tokens from the processor, [B, S].
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
            return_dict_in_generate (bool): return a `MusicgenOutput` in place of the audio alone; the generation
                config decides for None.
            encoder_outputs (tuple[Tensor]): text states [B, S, text dim] in place of input_ids; with guidance the
                null rows must already be appended, as in transformers.
            negative_input_ids, negative_attention_mask (Tensor): tokens of what the music should not be, for all
                prompts or one each; guidance then leads away from it.
            input_values (Tensor): audio to continue, [B, channels, samples] at `sampling_rate`; the result begins
                with it. Without a text it is continued freely.
            padding_mask (Tensor): [B, samples], 0 where input_values are padding.
            audio_codes (Tensor): codes to continue in place of audio, [B, K, frames].
            decoder_input_ids (Tensor): the same as [B * K, frames], with or without the start code.
            generation_config (transformers.GenerationConfig): in place of the model's own.
            do_sample, guidance_scale, max_new_tokens, max_length, temperature, top_k, top_p: with transformers'
                meanings; what is not given comes from the generation config. guidance_scale may be a pair, from
                the start to the end of the piece.
            num_return_sequences (int): pieces for each prompt, which follow each other in the result.
            duration (float): seconds of new music in place of max_new_tokens. Beyond 30 s the model's window slides.
            extend_stride (float): seconds of new music in each further window, 18.
            seed (int | Sequence[int]): piece i uses seed + i, or its own of a list; None draws a fresh one.
            callback (callable): called with the frames that are done and all frames; returning False stops. While it
                runs no other thread computes, so it must not wait for one that does.
            progress (bool): show a progress bar; None shows it in a terminal or notebook.
            streamer (transformers.generation.streamers.BaseStreamer): is given the columns of codes as they are made,
                in the delay pattern: the start and the prompt's, [B * K, n], then one at a time, [B * K].

        Returns:
            Tensor of float32 audio, [B, channels, samples]; or a `MusicgenOutput`.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts.
        """
        with alone() as interrupts, self._unfinished.piece() as stopped:
            self._unfinished.works(stopped)
            arguments["return_dict_in_generate"] = return_dict_in_generate
            request, *watching = self._request(input_ids, attention_mask, arguments)
            codes = []
            for fresh in self._generate_codes(request, *watching, stopped):
                interrupts.check()
                codes.append(fresh)
            codes = np.concatenate(codes, axis=2)
            audio = self.decode(codes)
        if not request.settings.return_dict:
            return audio
        from .outputs import MusicgenOutput

        return MusicgenOutput(audio, Tensor(codes), request.settings.seeds)

    def stream(self, input_ids=None, attention_mask=None, *, chunk_seconds=1.0, **arguments):
        """Generate music and hand out audio while the rest is still being made.

        Args:
            input_ids, attention_mask, arguments: as in `generate`. A prompt's audio comes out first.
            chunk_seconds (float): length of each chunk, 0.2 to 30; the last may be shorter.

        Yields:
            Tensor: float32 audio, [B, channels, samples]. The chunks joined are what `generate` returns, up to
            rounding. Between two of them the model is free for other calls. Of more than four pieces at the same time
            the oldest ends with an InputError.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts.
        """
        if arguments.get("return_dict_in_generate"):
            raise InputError("stream yields audio alone; return_dict_in_generate is for generate")
        with self._unfinished.piece() as stopped:
            with alone():
                self._unfinished.works(stopped)
                request, *watching = self._request(input_ids, attention_mask, arguments)
                decoder = self.codec.in_pieces(chunk_seconds)

            def produce():
                for fresh in self._generate_codes(request, *watching, stopped):
                    yield self.codec.push(decoder, fresh)
                yield self.codec.push(decoder, request.prompt[:, :, :0], last=True)

            produced = produce()
            while True:
                with alone() as interrupts:  # only while we work: what the caller does with a chunk is theirs
                    self._unfinished.works(stopped)
                    chunks = next(produced, None)
                    interrupts.check()
                if chunks is None:
                    return
                yield from chunks

    def stop(self):
        """End the running `generate` or `stream` with what is done so far; for a second thread.

        Of several pieces it ends the one that was worked on last, and none that begins later.
        """
        self._unfinished.stop()

    @serialised
    def encode(self, audio):
        """Audio to codes.

        Args:
            audio (numpy.ndarray | Tensor): floats, [B, channels, samples] at `sampling_rate`, in -1 to 1.

        Returns:
            Tensor: [B, K, frames] int32; stereo models interleave left and right codebooks.

        Raises:
            InputError: for another number of channels, or samples that are not finite.
        """
        return self.codec.encode(audio)

    @serialised
    def decode(self, codes):
        """Codes to audio. More than 30 s are decoded in pieces that join exactly.

        Args:
            codes (numpy.ndarray | Tensor): [B, K, frames]; stereo models interleave left and right codebooks.

        Returns:
            Tensor: [B, channels, frames * hop length] float32.

        Raises:
            InputError: for another number of codebooks, or numbers that are no codes.
        """
        return self.codec.decode(codes, small=bool(self.quantization))

    def _request(self, input_ids, attention_mask, arguments):
        """Take a call's arguments apart and check them: the request, the callback, whether to show, the streamer."""
        arguments = dict(arguments)
        refuse_unsupported(arguments)

        def take(*names):
            return {name: arguments.pop(name, None) for name in names}

        seed, callback, streamer, show = take("seed", "callback", "streamer", "progress").values()
        config, also = take("generation_config", "inputs").values()
        if hasattr(attention_mask, "guidance_scale"):  # the second argument of transformers' generate
            attention_mask, config = None, attention_mask
        if also is not None:
            exclusive(input_ids=input_ids, inputs=also)
            input_ids = also
        text = {"input_ids": input_ids, "attention_mask": attention_mask}
        text |= take("encoder_outputs", "negative_input_ids", "negative_attention_mask")
        audio = take("input_values", "padding_mask", "audio_codes", "decoder_input_ids")
        request = self._prepare(text, audio, config or self.generation_config, arguments, seed)
        return request, callback, show, streamer

    def _prepare(self, text, audio, generation_config, arguments, seed):
        """What is to be made, checked: a `Request`."""
        return inputs.prepare(self, text, audio, generation_config, arguments, seed)

    def _generate_codes(self, request, callback=None, show=None, streamer=None, stopped=None):
        """The next final codes, [B, K, n], until all are made."""
        if self.quantization and self.mapped:
            request.states.asnumpy()  # the text encoder is done
            release_mapped(array for name, array in self.mapped.items() if name.startswith("text_encoder."))
        codes = self._generator.codes(request, self.pad_code, self.frame_rate, show, callback, stopped)
        return to_streamer(streamer, codes, self.pad_code, self.config.decoder.audio_channels)
