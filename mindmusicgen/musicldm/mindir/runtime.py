"""Music from the files of `export`: MindSpore, the tokenizer and the loop in Python, but none of the networks' code.

model = MindIRMusicLDM.from_pretrained(folder)
audio = model("Techno music with a strong beat", num_inference_steps=20, seed=1).audios[0]
"""

import os

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ...checkpoint.json_file import read_json
from ...clap.config import read_config
from ...clap.features import read_features
from ...clap.judge import Judge
from ...clap.prompts import PromptTokenizer
from ...errors import InputError, shown
from ...mindir.loading import Exported, filled
from ...runtime.callers import Single, Unfinished
from ...runtime.telling import tell
from .. import config as configs
from .. import settings
from ..generator import Composer
from ..schedulers import moved, open_scheduler
from ..settings import EXTRACTOR, SCHEDULER
from .manifest import Manifest


class FixedTokenizer(PromptTokenizer):
    """Prompts as tokens, always as many.

    Args:
        folder (str), room (int), pad (int): as of `PromptTokenizer`.
        length (int): of the graph.
    """

    def __init__(self, folder, room, pad, length):
        super().__init__(folder, room, pad)
        self.length = length

    def __call__(self, text):
        """Ids and their mask, [1, length] int32 each.

        Raises:
            InputError: for a text that the model would take and the graph does not.
        """
        ids, mask = super().__call__(text)
        count = int(mask.sum())
        if count > self.length:
            raise InputError(
                f"the prompt {shown(text)} has {count} tokens and these files have room for {self.length}; export with "
                f"--text-length {count}"
            )
        room = self.length - min(ids.shape[1], self.length)
        ends = ((0, 0), (0, room))
        return (
            np.pad(ids[:, : self.length], ends, constant_values=self.pad),
            np.pad(mask[:, : self.length], ends),
        )


class LoadedJudge(Judge, Single):
    """Ranks by graphs out of files.

    Args:
        load (callable): from a graph's name to the graph.
        tokenizer (FixedTokenizer): of the texts.
        features (FeatureConfig): how recordings are read.
    """

    def __init__(self, load, tokenizer, features):
        self.tokenizer, self.features = tokenizer, features
        self._load = load

    def _text(self, ids, mask):
        return self._load("text_vector")(ids, mask)

    def _audio(self, features):
        return self._load("audio_vector")(features)


class MindIRMusicLDM(Composer, Exported):
    """A MusicLDM that makes music from exported files: called as `MusicLDMPipeline` is, with any scheduler, steps,
    guidance and number of waveforms. All pieces have the files' length, from which shorter ones are cut.

    Args:
        folder (str): written by `mindmusicgen export`.

    Raises:
        InputError: if the manifest or the files beside it are missing, changed, of another version or of another kind
            of model. The graphs are checked, and loaded, when they are first needed.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type = "musicldm"

    def __init__(self, folder):
        self._open(Manifest(folder))
        parts = []
        for part, read in (("unet", configs.read_unet), ("vae", configs.read_vae), ("vocoder", configs.read_vocoder)):
            path = os.path.join(folder, part, "config.json")
            parts.append(read(read_json(path), path))
        self.sizes, self.lines = settings.Sizes(*parts), self.manifest["sizes"]["lines"]
        path = os.path.join(folder, EXTRACTOR)
        self.feature_extractor = read_features(read_json(path), path) if os.path.isfile(path) else None
        self.manifest.check_fits(self.sizes, self.feature_extractor)
        self.scheduler = open_scheduler(os.path.join(folder, SCHEDULER))
        path = os.path.join(folder, "text_encoder", "config.json")
        text, length = read_config(read_json(path), path).text, self.manifest["sizes"]["text_length"]
        self.tokenizer = FixedTokenizer(os.path.join(folder, "tokenizer"), text.longest, text.pad_token_id, length)
        self.dtype, self._unfinished = getattr(ms, self.manifest["dtype"]), Unfinished()
        self.scorer = LoadedJudge(self._load, self.tokenizer, self.feature_extractor)
        self._steps = {guided: self._step_for(guided) for guided in (True, False)}

    @property
    def duration(self):
        """Seconds of the pieces, unless a call says otherwise."""
        return self.manifest["sizes"]["samples"] / self.sampling_rate

    @property
    def can_rank(self):
        """Whether what compares sound with prompts is among the files."""
        return "audio_vector" in self.manifest["graphs"]

    def check_duration(self, seconds):
        """Seconds, lines of latents and samples of a piece; `settings.length` for None those of the files.

        Raises:
            InputError: if the files' pieces are shorter.
        """
        seconds, lines, samples = settings.length(self.sizes, self.duration if seconds is None else seconds)
        if lines > self.lines:
            raise InputError(
                f"audio_length_in_s is {seconds:g}, and these files make pieces of {self.duration:g} s; export with "
                f"--duration {seconds:g}"
            )
        return seconds, lines, samples

    def _request(self, asked):
        """Checked, and made as long as the files' pieces are; a shorter one is cut from such a piece."""
        seconds, lines, samples = self.check_duration(asked["audio_length_in_s"])
        request = settings.resolve(self, asked | {"audio_length_in_s": self.duration})
        if lines < self.lines:
            tell(f"these files make pieces of {self.duration:g} s, of which the first {seconds:g} are kept", error=True)
        request.samples = samples
        return request

    def _embed(self, ids, mask):
        return self._load("text_vector")(ids, mask)

    def _to_mel(self, latents):
        return self._load("spectrogram")(latents)

    def _to_audio(self, spectrogram):
        return self._load("waveform")(spectrogram)

    def _step_for(self, guided):
        """A step as `model.Step` makes it: the network's part by a graph, a group of rows after another."""

        def step(state, fresh, vectors, timestep, scale, matrix, guidance):
            state, fresh, scale, matrix, guidance = (one.asnumpy() for one in (state, fresh, scale, matrix, guidance))
            x = state[0] * scale
            noise = self._noise(np.concatenate([x, x]) if guided else x, timestep, vectors.asnumpy())
            if guided:
                negative, positive = np.split(noise, 2)
                noise = negative + guidance * (positive - negative)
            after = moved(matrix, state, noise, fresh)
            return Tensor(after), Tensor(after[0].sum())

        return step

    def _noise(self, x, timestep, vectors):
        """What the UNet foretells, [rows, lines, columns, channels]."""
        room, run, found = 2 * self.manifest["sizes"]["batch"], self._load("noise"), []
        for start in range(0, len(x), room):
            some, told = (Tensor(filled(one[start : start + room], room)) for one in (x, vectors))
            found.append(run(some, timestep, told).asnumpy())
        return np.concatenate(found)[: len(x)]
