"""`mindmusicgen encode` and `decode`: from audio to codes and back."""

from ..language import said
from ..runtime.telling import tell
from . import flags
from .outputs import each_anyway, free_paths, write_clip


def add_encode(parser):
    """The words of `encode`."""
    parser.usage = "mindmusicgen encode AUDIO -o CODES.npz [-m MODEL] [options]"
    parser.epilog = flags.examples("encode riff.wav -o riff.npz")
    parser.add_argument("audio", metavar="AUDIO", help="audio file")
    flags.add_model(parser, default="demo")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".npz file to write")
    flags.add_force(parser)
    flags.add_computing(parser, dtype=False)
    parser.set_defaults(run=run_encode)


def add_decode(parser):
    """The words of `decode`."""
    parser.usage = "mindmusicgen decode CODES.npz [-o FILE] [-m MODEL] [options]"
    parser.epilog = flags.examples("decode riff.npz -o back.flac")
    parser.add_argument("codes", metavar="CODES.npz", help=".npz file of encode, or of generate --codes")
    flags.add_model(parser, default="demo")
    parser.add_argument("-o", "--output", default="out.wav", metavar="FILE", help=f"{flags.AUDIO_FILE} (out.wav)")
    flags.add_force(parser)
    flags.add_sound(parser)
    flags.add_computing(parser, dtype=False)
    parser.set_defaults(run=run_decode)


def run_encode(arguments, interrupts):
    """`mindmusicgen encode`"""
    from ..audio import read_audio
    from ..auto import part_of_family
    from ..checkpoint.source import resolve
    from ..codes_file import check_codes_path, save_codes

    check_codes_path(arguments.output)
    flags.use_device(arguments)
    folder = resolve(arguments.model, **flags.source(arguments))
    codec = part_of_family(folder, "codec").open_codec(folder, **flags.where(arguments))
    audio = read_audio(arguments.audio, codec.sampling_rate, codec.channels)
    codes = codec.encode(audio[None])
    interrupts.check()
    ((path,),) = free_paths([(arguments.output, 1)], arguments.force)
    save_codes(path, codes, codec.sampling_rate, codec.frame_rate)
    tell(said(f"{path}: {codes.shape[2]} frames of {codes.shape[1]} codebooks"))


def run_decode(arguments, interrupts):
    """`mindmusicgen decode`"""
    from ..audio import check_output
    from ..auto import part_of_family
    from ..checkpoint.source import resolve
    from ..codes_file import load_codes

    check_output(arguments.output, arguments.bit_depth)
    flags.use_device(arguments)
    folder = resolve(arguments.model, **flags.source(arguments))
    config = part_of_family(folder, "checkpoint.folder").load_config(folder, **flags.where(arguments))
    codes = load_codes(arguments.codes, config)
    for path in free_paths([(arguments.output, len(codes))], arguments.force)[0]:
        check_output(path, arguments.bit_depth)
    codec = part_of_family(folder, "codec").open_codec(folder, **flags.where(arguments))
    audio = codec.decode(codes).asnumpy()
    interrupts.check()
    (paths,) = free_paths([(arguments.output, len(codes))], arguments.force)
    with each_anyway() as attempt:
        for path, clip in zip(paths, audio, strict=True):
            attempt(write_clip, arguments, path, clip, codec.sampling_rate)
