"""`mindmusicgen convert` and `export`: other forms of a model."""

from ..language import said
from ..runtime.telling import tell
from . import flags


def add_convert(parser):
    """The words of `convert`."""
    parser.usage = "mindmusicgen convert MODEL -o FOLDER [options]"
    parser.epilog = flags.examples("convert facebook/musicgen-small -o small-int8 --quantization int8")
    parser.add_argument("model", metavar="MODEL", help="folder or hub id of a Hugging Face checkpoint")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--dtype", default="float32", help="float32 (default) or float16")
    parser.add_argument(
        "--quantization",
        metavar="int8",
        help="int8 or int4: store the decoder's weights in 8 or 4 bits, for a faster CPU run",
    )
    parser.old_names["--quantize"] = "--quantization"
    parser.set_defaults(run=run_convert)


def add_export(parser):
    """The words of `export`."""
    parser.usage = "mindmusicgen export -m MODEL -o FOLDER [options]"
    parser.epilog = flags.examples("export -m demo -o files", 'generate "calm piano" --mindir files')
    flags.add_model(parser, required=True)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument(
        "--pieces",
        metavar="NAMES",
        help="some of text_encoder,prefill,step,chunk,codec_encoder,codec_decoder (all), of a Bark "
        "semantic,coarse,fine,codec_decoder, of a MusicLDM text_encoder,unet,vae,vocoder,scorer; step is for loops of "
        "your own",
    )
    flags.add_batch_size(parser, 1, "prompts at a time (1)")
    parser.add_argument(
        "--text-length", type=int, metavar="TOKENS", help="tokens of the longest prompt (64); not of a Bark"
    )
    parser.add_argument(
        "-d",
        "--duration",
        type=float,
        metavar="SECONDS",
        help="seconds of the longest piece (10; of a Bark 15, of a MusicLDM 10.24)",
    )
    parser.add_argument(
        "--prompt-duration", type=float, metavar="SECONDS", help="seconds of an audio prompt (5); of a MusicGen"
    )
    flags.add_computing(parser)
    parser.set_defaults(run=run_export)


def run_convert(arguments, interrupts):
    """`mindmusicgen convert`"""
    from ..auto import part_of_family
    from ..checkpoint.source import resolve

    folder = resolve(arguments.model, **flags.source(arguments))
    part_of_family(folder, "checkpoint.convert").convert(
        arguments.model,
        arguments.output,
        dtype=arguments.dtype,
        quantize=arguments.quantization,
        **flags.source(arguments),
    )
    tell(said(f"{arguments.output}: ready for --model"))


def run_export(arguments, interrupts):
    """`mindmusicgen export`"""
    from ..auto import part_of_family
    from ..checkpoint.source import resolve

    flags.use_device(arguments)
    folder = resolve(arguments.model, **flags.source(arguments))
    export = part_of_family(folder, "mindir.export").export
    pieces = arguments.pieces.split(",") if arguments.pieces else None
    names = ("batch", "text_length", "duration", "prompt_duration", "dtype")
    given = {name: getattr(arguments, name) for name in names}
    sizes = {name: value for name, value in given.items() if value is not None}
    manifest = export(arguments.model, arguments.output, pieces, **sizes, **flags.source(arguments))
    size = sum(file["bytes"] for file in manifest["files"].values())
    graphs = ", ".join(manifest["graphs"])
    tell(said(f"{arguments.output}: {graphs}, {size / 1e6:.1f} MB; ready for --mindir"))
