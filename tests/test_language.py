"""Errors in Chinese, from one table with the English ones; and one word for one thing in all Chinese texts."""

import argparse
import ast
import errno
import inspect
import json
import os
import re
import sys
from pathlib import Path

import pytest

from mindmusicgen import InputError, cli, display, language, notebook
from mindmusicgen.exercises import EXERCISES, examine, texts
from mindmusicgen.exercises.__main__ import main as mark
from mindmusicgen.exercises.exercise import Text
from mindmusicgen.musicgen.training.finetune import finetune

ROOT = Path(__file__).resolve().parent.parent
TABLE = json.loads(language.SENTENCES.read_text(encoding="utf-8"))
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("MINDMUSICGEN_LANG", "zh")


def sentence_of(node):
    """The text of a string of source code, with {} for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def in_source(*functions):
    """Every text in the package's source, or those that are the first argument of a function: (file, text)."""
    for path in (ROOT / "mindmusicgen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if functions:
                called = isinstance(node, ast.Call) and getattr(node.func, "id", "") in functions
                node = node.args[0] if called and node.args else None
            if sentence_of(node) is not None:
                yield path, sentence_of(node)


def of_others():
    """What argparse and the operating system say, with {} for what is filled in."""
    texts = (sentence_of(node) for node in ast.walk(ast.parse(inspect.getsource(argparse))))
    return {re.sub(r"%(\(\w+\))?[sr]", "{}", text) for text in texts if text} | set(map(os.strerror, errno.errorcode))


def test_every_sentence_of_the_table_is_one_that_somebody_says():
    assert len(TABLE) >= 230
    said = {text for _, text in in_source()} | of_others()
    gone = set(TABLE) - said
    assert not gone, "nobody says these any more: change or remove them in sentences_zh.json"


def test_errors_and_the_command_line_have_their_chinese():
    """All but the newest: families that are young, and a twentieth of the rest, may wait for their translation."""
    young = {"bark", "musicldm", "jukebox"}
    found = ((path.relative_to(ROOT).parts, text) for path, text in in_source("InputError", "said"))
    said = {text for parts, text in found if not young.intersection(parts)}
    missing = said - set(TABLE)
    assert len(said) > 300 and len(missing) < len(said) / 20, f"write these into sentences_zh.json: {sorted(missing)}"


def test_each_is_said_in_chinese_with_what_is_filled_in(chinese):
    """Each gap once, and no other sentence's translation."""
    for english, translated in TABLE.items():
        filled = english
        values = [f"<{number}>" for number in range(english.count("{}"))]
        for value in values:
            filled = filled.replace("{}", value, 1)
        said = str(InputError(filled))
        assert CHINESE.search(said) and sorted(re.findall("<[0-9]>", said)) == values, english
        assert said == re.sub(r"\{(\d)\}", r"<\1>", translated)


def test_what_is_not_in_the_table_stays_english(chinese):
    assert str(InputError("the moon is full; wait a week")) == "the moon is full; wait a week"


def test_english_is_said_elsewhere(monkeypatch):
    monkeypatch.setenv("MINDMUSICGEN_LANG", "en")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert str(InputError("workers is 0; expected a whole number of at least 1")).startswith("workers is 0;")


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"MINDMUSICGEN_LANG": "zh", "LC_ALL": "C"}, "zh"),
        ({"MINDMUSICGEN_LANG": "en", "LC_ALL": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "zh_TW.UTF-8"}, "zh"),
        ({"LC_ALL": "", "LANG": "zh_CN.GB18030"}, "zh"),
        ({"LC_MESSAGES": "en_US.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_language_is_the_settings_or_the_computers(settings, expected, monkeypatch):
    for name in language.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert language.current() == expected


def test_a_broken_table_leaves_english(chinese, monkeypatch, tmp_path):
    monkeypatch.setattr(language, "SENTENCES", tmp_path / "missing.json")
    language._table.cache_clear()
    try:
        assert language.said("text is missing; say what the music should be").startswith("text is missing")
    finally:
        language._table.cache_clear()


def test_the_command_line_says_it_in_chinese(chinese, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "pop", "--plot", "out.jpg"]) == 2
    assert "图 'out.jpg' 的扩展名不是 '.png'" in capsys.readouterr().err


WRONG_WORDS = {
    "generate a --sed 1": "mindmusicgen generate 没有选项 --sed；是不是想写 --seed？ 详见 mindmusicgen generate --help",
    "generate a -x": "mindmusicgen generate 没有选项 -x；详见 mindmusicgen generate --help",
    "generat a": "没有这个命令：'generat'；是不是想写 generate？ 详见 mindmusicgen --help",
    "batch p.jsonl": "缺少参数：-o/--output；详见",
    "generate a -d x": "参数 -d/--duration：'x' 不是 float 类型的值；",
    "generate a -d": "参数 -d/--duration：后面要有一个值；",
    "generate a --normalize all": "参数 --normalize：没有 'all' 这个选项（可选 'none', 'peak', 'loudness'）；",
    "generate a -d 1 --max-new-tokens 2": "参数 --max-new-tokens：不能与参数 -d/--duration 一起用；",
    "info a b": "多了 'b' 这个词；",
}


@pytest.mark.parametrize("words", WRONG_WORDS)
def test_a_wrong_word_is_said_in_chinese(chinese, capsys, words):
    with pytest.raises(SystemExit) as ended:
        cli.parse(words.split())
    assert ended.value.code == 2 and WRONG_WORDS[words] in capsys.readouterr().err


REFUSED = {
    "generate a b -o -": "标准输出只接一段音乐，而不是 2 段",
    "generate a --raw": "--raw 属于 --output -",
    "generate a -o - --play": "流直接交给播放它的程序",
    "generate --like nowhere.wav": "音频 'nowhere.wav' 无法读取；应为完整的 .wav, .flac, .ogg, .mp3 文件",
    "generate nowhere.txt": "无法读取提示词文件 'nowhere.txt'：没有那个文件或目录；应为文本文件",
    "play nowhere.wav": "无法播放音频 'nowhere.wav'，没有这个文件",
    "prompts --count -1": "条数 是 -1",
    "batch p.jsonl -o out --ray-address x": "--ray-address 属于 --workers",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_a_command_refuses_is_said_in_chinese(chinese, capsys, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == 2
    assert REFUSED[words] in capsys.readouterr().err


def test_what_is_filled_in_may_be_a_sentence_too(chinese):
    line = "'p.jsonl', line 3: seed is -1; expected a whole number of at least 0"
    assert language.said(line) == "'p.jsonl' 第 3 行：种子 是 -1；应为不小于 0 的整数"
    assert language.said("interrupted, nothing was written") == "已中断，什么也没有写"
    assert language.said("there are 2 audio prompts for 3 prompts; give one, or one each").startswith(
        "有 2 个音频提示，"
    )


def test_marking_says_it_in_chinese(chinese, capsys, tmp_path):
    assert mark([str(tmp_path / "nowhere")]) == 2
    assert "不是文件夹；请给出存放学生笔记本的文件夹" in capsys.readouterr().err


def test_training_says_it_in_chinese(chinese, tmp_path):
    with pytest.raises(InputError, match="学习率是 -1；应为大于 0 的有限数"):
        (tmp_path / "songs").mkdir()
        finetune(str(tmp_path / "songs"), "demo", str(tmp_path / "run"), learning_rate=-1)


def test_the_checker_follows_the_same_setting(chinese):
    assert "没有可检查的函数" in examine("guidance", None).message


# One word for one thing in Chinese: what is written, and what is not.
TERMS = {
    "内核 is Jupyter's kernel; 算子 is one that computes": r"C 内核|核函数|[Kk]ernel",
    "引导 is guidance": r"指导|[Gg]uidance(?!_)",
    "词元 is a token": r"标记符|令牌|[Tt]oken",
    "笔记本 is a notebook": r"记事本|[Nn]otebook",
    "单元格 is a cell": r"单元(?!格)",
    "提示词 is a text prompt": r"提示语|[Pp]rompt",
    "编解码器 is the codec": r"(?<!En)[Cc]odec|编码解码器",
    "码本 is a codebook": r"码书|(?<!编)码表|[Cc]odebook",
    "你 is the reader": r"您",
    "“ ” are the quotation marks": r"[「」『』]",
    "** ** stands out, as Chinese has no italics": r"(?<!\*)\*(?!\*)[^*\n]*[\u4e00-\u9fff][^*\n]*(?<!\*)\*(?!\*)",
}
NOT_PROSE = re.compile(r"```.*?```|`[^`\n]*`|（[A-Za-z][^）]*）|\]\([^)]*\)|\$[^$]*\$|\{[^}]*\}|《[^》]*》", re.DOTALL)


def written():
    """Every Chinese text of the lessons, the exercises, the checker and what the notebooks show: (where, text)."""
    pytest.importorskip("nbclient", reason="the extra `tutorials` is not installed")
    sys.path.insert(0, str(ROOT / "scripts" / "tutorials"))
    import build

    sources = [*build.LESSONS.glob("*.md"), *(ROOT / "scripts" / "exercises").glob("*.md")]
    for source in sources:
        parts = source.read_text(encoding="utf-8")
        yield from ((source.name, text) for text in re.findall(r"<!-- zh -->\n(.*?)(?=^<!-- )", parts, re.M | re.S))
        yield from ((source.name, text) for text in re.findall(r" ‖ ([^\"\n]*)", parts))
    yield "tutorials/README_CN.md", (ROOT / "tutorials" / "README_CN.md").read_text(encoding="utf-8")
    names = re.compile("[a-z]+_[a-z_]+|--[a-z-]+|'[a-z]+'")  # of arguments, options and kinds
    yield from (("sentences_zh.json", names.sub("", text)) for text in TABLE.values())
    yield from (("notebook.py", text) for text in notebook.SAYINGS["zh"].values())
    yield from (("display.py", text) for text in display.LABELS["zh"].values())
    yield from (("texts.py", text.zh) for text in vars(texts).values() if isinstance(text, Text))
    for name, exercise in EXERCISES.items():
        yield from ((name, mistake.text.zh) for mistake in exercise.mistakes)
        yield from ((name, case.label.zh + (case.hint.zh if case.hint else "")) for case in exercise.cases())


@pytest.mark.parametrize("term", TERMS)
def test_one_word_for_one_thing(term):
    wrong = [
        f"{where}: {found[0]!r} in {text[max(found.start() - 15, 0) : found.end() + 15]!r}"
        for where, whole in written()
        for text in [NOT_PROSE.sub(" ", whole)]
        for found in re.finditer(TERMS[term], text)
    ]
    assert not wrong, "\n".join(wrong)


def badly_bold(text):
    """What Markdown shows with its asterisks: between a letter and punctuation inside they open or close nothing."""
    parts = re.sub(r"```.*?```|`[^`\n]*`", "`", text, flags=re.DOTALL).split("**")
    return [
        bold
        for before, bold, after in zip(parts[0::2], parts[1::2], parts[2::2], strict=False)
        if (after[:1].isalnum() and not bold[-1:].isalnum()) or (before[-1:].isalnum() and not bold[:1].isalnum())
    ]


def test_what_is_meant_to_be_bold_is_bold():
    assert badly_bold("**答案。**一千") and badly_bold("说**“是”**。") and not badly_bold("**答案。** 一千，**是**。")
    assert not [(where, bold) for where, text in written() for bold in badly_bold(text)]


@pytest.mark.parametrize(
    "term, text",
    [("内核", "C 内核"), ("词元", "每个 token 一个向量"), ("“ ”", "「不看」"), ("** **", "这叫*贪心*选择")],
)
def test_a_wrong_word_would_be_found(term, text):
    pattern = next(pattern for name, pattern in TERMS.items() if name.startswith(term))
    assert re.search(pattern, text) and not re.search(pattern, "这叫**贪心**选择，“不看”，词元，C 算子")
