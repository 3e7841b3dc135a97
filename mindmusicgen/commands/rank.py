"""`mindmusicgen rank`: which recordings fit a text, by CLAP; and of the candidates of `generate`, the best."""

from ..errors import InputError
from ..language import said
from ..runtime.telling import tell
from . import flags

LONGEST = 600.0  # seconds of a recording


def add_rank(parser):
    """The words of `rank`."""
    parser.usage = "mindmusicgen rank TEXT AUDIO [AUDIO ...] --scorer MODEL [options]"
    parser.epilog = flags.examples('rank "calm piano" a.wav b.wav --scorer laion/clap-htsat-unfused')
    parser.add_argument("text", metavar="TEXT", help="what should be heard")
    parser.add_argument("audio", metavar="AUDIO", nargs="+", help="audio files; of long ones both ends count")
    flags.add_scorer(parser, required=True)
    flags.add_computing(parser, dtype=False)
    parser.set_defaults(run=run_rank)


def run_rank(arguments, interrupts):
    """`mindmusicgen rank`"""
    from ..audio import read_audio
    from ..clap.judge import ranked
    from ..clap.scorer import Scorer
    from ..words import check_words

    check_words("a text", arguments.text)
    flags.use_device(arguments)
    flags.opening(arguments.scorer)
    scorer = Scorer.from_pretrained(arguments.scorer, **flags.source(arguments))
    rate, scores = scorer.features.sampling_rate, []
    for path in arguments.audio:
        scores += list(scorer.scores(arguments.text, [read_audio(path, rate, 1, LONGEST)], rate))
        interrupts.check()
    for number in ranked(scores):
        tell(f"{scores[number]:+.4f}  {arguments.audio[number]}")


def open_judge(job, family, folder):
    """What chooses among candidates; None where there is but one of each piece.

    Args:
        job (Job): what `generate` was asked for.
        family (module): `command` of the model's family.
        folder (ModelFolder): of the model.

    Raises:
        InputError: if nobody can judge, or a word is of no use.
    """
    if job.candidates == 1:
        if job.scorer is not None:
            raise InputError("--scorer chooses among candidates; give --candidates too, or use mindmusicgen rank")
        return None
    if not job.prompts:
        raise InputError("candidates are judged by their prompt; describe the music, or leave --candidates out")
    if job.scorer is None:
        if not hasattr(family, "open_judge"):
            raise InputError("--candidates needs --scorer: a CLAP such as laion/clap-htsat-unfused, or a MusicLDM")
        return family.open_judge(job, folder)
    from ..clap.scorer import Scorer

    return Scorer.from_pretrained(job.scorer, **flags.where(job))


def best_of(job, judge, made, rate):
    """Of all candidates the best of each piece, in the order of the pieces.

    Args:
        job (Job): what `generate` was asked for.
        judge (Scorer): who chooses.
        made (list): (audio [channels, samples], codes, seed) of each candidate, those of a piece beside each other.
        rate (int): samples per second.
    """
    chosen = []
    for start in range(0, len(made), job.candidates):
        some = made[start : start + job.candidates]
        prompt = job.prompts[start // (job.candidates * job.copies)]
        scores = judge.scores(prompt, [clip for clip, _, _ in some], rate)
        best = int(scores.argmax())
        least, most = scores.min(), scores.max()
        tell(said(f"seed {some[best][2]} fits best: {most:.3f}, of {least:.3f} to {most:.3f}"), error=True)
        chosen.append(some[best])
    return chosen
