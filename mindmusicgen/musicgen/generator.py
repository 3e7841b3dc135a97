"""From a checked request to codes: the windows, the random numbers, the compiled graphs, progress and stopping.

Used by the composite and by the decoder alone; they differ only in how they come by their text states.
"""

import contextlib

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..errors import InputError
from ..generation import decode_loop
from ..generation.graph_store import GraphStore
from ..generation.sampling import Uniforms, Zeros
from ..runtime.compiled import fingerprint
from ..runtime.progress import Progress
from . import delay_pattern
from .decode_loop import DecodeGraphs, DecodeState
from .windows import generate_frames


class CodeGenerator:
    """Generates codes with one decoder and keeps the graphs that were compiled for it.

    Args:
        decoder (MusicgenDecoder): the network.
        conditioner (TextConditioner): from text states to the decoder's width.
        config (transformers.MusicgenDecoderConfig): config of the decoder.
    """

    def __init__(self, decoder, conditioner, config):
        self.decoder, self.conditioner, self.config = decoder, conditioner, config
        self.store = GraphStore(self.make_graphs, self._bytes, self._parameter_places)
        shapes = [parameter.shape for cell in (decoder, conditioner) for parameter in cell.get_parameters()]
        self.key = fingerprint(config, type(decoder).__name__, str(decoder.dtype), shapes)

    def codes(self, request, pad, frame_rate, show=None, callback=None, stopped=None):
        """The decode loop over all windows.

        Args:
            request (inputs.Request): what to make.
            pad (int): the start and padding code.
            frame_rate (int): frames per second of audio, for the progress bar.
            show (bool): whether to show one; None shows it in a terminal or notebook.
            callback (callable): called with the frames that are done, the prompt's included, and all frames, whenever
                some are added; returning False stops.
            stopped (threading.Event): set to stop.

        Yields:
            numpy.ndarray: the next final codes, [B, K, n] int32; the prompt's come first.

        Raises:
            InputError: if the logits stop being finite, or OPEN other pieces were begun meanwhile.
        """
        chosen, channels = request.settings, self.config.audio_channels
        known, total = request.prompt.shape[2], chosen.plan.frames or self.frames_in(chosen.plan.first)
        done = 0
        with contextlib.ExitStack() as stack:  # in this order: graphs come back before the loan ends
            loan = stack.enter_context(self.store.loan())
            bar = stack.enter_context(Progress(total - known, frame_rate, show, graphs=3 if known else 2))
            windows = generate_frames(
                Windows(self, request, total, loan).run, request.prompt, chosen.plan, pad, channels
            )
            for codes in stack.enter_context(contextlib.closing(windows)):
                done += codes.shape[2]
                bar.update(max(done - known, 0))
                refused = callback is not None and codes.shape[2] and callback(done, total) is False
                yield codes
                if done and (refused or stopped is not None and stopped.is_set()):
                    return

    def retire(self):
        """The decoder is about to lose its weights: end all pieces."""
        self.store.retire()

    def frames_in(self, columns):
        """Frames that come out of so many columns."""
        empty = np.zeros((1, self.config.num_codebooks, columns), np.int32)
        return delay_pattern.undelay(empty, self.config.audio_channels).shape[2]

    def conditioned(self, request, length, frame):
        """The graphs for a window, with what they are to follow in their buffers.

        Args:
            request (inputs.Request): what to make.
            length (int): columns of the window.
            frame (int): where the window begins in the piece.

        Returns:
            DecodeGraphs, and the key under which they are kept.
        """
        rows = len(request.settings.seeds) * (2 if request.settings.guided else 1)
        graphs, key = self.graphs_for(rows, request.states.shape[1], length, request.settings.guided)
        graphs.condition(request.states, request.mask)
        return graphs, key

    def _parameter_places(self):
        """Where the weights of the compiled loops lie; different after `set_data` or `load_param_into_net`."""
        cells = (self.decoder, self.conditioner)
        return [parameter.data_ptr() for cell in cells for parameter in cell.get_parameters()]

    def graphs_for(self, rows, text_length, length, guided):
        """The compiled pieces of a shape bucket, made on first use.

        Returns:
            DecodeGraphs, and the key under which they are kept.
        """
        key = (rows, text_length, self.cache_length(text_length, length), guided)
        return self.store.get(key), key

    def _bytes(self, key):
        """What the buffers of a bucket take."""
        rows, text_length, cache_length, _ = key
        size = 4 if self.decoder.dtype == ms.float32 else 2
        return rows * (text_length + cache_length) * 2 * self.config.num_hidden_layers * self.config.hidden_size * size

    def cache_length(self, text_length, length):
        """Columns that the KV cache of a window of `length` columns has room for."""
        return decode_loop.bucket(length - 1, decode_loop.CACHE_BUCKETS)

    def make_graphs(self, rows, text_length, cache_length, guided):
        """The graphs of one bucket."""
        state = DecodeState(self.config, rows, text_length, cache_length, self.decoder.dtype)
        return DecodeGraphs(self.decoder, self.conditioner, state, guided, self.key)


class Windows:
    """The windows of one piece, one after the other.

    Three numbers go from window to window. `end` is the frame at which the windows so far end: a window begins there
    less the frames that it takes over. `made` counts the columns that were predicted, which decides how far guidance
    has moved from its start to its end. The random numbers go on where the window before has stopped.

    Args:
        generator (CodeGenerator): whose graphs run.
        request (inputs.Request): what to make.
        total (int): frames of the piece, the prompt's included.
        loan (Loan): takes the graphs of each window.
    """

    def __init__(self, generator, request, total, loan):
        self.generator, self.request, self.loan = generator, request, loan
        chosen, size = request.settings, generator.config.vocab_size
        top_k = min(chosen.top_k or size, size)
        self.filters = (
            Tensor(np.array([chosen.temperature if chosen.do_sample else 1], np.float32)),
            Tensor(np.array([top_k if chosen.do_sample else 1], np.int32)),
            Tensor(np.array([chosen.top_p if chosen.do_sample and chosen.top_p < 1 else 2], np.float32)),
        )
        self.numbers = (Uniforms if chosen.do_sample else Zeros)(chosen.seeds, generator.config.num_codebooks)
        self.end = prompted = request.prompt.shape[2]
        self.made, self.last = 0, max(total - prompted - 1, 1)

    def run(self, pattern, start):
        """One window.

        Args:
            pattern (numpy.ndarray): what its columns must hold, [B, K, length].
            start (int): its first free column.

        Yields:
            as `decode_loop.decode`.

        Raises:
            InputError: if the logits stop being finite.
        """
        generator, store, loan = self.generator, self.generator.store, self.loan
        length, begin = pattern.shape[2], self.end - (start - 1)
        store.lend(loan, lambda: generator.conditioned(self.request, length, begin))
        self.end = begin + generator.frames_in(length)
        drawn, scales = self.numbers.draw(length - start), self._scales(length - start)
        try:
            for filled in decode_loop.decode(loan, pattern, start, drawn, scales, self.filters):
                store.used(loan)
                yield filled
        except FloatingPointError as error:
            raise InputError(str(error)) from error
        except GeneratorExit:
            store.give_back(loan)
            raise
        store.give_back(loan)

    def _scales(self, columns):
        """The guidance scale of the next columns, [columns] float32."""
        first, last = self.request.settings.guidance
        part = np.clip((self.made + np.arange(columns)) / self.last, 0, 1)
        self.made += columns
        return (first + (last - first) * part).astype(np.float32)
