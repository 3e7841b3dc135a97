"""The command line: `mindmusicgen generate | encode | decode | convert | export | info | batch | train |
prompts | doctor`.

Exit codes: 0 done, 1 some of many pieces failed or doctor found something wrong, 2 bad input (one sentence on standard
error), 130 interrupted. What the commands do is in `commands`.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import tempfile
import warnings

from . import __version__, commands
from .errors import InputError
from .interrupt import interruptible
from .telling import patient_streams, quoted, tell


def build_parser():
    """The argument parser of all commands."""
    parser = argparse.ArgumentParser(prog="mindmusicgen", description="MusicGen on MindSpore.")
    parser.add_argument("--version", action="version", version=f"mindmusicgen {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)

    def add(name, help):
        command = subparsers.add_parser(name, help=help)
        command.add_argument("--revision", help="branch, tag or commit on the hub")
        command.add_argument("--cache-dir", help="where downloads are kept")
        command.add_argument("--local-files-only", action="store_true", help="do not ask the hub")
        command.add_argument("--verbose", action="store_true", help="show MindSpore's messages and tracebacks")
        return command

    _add_generate(add("generate", "turn prompts into music"))
    _add_encode(add("encode", "turn audio into codes"))
    _add_decode(add("decode", "turn codes into audio"))
    _add_convert(add("convert", "turn a checkpoint into a folder that opens faster"))
    _add_export(add("export", "write a model as MindIR files, which need none of the networks' code"))
    _add_info(add("info", "say what a checkpoint is and what it needs, or how a piece of music was made"))
    _add_batch(add("batch", "turn a file of prompts into a folder of music, on one device or many"))
    _add_train(add("train", "fine-tune a checkpoint on a folder of audio and captions"))
    _add_prompts(add("prompts", "print words and prompts that the demo model understands"))
    _add_doctor(add("doctor", "check what is installed, what it computes and how fast, and write a report"))
    return parser


FAILED_GRAPHS = "MS_OM_PATH"  # where MindSpore describes graphs that it could not compile
MODEL = "folder or hub id, such as facebook/musicgen-small (demo)"
OUTPUT = "file ending in .wav, .flac or .ogg"


def _add_generate(parser):
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what the music should be; several make a batch")
    parser.add_argument("--model", default="demo", help=MODEL)
    parser.add_argument("--mindir", metavar="FOLDER", help="in place of a model, the files that export wrote")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--duration", type=float, help="seconds of new music (10); beyond 30 the model's window slides")
    length.add_argument("--max-new-tokens", type=int, help="columns of codes in place of a duration")
    parser.add_argument("--extend-stride", type=float, help="seconds of new music in each further window (18)")
    parser.add_argument(
        "--audio", action="append", metavar="FILE", help="audio or codes (.npz) to continue; give one, or one a prompt"
    )
    parser.add_argument(
        "--melody",
        action="append",
        metavar="FILE",
        help="audio whose melody a melody model follows; one, or one a prompt",
    )
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what the music should not be")
    parser.add_argument("--copies", type=int, default=1, help="pieces for each prompt (1)")
    parser.add_argument("--seed", type=int, help="repeat a result; piece i uses seed + i (default: a fresh one)")
    _add_sampling(parser)
    _add_output(parser, f"{OUTPUT} (out.wav); - streams to standard output while the music is made")
    parser.add_argument("--raw", action="store_true", help="with --output -: bare 16 bit samples without a WAV header")
    parser.add_argument("--codes", metavar="FILE", help="also write the codes into this .npz file")
    parser.add_argument("--plot", metavar="FILE", help="also draw waveform, spectrogram and codes into this .png file")
    parser.set_defaults(run=commands.run_generate)


def _add_sampling(parser):
    parser.add_argument(
        "--guidance-scale",
        type=guidance,
        metavar="SCALE",
        help="how closely to follow the prompt (the model's own, mostly 3), or START:END",
    )
    parser.add_argument("--temperature", type=float, help="above 1 more daring, below 1 tamer")
    parser.add_argument("--top-k", type=int, help="choose among the k most likely codes; 0 for all")
    parser.add_argument("--top-p", type=float, help="choose among the most likely codes that hold this probability")
    parser.add_argument("--greedy", action="store_true", help="always take the most likely code")
    parser.add_argument("--quantization", help="int8: the decoder's weights in 8 bits, faster on a CPU")
    _add_dtype(parser)
    _add_device(parser)


def _add_dtype(parser):
    parser.add_argument(
        "--dtype", help="float32, float16, or bfloat16 on Ascend (default: float16 on Ascend, float32 on a CPU)"
    )


def _add_device(parser):
    parser.add_argument(
        "--device",
        help="CPU, Ascend, or Ascend:1 for the second NPU (default: MINDMUSICGEN_DEVICE in the environment, or "
        "MindSpore's choice)",
    )
    parser.add_argument(
        "--device-id", type=int, metavar="N", help="the NPU's number (default: the one that msrun gives, or 0)"
    )


def _add_output(parser, help):
    parser.add_argument("--output", default="out.wav", help=help)
    _add_normalize(parser)


def _add_normalize(parser):
    parser.add_argument(
        "--normalize", choices=("none", "peak", "loudness"), default="none", help="-1 dBFS or -14 LUFS (none)"
    )
    parser.add_argument("--bit-depth", type=int, help=".wav: 16 (default), 24 or 32 (float); .flac: 24 (default) or 16")


def guidance(text):
    """A guidance scale: one number, or two with a colon between them."""
    numbers = [float(part) for part in text.split(":")]
    if len(numbers) > 2:
        raise ValueError
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _add_encode(parser):
    parser.add_argument("audio", help="audio file")
    parser.add_argument("--model", default="demo", help=MODEL)
    parser.add_argument("--output", required=True, help=".npz file to write")
    _add_device(parser)
    parser.set_defaults(run=commands.run_encode)


def _add_decode(parser):
    parser.add_argument("codes", help=".npz file of encode, or of generate --codes")
    parser.add_argument("--model", default="demo", help=MODEL)
    _add_output(parser, f"{OUTPUT} (out.wav)")
    _add_device(parser)
    parser.set_defaults(run=commands.run_decode)


def _add_convert(parser):
    parser.add_argument("model", help="folder or hub id of a Hugging Face checkpoint")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or float16")
    parser.add_argument("--quantize", help="int8: store the decoder's weights in 8 bits, for a faster CPU run")
    parser.set_defaults(run=commands.run_convert)


def _add_export(parser):
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument(
        "--pieces",
        metavar="NAMES",
        help="some of text_encoder,prefill,step,chunk,codec_encoder,codec_decoder (all); step is for loops of your own",
    )
    parser.add_argument("--batch", type=int, default=1, help="prompts at a time (1)")
    parser.add_argument("--text-length", type=int, default=64, help="tokens of the longest prompt (64)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of the longest piece (10)")
    parser.add_argument("--prompt-duration", type=float, default=5.0, help="seconds of an audio prompt (5)")
    _add_dtype(parser)
    _add_device(parser)
    parser.set_defaults(run=commands.run_export)


def _add_info(parser):
    parser.add_argument("model", help="folder or hub id of a model, or an audio file that generate wrote")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of music to plan for (10)")
    parser.add_argument("--batch", type=int, default=1, help="prompts at a time to plan for (1)")
    parser.add_argument("--table", action="store_true", help="also the memory for other dtypes, lengths and batches")
    parser.set_defaults(run=commands.run_info)


def _add_batch(parser):
    parser.description = (
        'Make a piece of music for each line of a file, such as {"text": "calm piano", "id": "piano", "duration": 20}. '
        "The same command goes on after an interruption. Under msrun each process makes its share."
    )
    parser.add_argument("prompts", metavar="PROMPTS.jsonl", help="a JSON object a line, with text and, if wanted, more")
    parser.add_argument("--model", default="demo", help=MODEL)
    parser.add_argument("--output", required=True, help="folder for the music, called by its id or its line's number")
    parser.add_argument("--format", default="wav", help="wav (default), flac or ogg")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of music for lines that do not say (10)")
    parser.add_argument("--extend-stride", type=float, help="seconds of new music in each window beyond 30 s (18)")
    _add_sampling(parser)
    parser.add_argument("--negative-prompt", dest="negative_text", metavar="TEXT", help="what the music should not be")
    parser.add_argument("--seed", type=int, default=0, help="line n uses seed + n - 1 if it does not say (0)")
    parser.add_argument("--batch-size", type=int, default=8, help="pieces at a time (8)")
    parser.add_argument("--workers", type=int, help="processes to spread the work over, through Ray")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster; without one, this machine")
    _add_normalize(parser)
    parser.set_defaults(run=commands.run_batch, interrupted="what was made is kept, and the same command goes on")


def _add_train(parser):
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
    _add_device(parser)
    parser.set_defaults(run=commands.run_train, interrupted="what was saved is kept, and the same command goes on")


def _add_prompts(parser):
    parser.add_argument("--count", type=int, default=5, help="new prompts to make up (5)")
    parser.add_argument("--seed", type=int, help="the same number makes up the same prompts")
    parser.add_argument("--language", default="en", help="en (default) or zh")
    parser.set_defaults(run=commands.run_prompts)


def _add_doctor(parser):
    parser.description = (
        "Say what is installed, run every operator against its reference and the demo model against golden values, "
        "measure briefly, and write a report to send along with a question. Exit code 1 if something is wrong."
    )
    _add_device(parser)
    _add_dtype(parser)
    parser.add_argument("--quick", action="store_true", help="fewer stages and a shorter benchmark")
    parser.add_argument(
        "--report", default="mindmusicgen-doctor.json", metavar="FILE", help="file to write (mindmusicgen-doctor.json)"
    )
    parser.set_defaults(run=commands.run_doctor, interrupted="the report holds what was found so far")


@contextlib.contextmanager
def quiet(verbose):
    """Keep MindSpore's messages, and the files it writes when a compilation fails, from the user."""
    if verbose:
        yield
        return
    os.environ.setdefault("GLOG_v", "4")  # MindSpore reads it when it is imported
    os.environ.setdefault("USE_TORCH", "0")  # transformers would import an installed torch, for two seconds and 0.3 GB
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with warnings.catch_warnings(), _failed_graphs_aside():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"mindmusicgen\b")
        warnings.showwarning = lambda message, *_, **__: tell(f"mindmusicgen: warning: {message}", error=True)
        yield


