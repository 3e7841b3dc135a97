"""`mindmusicgen generate`: prompts to music, in files or on standard output."""

import contextlib
import os
import sys
import time
from dataclasses import replace

from ..errors import InputError, whole_number
from ..language import said
from ..runtime.telling import quoted, tell
from ..sound.recipe import recipe_comment
from . import flags
from .job import Job
from .like import make_like
from .outputs import each_anyway, free_paths, output_paths, write_clip
from .play import check_player, play
from .rank import best_of, open_judge
from .song import add_song, begun_song, lyrics, recipe_source


def add_generate(parser):
    """The words of `generate`."""
    parser.usage = "mindmusicgen generate [PROMPT ...] [-o FILE] [-d SECONDS] [-m MODEL] [-s SEED] [options]"
    parser.epilog = flags.examples(
        '"calm piano" -d 20 -s 7 -o calm.flac --play',
        "prompts.txt -m facebook/musicgen-small           # a prompt on each line",
        '"a waltz" --audio riff.wav -d 60 -o longer.mp3    # goes on from a recording',
        "--like calm.flac -o again.flac                   # the same piece, from the recipe in its file",
        "--like calm.flac --seed 8 --temperature 1.2      # a variation",
        '"techno, 130 bpm" -d 120 -o - | aplay            # plays while it is being made',
        '"Hello [laughs]" -m suno/bark-small --voice v2/en_speaker_6 -o hello.wav    # speaks',
        '-m openai/jukebox-1b-lyrics --artist "Alan Jackson" --genre Country --lyrics words.txt -o song    # sings',
    ).replace("mindmusicgen", "mindmusicgen generate")
    parser.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="what the music should be, or a .txt file with a prompt on each line; several make a batch",
    )
    flags.add_model(parser)
    parser.add_argument("--mindir", metavar="FOLDER", help="in place of a model, the files that export wrote")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "-d",
        "--duration",
        type=float,
        metavar="SECONDS",
        help="seconds of new music (10); beyond 30 the model's window slides",
    )
    length.add_argument("--max-new-tokens", type=int, metavar="N", help="columns of codes in place of a duration")
    parser.add_argument(
        "--extend-stride", type=float, metavar="SECONDS", help="seconds of new music in each further window (18)"
    )
    _add_sources(parser)
    flags.add_negative(parser)
    _add_speech(parser.add_argument_group("speech, with a Bark such as suno/bark-small"))
    flags.add_diffusion(parser.add_argument_group("diffusion, with a MusicLDM such as ucsd-reach/musicldm"))
    add_song(parser.add_argument_group("songs with words, with a Jukebox such as openai/jukebox-1b-lyrics"))
    parser.add_argument("--copies", type=int, default=1, metavar="N", help="pieces for each prompt (1)")
    parser.add_argument(
        "--candidates", type=int, default=1, metavar="N", help="make N for each piece, and keep what fits best (1)"
    )
    flags.add_scorer(parser)
    parser.add_argument("-s", "--seed", type=int, help="repeat a result; piece i uses seed + i (default: a fresh one)")
    _add_files(parser.add_argument_group("files"))
    flags.add_sampling(parser)
    flags.add_computing(parser, quantization=True)
    parser.set_defaults(run=run_generate, weights=None)


def _add_sources(parser):
    """What the music follows besides words."""
    parser.add_argument(
        "--audio", action="append", metavar="FILE", help="audio or codes (.npz) to continue; give one, or one a prompt"
    )
    parser.add_argument(
        "--melody",
        action="append",
        metavar="FILE",
        help="audio whose melody a melody model follows; one, or one a prompt",
    )
    parser.add_argument(
        "--like",
        metavar="FILE",
        help="the recipe in this piece's file says what the command does not: the piece again, or a variation",
    )


def _add_speech(group):
    group.add_argument(
        "--voice",
        action="append",
        metavar="VOICE",
        help="a name that `mindmusicgen voices` prints, or an .npz file; one, one a prompt, or NAME=VOICE",
    )
    group.add_argument(
        "--long",
        action="store_true",
        help="speak texts of any length, and dialogues, whose lines are NAME: WORDS; a .txt file is one text",
    )
    group.add_argument("--save-voice", metavar="FILE", help="write the voice that spoke into this .npz file")


