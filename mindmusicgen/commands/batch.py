"""`mindmusicgen batch`: a file of prompts to a folder of music."""

from . import flags


def add_batch(parser):
    """The words of `batch`."""
    parser.usage = "mindmusicgen batch PROMPTS.jsonl -o FOLDER [-m MODEL] [-d SECONDS] [-s SEED] [options]"
    parser.description = (
        'Make a piece of music for each line of a file, such as\n{"prompt": "calm piano", "id": "piano", "duration": '
        "20}. The same command goes on after an interruption.\nUnder msrun each process makes its share."
    )
    parser.epilog = flags.examples("batch prompts.jsonl -o songs --format flac", "batch prompts.jsonl -o songs -d 20")
    parser.add_argument(
        "prompts", metavar="PROMPTS.jsonl", help="a JSON object a line, with prompt and, if wanted, more"
    )
    flags.add_model(parser, default="demo")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="for the music, called by its id or its line's number"
    )
    parser.add_argument("--format", default="wav", help="wav (default), flac, ogg or mp3")
    parser.add_argument(
        "-d",
        "--duration",
        type=float,
        metavar="SECONDS",
        help="seconds of music for lines that do not say (10; speech ends by itself)",
    )
    parser.add_argument(
        "--extend-stride", type=float, metavar="SECONDS", help="seconds of new music in each window beyond 30 s (18)"
    )
    flags.add_negative(parser, "negative_text")
    parser.add_argument("--voice", metavar="VOICE", help="of a Bark, who speaks the lines that do not say")
    flags.add_diffusion(parser.add_argument_group("diffusion, with a MusicLDM such as ucsd-reach/musicldm"))
    parser.add_argument("-s", "--seed", type=int, default=0, help="line n uses seed + n - 1 if it does not say (0)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="pieces at a time (8)")
    flags.add_sound(parser)
    flags.add_sampling(parser)
    flags.add_computing(parser, quantization=True)
    group = parser.add_argument_group("many processes")
    group.add_argument("--workers", type=int, metavar="N", help="processes to spread the work over, through Ray")
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster; without one, this machine")
    parser.set_defaults(run=run_batch, interrupted="what was made is kept, and the same command goes on")


def run_batch(arguments, interrupts):
    """`mindmusicgen batch`"""
    from ..batch.ranks import is_scheduler

    if is_scheduler():
        return 0
    arguments.normalize = arguments.normalize or "none"
    if arguments.workers is None:  # else this process computes nothing
        flags.use_device(arguments)
    from ..batch.command import batch

    return batch(arguments, interrupts)
