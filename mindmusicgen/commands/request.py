"""What `generate` asks of a model: settings and inputs, checked before it is opened; and a piece's recipe."""

import os

from .. import __version__
from ..errors import InputError
from ..language import said
from ..runtime.telling import quoted, tell
from .flags import load, source, where


def prepare(arguments):
    """The model, and for its `generate` the inputs and the other arguments.

    A model is opened last: whatever can be refused is refused before it takes its seconds and gigabytes.
    """
    options = _options(arguments)
    arguments.weights, expected = None, arguments.weights
    if arguments.mindir:
        from ..musicgen.mindir.runtime import MindIRMusicgen

        model = MindIRMusicgen(arguments.mindir)  # which loads no graph before it is needed
        arguments.model, arguments.dtype = model.manifest["model"], model.manifest["dtype"]
        config, defaults, processor = model.config, model.generation_config, model.processor
    else:
        from ..auto import AutoProcessor, kind_of
        from ..checkpoint.fingerprint import fingerprint
        from ..checkpoint.source import resolve
        from ..musicgen.checkpoint.folder import load_config, load_generation_config

        arguments.model = arguments.model or "demo"
        folder = resolve(arguments.model, **source(arguments))
        arguments.weights = fingerprint(folder)
        if expected not in (None, arguments.weights):
            warning = said(
                f"{quoted(arguments.model)} has other weights than those that made {quoted(arguments.like)}; the piece "
                "will be another"
            )
            tell(f"mindmusicgen: warning: {warning}", error=True)
        if arguments.melody and kind_of(folder) != "musicgen_melody":
            raise InputError(
                f"--melody for a text model: {quoted(arguments.model)} follows words alone; use a model such as "
                "facebook/musicgen-melody, or leave --melody out"
            )
        config = load_config(folder, **where(arguments))
        defaults = load_generation_config(folder, config.decoder)
        processor = AutoProcessor.from_pretrained(folder, **where(arguments))
    arguments.chosen = _check_settings(arguments, config, defaults, options)
    inputs = _inputs(arguments, config, processor)
    if not arguments.mindir:
        model = load(arguments, folder, arguments.dtype, arguments.quantization)
        arguments.dtype = str(model.dtype).lower()
    if not inputs:  # neither text nor audio: whatever the model likes
        inputs = dict(model.get_unconditional_inputs())
        options["guidance_scale"] = inputs.pop("guidance_scale", None)
    return model, inputs, options


def _options(arguments):
    """Arguments of `generate` but for its inputs."""
    options = {
        "do_sample": False if arguments.greedy else None,
        "guidance_scale": arguments.guidance_scale,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "seed": arguments.seed,
        "num_return_sequences": arguments.copies,
        "extend_stride": arguments.extend_stride,
    }
    if arguments.max_new_tokens is not None:
        return options | {"max_new_tokens": arguments.max_new_tokens}
    return options | {"duration": 10.0 if arguments.duration is None else arguments.duration}


def _check_settings(arguments, config, defaults, options):
    """Refuse settings that a model does not take, and music that the disk has no room for.

    Returns:
        Settings: what the arguments and the model's own defaults come to.
    """
    import warnings

    from ..musicgen import settings
    from ..runtime.files import check_room

    pieces = max(len(arguments.prompts), 1) * arguments.copies
    asked = {name: value for name, value in options.items() if name != "seed"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `generate` will say it
        chosen = settings.resolve(config, defaults, asked, pieces, 0, options["seed"])
    if arguments.output.lower().endswith(".wav"):
        plan = chosen.plan
        samples = (plan.frames or plan.first) * config.audio_encoder.hop_length * config.decoder.audio_channels
        folder = os.path.dirname(os.path.abspath(arguments.output))
        check_room(folder, "output", pieces * samples * (arguments.bit_depth or 16) // 8)
    return chosen


def _inputs(arguments, config, processor):
    """What the processor makes of the prompts; empty if there are none."""
    audio = _audio_prompts(arguments, config)
    wanted = {"text": arguments.prompts or None, "audio": audio if isinstance(audio, list) else None}
    if arguments.melody:  # the processor's audio is the melody then
        wanted |= {"audio": arguments.melody, "audio_prompt": wanted["audio"], "truncation": not _slides(arguments)}
    elif config.model_type == "musicgen_melody":
        wanted["audio_prompt"] = wanted.pop("audio")
    inputs = {}
    if any(wanted[name] is not None for name in wanted if name != "truncation"):
        inputs = dict(processor(negative_text=arguments.negative_prompt, **wanted))
    if audio is not None and not isinstance(audio, list):
        inputs["audio_codes"] = audio
    return inputs


def _slides(arguments):
    """Whether the music is longer than the model hears at a time."""
    from ..musicgen.settings import TRAINED_SECONDS

    return arguments.max_new_tokens is None and (arguments.duration or 0) > TRAINED_SECONDS


def _audio_prompts(arguments, config):
    """Files as a list of paths, codes as one array [B, K, frames], or None; one serves all prompts."""
    import numpy as np

    from ..codes_file import load_codes

    given = arguments.audio
    if not given:
        return None
    coded = [path.endswith(".npz") for path in given]
    if any(coded) and not all(coded):
        raise InputError("audio prompts are either audio files or .npz files of codes, not both at once")
    rows = max(len(arguments.prompts), 1)
    if not coded[0]:
        return given if len(given) == rows else given * rows
    codes = [load_codes(path, config) for path in given]
    shortest = min(one.shape[2] for one in codes)
    codes = np.concatenate([one[:, :, -shortest:] for one in codes])
    return np.repeat(codes, rows, axis=0) if len(codes) == 1 else codes


def recipe(arguments, options, number, seed):
    """What made a piece, to be kept in its file: the model's own settings too, so that `--like` makes it again. Of
    files and folders it holds only the name, for the piece may be shared."""

    def named(value):
        return os.path.basename(os.path.abspath(value)) if os.path.exists(value) else value

    chosen, made = arguments.chosen, {"mindmusicgen": __version__, "model": named(arguments.model)}
    made |= {"weights": arguments.weights, "dtype": arguments.dtype}
    if arguments.prompts:
        made["prompt"] = arguments.prompts[number]
    for name in ("negative_prompt", "audio", "melody", "quantization", "normalize", "bit_depth"):
        value = getattr(arguments, name)
        if value:
            several = isinstance(value, list)
            made[name] = [named(value[number if len(value) > 1 else 0])] if several else value
    start, end = chosen.guidance
    made |= {"do_sample": chosen.do_sample, "guidance_scale": start if start == end else [start, end]}
    if chosen.do_sample:
        made |= {name: getattr(chosen, name) for name in ("temperature", "top_k", "top_p")}
    left_out = ("seed", "num_return_sequences", "do_sample", "temperature", "top_k", "top_p")
    made |= {name: value for name, value in options.items() if name not in left_out and value is not None}
    return {name: value for name, value in made.items() if value not in (None, "none")} | {"seed": seed}
