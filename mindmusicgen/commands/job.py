"""What one call of `generate` is to make: its words, once they are parsed, and nothing that is found out later."""

import os
from dataclasses import dataclass, fields

from ..errors import InputError

WORDS = {"negative_prompt": "negative"}  # on the command line, where they are not the fields' own names
SONG = ("artist", "genre", "lyrics", "resume", "upsample")  # one of these makes a job that of a song


@dataclass(frozen=True)
class Job:
    """The words of `generate`; None where nothing was said. The command line, a page and tests make the same.

    Attributes:
        prompts (list[str]): what the pieces should be; empty for whatever the model likes.
        model (str): folder or hub id; None is the demo.
        mindir (str): folder of exported files, in place of a model.
        duration (float), max_new_tokens (int), extend_stride (float): how long, as in `generate`.
        audio, melody (list[str]): files to continue, and whose tune to follow; one, or one a prompt.
        negative_prompt (str): what the music should not be.
        voice (list[str]): who speaks: names or .npz files, one, or one a prompt; or NAME=VOICE of a dialogue.
        long (bool): speak texts of any length, part by part; save_voice (str): the file for the voice that spoke.
        steps (int), scheduler (str): of diffusion: how many, and which.
        artist, genre, lyrics (str): of a song: who sings what, and how.
        total_length, offset (float): seconds of the whole song, and of it before the piece.
        levels (int): of codes to make, 1 is the coarsest alone; batch_size (int): samples at once.
        resume (bool): go on with the run in the folder of `output`.
        upsample (str): folder of a run, or .npz file of codes, whose finer levels are made; keep (list[int]): of which
            samples.
        candidates (int): made for each piece, of which the best is kept; scorer (str): folder or hub id of what judges.
        like (str): the piece whose recipe filled this in; weights (str): the fingerprint in that recipe.
        copies (int): pieces for each prompt; seed (int): of the first piece.
        output (str), codes (str), plot (str): files to write; "-" streams to standard output.
        force (bool): write over files; raw (bool): a stream without a header; play (bool): play what was made.
        normalize (str), bit_depth (int): as in `write_audio`.
        guidance_scale, temperature, top_k, top_p: as in `generate`; greedy (bool): no sampling.
        device (str), device_id (int), dtype (str), quantization (str): what computes, and how exactly.
        revision (str), cache_dir (str), local_files_only (bool): where models come from.
    """

    prompts: list
    model: str | None = None
    mindir: str | None = None
    duration: float | None = None
    max_new_tokens: int | None = None
    extend_stride: float | None = None
    audio: list | None = None
    melody: list | None = None
    negative_prompt: str | None = None
    voice: list | None = None
    long: bool = False
    save_voice: str | None = None
    steps: int | None = None
    scheduler: str | None = None
    artist: str | None = None
    genre: str | None = None
    lyrics: str | None = None
    total_length: float | None = None
    offset: float | None = None
    levels: int | None = None
    batch_size: int | None = None
    resume: bool = False
    upsample: str | None = None
    keep: list | None = None
    candidates: int = 1
    scorer: str | None = None
    like: str | None = None
    weights: str | None = None
    copies: int = 1
    seed: int | list | None = None
    output: str = "out.wav"
    codes: str | None = None
    plot: str | None = None
    force: bool = False
    raw: bool = False
    play: bool = False
    normalize: str | None = None
    bit_depth: int | None = None
    guidance_scale: float | tuple | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = False
    device: str | None = None
    device_id: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    revision: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False

    @classmethod
    def of(cls, arguments):
        """From the command line's argparse.Namespace."""
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    @property
    def pieces(self):
        """How many pieces there will be."""
        return max(len(self.prompts), 1) * self.copies

    @property
    def song(self):
        """Whether this is a song's: hours of work, kept in a folder."""
        return any(getattr(self, name) not in (None, False) for name in SONG)

    @property
    def run_folder(self):
        """The folder of a song's run: the output, without its ending if that is a file."""
        return os.path.splitext(self.output)[0]

    @property
    def file(self):
        """The file of the music: of a song whose output is a folder, one in it."""
        inside = self.song and not os.path.splitext(self.output)[1]
        return os.path.join(self.output, "song.wav") if inside else self.output

    def refuse(self, others):
        """Refuse words that the model's family has no use for.

        Args:
            others (dict[str, tuple[str]]): whose words they are: the fields.

        Raises:
            InputError: for the first that was given.
        """
        for whom, names in others.items():
            for field in fields(self):
                if field.name in names and getattr(self, field.name) != field.default:
                    word = WORDS.get(field.name, field.name.replace("_", "-"))
                    raise InputError(f"--{word} is for {whom}; leave it out, or choose such a model with --model")
