"""What the commands of the command line do. The networks are imported inside, so that --help is instant."""

import contextlib
import os
import sys
import time

from . import __version__
from .errors import InputError
from .recipe import recipe_comment
from .telling import quoted, tell


def run_generate(arguments, interrupts):
    """`mindmusicgen generate`"""
    _check_generate(arguments)
    _use_device(arguments)
    if arguments.output == "-":
        with _standard_output() as pipe:
            _stream(arguments, interrupts, pipe)
        return
    paths = output_paths(arguments.output, max(len(arguments.prompts), 1) * arguments.copies)
    model, inputs, options = _prepare(arguments)
    started = time.perf_counter()
    interrupts.check()
    with _enough_memory(arguments, model, options):
        made = model.generate(**inputs, **options, return_dict_in_generate=True)
    interrupts.check()
    audio = made.audio_values.asnumpy()
    taken = time.perf_counter() - started
    with _each_anyway() as attempt:  # what took minutes is not lost because something else cannot be written
        for number, (path, clip, seed) in enumerate(zip(paths, audio, made.seeds, strict=True)):
            comment = recipe_comment(_recipe(arguments, options, number // arguments.copies, seed))
            attempt(_write, arguments, path, clip, model.sampling_rate, f", seed {seed}", comment)
        if arguments.codes:
            attempt(_write_codes, arguments, made.audio_codes, model)
        if arguments.plot:
            attempt(_plot, arguments, audio, made.audio_codes.asnumpy(), model)
    tell(f"{taken:.1f} s for {audio.shape[0] * audio.shape[2] / model.sampling_rate:.1f} s of music", error=True)


@contextlib.contextmanager
def _each_anyway():
    """Context that gives a function to call others with; the first InputError of theirs is raised at its end."""
    refused = []

    def attempt(function, *arguments):
        try:
            function(*arguments)
        except InputError as error:
            refused.append(error)

    yield attempt
    if refused:
        raise refused[0]


def _write_codes(arguments, codes, model):
    from .codes_file import save_codes

    save_codes(arguments.codes, codes, model.sampling_rate, model.frame_rate)
    tell(f"{arguments.codes}: codes")


def _check_generate(arguments):
    """Refuse what can be refused before anything is loaded."""
    from .audio import check_output
    from .codes_file import check_codes_path
    from .words import check_words

    if arguments.copies < 1:
        raise InputError(f"copies is {arguments.copies}; expected a whole number of at least 1")
    pieces = max(len(arguments.prompts), 1) * arguments.copies
    if arguments.output == "-":
        if pieces > 1:
            raise InputError(f"standard output takes one piece, not {pieces}; give one prompt, or --output FILE")
        if arguments.normalize != "none" or arguments.bit_depth not in (None, 16) or arguments.codes:
            raise InputError("a stream has 16 bit, is not normalized and keeps no codes; use --output FILE for that")
        if arguments.plot:
            raise InputError("a stream keeps nothing to draw; use --output FILE with --plot")
    elif arguments.raw:
        raise InputError("--raw belongs to --output -; a file has a header")
    else:
        for path in output_paths(arguments.output, pieces):
            check_output(path, arguments.bit_depth)
    if arguments.codes:
        check_codes_path(arguments.codes)
    if arguments.plot:
        from .display import check_picture

        for path in output_paths(arguments.plot, pieces):
            check_picture(path)
    for prompt in arguments.prompts:
        check_words("a prompt", prompt)
    if arguments.negative_prompt is not None and not arguments.prompts:
        raise InputError("a negative prompt needs a prompt beside it; describe the music as well")
    if arguments.negative_prompt is not None:
        check_words("the negative prompt", arguments.negative_prompt)
    if arguments.mindir and (arguments.output == "-" or arguments.melody or arguments.quantization):
        raise InputError(
            "--mindir makes files from text and audio prompts; leave --output -, --melody, --quantization out"
        )
    for name, given in (("audio prompts", arguments.audio), ("melodies", arguments.melody)):
        if given and len(given) not in (1, max(len(arguments.prompts), 1)):
            raise InputError(
                f"there are {len(given)} {name} for {len(arguments.prompts)} prompts; give one, or one each"
            )


def _plot(arguments, audio, codes, model):
    """A picture of each piece."""
    from .display import plot_piece, save_picture

    for number, path in enumerate(output_paths(arguments.plot, len(audio))):
        prompt = arguments.prompts[number // arguments.copies] if arguments.prompts else ""
        title = prompt if len(prompt) <= 80 else prompt[:77] + "..."
        title = title.replace("$", r"\$")  # two of them would begin a formula
        save_picture(plot_piece(audio[number], model.sampling_rate, codes[number], model.frame_rate, title), path)
        tell(f"{path}: waveform, spectrogram and codes")


def output_paths(output, count):
    """One path per piece: out.wav, or out-1.wav, out-2.wav, ..."""
    if count == 1:
        return [output]
    stem, ending = os.path.splitext(output)
    return [f"{stem}-{i + 1}{ending}" for i in range(count)]


def _source(arguments):
    """Where a model comes from if its name is no folder."""
    return {"revision": arguments.revision, **_where(arguments)}


def _where(arguments):
    """Where comes from what a folder only names."""
    return {"cache_dir": arguments.cache_dir, "local_files_only": arguments.local_files_only}


def _load(arguments, folder, dtype="float32", quantization=None):
    """The model of a folder, to be used once."""
    from .checkpoint.folder import model_class

    opened = model_class(folder).from_pretrained(folder, dtype=dtype, quantization=quantization, **_where(arguments))
    return opened.run_eagerly()


def _prepare(arguments):
    """The model, and for its `generate` the inputs and the other arguments.

    A model is opened last: whatever can be refused is refused before it takes its seconds and gigabytes.
    """
    options = _options(arguments)
    if arguments.mindir:
        from .mindir.runtime import MindIRMusicgen

        model = MindIRMusicgen(arguments.mindir)  # which loads no graph before it is needed
        arguments.model, arguments.dtype = model.manifest["model"], model.manifest["dtype"]
        config, defaults, processor = model.config, model.generation_config, model.processor
    else:
        from .checkpoint.folder import load_config, load_generation_config, model_type
        from .checkpoint.source import resolve
        from .melody_processing import AutoProcessor

        folder = resolve(arguments.model, **_source(arguments))
        if arguments.melody and model_type(folder) != "musicgen_melody":
            raise InputError(
                f"--melody for a text model: {quoted(arguments.model)} follows words alone; use a model such as "
                "facebook/musicgen-melody, or leave --melody out"
            )
        config = load_config(folder, **_where(arguments))
        defaults = load_generation_config(folder, config)
        processor = AutoProcessor.from_pretrained(folder, **_where(arguments))
    _check_settings(arguments, config, defaults, options)
    inputs = _inputs(arguments, config, processor)
    if not arguments.mindir:
        model = _load(arguments, folder, arguments.dtype, arguments.quantization)
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
    """Refuse settings that a model does not take, and music that the disk has no room for."""
    import warnings

    from .files import check_room
    from .generation import settings

    pieces = max(len(arguments.prompts), 1) * arguments.copies
    asked = {name: value for name, value in options.items() if name != "seed"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `generate` will say it
        plan = settings.resolve(config, defaults, asked, pieces, 0, options["seed"]).plan
    if arguments.output.lower().endswith(".wav"):
        samples = (plan.frames or plan.first) * config.audio_encoder.hop_length * config.decoder.audio_channels
        folder = os.path.dirname(os.path.abspath(arguments.output))
        check_room(folder, "output", pieces * samples * (arguments.bit_depth or 16) // 8)


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
    from .generation.settings import TRAINED_SECONDS

    return arguments.max_new_tokens is None and (arguments.duration or 0) > TRAINED_SECONDS


def _audio_prompts(arguments, config):
    """Files as a list of paths, codes as one array [B, K, frames], or None; one serves all prompts."""
    import numpy as np

    from .codes_file import load_codes

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


def _recipe(arguments, options, number, seed):
    """What made a piece, to be kept in its file; of files and folders only the name, for the piece may be shared."""

    def named(value):
        return os.path.basename(os.path.abspath(value)) if os.path.exists(value) else value

    recipe = {"mindmusicgen": __version__, "model": named(arguments.model), "dtype": arguments.dtype}
    if arguments.prompts:
        recipe["prompt"] = arguments.prompts[number]
    for name in ("negative_prompt", "audio", "melody", "quantization"):
        value = getattr(arguments, name)
        if value:
            several = isinstance(value, list)
            recipe[name] = [named(value[number if len(value) > 1 else 0])] if several else value
    left_out = ("seed", "num_return_sequences")
    recipe |= {name: value for name, value in options.items() if value is not None and name not in left_out}
    return recipe | {"seed": seed}


def _write(arguments, path, clip, sampling_rate, more="", comment=None):
    """Write one clip and say so."""
    from .audio import write_audio

    peak = write_audio(path, clip, sampling_rate, arguments.normalize, arguments.bit_depth, comment)
    clipped = peak > 1 and arguments.bit_depth != 32
    loud = f", clipped: the peak was {peak:.2f}, and --normalize peak avoids it" if clipped else ""
    tell(f"{path}: {clip.shape[1] / sampling_rate:.2f} s{more}{loud}")


@contextlib.contextmanager
def _standard_output():
    """Standard output for audio alone: whatever else is printed goes to standard error."""
    sys.stdout.flush()
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        yield pipe
    finally:
        os.dup2(pipe.fileno(), 1)
        pipe.close()


def _stream(arguments, interrupts, pipe):
    """Generate one piece into a pipe, second by second."""
    from .audio import PcmStream

    model, inputs, options = _prepare(arguments)
    options["seed"] = _seed(options["seed"])
    tell(f"seed {options['seed']}", error=True)
    total, output = None, None

    def see(done, of):
        nonlocal total
        total = of

    hop = model.config.audio_encoder.hop_length
    try:
        with _enough_memory(arguments, model, options):
            for chunk in model.stream(**inputs, **options, callback=see):
                interrupts.check()
                audio = chunk.asnumpy()[0]
                if output is None:
                    output = PcmStream(pipe, model.sampling_rate, len(audio), total * hop, header=not arguments.raw)
                output.write(audio)
    except BrokenPipeError:
        tell(f"mindmusicgen: whoever listened has stopped; {_streamed(output)}", error=True)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_streamed(output)) from interrupt
    except OSError as error:
        raise InputError(f"standard output cannot be written ({error.strerror}); {_streamed(output)}") from error


def _streamed(output):
    """How much of a stream was written."""
    return f"{output.seconds if output else 0:.1f} s were written to standard output"


def _seed(seed):
    import secrets

    return secrets.randbits(31) if seed is None else seed


def _enough_memory(arguments, model, options):
    """While pieces are made: what fits, if they do not."""
    if arguments.mindir:  # runs without the modules of the networks
        return contextlib.nullcontext()
    from .checkpoint.info import enough_memory

    seconds = options["duration"] if "duration" in options else arguments.max_new_tokens / model.frame_rate
    return enough_memory(model, seconds, max(len(arguments.prompts), 1) * arguments.copies)


def _use_device(arguments):
    from . import device

    device.use(arguments.device, arguments.device_id)


def run_encode(arguments, interrupts):
    """`mindmusicgen encode`"""
    from .audio import read_audio
    from .checkpoint.source import resolve
    from .codes_file import check_codes_path, save_codes
    from .melody_processing import AutoProcessor

    check_codes_path(arguments.output)
    _use_device(arguments)
    folder = resolve(arguments.model, **_source(arguments))
    processor = AutoProcessor.from_pretrained(folder, **_where(arguments))
    audio = read_audio(arguments.audio, processor.sampling_rate, processor.channels)
    model = _load(arguments, folder)
    codes = model.encode(audio[None])
    interrupts.check()
    save_codes(arguments.output, codes, model.sampling_rate, model.frame_rate)
    tell(f"{arguments.output}: {codes.shape[2]} frames of {codes.shape[1]} codebooks")


def run_decode(arguments, interrupts):
    """`mindmusicgen decode`"""
    from .audio import check_output
    from .checkpoint.folder import load_config
    from .checkpoint.source import resolve
    from .codes_file import load_codes

    check_output(arguments.output, arguments.bit_depth)
    _use_device(arguments)
    folder = resolve(arguments.model, **_source(arguments))
    codes = load_codes(arguments.codes, load_config(folder, **_where(arguments)))
    paths = output_paths(arguments.output, len(codes))
    for path in paths:
        check_output(path, arguments.bit_depth)
    model = _load(arguments, folder)
    audio = model.decode(codes).asnumpy()
    interrupts.check()
    with _each_anyway() as attempt:
        for path, clip in zip(paths, audio, strict=True):
            attempt(_write, arguments, path, clip, model.sampling_rate)


def run_convert(arguments, interrupts):
    """`mindmusicgen convert`"""
    from .checkpoint.convert import convert

    convert(
        arguments.model,
        arguments.output,
        dtype=arguments.dtype,
        quantize=arguments.quantize,
        **_source(arguments),
    )
    tell(f"{arguments.output}: ready for --model")


def run_export(arguments, interrupts):
    """`mindmusicgen export`"""
    from .mindir.export import export

    _use_device(arguments)
    pieces = arguments.pieces.split(",") if arguments.pieces else None
    names = ("batch", "text_length", "duration", "prompt_duration", "dtype")
    sizes = {name: getattr(arguments, name) for name in names}
    manifest = export(arguments.model, arguments.output, pieces, **sizes, **_source(arguments))
    size = sum(file["bytes"] for file in manifest["files"].values())
    tell(f"{arguments.output}: {', '.join(manifest['graphs'])}, {size / 1e6:.1f} MB; ready for --mindir")


def run_info(arguments, interrupts):
    """`mindmusicgen info`"""
    from .audio import read_comment
    from .checkpoint.info import describe
    from .checkpoint.sizes import PUBLISHED
    from .checkpoint.source import resolve
    from .samples import READABLE

    if os.path.isfile(arguments.model) and arguments.model.lower().endswith(READABLE):
        tell(read_comment(arguments.model) or f"{arguments.model} does not say how it was made")
        return
    folder = arguments.model
    if folder not in PUBLISHED:
        folder = resolve(folder, **_source(arguments))
    elif not os.path.isdir(folder):  # their sizes are known: nothing is downloaded to say them
        with contextlib.suppress(InputError):
            folder = resolve(folder, **(_source(arguments) | {"local_files_only": True}))
    said = describe(folder, arguments.duration, arguments.batch, arguments.table, **_where(arguments))
    for line in said.split("\n"):
        tell(line)


def run_batch(arguments, interrupts):
    """`mindmusicgen batch`"""
    from .batch.ranks import is_scheduler

    if is_scheduler():
        return 0
    if arguments.workers is None:  # else this process computes nothing
        _use_device(arguments)
    from .batch.command import batch

    return batch(arguments, interrupts)


def run_doctor(arguments, interrupts):
    """`mindmusicgen doctor`"""
    from .doctor.command import doctor

    return doctor(arguments, interrupts)


def run_prompts(arguments, interrupts):
    """`mindmusicgen prompts`"""
    from .prompts import demo_words, describe, invent

    made = invent(arguments.count, arguments.seed, arguments.language)
    chinese = arguments.language == "zh"
    examples = [text for text in demo_words()["examples"] if (max(text) > "\u2e80") == chinese]
    for line in [*describe(arguments.language), "", *examples, "", *made]:
        tell(line)


def run_train(arguments, interrupts):
    """`mindmusicgen train`"""
    _use_device(arguments)
    from .training.finetune import finetune

    folder = finetune(
        arguments.data,
        arguments.model,
        arguments.output,
        steps=arguments.steps,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        seconds=arguments.seconds,
        seed=arguments.seed,
        freeze_text=arguments.freeze_text,
        **_source(arguments),
    )
    tell(f"{folder}: ready for --model")
