"""`mindmusicgen doctor`: what is installed, what it computes, how fast."""

from . import flags


def add_doctor(parser):
    """The words of `doctor`."""
    parser.usage = "mindmusicgen doctor [--quick] [--report FILE] [options]"
    parser.description = (
        "Say what is installed, run every operator against its reference and the demo model against\ngolden values, "
        "measure briefly, and write a report to send along with a question.\nExit code 1 if something is wrong."
    )
    parser.epilog = flags.examples("doctor --quick")
    parser.add_argument("--quick", action="store_true", help="fewer stages and a shorter benchmark")
    parser.add_argument(
        "--report",
        default="mindmusicgen-doctor.json",
        metavar="FILE",
        help="file to write, over an earlier one (mindmusicgen-doctor.json)",
    )
    flags.add_computing(parser)
    parser.set_defaults(run=run_doctor, interrupted="the report holds what was found so far")


def run_doctor(arguments, interrupts):
    """`mindmusicgen doctor`"""
    from ..doctor.command import doctor

    return doctor(arguments, interrupts)
