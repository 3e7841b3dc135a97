"""`mindmusicgen train`: a checkpoint fine-tuned on a folder of audio and captions."""

from ..language import said
from ..runtime.telling import tell
from . import flags


def add_train(parser):
    """The words of `train`."""
    parser.usage = "mindmusicgen train --data FOLDER -m MODEL -o FOLDER [--steps N] [options]"
    parser.description = (
        "Fine-tune the text encoder and the decoder on audio files, each with its caption in a\n.txt beside it or in "
        "metadata.jsonl or metadata.csv (file_name, text). The same command\ngoes on after an interruption."
    )
    parser.epilog = flags.examples("train --data songs -m demo -o run --steps 500")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="of .wav, .flac, .ogg or .mp3 files and captions"
    )
    parser.add_argument("-m", "--model", required=True, help="folder or hub id to start from")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="for checkpoints, curves and the trained model"
    )
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="length of the run (1000)")
    flags.add_batch_size(parser, 4, "clips in a step (4)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=1e-4,
        metavar="RATE",
        help="the highest rate of the schedule (1e-4)",
    )
    parser.add_argument(
        "-d",
        "--duration",
        dest="seconds",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="longer audio is cut into clips of this length (10)",
    )
    parser.old_names["--seconds"] = "--duration"
    parser.add_argument("-s", "--seed", type=int, default=0, help="of the order of the clips (0)")
    parser.add_argument("--freeze-text", action="store_true", help="leave the text encoder as it is")
    flags.add_computing(parser, dtype=False)
    parser.set_defaults(run=run_train, interrupted="what was saved is kept, and the same command goes on")


def run_train(arguments, interrupts):
    """`mindmusicgen train`"""
    flags.use_device(arguments)
    from ..auto import part_of_family
    from ..checkpoint.source import resolve

    source = resolve(arguments.model, **flags.source(arguments))
    folder = part_of_family(source, "training.finetune").finetune(
        arguments.data,
        arguments.model,
        arguments.output,
        steps=arguments.steps,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        seconds=arguments.seconds,
        seed=arguments.seed,
        freeze_text=arguments.freeze_text,
        **flags.source(arguments),
    )
    tell(said(f"{folder}: ready for --model"))
