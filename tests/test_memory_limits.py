"""What a process may have of the machine's memory: its container and ulimit may allow less."""

import resource

import pytest

from mindmusicgen import cli
from mindmusicgen.doctor import environment
from mindmusicgen.runtime import device, memory_limits


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 10 GB free, on which this process has 1 GB; a function writes the files of a cgroup."""
    (tmp_path / "status").write_text("VmSize:\t3000000 kB\nVmData:\t2000000 kB\nVmRSS:\t1000000 kB\n")
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 10000000 kB\n")
    (tmp_path / "cgroup").write_text("")
    for name, file in (("STATUS", "status"), ("MEMINFO", "meminfo"), ("GROUPS", "cgroup"), ("MOUNT", "mount")):
        monkeypatch.setattr(memory_limits, name, tmp_path / file)

    def group(line, place, version, limit, used, reclaimable):
        with open(tmp_path / "cgroup", "a") as file:
            file.write(line + "\n")
        folder = tmp_path / "mount" / place
        folder.mkdir(parents=True, exist_ok=True)
        names = memory_limits.FILES[version]
        for name, value in ((names[0], limit), (names[1], used), ("memory.stat", f"anon 5\n{names[2]} {reclaimable}")):
            (folder / name).write_text(f"{value}\n")

    return group


def test_the_machine(machine):
    assert memory_limits.room() == (11_000_000 * 1024, "this machine")


@pytest.mark.parametrize(
    ("line", "place", "version"),
    [
        ("0::/user/job", "user/job", 2),
        ("0::/user/job", "user", 2),  # the limit is that of a group around
        ("0::/../../job", "", 2),  # inside a container, which sees itself at the top
        ("4:cpu,memory:/docker/a1", "memory/docker/a1", 1),
        ("4:memory:/docker/a1", "memory", 1),
    ],
)
def test_a_container(machine, line, place, version):
    machine(line, place, version, 3_000_000_000, 2_000_000_000, 500_000_000)
    assert memory_limits.room() == (1_500_000_000 + 1_000_000 * 1024, "its container")
    assert device.memory_for_us() == memory_limits.room()[0]
    assert environment.memory().endswith("2.5 left by its container")


@pytest.mark.parametrize(
    ("line", "place", "version", "limit"),
    [
        ("0::/user", "user", 2, "max"),
        ("4:memory:/user", "memory/user", 1, 9223372036854771712),
        ("0::/user", "user", 2, "?"),
        ("4:cpu:/user", "memory/user", 1, 1000),  # another controller's place
    ],
)
def test_no_container(machine, line, place, version, limit):
    machine(line, place, version, limit, 5, 5)
    assert memory_limits.room()[1] == "this machine"


@pytest.mark.parametrize(("limit", "option"), [("RLIMIT_AS", "v"), ("RLIMIT_DATA", "d")])
def test_ulimit(machine, monkeypatch, limit, option):
    limits = {getattr(resource, limit): 4_000_000 * 1024}
    monkeypatch.setattr(memory_limits.resource, "getrlimit", lambda which: (limits.get(which, -1), -1))
    left = {"v": 1_000_000, "d": 2_000_000}[option]
    assert memory_limits.room() == ((left + 1_000_000) * 1024, f"ulimit -{option}")


def test_info_says_it(machine, capsys):
    machine("0::/", "", 2, 3_000_000_000, 1_000_000_000, 0)
    assert cli.main(["info", "demo"]) == 0
    assert "  room here     3.02 GB, as its container leaves" in capsys.readouterr().out


def test_where_nothing_is_known(tmp_path, monkeypatch):
    for name in ("STATUS", "MEMINFO", "GROUPS"):
        monkeypatch.setattr(memory_limits, name, tmp_path / "none")
    monkeypatch.setattr(memory_limits, "resource", None)
    assert memory_limits.room() == (None, "")
