"""`mindmusicgen page`: a page in the browser that makes music."""

import os

from ..errors import InputError
from . import flags


def add_page(parser):
    """The words of `page`."""
    parser.usage = "mindmusicgen page [-m MODEL ...] [--host HOST] [--port PORT] [--auth USER:PASSWORD] [options]"
    parser.epilog = flags.examples(
        "page                                      # on this machine, with the models that come along",
        "page -m facebook/musicgen-small -m demo --keep pieces",
        "page --host 0.0.0.0 --auth me:secret --max-duration 30",
    )
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        metavar="MODEL",
        help="folder or hub id to choose from; may be given several times (those that come with the package)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve from (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, help="port to serve from (the first that is free from 7860)")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="ask visitors for these")
    parser.add_argument(
        "--max-duration", type=float, default=120.0, metavar="SECONDS", help="of a piece, at most (120)"
    )
    parser.add_argument("--max-upload", type=int, default=50, metavar="MB", help="of a recording, at most (50)")
    parser.add_argument("--keep", metavar="FOLDER", help="keep a copy of every piece in this folder")
    flags.add_scorer(parser)
    flags.add_computing(parser)
    parser.set_defaults(run=run_page, interrupted="the page is closed")


def run_page(arguments, interrupts):
    """`mindmusicgen page`"""
    options = _options(arguments)
    flags.use_device(arguments)
    from ..page.serve import serve

    serve(interrupts, **options)


def _options(arguments):
    """What the words come to, checked before anything is loaded."""
    from ..page.serve import LOCAL, check_gradio
    from ..page.studio import Limits
    from ..runtime.files import check_folder

    user, colon, password = (arguments.auth or "").partition(":")
    if arguments.auth is not None and not (user and colon and password):
        raise InputError("--auth has no user and password; give both with a colon between them, as in me:secret")
    if not 1 <= arguments.max_duration <= 3600:
        raise InputError(f"--max-duration is {arguments.max_duration:g}; expected 1 to 3600 seconds")
    if not 1 <= arguments.max_upload <= 4096:
        raise InputError(f"--max-upload is {arguments.max_upload}; expected 1 to 4096 megabytes")
    if arguments.keep:
        check_folder(arguments.keep, "the folder of --keep")
    check_gradio()
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
    limits = Limits(
        duration=arguments.max_duration,
        upload=arguments.max_upload,
        models=tuple(dict.fromkeys(arguments.model)) if arguments.model else Limits.models,
        any_model=arguments.host in LOCAL,
        scorer=arguments.scorer,
    )
    return {
        "limits": limits,
        "host": arguments.host,
        "port": arguments.port,
        "auth": (user, password) if arguments.auth else None,
        "keep": arguments.keep,
        "source": flags.source(arguments),
        "more": {"dtype": arguments.dtype},
    }
