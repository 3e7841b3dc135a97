"""The command line: `mindmusicgen generate | convert | info | train`.

Exit codes: 0 done, 2 bad input (one sentence on standard error), 130 interrupted.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
import warnings

from . import __version__
from .errors import InputError
from .interrupt import interruptible


def build_parser():
    """The argument parser of all commands."""
    parser = argparse.ArgumentParser(prog="mindmusicgen", description="MusicGen on MindSpore.")
    parser.add_argument("--version", action="version", version=f"mindmusicgen {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_generate(commands.add_parser("generate", help="turn prompts into music"))
    _add_convert(commands.add_parser("convert", help="turn a checkpoint into a folder that opens faster"))
    info = commands.add_parser("info", help="say what a checkpoint is and what it needs")
    _add_common(info)
    info.add_argument("model", help="folder or hub id")
    info.add_argument("--duration", type=float, default=10.0, help="seconds of music to plan for (10)")
    info.add_argument("--batch", type=int, default=1, help="prompts at a time to plan for (1)")
    info.set_defaults(run=run_info)
    _add_train(commands.add_parser("train", help="fine-tune a checkpoint on a folder of audio and captions"))
    return parser


def _add_common(parser):
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--cache-dir", help="where downloads are kept")
    parser.add_argument("--local-files-only", action="store_true", help="do not ask the hub")
    parser.add_argument("--verbose", action="store_true", help="show MindSpore's messages and tracebacks")


def _add_generate(parser):
    _add_common(parser)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what the music should be; several make a batch")
    parser.add_argument("--model", default="demo", help="folder or hub id, such as facebook/musicgen-small (demo)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--duration", type=float, help="seconds of music (10)")
    length.add_argument("--max-new-tokens", type=int, help="columns of codes in place of a duration")
    parser.add_argument("--seed", type=int, help="repeat a result; prompt i uses seed + i (default: a fresh one)")
    parser.add_argument(
        "--guidance-scale", type=float, help="how closely to follow the prompt (the model's own, mostly 3)"
    )
    parser.add_argument("--temperature", type=float, help="above 1 more daring, below 1 tamer")
    parser.add_argument("--top-k", type=int, help="choose among the k most likely codes; 0 for all")
    parser.add_argument("--top-p", type=float, help="choose among the most likely codes that hold this probability")
    parser.add_argument("--greedy", action="store_true", help="always take the most likely code")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or float16")
    parser.add_argument("--device", choices=("CPU", "Ascend"), help="where to compute (default: MindSpore's choice)")
    parser.add_argument("--output", default="out.wav", help="file ending in .wav, .flac or .ogg (out.wav)")
    parser.set_defaults(run=run_generate)


def _add_convert(parser):
    _add_common(parser)
    parser.add_argument("model", help="folder or hub id of a Hugging Face checkpoint")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or float16")
    parser.set_defaults(run=run_convert)


def _add_train(parser):
    _add_common(parser)
    parser.description = (
        "Fine-tune the text encoder and the decoder on audio files, each with its caption in a .txt beside it or in "
        "metadata.jsonl or metadata.csv (file_name, text). The same command goes on after an interruption."
    )
    parser.add_argument("--data", required=True, help="folder of .wav, .flac, .ogg or .mp3 files and captions")
    parser.add_argument("--model", required=True, help="folder or hub id to start from")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the trained model")
    parser.add_argument("--steps", type=int, default=1000, help="length of the run (1000)")
    parser.add_argument("--batch", type=int, default=4, help="clips in a step (4)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="the highest rate of the schedule (1e-4)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="longer audio is cut into clips of this length (10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the clips (0)")
    parser.add_argument("--freeze-text", action="store_true", help="leave the text encoder as it is")
    parser.set_defaults(run=run_train, interrupted="what was saved is kept, and the same command goes on")


def _open(arguments, dtype):
    """The model and its processor."""
    from .composite import MusicgenForConditionalGeneration
    from .processing import MusicgenProcessor

    options = {
        "revision": arguments.revision,
        "cache_dir": arguments.cache_dir,
        "local_files_only": arguments.local_files_only,
    }
    processor = MusicgenProcessor.from_pretrained(arguments.model, **options)
    return MusicgenForConditionalGeneration.from_pretrained(arguments.model, dtype=dtype, **options), processor


def output_paths(output, count):
    """One path per prompt: out.wav, or out-1.wav, out-2.wav, ..."""
    if count == 1:
        return [output]
    stem, ending = os.path.splitext(output)
    return [f"{stem}-{i + 1}{ending}" for i in range(count)]


def new_tokens(model, duration):
    """Columns to predict for a duration in seconds; the delayed codebooks take some more than frames.

    Raises:
        InputError: if the duration is not positive or beyond what the model was trained for.
    """
    from .generation.delay_pattern import columns_for
    from .generation.settings import TRAINED_SECONDS, max_columns

    if not 0 < duration < float("inf"):
        raise InputError(f"duration is {duration}; expected seconds above 0")
    decoder = model.config.decoder
    frames = max(1, round(duration * model.frame_rate))
    columns = columns_for(frames, decoder.num_codebooks, decoder.audio_channels)
    limit = max_columns(model.config)
    if columns > limit:
        seconds = min(TRAINED_SECONDS, limit / model.frame_rate)
        raise InputError(f"duration is {duration:g} s; this model makes at most {seconds:g} s ({limit} new tokens)")
    return columns


def run_generate(arguments, interrupts):
    """`mindmusicgen generate`"""
    from .audio import check_output, write_audio

    paths = output_paths(arguments.output, len(arguments.prompts))
    for path in paths:
        check_output(path)
    if not all(prompt.strip() for prompt in arguments.prompts):
        raise InputError("a prompt is empty; describe the music, as in '80s pop track with bassy drums and synth'")
    if arguments.device:
        _set_device(arguments.device)
    model, processor = _open(arguments, arguments.dtype)
    asked = arguments.max_new_tokens
    if asked is None:
        asked = new_tokens(model, 10.0 if arguments.duration is None else arguments.duration)
    started = time.perf_counter()
    interrupts.check()
    output = model.generate(
        **processor(text=arguments.prompts),
        max_new_tokens=asked,
        do_sample=False if arguments.greedy else None,
        guidance_scale=arguments.guidance_scale,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        return_dict_in_generate=True,
    )
    interrupts.check()
    audio = output.audio_values.asnumpy()
    taken = time.perf_counter() - started
    for path, clip, seed in zip(paths, audio, output.seeds, strict=True):
        peak = write_audio(path, clip, model.sampling_rate)
        loud = f", clipped: the peak was {peak:.2f}" if peak > 1 else ""
        print(f"{path}: {clip.shape[1] / model.sampling_rate:.2f} s, seed {seed}{loud}")
    print(f"{taken:.1f} s for {audio.shape[0] * audio.shape[2] / model.sampling_rate:.1f} s of music", file=sys.stderr)


def _set_device(device):
    import mindspore as ms

    try:
        ms.set_device(device)
    except (RuntimeError, ValueError) as error:
        reason = str(error).split(". ")[0].splitlines()[0]
        raise InputError(f"device {device} cannot be used here ({reason}); try --device CPU") from error


def run_convert(arguments, interrupts):
    """`mindmusicgen convert`"""
    from .checkpoint.convert import convert

    convert(
        arguments.model,
        arguments.output,
        dtype=arguments.dtype,
        revision=arguments.revision,
        cache_dir=arguments.cache_dir,
        local_files_only=arguments.local_files_only,
    )
    print(f"{arguments.output}: ready for --model")


def run_info(arguments, interrupts):
    """`mindmusicgen info`"""
    from .checkpoint.info import describe
    from .checkpoint.source import resolve

    folder = resolve(arguments.model, arguments.revision, arguments.cache_dir, arguments.local_files_only)
    print(describe(folder, arguments.duration, arguments.batch))


def run_train(arguments, interrupts):
    """`mindmusicgen train`"""
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
        revision=arguments.revision,
        cache_dir=arguments.cache_dir,
        local_files_only=arguments.local_files_only,
    )
    print(f"{folder}: ready for --model")


@contextlib.contextmanager
def quiet(verbose):
    """Keep MindSpore's messages, and the rank_0 folder it leaves behind when a compilation fails, from the user."""
    if verbose:
        yield
        return
    os.environ.setdefault("GLOG_v", "4")  # MindSpore reads it when it is imported
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    left_behind = os.path.join(os.getcwd(), "rank_0")
    existed = os.path.exists(left_behind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", module=r"mindmusicgen\b")
            warnings.showwarning = lambda message, *_, **__: print(f"mindmusicgen: warning: {message}", file=sys.stderr)
            yield
    finally:
        if not existed:
            shutil.rmtree(left_behind, ignore_errors=True)


def main(argv=None):
    """Run the command line; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        with quiet(arguments.verbose), interruptible() as interrupts:
            arguments.run(arguments, interrupts)
    except InputError as error:
        if arguments.verbose:
            raise
        print(f"mindmusicgen: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        kept = interrupt.args[0] if interrupt.args else getattr(arguments, "interrupted", "nothing was written")
        print(f"mindmusicgen: interrupted, {kept}", file=sys.stderr)
        return 130
    return 0
