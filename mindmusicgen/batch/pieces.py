"""What a prompt is to become, whether that exists already, and which prompts go together through the model."""

import json
import os
from dataclasses import dataclass

from .. import __version__
from ..audio import read_comment
from ..auto import part_of_family
from ..checkpoint.fingerprint import fingerprint
from ..errors import InputError
from ..sound.recipe import bare_name, recipe_comment
from .prompts import Prompt, at_line


@dataclass(frozen=True)
class Piece:
    """A prompt and its file.

    Attributes:
        prompt (Prompt): the line.
        path (str): the file.
        recipe (dict): what makes it: prompt, seed, settings, model. `recipe_comment` it is stored in the file.
        samples (int): length of the music; None where it is not known before.
        group (tuple): pieces of one group fit into one batch: same settings, same length of text and music.
    """

    prompt: Prompt
    path: str
    recipe: dict
    samples: int | None
    group: tuple

    def finished(self):
        """Whether the file is there, whole, and made from the same recipe by whatever version of this package."""
        import soundfile

        if not os.path.isfile(self.path):
            return False
        try:
            found = json.loads(read_comment(self.path))
            length = soundfile.info(self.path).frames
        except (ValueError, RuntimeError):  # InputError and JSON's error are ValueErrors
            return False
        wanted = json.loads(recipe_comment(self.recipe))
        if not isinstance(found, dict) or self.samples not in (None, length):
            return False
        return found | {"mindmusicgen": None} == wanted | {"mindmusicgen": None}


def plan(prompts, source, folder, tokenizer, output, ending="wav", more=None, **where):
    """The pieces of a file of prompts, in an order that keeps groups together.

    Args:
        prompts (list[Prompt]): from `read_prompts`.
        source (str): the file they are from, for messages.
        folder (str): the model's folder.
        tokenizer (transformers.PreTrainedTokenizerBase): of the model.
        output (str): where the files go.
        ending (str): wav, flac or ogg.
        more (dict): what else belongs to the recipe, such as the model's name.
        where: cache_dir and local_files_only, for what the model's folder only names.

    Returns:
        list[Piece]

    Raises:
        InputError: naming the file, the line and what is wrong with it.
    """
    family = part_of_family(folder, "batching")
    planner, sings = family.Planner(folder, tokenizer, **where), hasattr(family, "SINGS")
    known = {"mindmusicgen": __version__, **(more or {}), "weights": fingerprint(folder)}
    pieces = []
    for prompt in prompts:
        try:
            if prompt.song and not sings:
                raise InputError("artist, genre and lyrics are for models that sing, such as openai/jukebox-1b-lyrics")
            samples, group = planner.plan(prompt)
        except InputError as error:
            raise at_line(source, prompt.line, error) from error
        path = os.path.join(output, f"{prompt.id}.{ending}")
        pieces.append(Piece(prompt, path, known | _recipe_of(prompt), samples, group))
    return sorted(pieces, key=lambda piece: (piece.group, piece.prompt.line))


def _recipe_of(prompt):
    """What a line adds to its file's recipe, under the names that `mindmusicgen generate` uses."""
    recipe = {"prompt": prompt.text} if prompt.text else {}
    if prompt.negative_text:
        recipe["negative_prompt"] = prompt.negative_text
    settings = dict(prompt.settings)
    if "voice" in settings:
        settings["voice"] = [bare_name(settings["voice"])]
    return recipe | settings | {"seed": prompt.seed}


def batches(pieces, most):
    """Divide sorted pieces into lists of at most `most`, each of one group."""
    made = []
    for piece in pieces:
        if made and len(made[-1]) < most and made[-1][0].group == piece.group:
            made[-1].append(piece)
        else:
            made.append([piece])
    return made
