"""How much memory this process may take: the machine's, what its container (cgroup) leaves, what ulimit allows."""

import contextlib
import os
import re
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

UNLIMITED = 1 << 60  # bytes: cgroup v1 writes a number beyond it for no limit
STATUS, MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
FILES = {  # of a cgroup of version 1 and 2: its limit, what is used, and what of that the system can take back
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def room():
    """The least of what the machine, the container and ulimit leave.

    Returns:
        tuple: bytes that this process could have in all, what it has now included, and what sets them: "this machine",
        "its container", "ulimit -v" or "ulimit -d"; (None, "") where nobody knows.
    """
    own = _kilobytes(STATUS, "VmRSS") or 0
    rooms = []
    if (free := _kilobytes(MEMINFO, "MemAvailable")) is not None:
        rooms.append((free + own, "this machine"))
    rooms += [(free + own, "its container") for free in _free_in_groups()]
    for option, limit, taken in (("v", "RLIMIT_AS", "VmSize"), ("d", "RLIMIT_DATA", "VmData")):
        most = resource.getrlimit(getattr(resource, limit))[0] if hasattr(resource, limit) else -1
        if most >= 0:
            rooms.append((max(most - (_kilobytes(STATUS, taken) or 0), 0) + own, f"ulimit -{option}"))
    return min(rooms, default=(None, ""))


def _kilobytes(path, name):
    """A line `name: 123 kB` of a file of Linux, in bytes; None without it."""
    with contextlib.suppress(OSError):
        found = re.search(rf"(?m)^{name}:\s+(\d+) kB", path.read_text())
        return found and int(found[1]) * 1024
    return None


def _free_in_groups():
    """Bytes left in each cgroup with a limit that this process is in, the groups around it included."""
    with contextlib.suppress(OSError):
        for line in GROUPS.read_text().splitlines():
            number, controllers, place = line.split(":", 2)
            if number == "0":
                yield from _free_around(MOUNT, place, 2)
            elif "memory" in controllers.split(","):
                yield from _free_around(MOUNT / "memory", place, 1)


def _free_around(mount, place, version):
    """The same for one hierarchy; in a container the group's place may name folders outside, its own is the mount's."""
    parts = [part for part in place.split("/") if part and part != os.pardir]
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        limit, used, reclaimable = FILES[version]
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            most = int((folder / limit).read_text())
            if most < UNLIMITED:
                found = re.search(rf"(?m)^{reclaimable} (\d+)$", (folder / "memory.stat").read_text())
                yield max(most - int((folder / used).read_text()) + int(found[1] if found else 0), 0)