@contextlib.contextmanager
def _failed_graphs_aside():
    """Context in which MindSpore describes failed compilations in a place of their own, not in rank_0 of the working
    folder, where other programs may have theirs."""
    if FAILED_GRAPHS in os.environ:  # the user wants them
        yield
        return
    aside = os.environ[FAILED_GRAPHS] = os.path.join(tempfile.gettempdir(), f"mindmusicgen-{secrets.token_hex(8)}")
    try:
        yield
    finally:
        del os.environ[FAILED_GRAPHS]
        shutil.rmtree(aside, ignore_errors=True)


def main(argv=None):
    """Run the command line; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    with patient_streams():
        return _run(arguments)


def _run(arguments):
    """Do what a command says, and put its failures into one sentence."""
    code = None
    try:
        _check_working_folder()
        with quiet(arguments.verbose), interruptible() as interrupts:
            code = arguments.run(arguments, interrupts) or 0
        return code
    except KeyboardInterrupt as interrupt:
        if code is not None:  # it came when all was done
            return code
        kept = interrupt.args[0] if interrupt.args else getattr(arguments, "interrupted", "nothing was written")
        tell(f"mindmusicgen: interrupted, {kept}", error=True)
        return 130
    except Exception as error:
        reason = _reason(error)
        if arguments.verbose or reason is None:
            raise
        tell(f"mindmusicgen: error: {reason}", error=True)
        return 2


def _check_working_folder():
    try:
        os.getcwd()  # MindSpore cannot be imported without
    except OSError as error:
        raise InputError("the working folder does not exist any more; change to one that does") from error


def _reason(error):
    """What the user can do something about, in a sentence; None for whatever is a fault of this package."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # a disk or folder that went away meanwhile
        return f"{error.strerror}{f': {quoted(str(error.filename))}' if error.filename else ''}"
    from .device import is_memory_error

    if is_memory_error(error):
        advice = "mindmusicgen info MODEL says what a model needs; take a smaller one, less at a time, or shorter audio"
        return f"out of memory; {advice}"
    return None
