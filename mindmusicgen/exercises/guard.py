"""Keeps a student's code away from other computers and other programs, as far as Python itself can.

Python asks an audit hook before its own functions act, and a hook cannot be taken out again. So all of these are
refused, however they are reached: sockets of every kind (TCP, UDP, local ones, waiting for others) and look-ups of
names; other programs and copies of the process; signals to other processes; through ctypes the C functions that do
the same; compiled modules and libraries that do not belong to what is installed.

That stops mistakes and simple attempts. It is no wall: compiled code that is installed (such as cffi) is not asked, who
can write into Python's memory can do anything, and files are read and written as by the user who marks. Notebooks of
strangers belong into a container or virtual machine without network.
"""

import contextlib
import os
import sys

NETWORK = ("connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")
NETWORK = frozenset(f"socket.{name}" for name in NETWORK)
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn")
PROGRAMS = frozenset((*PROGRAMS, "os.fork", "os.forkpty"))
C_FUNCTIONS = (
    *("socket", "connect", "bind", "listen", "send", "sendto", "sendmsg", "sendmmsg", "getaddrinfo", "gethostbyname"),
    *("gethostbyname2", "gethostbyname_r", "syscall", "system", "popen", "fork", "vfork", "clone", "execv", "execve"),
    *("execvp", "execvpe", "execl", "execle", "execlp", "fexecve", "posix_spawn", "posix_spawnp", "kill", "killpg"),
    *("tgkill", "dlopen", "dlsym", "dlvsym", "mprotect", "ptrace", "process_vm_writev"),
)


def keep_inside():
    """Refuse from now on, in this process, what leads out of it. Each attempt is an OSError."""
    own, here = os.getpid(), os.path.realpath(os.getcwd())
    places = [sys.prefix, sys.base_prefix, *(path for path in sys.path if path), *_system_libraries()]
    places = tuple(real + os.sep for real in map(os.path.realpath, places) if real != here)
    _refuse_spawning()
    sys.addaudithook(_hook(own, places, NETWORK, PROGRAMS, frozenset(C_FUNCTIONS)))


def _hook(own, places, network, programs, functions):
    """The hook; it looks nothing up that a notebook could exchange."""
    error, text, decoded, real, starts = OSError, str, os.fsdecode, os.path.realpath, str.startswith
    names = frozenset(("ctypes.dlsym", "ctypes.dlsym/handle"))
    signals = frozenset(("os.kill", "os.killpg"))

    def foreign(path):
        """Whether a library is named by a path that leads to nothing installed."""
        path = path if path.__class__ is text else decoded(path)
        return "/" in path and not starts(real(path), places)

    def hook(event, arguments):
        if event in network:
            raise error("exercises run without network")
        if event in programs or event in signals and arguments[0] not in (own, 0):
            raise error("exercises run without other programs")
        if event in names and arguments[1] in functions:
            raise error("exercises run without network and other programs")
        if event == "ctypes.dlopen" and arguments[0] is not None and foreign(arguments[0]):
            raise error("exercises run without compiled code of their own")
        if event == "import" and arguments[1] is not None and foreign(arguments[1]):
            raise error("exercises run without compiled code of their own")

    return hook


def _refuse_spawning():
    """Take away what `subprocess` is built on, of which no hook hears."""

    def refuse(*_):
        raise OSError("exercises run without other programs")

    with contextlib.suppress(ImportError):  # not on Windows
        import _posixsubprocess
        import subprocess

        _posixsubprocess.fork_exec = subprocess._fork_exec = refuse


def _system_libraries():
    return "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local"
