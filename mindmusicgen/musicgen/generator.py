"""From a checked request to codes: the windows, the random numbers, the compiled graphs, progress and stopping.

Used by the composite and by the decoder alone; they differ only in how they come by their text states.
"""

import contextlib
from collections import OrderedDict

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..errors import InputError
from ..generation import decode_loop
from ..generation.sampling import Uniforms, Zeros
from ..runtime.compiled import fingerprint
from ..runtime.progress import Progress
from . import delay_pattern
from .decode_loop import DecodeGraphs, DecodeState
from .windows import generate_frames

KEPT_BYTES = 1 << 30  # graphs of older shapes are dropped when their buffers exceed this together
KEPT = 8  # or when there are more shapes than this: a graph itself takes 10 to 50 MB
OPEN = 4  # pieces at the same time, as several streams are; each has buffers of its own


class Loan:
    """The graphs of a bucket in the hands of one piece: no other takes them before they are back."""

    def __init__(self):
        self.graphs = self.key = self.places = None
        self.ended = False

    def take(self, graphs, key):
        """Have graphs from now on."""
        self.graphs, self.key, self.places = (None if self.ended else graphs), key, None

    def end(self):
        """Have no more."""
        self.graphs, self.ended = None, True

    def __getattr__(self, name):
        if self.ended:
            raise InputError(
                f"{OPEN} other pieces were begun on this model meanwhile, or it was quantised; finish a stream before"
            )
        return getattr(self.graphs, name)


class CodeGenerator:
    """Generates codes with one decoder and keeps the graphs that were compiled for it.

    Args:
        decoder (MusicgenDecoder): the network.
        conditioner (TextConditioner): from text states to the decoder's width.
        config (transformers.MusicgenDecoderConfig): config of the decoder.
    """

    def __init__(self, decoder, conditioner, config):
        self.decoder, self.conditioner, self.config = decoder, conditioner, config
        self.graphs, self.places, self.loans = OrderedDict(), None, []  # graphs that no piece has, by bucket
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
        known, total = request.prompt.shape[2], chosen.plan.frames or self._frames_in(chosen.plan.first)
        done = 0
        with contextlib.ExitStack() as stack:  # in this order: graphs come back before the loan ends
            loan = stack.enter_context(self._loan())
            bar = stack.enter_context(Progress(total - known, frame_rate, show, graphs=3 if known else 2))
            windows = generate_frames(self._window(request, total, loan), request.prompt, chosen.plan, pad, channels)
            for codes in stack.enter_context(contextlib.closing(windows)):
                done += codes.shape[2]
                bar.update(max(done - known, 0))
                refused = callback is not None and codes.shape[2] and callback(done, total) is False
                yield codes
                if done and (refused or stopped is not None and stopped.is_set()):
                    return

    @contextlib.contextmanager
    def _loan(self):
        """Context that yields a piece's `Loan`. One that was begun too long ago loses its own."""
        loan = Loan()
        self.loans.append(loan)
        for old in self.loans[:-OPEN]:
            old.end()
        try:
            yield loan
        finally:  # also where a stream is left and collected, in whatever thread: it must wait for nothing
            loan.end()
            self.loans.remove(loan)

    def retire(self):
        """The decoder is about to lose its weights: end all pieces."""
        for loan in self.loans:
            loan.end()

    def _frames_in(self, columns):
        """Frames that come out of so many columns."""
        empty = np.zeros((1, self.config.num_codebooks, columns), np.int32)
        return delay_pattern.undelay(empty, self.config.audio_channels).shape[2]

    def _window(self, request, total, loan):
        """A function that runs one window: from its pattern and first free column to (columns, filled)."""
        chosen, size = request.settings, self.config.vocab_size
        top_k = min(chosen.top_k or size, size)
        filters = (
            Tensor(np.array([chosen.temperature if chosen.do_sample else 1], np.float32)),
            Tensor(np.array([top_k if chosen.do_sample else 1], np.int32)),
            Tensor(np.array([chosen.top_p if chosen.do_sample and chosen.top_p < 1 else 2], np.float32)),
        )
        numbers = (Uniforms if chosen.do_sample else Zeros)(chosen.seeds, self.config.num_codebooks)
        made, prompted = 0, request.prompt.shape[2]
        end = prompted  # frames that the windows before hold together

        def run(pattern, start):
            nonlocal made, end
            columns = pattern.shape[2] - start
            begin = end - (start - 1)
            try:
                loan.take(*self.conditioned(request, pattern.shape[2], begin))
                self.graphs.pop(loan.key, None)
            except Exception:
                self.graphs.clear()  # one of them may have failed, and would at every call
                raise
            end = begin + self._frames_in(pattern.shape[2])
            part = np.clip((made + np.arange(columns)) / max(total - prompted - 1, 1), 0, 1)
            scales = (chosen.guidance[0] + (chosen.guidance[1] - chosen.guidance[0]) * part).astype(np.float32)
            made += columns
            try:
                for filled in decode_loop.decode(loan, pattern, start, numbers.draw(columns), scales, filters):
                    if loan.places is None:  # not before: 2.7 places parameters at the first run
                        loan.places = self._parameter_places()
                    yield filled
            except FloatingPointError as error:
                raise InputError(str(error)) from error
            except GeneratorExit:
                self._give_back(loan)
                raise
            self._give_back(loan)

        return run

    def _give_back(self, loan):
        """Keep a piece's graphs for the next. After an exception that is not done: buffers may hold NaN, which a mask
        does not stop, and a graph that has failed once fails at every call."""
        graphs, loan.graphs = loan.graphs, None
        if graphs is not None and loan.places == self._parameter_places():
            self.graphs[loan.key], self.places = graphs, loan.places

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
        """The compiled pieces of a shape bucket, made on first use; buckets not used lately are dropped.

        Returns:
            DecodeGraphs, and the key under which they are kept.
        """
        # A graph with a loop goes on using the memory that a parameter had before `set_data`, even when it is freed.
        if self.graphs and self.places != self._parameter_places():
            self.graphs.clear()
        key = (rows, text_length, self.cache_length(text_length, length), guided)
        if key not in self.graphs:
            size = 4 if self.decoder.dtype == ms.float32 else 2
            width = 2 * self.config.num_hidden_layers * self.config.hidden_size * size
            lent = [loan.key for loan in self.loans if loan.graphs is not None]
            while self.graphs and (
                len(self.graphs) >= KEPT
                or sum(r * (t + c) for r, t, c, _ in (*self.graphs, *lent, key)) * width > KEPT_BYTES
            ):
                self.graphs.popitem(last=False)
            self.graphs[key] = self.make_graphs(*key)
        self.graphs.move_to_end(key)
        return self.graphs[key], key

    def cache_length(self, text_length, length):
        """Columns that the KV cache of a window of `length` columns has room for."""
        return decode_loop.bucket(length - 1, decode_loop.CACHE_BUCKETS)

    def make_graphs(self, rows, text_length, cache_length, guided):
        """The graphs of one bucket."""
        state = DecodeState(self.config, rows, text_length, cache_length, self.decoder.dtype)
        return DecodeGraphs(self.decoder, self.conditioner, state, guided, self.key)
