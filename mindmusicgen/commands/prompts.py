"""`mindmusicgen prompts`: words and prompts that the demo model understands."""

from .. import language
from ..runtime.telling import tell
from . import flags


def add_prompts(parser):
    """The words of `prompts`."""
    parser.usage = "mindmusicgen prompts [--count N] [-s SEED] [--language en|zh]"
    parser.epilog = flags.examples("prompts --count 10 -s 3")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="new prompts to make up (5)")
    parser.add_argument("-s", "--seed", type=int, help="the same number makes up the same prompts")
    parser.add_argument("--language", default=language.current(), help="en or zh (that of the errors)")
    parser.set_defaults(run=run_prompts)


def run_prompts(arguments, interrupts):
    """`mindmusicgen prompts`"""
    from ..auto import part_of_family
    from ..checkpoint.source import DEMO

    prompts = part_of_family(DEMO, "prompts")

    made = prompts.invent(arguments.count, arguments.seed, arguments.language)
    chinese = arguments.language == "zh"
    examples = [text for text in prompts.demo_words()["examples"] if (max(text) > "\u2e80") == chinese]
    for line in [*prompts.describe(arguments.language), "", *examples, "", *made]:
        tell(line)
