"""Jukebox as its users know it: `from_pretrained`, sampling, `decode`, `save_pretrained`.

Artist, genres and lyrics become codes of the coarsest level (prior 0), these codes of the two finer ones (priors 1
and 2), and the finest sound. Lists of codes have the top level first. Dhariwal et al., arXiv:2005.00341.
"""

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..checkpoint.fingerprint import fingerprint
from ..checkpoint.source import SHIPPED, as_folder, resolve
from ..dtypes import resolve_dtype
from ..errors import InputError, shown
from ..habits import changed_config, opening
from ..language import said
from ..models.quantized import check_quantization
from ..ops.memory import release_free_memory
from ..runtime import device as devices
from ..runtime.callers import Single, alone, serialised
from ..runtime.telling import tell
from ..sound.recipe import run_of
from . import alignment, settings
from .checkpoint import folder as folders
from .config import JukeboxConfig, check
from .estimates import known_seconds, level_work, step_products
from .priors import Priors
from .progress import LevelBar, Stopped
from .run_folder import RunFolder, bytes_of, digest, facts_of
from .sampling import sample_level
from .tokenizer import FILES, JukeboxTokenizer
from .vqvae import JukeboxVQVAE, check_audio

SMALL_PART = 0.1  # of known positions to steps, below which their time is not measured first
LICENCE = "Jukebox's published weights and lists are for non-commercial use (openai/jukebox)"


