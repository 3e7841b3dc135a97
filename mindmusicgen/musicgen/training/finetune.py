"""Fine-tune a checkpoint on a folder of audio and captions: what `mindmusicgen train` does.

Everything about a run lies in its output folder: the codes of the audio, the list of what was skipped, the settings,
checkpoints, history and curves, and in the end the trained model as a Hugging Face folder.
"""

import json
import math
import os

from ...checkpoint.json_file import read_json
from ...checkpoint.native import stored_quantization
from ...checkpoint.source import resolve
from ...errors import InputError, whole_number
from ...language import said
from ...runtime.files import check_folder
from ...runtime.folder_lock import alone_in
from ...runtime.telling import tell
from ...training.loop import CURVES, STATE, Trainer, plot_history
from ...training.pairs import find_pairs
from ..checkpoint.audiocraft import tokenizer_folder
from ..checkpoint.folder import check_class, load_config, open_folder, save_huggingface
from ..checkpoint.info import parameter_counts
from ..model import MusicgenForConditionalGeneration
from ..processing import MusicgenProcessor
from ..settings import TRAINED_SECONDS, window_frames
from .data import SHORTEST, captioned_codes, clip_frames, nothing_to_train_on, output_file
from .language_model import LanguageModelLoss

SETTINGS, MODEL = "settings.json", "model"


def finetune(
    data,
    model,
    output,
    *,
    steps=1000,
    batch=4,
    learning_rate=1e-4,
    seconds=10.0,
    seed=0,
    freeze_text=False,
    revision=None,
    cache_dir=None,
    local_files_only=False,
):
    """Train text encoder and decoder in float32; what lies in `output` from the same call is gone on with.

    Args:
        data (str): folder of audio files with captions; see `training.data`.
        model (str): folder or hub id to start from.
        output (str): folder for everything the run writes.
        steps (int): length of the run.
        batch (int): clips in a step.
        learning_rate (float): the peak of the schedule. It alone may differ from the run in `output`.
        seconds (float): longest clip; longer audio is cut into several.
        seed (int): of the order of the clips.
        freeze_text (bool): leave the text encoder as it is.
        revision, cache_dir, local_files_only: see `MusicgenForConditionalGeneration.from_pretrained`.

    Returns:
        str: the folder of the trained model, which `from_pretrained` opens.

    Raises:
        InputError: naming the argument, what is wrong and what would be right.
        KeyboardInterrupt: after saving, if the user interrupts; its argument says what is kept.
    """
    settings = {"steps": steps, "batch": batch, "seconds": seconds, "seed": seed, "freeze_text": bool(freeze_text)}
    _check_numbers(**settings, learning_rate=learning_rate)
    if not os.path.isdir(data):
        raise InputError(f"data {data!r} is not a folder; expected one with audio files and their captions")
    check_folder(output, "output")
    where = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    source = resolve(model, revision, **where)
    check_class(MusicgenForConditionalGeneration, source)
    _check_seconds(load_config(source, **where), seconds)
    settings |= {"data": os.path.realpath(data), "model": os.path.realpath(source), "learning_rate": learning_rate}
    _check_run(output, settings)
    if held := stored_quantization(source):
        raise InputError(f"model {model!r} holds {held} weights, which cannot be trained; give the float one")
    found = find_pairs(data)
    if not found[0]:
        raise InputError(nothing_to_train_on(data, found[1]))
    counts = parameter_counts(open_folder(source, **where)[1])
    check_folder(output, "output", 4 * (3 * sum(counts.values()) - 2 * counts["codec"]))  # with both of Adam's moments
    with alone_in(output):
        _claim(output, settings)
        return _train(source, where, data, found, output, settings)


def _train(source, where, data, found, output, settings):
    """Make or go on with the run in a folder that is ours alone; see `finetune`."""
    network = MusicgenForConditionalGeneration.from_pretrained(source, dtype="float32", **where)
    processor = MusicgenProcessor.from_pretrained(source, **where)
    steps, seconds, batch, seed = (settings[name] for name in ("steps", "seconds", "batch", "seed"))
    clips = captioned_codes(network, processor, data, found, output, seconds, batch, seed)
    trainer = Trainer(
        LanguageModelLoss(network, train_text=not settings["freeze_text"]),
        output,
        steps,
        settings["learning_rate"],
        warmup=min(100, steps // 10),
    )
    if trainer.resume():
        tell(said(f"going on from step {trainer.step} of {steps}"))
    _fit(trainer, clips, max(1, min(20, steps // 10)))
    target = os.path.join(output, MODEL)
    save_huggingface(network, target, companions=tokenizer_folder(source, **where))
    return target


def _fit(trainer, clips, every):
    """Train to the end, or up to an interruption, of which the curves are drawn as well."""
    try:
        trainer.fit(clips.batch, every=every)
    except KeyboardInterrupt as interrupt:
        _draw(trainer)
        raise KeyboardInterrupt(
            f"step {trainer.step} of {trainer.steps} was saved in {trainer.folder}; the same command goes on from it"
        ) from interrupt
    except OSError as error:
        raise InputError(
            f"{trainer.folder} cannot be written ({error.strerror}); make room and start the same command again"
        ) from error


def _draw(trainer):
    # Curves are worth less than the message that the run was saved.
    try:
        plot_history(trainer.history, trainer.network.metric_names, os.path.join(trainer.folder, CURVES))
    except OSError:
        return


def _check_numbers(steps, batch, seconds, seed, freeze_text, learning_rate):
    for name, value, least in (("steps", steps, 1), ("batch", batch, 1), ("seed", seed, 0)):
        whole_number(name, value, least)
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning rate is {learning_rate!r}; expected a finite number above 0, such as 1e-4")
    if not SHORTEST <= seconds < math.inf:
        raise InputError(f"seconds is {seconds!r}; expected {SHORTEST:g} to {TRAINED_SECONDS}")


def _check_seconds(config, seconds):
    """Refuse clips that the decoder has no positions for."""
    most = window_frames(config)
    if clip_frames(config, seconds) > most:
        longest = most / config.audio_encoder.frame_rate
        raise InputError(f"seconds is {seconds:g}; this model takes clips of at most {longest:g} s")


def _claim(output, settings):
    """Note the settings in the output folder, or refuse one that meanwhile holds another run."""
    _check_run(output, settings)
    with output_file(os.path.join(output, SETTINGS)) as file:
        file.write(json.dumps(settings, indent=2).encode())


def _check_run(output, settings):
    """Refuse an output folder that holds another run, or the model to start from."""
    source = settings["model"]
    if os.path.realpath(output) == source or os.path.realpath(os.path.join(output, MODEL)) == source:
        raise InputError(f"output {output!r} would overwrite the model it starts from; choose another folder")
    path = os.path.join(output, SETTINGS)
    if os.path.isfile(os.path.join(output, STATE)):
        if not os.path.isfile(path):
            raise InputError(f"output {output!r} holds a run of something else; choose another folder")
        before = read_json(path)
        changed = [name for name in settings if name != "learning_rate" and before.get(name) != settings[name]]
        if changed:
            name = changed[0]
            raise InputError(
                f"output {output!r} holds a run with {name} {before.get(name)!r}, not {settings[name]!r}; give the "
                "same again to go on, or choose another folder"
            )
