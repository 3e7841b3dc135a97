"""MusicGen as its users know it: `from_pretrained`, `generate`, `save_pretrained`.

The composite holds the three networks and the checkpoint's configs; the loop itself is in
`generation.decode_loop`, the networks in `models`.
"""

import contextlib
import ctypes
from collections import OrderedDict
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from .checkpoint import folder as checkpoint_folder
from .errors import InputError
from .generation import decode_loop, delay_pattern, settings
from .generation.sampling import draw_uniforms
from .interrupt import interruptible
from .models.encodec import Encodec
from .models.layers import additive_mask, initialise
from .models.musicgen import MusicgenDecoder
from .models.t5 import T5Encoder
from .progress import Progress

KEPT_BYTES = 1 << 30  # graphs of older shapes are dropped when their buffers exceed this together


@dataclass
class MusicgenOutput:
    """What `generate(..., return_dict_in_generate=True)` returns.

    Attributes:
        audio_values (Tensor): [B, channels, samples] float32.
        audio_codes (Tensor): [B, codebooks, frames] int32.
        seeds (tuple[int]): the seed of each prompt; giving them again gives the same codes again.
    """

    audio_values: Tensor
    audio_codes: Tensor
    seeds: tuple

    @property
    def sequences(self):
        """transformers' name for `audio_values`."""
        return self.audio_values


