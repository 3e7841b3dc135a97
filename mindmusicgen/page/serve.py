"""Shows the page to a browser, until it is told to end."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
from importlib.metadata import PackageNotFoundError, version

from ..errors import InputError
from ..language import said
from ..runtime.telling import tell
from .studio import Studio

LOCAL = ("127.0.0.1", "localhost", "::1")
FACE = """@font-face {{ font-family: page-zh; font-display: swap; src: local("Noto Sans CJK SC"), local("Noto Sans SC"),
local("PingFang SC"), local("Microsoft YaHei"), url("gradio_api/file={font}");
unicode-range: U+2E80-9FFF, U+F900-FAFF, U+FF00-FFEF; }}
"""  # of this package, for computers that have no Chinese one
PORTS = range(7860, 7960)  # tried one after the other where none is asked for


class Served:
    """A page that is shown; `close` ends it, with the pieces that are being made.

    Args:
        limits (Limits): what visitors may ask for.
        host (str), port (int): where; no port is the first that is free.
        auth (tuple[str, str]): the user and the password that are asked for; None asks nobody.
        keep (str): a folder that keeps a copy of every piece.
        source (dict): revision, cache_dir and local_files_only, of models of the hub.
        more (dict): words of every job, such as dtype.
        inline (bool): show it in the notebook that calls.

    Attributes:
        url (str): where a browser finds it.

    Raises:
        InputError: if Gradio is not installed, or there is no such place to serve from.
    """

    def __init__(
        self, limits=None, host="127.0.0.1", port=None, auth=None, keep=None, source=None, more=None, inline=False
    ):
        check_gradio()
        port = free_port(host, port)
        self.folder = tempfile.mkdtemp(prefix="mindmusicgen-page-")
        # Gradio asks for these when it is imported, or whenever a file comes.
        self.before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = os.path.join(self.folder, "served")
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        import gradio as gr

        from ..display import FONT
        from .app import HERE, Page
        from .desk import Desk

        self.studio = Studio(limits, source)
        self.desk = Desk(self.studio, self.folder, keep, more)
        self.blocks = Page(self.desk).blocks
        try:
            _, self.url, _ = self.blocks.launch(
                server_name=host,
                server_port=port,
                auth=auth,
                inline=inline,
                height=900,
                prevent_thread_lock=True,
                quiet=True,
                show_error=True,  # also what Gradio itself refuses, such as a file that nobody sent, has its sentence
                share=False,
                ssr_mode=False,
                run_history=False,
                max_file_size=f"{self.studio.limits.upload}mb",
                footer_links=["api", "settings"],
                theme=gr.themes.Soft(
                    font=["page-zh", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ),
                css=FACE.format(font=FONT) + (HERE / "page.css").read_text(encoding="utf-8"),
                allowed_paths=[str(FONT)],
            )
        except BaseException:
            self.close()
            raise

    def __repr__(self):
        return f"the page at {self.url}"

    def warm(self):
        """Open the first model and compile its graphs, beside whoever looks at the page."""
        from ..commands.job import Job

        limits, output = self.studio.limits, os.path.join(self.folder, "warm.wav")
        seconds = min(10.0, limits.duration)
        self.studio.warm(Job(["calm piano"], model=limits.models[0], duration=seconds, seed=0, output=output))

    def close(self):
        """End the pieces that are being made, and serve no longer."""
        self.studio.close()
        self.blocks.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.environ.pop("GRADIO_TEMP_DIR", None)
        if self.before is not None:
            os.environ["GRADIO_TEMP_DIR"] = self.before


def check_gradio():
    """Refuse to go on without Gradio.

    Raises:
        InputError: that says how to install it.
    """
    try:
        found = version("gradio")
    except PackageNotFoundError as error:
        raise InputError("the page needs Gradio, which is not installed; run: pip install 'gradio>=6.31'") from error
    if tuple(int(part) for part in found.split(".")[:2]) < (6, 31):
        raise InputError(f"the page needs Gradio 6.31 or newer, not {found}; run: pip install -U 'gradio>=6.31'")


def free_port(host, port):
    """The port to serve from.

    Raises:
        InputError: if it is taken, or no name or number of this machine.
    """
    for number in PORTS if port is None else (port,):
        try:
            family, *_, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(address)
            return number
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    where = f"port {port} of {host}" if port is not None else f"a port from {PORTS[0]} to {PORTS[-1]} of {host}"
    raise InputError(f"the page cannot be served from {where} ({reason}); choose another --host or --port")


def serve(interrupts, **options):
    """Show the page until Ctrl-C or SIGTERM.

    Args:
        interrupts (Interrupts): asked for Ctrl-C.
        options: as of `Served`.

    Raises:
        InputError: as `Served`.
        KeyboardInterrupt: if Ctrl-C ended it.
    """
    host, ended = options.get("host", "127.0.0.1"), threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        if host not in LOCAL and options.get("auth") is None:
            warning = said(f"whoever reaches {host} can use this page; --auth USER:PASSWORD asks who they are")
            tell(f"mindmusicgen: warning: {warning}", error=True)
        page = Served(**options)
        with contextlib.closing(page):
            tell(said(f"the page is at {page.url}; Ctrl-C ends it"))
            page.warm()
            while not ended.wait(0.1):
                interrupts.check()
    finally:
        signal.signal(signal.SIGTERM, before)