class JukeboxModel(Single):
    """Singing from an artist, a genre and lyrics, or the continuation of a recording.

    Args:
        config (JukeboxConfig): sizes.
        dtype (mindspore.dtype): of the priors, float32 or float16; the VQ-VAE is always float32.
        empty (bool): leave the parameters zeros in place of random weights.
        quantization (str): "int8" for priors with matrices of 8 bits, which only a checkpoint can fill.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    model_type, config_class = JukeboxConfig.model_type, JukeboxConfig

    def __init__(self, config=None, *, dtype=ms.float32, empty=False, quantization=None):
        config = JukeboxConfig() if config is None else config
        if not isinstance(config, JukeboxConfig):
            raise InputError(f"config is one of {shown(type(config).__name__)}; expected JukeboxConfig")
        check(config)
        check_quantization(quantization, dtype)
        if quantization and not empty:
            raise InputError("a quantised model cannot be filled with random weights; open it from a checkpoint")
        self.config, self.dtype, self.tensors, self.folder, self.tokenizer = config, dtype, {}, None, None
        self.alignments = None  # of the last run that computed them
        self.quantization = quantization
        self.vqvae = JukeboxVQVAE(config.vqvae_config, empty=empty)
        self.priors = Priors(self)

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
        quantization=None,
        **habits,
    ):
        """Open a checkpoint: a Hugging Face folder, a hub id, or a folder with the original program's files.

        The priors are read one at a time, each when its turn comes.

        Args:
            model (str): folder or hub id, such as openai/jukebox-1b-lyrics (11 GB) or openai/jukebox-5b-lyrics (30 GB);
                or "solfa", a tiny one in this package.
            dtype (str | mindspore.dtype): float32 or float16; None or "auto": float16 on Ascend, float32 on a CPU.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            device (str): CPU, Ascend, or Ascend:1 for the second NPU, for the whole process; None: what the
                environment's MINDMUSICGEN_DEVICE says, or MindSpore's choice.
            config (JukeboxConfig): in place of the checkpoint's.
            quantization (str): "int8" rounds the priors' matrices to 8 bits, which is faster on a CPU and takes a
                third of the memory; None takes them as they are stored.
            **habits: fields of the config to change, such as min_duration, and what else transformers takes here: see
                docs/migration.md.

        Raises:
            InputError: if there is no such device or model, or its files are damaged or do not fit its config.
        """
        model, dtype, device, changes = opening(model, dtype, device, habits)
        devices.use(device)
        chosen = resolve_dtype("float32" if quantization and dtype is None else dtype)
        check_quantization(quantization, chosen)
        folder = as_folder(resolve(model, revision, cache_dir, local_files_only))
        found, tensors = folders.open_folder(folder)
        found = changed_config(found, config, changes)
        found = JukeboxConfig.from_dict(found.to_dict(), folder.file("config.json"))
        made = cls(found, dtype=chosen, empty=True, quantization=quantization)
        made.tensors, made.folder = tensors, folder
        folders.fill(made.vqvae, tensors, "vqvae.", folder)
        if all(folder.has(name) for name in FILES.values()):
            made.tokenizer = JukeboxTokenizer.from_pretrained(folder)
        if Path(folder) not in SHIPPED.values():
            tell(said(LICENCE), error=True)
        release_free_memory()
        return made

    @property
    def sampling_rate(self):
        """Samples per second of the sound."""
        return self.config.sampling_rate

    @property
    def frame_rate(self):
        """Codes of the top level per second of sound."""
        return self.config.frame_rate

    @serialised
    def save_pretrained(self, save_directory, dtype=None, **habits):
        """Write a Hugging Face folder: config, lists and safetensors that transformers loads.

        Args:
            save_directory (str): where to write.
            dtype (str): how weights are stored, float32 or float16; None keeps the model's own.
            **habits: what else transformers takes here, such as max_shard_size: see docs/migration.md.

        Raises:
            InputError: if the folder cannot be written.
        """
        folders.save(self, save_directory, dtype, habits)

    @serialised
    def encode(self, raw_audio, start_level=0, end_level=None, bs_chunks=1):
        """Codes of sound, the top level first.

        Args:
            raw_audio (array): [samples, n, 1] mono at the model's rate, n a multiple of the top level's hop, 128.
            start_level, end_level (int): which of the list, 0 is the top.
            bs_chunks (int): rows are encoded one by one in any case.

        Returns:
            list[Tensor]: [samples, codes] int32 of each level.

        Raises:
            InputError: if that is no such sound.
        """
        found = self.vqvae.encode(raw_audio, 0, self.config.nb_priors)[::-1]
        return found[start_level:end_level]

    @serialised
    def decode(self, music_tokens, start_level=0, end_level=None, bs_chunks=1):
        """Sound of the finest codes that there are.

        Args:
            music_tokens (list): of codes [samples, n], the top level first; levels may be empty or left out at the end.
            start_level, end_level (int): which of the list are looked at.
            bs_chunks (int): rows are decoded one by one in any case.

        Returns:
            Tensor: [samples, n, 1] float32, not clamped.

        Raises:
            InputError: if there are no codes.
        """
        count = self.config.nb_priors
        if not isinstance(music_tokens, (list, tuple)) or len(music_tokens) > count:
            raise InputError(
                f"music_tokens is {shown(music_tokens)}; expected a list of at most {count}, the top first"
            )
        there = [i for i in range(len(music_tokens))[start_level:end_level] if music_tokens[i].shape[-1]]
        if not there:
            raise InputError("music_tokens hold no codes; expected some of at least one level")
        return self.vqvae.decode([music_tokens[there[-1]]], start_level=count - 1 - there[-1])

    def ancestral_sample(self, labels, n_samples=1, **sampling):
        """Make songs from nothing but labels.

        Args:
            labels (list): of each prior, as the tokenizer gives; one row serves all samples.
            n_samples (int): how many.
            **sampling: as in `_sample`; sample_levels=[0] makes the top level alone.

        Returns:
            list[Tensor]: codes [n_samples, n] int32 of each level, the top first; `decode` makes sound of them.

        Raises:
            InputError: as `_sample`.
        """
        count = settings.whole_number("n_samples", n_samples, 1)
        empty = [np.zeros((count, 0), np.int32) for _ in range(self.config.nb_priors)]
        return self._sample(empty, labels, sampling.pop("sample_levels", None), **sampling)

    def primed_sample(self, raw_audio, labels, **sampling):
        """Go on from a recording.

        Args:
            raw_audio (array): [n_samples, n, 1] mono at the model's rate; what is over a multiple of the top level's
                hop is cut off. The sample that is asked for includes it.
            labels, **sampling: as in `ancestral_sample`.

        Returns:
            list[Tensor]: codes of each level, the recording's first.

        Raises:
            InputError: if that is no such sound, or as `_sample`.
        """
        audio = check_audio(raw_audio, 1)
        whole = audio.shape[1] // self.priors.raws[0] * self.priors.raws[0]
        if not whole:
            raise InputError(
                f"the prompt has {audio.shape[1]} samples; expected at least {self.priors.raws[0]}, those of one code"
            )
        return self._sample(self.encode(audio[:, :whole]), labels, sampling.pop("sample_levels", None), **sampling)

    def continue_sample(self, music_tokens, labels, **sampling):
        """Go on from codes of all levels, up to the length that is asked for; arguments as in `_sample`."""
        return self._sample(music_tokens, labels, sampling.pop("sample_levels", None), **sampling)

    def upsample(self, music_tokens, labels, **sampling):
        """Make the finer levels of codes of the top level; arguments as in `_sample`."""
        levels = sampling.pop("sample_levels", list(range(1, self.config.nb_priors)))
        return self._sample(music_tokens, labels, levels, **sampling)

    def _sample(
        self,
        music_tokens,
        labels,
        sample_levels=None,
        metas=None,
        chunk_size=32,
        sampling_temperature=0.98,
        lower_batch_size=16,
        max_batch_size=16,
        sample_length_in_seconds=24,
        compute_alignments=False,
        sample_tokens=None,
        offset=0,
        save_results=True,
        sample_length=None,
        *,
        total_length_in_seconds=None,
        hop_fraction=None,
        top_k=0,
        top_p=0.0,
        seed=None,
        output_dir="jukebox",
        resume=False,
        recipe=None,
        progress=None,
        callback=None,
    ):
        """Sample the levels one after the other, window by window.

        Args:
            music_tokens (list): codes that are there, [samples, n] of each level, the top first; n may be 0.
            labels (list): of each prior, as the tokenizer gives; one row serves all samples.
            sample_levels (Sequence[int]): which priors sample, 0 is the top; None: all.
            metas, chunk_size: not used; the labels say all, and known codes pass at once.
            sampling_temperature (float): above 0; that of the finest prior is 0.99 in any case.
            lower_batch_size, max_batch_size (int): samples at once, of the finer priors and of the top.
            sample_length_in_seconds (float): of the piece, its prompt included.
            compute_alignments (bool): find which characters each code of the top level goes with, see `align`; they are
                kept as `model.alignments`, and with save_results in the run's folder as lyric_alignments.npz.
            sample_tokens (int): at most so many new codes of each level.
            offset (int): samples of the song before the piece.
            save_results (bool): keep codes after every window, and the sound of each level, in `output_dir`.
            sample_length (int): samples of the piece, in place of the seconds; rounded down to whole codes of the top.
            total_length_in_seconds (float): of the whole song; None: what ends with the piece, or the shortest.
            hop_fraction (float | Sequence[float]): how far windows move, of n_ctx; larger is faster and forgets more.
            top_k (int), top_p (float): choose among the likeliest codes; 0 switches either off.
            seed (int | Sequence[int]): sample i uses seed + i, or its own of a list; None draws a fresh one.
            output_dir (str): the folder of the run.
            resume (bool): go on with the run in that folder, bit for bit; also with levels that it was not to make.
            recipe (dict): of what JSON holds: kept in run.json and, with the seed of each, in the sounds.
            progress (bool): show a bar for each level; None shows it in a terminal or notebook.
            callback (callable): called with level, steps done and steps in all; returning False ends the run.

        Returns:
            list[Tensor]: codes [samples, n] int32 of each level, the top first.

        Raises:
            InputError: naming the argument, what is wrong and what would be right.
            KeyboardInterrupt: if the user interrupts; the complete windows are on disk.
        """
        if compute_alignments:
            alignment.alignment_place(self.config.prior_configs[0])  # refused before hours of work
        asked = {name: value for name, value in locals().items() if name in settings.DEFAULTS}
        if resume and seed is None:
            asked["seed"] = (run_of(output_dir) or {}).get("seeds")
        request = settings.resolve(self.config, self.priors.raws, music_tokens, labels, sample_levels, asked)
        run = self._run_folder(output_dir, request, resume, recipe) if save_results else None
        with alone() as interrupts:
            codes = list(request.codes)
            for level in request.levels:  # of all, before the hours of the first
                self.priors.check_room(level, min(request.batches[level], len(codes[0])))
            try:
                for level in request.levels:
                    if level and compute_alignments:  # now, while the top prior is at hand, or the first to be opened
                        self._align(request, codes, run, interrupts.check, progress)
                        compute_alignments = False
                    self._sample_level(request, level, codes, run, (progress, interrupts, callback))
                if compute_alignments:
                    self._align(request, codes, run, interrupts.check, progress)
                if run is not None:
                    run.finish()
            except Stopped:
                pass
        return list(map(Tensor, codes))

    def align(self, music_tokens, labels, offset=0, total_length_in_seconds=None, hop_fraction=None):
        """Which characters of the lyrics the top prior looks at while it writes each code.

        Args:
            music_tokens (list): codes of each level, the top first; the others may be empty.
            labels, offset, total_length_in_seconds, hop_fraction: as in `_sample`, those that the codes were made with.

        Returns:
            list[numpy.ndarray]: of each sample [codes of the top level, characters of the lyrics] float32 from 0 to 1.

        Raises:
            InputError: if these are no codes or labels of this model, or its top prior reads no lyrics.
        """
        codes = settings.given_codes(self.config, music_tokens, self.priors.raws)
        asked = {"offset": offset, "total_length_in_seconds": total_length_in_seconds, "hop_fraction": hop_fraction}
        asked["sample_length"] = codes[0].shape[1] * self.priors.raws[0]
        request = settings.resolve(self.config, self.priors.raws, codes, labels, [0], asked)
        with alone() as interrupts:
            return alignment.align(self.priors[0], request, codes[0], interrupts.check)

    def _align(self, request, codes, run, *watching):
        self.alignments = alignment.align(self.priors[0], request, codes[0], *watching)
        if run is not None:
            run.keep_alignments(self.alignments)

    def _sample_level(self, request, level, codes, run, watching):
        """One level: codes[level] grows window by window."""
        if run is not None:
            codes[level] = run.codes(level, codes[level])
        n_ctx, samples = self.config.prior_configs[level].n_ctx, len(codes[level])
        above = codes[level - 1] if level else None
        work = self._work(request, level, codes)
        if work[0]:
            size = min(request.batches[level], samples)
            usual = self.priors.usual(level, request.hops[level])
            graphs = lambda size: self.priors.graphs(level, size, usual)  # noqa: E731
            taking = known_seconds(graphs(size)) if work[1] > SMALL_PART * work[0] else 0.0
            later = lambda step, known: self._later(request, level, codes, step, known)  # noqa: E731
            with LevelBar(level, work, taking, later, *watching) as bar:
                for found in sample_level(graphs, request, level, codes[level], above, n_ctx, bar):
                    codes[level] = found
                    if run is not None:
                        run.keep(level, found)
        if run is not None and (work[0] or not run.heard(level)):
            run.keep(level, codes[level])
            sound = self.decode([np.zeros((samples, 0), np.int32)] * level + [codes[level]]).asnumpy()
            run.sound(level, sound[..., 0], self.config.sampling_rate)

    def _work(self, request, level, codes):
        """Steps and known positions that a level still takes, all batches together."""
        have, samples = codes[level].shape[1], len(codes[level])
        batches = -(-samples // min(request.batches[level], samples))
        work = level_work(self.config.prior_configs[level], request.wanted[level], have, request.hops[level])
        return tuple(batches * count for count in work)

    def _later(self, request, level, codes, step, known):
        """About how many seconds the levels after one take, from those of its steps and known positions: both go by
        the size of the prior."""
        sizes, seconds = list(map(step_products, self.config.prior_configs)), 0.0
        for after in (one for one in request.levels if one > level):
            steps, positions = self._work(request, after, codes)
            seconds += (steps * step + positions * known) * sizes[after] / sizes[level]
        return seconds

    def _run_folder(self, folder, request, resume, recipe):
        """The folder of a run, with room for its codes and the sound of each level."""
        size, end = bytes_of(request), self.config.vqvae_config.nb_discrete_codes
        return RunFolder(folder, facts_of(request, self._digest()), request.codes, end, size, resume, recipe)

    def _digest(self):
        """What tells this model from others: its numbers, its files, its config and its codebooks."""
        books = [one.codebook.asnumpy() for one in self.vqvae.bottleneck.level_blocks]
        files = fingerprint(self.folder) if self.folder else ""
        text = repr((str(self.dtype), self.quantization, files, sorted(self.config.to_dict().items()))).encode()
        return digest(np.frombuffer(text, np.uint8), *books)