class MusicgenForConditionalGeneration(nn.Cell):
    """Text to music: T5 encoder, MusicGen decoder and EnCodec codec.

    Args:
        config (transformers.MusicgenConfig): sizes of the three networks.
        dtype (mindspore.dtype): dtype of text encoder and decoder, float32 or float16; logits, sampling and the
            codec are always float32.
        generation_config (transformers.GenerationConfig): defaults of `generate`.

    Parameters are zeros until `initialise` or `from_pretrained` fills them.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, dtype=ms.float32, generation_config=None):
        super().__init__(auto_prefix=False)
        self.config = config
        self.generation_config = generation_config or checkpoint_folder.default_generation_config(config)
        self.dtype = dtype
        self.text_encoder = T5Encoder(config.text_encoder, dtype)
        self.audio_encoder = Encodec(config.audio_encoder)
        self.decoder = MusicgenDecoder(config.decoder, dtype)
        self.conditioner = decode_loop.TextConditioner(
            config.text_encoder.hidden_size, config.decoder.hidden_size, dtype
        )
        self.update_parameters_name("")
        self.set_train(False)
        self.encode_text = ms.jit(self.text_encoder.construct, fullgraph=True)
        self.encode_audio = ms.jit(self.audio_encoder.encode, fullgraph=True)
        self.decode_audio = ms.jit(self.audio_encoder.decode, fullgraph=True)
        self._graphs, self._places = OrderedDict(), None

    @classmethod
    def from_pretrained(
        cls,
        model,
        dtype="float32",
        revision=None,
        cache_dir=None,
        local_files_only=False,
    ):
        """Open a checkpoint: a Hugging Face folder, a folder written by `mindmusicgen convert`, a hub id, or the demo.

        Args:
            model (str): folder, hub id, or "demo" for the small model in this package.
            dtype (str | mindspore.dtype): float32, or float16 (bfloat16 where the device has it).
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.

        Raises:
            InputError: if there is no such model, or its files are damaged or do not fit its config.
        """
        return checkpoint_folder.load(cls, model, dtype, revision, cache_dir, local_files_only)

    def save_pretrained(self, folder, dtype=None):
        """Write a Hugging Face folder: config, generation config and safetensors that transformers loads.

        Args:
            folder (str): where to write.
            dtype (str): how weights are stored, float32 or float16; None keeps the model's own.
        """
        checkpoint_folder.save_huggingface(self, folder, dtype)

    def initialise(self, seed=0, std=0.02):
        """Fill all parameters with random weights; returns the model."""
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

    def construct(self, input_ids, attention_mask, decoder_input_ids):
        """Logits for known codes, without a cache.

        Args:
            input_ids (Tensor): prompt tokens, [B, S] int32.
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
            decoder_input_ids (Tensor): codes, [B * K, T] int32.

        Returns:
            Tensor: float32 logits, [B * K, T, V].
        """
        states = self.conditioner(self.text_encoder(input_ids, attention_mask), attention_mask)
        mask = additive_mask(attention_mask, self.dtype).reshape(attention_mask.shape[0], 1, 1, -1)
        columns = decoder_input_ids.shape[-1]
        ids = decoder_input_ids.reshape(-1, self.config.decoder.num_codebooks, columns)
        x, _ = self.decoder(ids, self.decoder.cross_keys_values(states), mask)
        return self.decoder.logits(x).reshape(-1, columns, self.config.decoder.vocab_size)

    def generate(
        self,
        input_ids=None,
        attention_mask=None,
        *,
        encoder_outputs=None,
        decoder_input_ids=None,
        generation_config=None,
        seed=None,
        return_dict_in_generate=False,
        progress=None,
        **arguments,
    ):
        """Generate music for prompts.

        Args:
            input_ids (Tensor): prompt tokens from the processor, [B, S].
            attention_mask (Tensor): [B, S], 1 for tokens, 0 for padding.
            encoder_outputs (tuple[Tensor]): text states [B, S, text dim] in place of input_ids; with guidance the
                null rows must already be appended, as in transformers.
            decoder_input_ids (Tensor): codes to continue, [B * K, frames], without the start code.
            generation_config (transformers.GenerationConfig): in place of the model's own.
            seed (int | Sequence[int]): prompt i uses seed + i, or its own of a list; None draws a fresh one.
            return_dict_in_generate (bool): return a `MusicgenOutput` in place of the audio alone.
            progress (bool): show a progress bar; None shows it in a terminal or notebook.
            **arguments: do_sample, guidance_scale, max_new_tokens or max_length, temperature, top_k, top_p, with
                transformers' meanings; what is not given comes from the generation config.

        Returns:
            Tensor of float32 audio, [B, channels, samples]; or a `MusicgenOutput`.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
        """
        states, mask = self._text_states(input_ids, attention_mask, encoder_outputs)
        prompt_codes = self._prompt_codes(decoder_input_ids)
        frames = 0 if prompt_codes is None else prompt_codes.shape[2]
        source = generation_config or self.generation_config
        rows = states.shape[0]
        chosen = settings.resolve(self.config, source, arguments, rows, frames, seed)
        guided = chosen.guidance_scale > 1
        if guided and encoder_outputs is not None:
            if rows % 2:
                raise InputError(
                    f"encoder_outputs has {rows} rows; with guidance it needs as many null rows as prompts behind them"
                )
            rows //= 2
            chosen = settings.resolve(self.config, source, arguments, rows, frames, seed)
        if prompt_codes is None:
            prompt_codes = np.zeros((rows, self.config.decoder.num_codebooks, 0), np.int32)
        if prompt_codes.shape[0] != rows:
            raise InputError(f"decoder_input_ids holds {prompt_codes.shape[0]} prompts; the text holds {rows}")
        codes = self._generate_codes(states, mask, prompt_codes, chosen, guided, progress)
        audio = self.decode(codes)
        if not return_dict_in_generate:
            return audio
        return MusicgenOutput(audio, Tensor(codes), chosen.seeds)

    def encode(self, audio):
        """Audio to codes; each length compiles a graph of its own.

        Args:
            audio (numpy.ndarray | Tensor): [B, channels, samples] at `sampling_rate`, in -1 to 1.

        Returns:
            Tensor: [B, K, frames] int32; stereo models interleave left and right codebooks.

        Raises:
            InputError: for another number of channels, or samples that are not finite.
        """
        values = _array("audio", audio, 3).astype(np.float32)
        channels = self.config.decoder.audio_channels
        if values.shape[1] != channels:
            raise InputError(f"audio has {values.shape[1]} channels; this model has {channels}")
        if not values.size or not np.isfinite(values).all():
            raise InputError("audio is empty or holds samples that are not finite; expected numbers in -1 to 1")
        sides = np.concatenate([values[:, side : side + 1] for side in range(channels)], axis=0)
        quantizers = self.config.decoder.num_codebooks // channels
        codes, _ = self.encode_audio(Tensor(sides), quantizers)
        sides = np.split(codes.asnumpy(), channels, axis=0)  # [B, K / channels, frames] each
        return Tensor(np.stack(sides, axis=2).reshape(values.shape[0], quantizers * channels, -1))

    def decode(self, codes):
        """Codes to audio.

        Args:
            codes (numpy.ndarray | Tensor): [B, K, frames]; stereo models interleave left and right codebooks.

        Returns:
            Tensor: [B, channels, frames * hop length] float32.
        """
        codes = np.asarray(codes.asnumpy() if isinstance(codes, Tensor) else codes, np.int32)
        rows, channels = codes.shape[0], self.config.decoder.audio_channels
        sides = [codes[:, side::channels] for side in range(channels)]
        _release_free_memory()
        audio = self.decode_audio(Tensor(np.concatenate(sides, axis=0)))
        if channels == 1:
            return audio
        values = audio.asnumpy()
        return Tensor(np.concatenate([values[side * rows : (side + 1) * rows] for side in range(channels)], axis=1))

    def _text_states(self, input_ids, attention_mask, encoder_outputs):
        """Text states [B, S, text dim] and mask [B, S], S padded to a bucket."""
        if (input_ids is None) == (encoder_outputs is None):
            raise InputError("generate needs either input_ids from the processor or encoder_outputs")
        if encoder_outputs is not None:
            states = _array("encoder_outputs", encoder_outputs[0], 3).astype(np.float32)
            if states.shape[2] != self.config.text_encoder.hidden_size:
                raise InputError(
                    f"encoder_outputs has width {states.shape[2]}; expected {self.config.text_encoder.hidden_size}"
                )
            mask = np.ones(states.shape[:2]) if attention_mask is None else _array("attention_mask", attention_mask, 2)
            _same_shape("attention_mask", mask.shape, states.shape[:2])
            padding = decode_loop.bucket(states.shape[1], decode_loop.TEXT_BUCKETS) - states.shape[1]
            states = np.pad(states, ((0, 0), (0, padding), (0, 0)))
            return Tensor(states), Tensor(np.pad(mask, ((0, 0), (0, padding))).astype(np.int32))
        ids = _array("input_ids", input_ids, 2)
        # An absent mask must not be inferred from the codes' padding, as transformers does: all tokens are real.
        mask = np.ones(ids.shape) if attention_mask is None else _array("attention_mask", attention_mask, 2)
        _same_shape("attention_mask", mask.shape, ids.shape)
        if ids.size == 0:
            raise InputError("input_ids is empty; give a prompt of at least one token")
        if ids.min() < 0 or ids.max() >= self.config.text_encoder.vocab_size:
            raise InputError(
                f"input_ids must be 0 to {self.config.text_encoder.vocab_size - 1}; the tokenizer is another model's"
            )
        padding = decode_loop.bucket(ids.shape[1], decode_loop.TEXT_BUCKETS) - ids.shape[1]
        ids = Tensor(np.pad(ids, ((0, 0), (0, padding))).astype(np.int32))
        mask = Tensor(np.pad(mask, ((0, 0), (0, padding))).astype(np.int32))
        return self.encode_text(ids, mask), mask

    def _prompt_codes(self, decoder_input_ids):
        """[B * K, frames] -> [B, K, frames], checked; None for none."""
        if decoder_input_ids is None:
            return None
        codes = _array("decoder_input_ids", decoder_input_ids, 2)
        decoder = self.config.decoder
        if codes.shape[0] % decoder.num_codebooks:
            raise InputError(
                f"decoder_input_ids has {codes.shape[0]} rows; expected a multiple of {decoder.num_codebooks}"
            )
        if codes.size and (codes.min() < 0 or codes.max() >= decoder.vocab_size):
            raise InputError(f"decoder_input_ids must be codes 0 to {decoder.vocab_size - 1}")
        return codes.reshape(-1, decoder.num_codebooks, codes.shape[1]).astype(np.int32)

    def _generate_codes(self, states, mask, prompt_codes, chosen, guided, progress):
        """The decode loop: -> codes [B, K, frames] int32."""
        decoder = self.config.decoder
        pattern, start = delay_pattern.build_pattern(prompt_codes, chosen.length, self.pad_code, decoder.audio_channels)
        rows, columns = pattern.shape[0], chosen.length - start
        graphs, key = self._graphs_for(rows * (2 if guided else 1), states.shape[1], chosen.length, guided)
        graphs.condition(states, mask)
        top_k = min(chosen.top_k or decoder.vocab_size, decoder.vocab_size)
        knobs = (
            Tensor(np.array([chosen.guidance_scale], np.float32)),
            Tensor(np.array([chosen.temperature if chosen.do_sample else 1], np.float32)),
            Tensor(np.array([top_k if chosen.do_sample else 1], np.int32)),
            Tensor(np.array([chosen.top_p if chosen.do_sample and chosen.top_p < 1 else 2], np.float32)),
        )
        if chosen.do_sample:
            uniforms = draw_uniforms(chosen.seeds, columns, decoder.num_codebooks)
        else:
            uniforms = np.zeros((columns, rows, decoder.num_codebooks), np.float32)
        try:
            with interruptible() as interrupts, Progress(columns, self.frame_rate, progress) as bar:

                def on_progress(done):
                    interrupts.check()
                    bar.update(done)

                made = decode_loop.decode(graphs, pattern, start, uniforms, knobs, on_progress)
        except FloatingPointError as error:
            del self._graphs[key]  # its buffers may hold NaN, which a mask does not stop
            raise InputError(str(error)) from error
        self._places = self._parameter_places()  # known only now: MindSpore 2.7 places parameters at the first run
        return delay_pattern.undelay(made, decoder.audio_channels)

    def _parameter_places(self):
        """Where the weights of the compiled loops lie; different after `set_data` or `load_param_into_net`."""
        cells = (self.decoder, self.conditioner)
        return [parameter.data_ptr() for cell in cells for parameter in cell.get_parameters()]

    def _graphs_for(self, rows, text_length, length, guided):
        """The compiled pieces of a shape bucket, made on first use; buckets not used lately are dropped."""
        # A graph with a loop goes on using the memory that a parameter had before `set_data`, even when it is freed.
        if self._places != self._parameter_places():
            self._graphs.clear()
        cache_length = decode_loop.bucket(length - 1, decode_loop.CACHE_BUCKETS)
        key = (rows, text_length, cache_length, guided)
        if key not in self._graphs:
            size = 4 if self.dtype == ms.float32 else 2
            width = 2 * self.config.decoder.num_hidden_layers * self.config.decoder.hidden_size * size
            while self._graphs and sum(r * (t + c) for r, t, c, _ in (*self._graphs, key)) * width > KEPT_BYTES:
                self._graphs.popitem(last=False)
            state = decode_loop.DecodeState(self.config.decoder, rows, text_length, cache_length, self.dtype)
            self._graphs[key] = decode_loop.DecodeGraphs(self.decoder, self.conditioner, state, guided)
        self._graphs.move_to_end(key)
        return self._graphs[key], key


def _release_free_memory():
    """Give back what compiling the graphs freed: 0.2 GB of the peak for musicgen-small. glibc only."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _array(name, value, dimensions):
    """A NumPy array of an argument that may be a Tensor, an array or nested lists."""
    array = value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim != dimensions or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InputError(
            f"{name} has shape {array.shape} and type {array.dtype}; expected {dimensions} axes of numbers"
        )
    return array


def _same_shape(name, shape, expected):
    if tuple(shape) != tuple(expected):
        raise InputError(f"{name} has shape {tuple(shape)}; expected {tuple(expected)}")
