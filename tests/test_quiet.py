"""A clean run prints nothing of MindSpore's or transformers'; what is not about this package's ways is still told."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mindspore import log

from mindmusicgen.runtime import quiet

ROOT = Path(__file__).parent.parent
EXAMPLE = re.search(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
OTHERS = """
import mindspore as ms
import transformers
from mindspore import log

log.warning("MindSpore's own")
transformers.utils.logging.get_logger("transformers").warning("transformers' own")
ms.Tensor([1, 2]) + ms.Tensor([1, 2, 3])  # raised where it is made: operations run in the thread that calls them
"""


def test_the_first_example_is_silent_with_an_empty_cache_and_a_full_one(tmp_path):
    """Without torch, as a user has it. Its second run goes on with what others may say."""
    ours = ("GLOG_v", "MS_SUBMODULE", "TRANSFORMERS_")  # other tests of this process may have set them
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PYTHONPATH": str(ROOT), "USE_TORCH": "0", "MINDMUSICGEN_CACHE": str(tmp_path / "cache")}
    assert "max_new_tokens=256" in EXAMPLE
    code = EXAMPLE.replace("max_new_tokens=256", "max_new_tokens=8")
    for more, words in (("", []), (OTHERS, ["MindSpore's own", "transformers' own", "ValueError: For"])):
        (tmp_path / "example.py").write_text(code + more)
        done = subprocess.run(
            [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.stdout == "" and (tmp_path / "pop.wav").stat().st_size > 1000
        assert done.stderr.split("Traceback")[0].count("\n") == len(words[:2]), done.stderr
        assert all(word in done.stderr for word in words), done.stderr
        assert list((tmp_path / "cache").rglob("graph.mindir"))


def test_other_warnings_and_all_errors_are_logged(monkeypatch):
    seen, logger = [], log._get_logger()
    monkeypatch.setattr(logger, "handle", lambda record: logger.filter(record) and seen.append(record.getMessage()))
    with quiet._unlogged("enable_compile_cache"):
        for words in ("enable_compile_cache will go", "memory is short"):
            logger.critical(words)
    logger.critical("enable_compile_cache")
    assert seen == ["memory is short", "enable_compile_cache"]


@pytest.mark.parametrize(
    ("variables", "level"),
    [({}, 3), ({"GLOG_v": "2"}, 3), ({"GLOG_v": "4"}, 4), ({"GLOG_v": "1"}, 0), ({quiet.LEVELS: "{PIPELINE:1}"}, 0)],
)
def test_who_has_chosen_what_is_logged_keeps_it(monkeypatch, variables, level):
    for name in ("GLOG_v", quiet.LEVELS):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before, seen = dict(os.environ), []
    monkeypatch.setattr(quiet, "_levels_reader", lambda: lambda: seen.append(os.environ.get(quiet.LEVELS)))
    with pytest.raises(KeyError), quiet.cache_unmentioned():
        raise KeyError
    assert seen == ([f"{{PIPELINE:{level}}}", None] if level else []) and dict(os.environ) == before


def test_advice_is_withheld_from_imports_alone(monkeypatch):
    monkeypatch.delenv(quiet.ADVICE, raising=False)
    with quiet.unadvised():
        assert os.environ[quiet.ADVICE] == "1"
    assert quiet.ADVICE not in os.environ
    monkeypatch.setenv(quiet.ADVICE, "0")
    with quiet.unadvised():
        assert os.environ[quiet.ADVICE] == "0"


def test_mindspore_still_has_the_function_that_reads_its_levels():
    assert callable(quiet._levels_reader())
