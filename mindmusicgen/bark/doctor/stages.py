"""The stages of the tiny Bark, each alone: from golden inputs to what is compared with golden outputs."""

import numpy as np
from mindspore import Tensor

from . import golden


class Stages:
    """The tiny Bark, stage by stage. A stage gets golden inputs, so that what is wrong before it does not matter.

    Args:
        model (BarkModel): the model.
        processor (BarkProcessor): its processor.
    """

    def __init__(self, model, processor):
        self.model, self.processor = model, processor
        self.voice = processor.preset(golden.VOICE)
        self.settings = model._settings({"do_sample": False})

    def tokens(self, text):
        """Tokens and mask of a text, [1, n] int32."""
        made = self.processor(str(text), return_tensors="np")
        return made["input_ids"], made["attention_mask"]

    def semantic(self, ids, mask):
        """The most probable semantic tokens [s]."""
        history = [self.voice["semantic_prompt"]]
        return self.model._stages.semantic(ids, mask, history, self.settings, _go_on)[0]

    def coarse(self, semantic):
        """The most probable codes of semantic tokens, [2, frames]."""
        history = [(self.voice["semantic_prompt"], self.voice["coarse_prompt"])]
        return self.model._stages.coarse([semantic], history, self.settings, _go_on)[0]

    def fine(self, codes):
        """Of every codebook the most probable codes, those below it being `codes` [K, frames]: as many."""
        made, frames, room = codes.copy(), codes.shape[1], self.settings.fine.max_fine_input_length
        nothing = Tensor(np.zeros(1, np.float32)), Tensor(np.zeros(room, np.float32))
        with self.model._stages._graphs("fine", self.settings.codebook_size) as graphs:
            for book in range(2, len(codes)):
                window = Tensor(self.window(codes, book))
                made[book] = graphs.predict(window, Tensor(np.array(book, np.int32)), *nothing)[0].asnumpy()[:frames]
        return made

    def window(self, codes, book):
        """What the fine stage reads for a codebook, [1, T, K] int32."""
        window = np.full((self.settings.fine.max_fine_input_length, len(codes)), self.settings.codebook_size, np.int32)
        window[: codes.shape[1], :book] = codes[:book].T
        return window[None]

    def audio(self, codes):
        """Codes [K, frames] to audio [samples]."""
        return self.model._decoded(codes)


def _go_on(done, steps):
    return True
