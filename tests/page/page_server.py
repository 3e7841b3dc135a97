"""`mindmusicgen page` in a process of its own."""

import signal
import subprocess
import sys
import time


class Server:
    """The command with these words; `url` is where the page is."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "mindmusicgen", "page", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if "http" not in line:
            raise RuntimeError(line + self.process.stderr.read())
        self.url = line.split(" at ")[1].split(";")[0].strip()

    def end(self, how=signal.SIGTERM):
        """End it; returns the exit code, what it said on standard error, and the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said, time.monotonic() - begun

    def memory(self):
        """Megabytes that it has in memory."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))
