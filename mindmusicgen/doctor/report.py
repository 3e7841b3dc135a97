"""The report: a file to send on, written anew after every check, and the lines on the screen."""

import dataclasses
import datetime
import json
import math

from ..runtime.files import whole_file
from ..runtime.telling import tell

FORMAT = 1
WIDTH = 34  # of the first column


class Report:
    """What was found, kept in a JSON file. If the process dies, the file says in which check.

    Args:
        path (str): the file.
        show (callable): takes each line for the screen.
    """

    def __init__(self, path, show=tell):
        self.path, self.show, self.results = path, show, []
        made = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self.content = {"report": "mindmusicgen doctor", "format": FORMAT, "made": made, "verdict": "unfinished"}
        self.content |= {"running": None, "problems": [], "notes": [], "checks": []}

    def add(self, **parts):
        """Add named parts to the file."""
        self.content |= parts
        self.write()

    def facts(self, title, values):
        """Add a dict of name to text, and show it."""
        self.add(**{title: values})
        for name, value in values.items():
            self.show(f"  {name:<14} {value}")

    def problem(self, sentence):
        """Something that makes the verdict fail."""
        self.content["problems"].append(sentence)
        self.show(f"  problem: {sentence}")
        self.write()

    def note(self, sentence):
        """Something worth knowing that fails nothing."""
        self.content["notes"].append(sentence)
        self.show(f"  note: {sentence}")
        self.write()

    def running(self, name):
        """The check that runs now."""
        self.add(running=name)

    def result(self, result):
        """Add a `results.Result` and show its line."""
        self.results.append(result)
        self.content["checks"].append({key: _plain(value) for key, value in dataclasses.asdict(result).items()})
        self.running(None)
        numbers = "could not run" if result.error is None else f"{result.error:.1e} of {result.tolerance:.0e}"
        word, detail = "ok" if result.passed else "WRONG", f"  {result.detail}" if result.detail else ""
        self.show(f"  {word:<5} {result.name:<{WIDTH}} {numbers:<18} {result.seconds:5.1f} s{detail}")

    def finish(self, seconds):
        """Conclude; returns whether all is well."""
        wrong = [result.name for result in self.results if not result.passed]
        if wrong:
            parts = {result.part for result in self.results if not result.passed}
            kind = "what is computed" if len(parts) > 1 else f"{parts.pop()}s"
            self.content["problems"].append(f"wrong {kind}: {'; '.join(wrong)}")
        passed = not self.content["problems"]
        self.add(verdict="passed" if passed else "failed", seconds=round(seconds, 1))
        if passed:
            self.show(f"passed: {len(self.results)} checks in {seconds:.0f} s. The report is in {self.path}")
        else:
            self.show(f"FAILED: {'. '.join(self.content['problems'])}")
            self.show(f"Please send {self.path} along when you ask for help; it holds nothing but what is above.")
        return passed

    def write(self):
        """Write the file, whole."""
        with whole_file(self.path) as partial, open(partial, "w", encoding="utf-8") as file:
            json.dump(self.content, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.write("\n")


def _plain(value):
    """A value that JSON knows: infinity becomes a text."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value