def _add_files(group):
    group.add_argument(
        "-o",
        "--output",
        default="out.wav",
        metavar="FILE",
        help=f"{flags.AUDIO_FILE} (out.wav); - streams to standard output while the music is made; of a song a folder, "
        "or a file, whose name without its ending is then the folder's",
    )
    flags.add_force(group)
    flags.add_sound(group)
    group.add_argument("--raw", action="store_true", help="with --output -: bare 16 bit samples without a WAV header")
    group.add_argument("--codes", metavar="FILE", help="also write the codes into this .npz file")
    group.add_argument("--plot", metavar="FILE", help="also draw waveform, spectrogram and codes into this .png file")
    group.add_argument("--play", action="store_true", help="play the music when it is made")


def run_generate(arguments, interrupts):
    """`mindmusicgen generate`"""
    job = Job.of(arguments)
    job = replace(job, prompts=[line for word in job.prompts for line in _lines(word, job.long)])
    if job.lyrics is not None:
        job = replace(job, lyrics=lyrics(job.lyrics))
    source = recipe_source(job)
    if source:
        job = make_like(replace(job, like=source))
    if job.song:
        job = begun_song(job)
    check_generate(job)
    flags.opening(job.mindir or job.model or "demo")
    flags.use_device(job)
    family, folder = family_of(job)
    if job.output == "-":
        with _standard_output() as pipe:
            _stream(job, family, folder, interrupts, pipe)
        return
    judge = open_judge(job, family, folder)
    work = family.prepare(replace(job, copies=job.copies * job.candidates), folder)
    model, started = work.model, time.perf_counter()
    interrupts.check()
    with family.memory_for(job, work):
        made = work.make()
    interrupts.check()
    if judge is not None:
        made = best_of(job, judge, made, model.sampling_rate)
    taken = time.perf_counter() - started
    paths, codes, pictures = _paths(job)  # asked for now: minutes have passed
    with each_anyway() as attempt:  # what took minutes is not lost because something else cannot be written
        for number, (path, (clip, _, seed)) in enumerate(zip(paths, made, strict=True)):
            comment = recipe_comment(family.recipe(job, work, number // job.copies, seed))
            attempt(write_clip, job, path, clip, model.sampling_rate, f", seed {seed}", comment)
        if job.codes:
            attempt(_write_codes, codes[0], [codes for _, codes, _ in made], model)
        if job.plot:
            attempt(_plot, job, pictures, made, model)
        if job.save_voice:
            attempt(_save_voice, job, work)
    seconds = sum(clip.shape[1] for clip, _, _ in made) / model.sampling_rate
    tell(said(f"{taken:.1f} s for {seconds:.1f} s of music"), error=True)
    for path in paths if job.play else ():
        play(path, interrupts)


def family_of(job):
    """What the model's family does with a job, its `command` module; and the model's folder, None without one."""
    from ..auto import part_of_family
    from ..checkpoint.source import resolve
    from ..families import room

    if job.mindir:
        from ..mindir.manifest import exported_kind

        return room(exported_kind(job.mindir), "command"), None
    folder = resolve(job.model or "demo", **flags.source(job))
    return part_of_family(folder, "command"), folder


def _lines(word, whole=False):
    """The prompts in a word of the command line: the word itself, or the lines of a .txt file, or all of it as one."""
    if not word.endswith(".txt") or "\n" in word:
        return [word]
    try:
        with open(word, encoding="utf-8-sig") as file:
            text = file.read()
            lines = [text.strip()] if whole else [line.strip() for line in text.split("\n")]
    except OSError as error:
        raise InputError(
            f"the prompts {quoted(word)} cannot be read: {error.strerror}; expected a text file"
        ) from error
    except ValueError as error:  # a zero byte in its name, too
        raise InputError(f"the prompts {quoted(word)} are not UTF-8 text; save the file as UTF-8") from error
    if not any(lines):
        raise InputError(f"the prompts {quoted(word)} hold no line; write a prompt on each")
    return [line for line in lines if line]


def _paths(job):
    """Files to write, none of which is there: of the pieces, of the codes, of the pictures."""
    wanted = [(job.file, job.pieces)]
    wanted += [(job.codes, 1)] if job.codes else []
    wanted += [(job.plot, job.pieces)] if job.plot else []
    found = free_paths(wanted, job.force or job.resume)
    pieces, codes = found.pop(0), found.pop(0) if job.codes else []
    return pieces, codes, found[0] if found else []


def _write_codes(path, codes, model):
    from ..codes_file import save_codes

    save_codes(path, codes, model.sampling_rate, model.frame_rate)
    tell(said(f"{path}: codes"))


def _save_voice(job, work):
    tell(said(f"{work.save_voice(job.save_voice)}: the voice, for --voice"))


def check_generate(job):
    """Refuse what can be refused before anything is loaded."""
    from ..audio import check_format, check_output
    from ..codes_file import check_codes_path
    from ..runtime.files import check_folder
    from ..words import check_words

    whole_number("copies", job.copies, 1)
    whole_number("candidates", job.candidates, 1)
    pieces = job.pieces
    if job.output == "-":
        if pieces > 1:
            raise InputError(f"standard output takes one piece, not {pieces}; give one prompt, or --output FILE")
        if job.candidates > 1:
            raise InputError("a stream is played while it is made, before anybody can judge it; use --output FILE")
        if job.normalize not in (None, "none") or job.bit_depth not in (None, 16) or job.codes:
            raise InputError("a stream has 16 bit, is not normalized and keeps no codes; use --output FILE for that")
        if job.plot:
            raise InputError("a stream keeps nothing to draw; use --output FILE with --plot")
        if job.play:
            raise InputError("a stream goes to whatever plays it; use --output FILE with --play")
    elif job.raw:
        raise InputError("--raw belongs to --output -; a file has a header")
    else:
        if job.file == job.output:
            for path in (*output_paths(job.output, pieces), *_paths(job)[0]):
                check_output(path, job.bit_depth)
        else:
            check_folder(job.output, "output")
            check_format(job.file, job.bit_depth)
        if job.play:
            check_player(job.file)
    if job.codes:
        check_codes_path(job.codes)
    if job.plot:
        from ..display import check_picture

        for path in output_paths(job.plot, pieces):
            check_picture(path)
    for prompt in job.prompts:
        check_words("a prompt", prompt)
    if job.negative_prompt is not None and not job.prompts:
        raise InputError("a negative prompt needs a prompt beside it; describe the music as well")
    if job.negative_prompt is not None:
        check_words("the negative prompt", job.negative_prompt)
    if job.mindir and (job.output == "-" or job.melody or job.quantization):
        raise InputError(
            "--mindir makes files from text and audio prompts; leave --output -, --melody, --quantization out"
        )
    if job.mindir and (job.model or job.dtype):
        raise InputError("--mindir has its model and its dtype in the files; leave --model and --dtype out")
    voices = None if job.long else job.voice  # of a dialogue there are as many as speakers
    for name, given in (("audio prompts", job.audio), ("melodies", job.melody), ("voices", voices)):
        if given and len(given) not in (1, max(len(job.prompts), 1)):
            raise InputError(f"there are {len(given)} {name} for {len(job.prompts)} prompts; give one, or one each")


def _plot(job, paths, made, model):
    """A picture of each piece."""
    from ..display import plot_piece, save_picture

    for number, (path, (clip, codes, _)) in enumerate(zip(paths, made, strict=True)):
        prompt = job.prompts[number // job.copies] if job.prompts else ""
        title = prompt if len(prompt) <= 80 else prompt[:77] + "..."
        title = title.replace("$", r"\$")  # two of them would begin a formula
        save_picture(plot_piece(clip, model.sampling_rate, codes, model.frame_rate, title), path)
        tell(said(f"{path}: waveform, spectrogram and codes"))


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


def _stream(job, family, folder, interrupts, pipe):
    """Generate one piece into a pipe, second by second."""
    from ..audio import PcmStream

    work = family.prepare(job, folder)
    model, options = work.model, work.options | {"seed": _seed(work.options["seed"])}
    tell(said(f"seed {options['seed']}"), error=True)
    total, output = None, None

    def see(done, of):
        nonlocal total
        total = of

    hop = model.config.audio_encoder.hop_length
    try:
        with family.memory_for(job, work):
            for chunk in model.stream(**work.inputs, **options, callback=see):
                interrupts.check()
                audio = chunk.asnumpy()[0]
                if output is None:
                    output = PcmStream(pipe, model.sampling_rate, len(audio), total * hop, header=not job.raw)
                output.write(audio)
    except BrokenPipeError:
        stopped = said(f"whoever listened has stopped; {_streamed(output)}")
        tell(f"mindmusicgen: {stopped}", error=True)
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
