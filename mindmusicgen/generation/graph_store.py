"""Compiled graphs and their buffers by shape: kept for the next piece, lent to one at a time, dropped when not used.

A graph with a loop takes seconds to compile, and its buffers hold what a piece remembers. So a piece borrows the graphs
of its shapes (`Loan`), the next piece of the same shapes gets others meanwhile, and they come back when it ends.
"""

import contextlib
from collections import OrderedDict

from ..errors import InputError

KEPT_BYTES = 1 << 30  # graphs of older shapes are dropped when their buffers exceed this together
KEPT = 8  # or when there are more shapes than this: a graph itself takes 10 to 50 MB
OPEN = 4  # pieces at the same time, as several streams are; each has buffers of its own


class Loan:
    """Graphs in the hands of one piece: no other takes them before they are back. It answers like the graphs."""

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


class GraphStore:
    """The graphs of one network.

    Args:
        make (callable): from the parts of a key, the shapes, to new graphs with buffers.
        size (callable): from a key to the bytes of its buffers.
        find_places (callable): where the network's weights lie; other places after `set_data` or
            `load_param_into_net`, when a graph with a loop goes on using the memory that a parameter had before.
    """

    def __init__(self, make, size, find_places):
        self.make, self.size, self.find_places = make, size, find_places
        self.graphs, self.places, self.loans = OrderedDict(), None, []  # graphs that no piece has, by key

    @contextlib.contextmanager
    def loan(self):
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

    def get(self, key):
        """The graphs of some shapes, made on first use; shapes not used lately are dropped."""
        if self.graphs and self.places != self.find_places():
            self.graphs.clear()
        if key not in self.graphs:
            lent = [loan.key for loan in self.loans if loan.graphs is not None]
            while self.graphs and (
                len(self.graphs) >= KEPT or sum(map(self.size, (*self.graphs, *lent, key))) > KEPT_BYTES
            ):
                self.graphs.popitem(last=False)
            self.graphs[key] = self.make(*key)
        self.graphs.move_to_end(key)
        return self.graphs[key]

    def lend(self, loan, prepare):
        """Give a piece the graphs that a function prepares.

        Args:
            loan (Loan): the piece's.
            prepare (callable): returns graphs from `get` and their key.
        """
        try:
            loan.take(*prepare())
            self.graphs.pop(loan.key, None)
        except Exception:
            self.graphs.clear()  # one of them may have failed, and would at every call
            raise

    def used(self, loan):
        """A piece's graphs have run. Not before: MindSpore 2.7 places parameters at the first run."""
        if loan.places is None:
            loan.places = self.find_places()

    def give_back(self, loan):
        """Keep a piece's graphs for the next. After an exception that is not done: buffers may hold NaN, which a mask
        does not stop, and a graph that has failed once fails at every call."""
        graphs, loan.graphs = loan.graphs, None
        if graphs is not None and loan.places == self.find_places():
            self.graphs[loan.key], self.places = graphs, loan.places

    def retire(self):
        """The network is about to lose its weights: end all pieces."""
        for loan in self.loans:
            loan.end()
