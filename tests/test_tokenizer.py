"""The tokenizer of a folder: tokenizer.json decides in every version of transformers, and no code is run or offered."""

import hashlib
import io
import json
import os
import shutil

import pytest

from mindmusicgen import AutoProcessor, InputError, MusicgenForConditionalGeneration, MusicgenProcessor, cli
from mindmusicgen.checkpoint.source import DEMO
from mindmusicgen.tokenizer import open_tokenizer

TEXTS = (
    "80s pop track with bassy drums and synth",
    "a  double  space",
    "lo-fi, hip–hop! (with) <pad> </s> éà 中文",
    "\ttabs\nand lines",
    "x" * 100,
    "<extra_id_0> hi",
    " lead",
    "Ünïcödé ﬁ ½",
)
TRUNCATION = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
PADDING = {"strategy": {"Fixed": 10**12}, "direction": "Left", "pad_to_multiple_of": 10**9, "pad_id": 5}
PADDING |= {"pad_type_id": 0, "pad_token": "x"}


@pytest.fixture
def folder(tmp_path):
    """The demo without its weights."""
    target = tmp_path / "model"
    shutil.copytree(DEMO, target, ignore=shutil.ignore_patterns("*.safetensors"))
    return target


def edit(path, **changes):
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def ids(folder):
    return open_tokenizer(str(folder))(list(TEXTS), padding=True, truncation=True, max_length=512)["input_ids"]


def test_the_same_tokens_in_every_version_of_transformers():
    """The digest was made with 4.57.6 and 5.24.0, whose own AutoTokenizer splits two of the texts otherwise."""
    digest = hashlib.sha256(json.dumps(ids(DEMO)).encode()).hexdigest()
    assert digest == "4a3d3a2979fbd0d1b52adac9e899c882e22cecaa31ecd54a73a844a451bbb14e"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "spiece.model").unlink(),
        lambda folder: (folder / "spiece.model").write_bytes(b"damaged"),
        lambda folder: (folder / "special_tokens_map.json").write_text("damaged"),
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        lambda folder: edit(folder / "tokenizer_config.json", add_prefix_space=True, legacy=False),
        lambda folder: edit(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer", padding_side="left"),
        lambda folder: edit(folder / "tokenizer_config.json", extra_ids=100, model_max_length=3),
        lambda folder: edit(folder / "added_tokens.json", happy=7),
        lambda folder: edit(folder / "tokenizer.json", padding=PADDING, truncation=TRUNCATION),
    ],
    ids=range(9),
)
def test_tokenizer_json_alone_decides(folder, change):
    expected = ids(folder)
    change(folder)
    assert ids(folder) == expected


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("slow", [False, True], ids=["tokenizer.json", "spiece.model"])
def test_code_in_a_folder_is_neither_run_nor_offered(folder, tmp_path, monkeypatch, capsys, file, slow):
    """Also where somebody would answer yes."""
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Own: pass\n")
    classes = {"AutoTokenizer": ["own.Own", "own.Own"], "AutoConfig": "own.Own", "AutoProcessor": "own.Own"}
    classes |= {"AutoFeatureExtractor": "own.Own", "AutoModel": "own.Own"}
    if slow:
        (folder / "tokenizer.json").unlink()
    expected = open_tokenizer(str(folder))("calm piano")["input_ids"]
    edit(folder / file, auto_map=classes, tokenizer_class="Own")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    processor = AutoProcessor.from_pretrained(str(folder))
    assert processor.tokenizer("calm piano")["input_ids"] == expected
    with pytest.raises(InputError, match="holds no weights"):
        MusicgenForConditionalGeneration.from_pretrained(str(folder))
    assert cli.main(["generate", "x", "--model", str(folder), "--output", str(tmp_path / "a.wav")]) == 2
    assert not (tmp_path / "ran").exists() and "y/N" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tokenizer.json", "{}", "cannot be used"),
        ("tokenizer.json", "[" * 100_000, "cannot be used"),
        ("tokenizer.json", "", "cannot be used"),
        ("tokenizer_config.json", "[" * 100_000, "tokenizer_config.json is not valid JSON"),
        ("tokenizer_config.json", '{"pad_token": "a", "pad_token": "b"}', "tokenizer_config.json is not valid JSON"),
        ("tokenizer_config.json", '{"pad_token": "<nothing>"}', "pad_token '<nothing>'"),
        ("tokenizer_config.json", '{"eos_token": {"content": 5}}', "eos_token 5"),
        ("tokenizer_config.json", '{"unk_token": ["<unk>"]}', "unk_token"),
        ("preprocessor_config.json", '{"sampling_rate": 1e400}', "at inf Hz"),
        ("preprocessor_config.json", '{"sampling_rate": NaN}', "preprocessor_config.json is not valid JSON"),
        ("preprocessor_config.json", '{"sampling_rate": [32000]}', "[32000] Hz"),
    ],
)
def test_damaged_files_are_one_sentence(folder, name, text, words):
    (folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        MusicgenProcessor.from_pretrained(str(folder))
    message = str(caught.value)
    assert words in message and str(folder) in message
    assert message.isprintable() and len(message) < 300 + len(os.fspath(folder))


def test_no_tokenizer(folder):
    for name in ("tokenizer.json", "spiece.model"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="no tokenizer: expected tokenizer.json or spiece.model"):
        MusicgenProcessor.from_pretrained(str(folder))
