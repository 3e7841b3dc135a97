"""The documents: links lead somewhere, the index is complete, commands exist, both languages agree."""

import importlib.util
import re
import shlex
import unicodedata
from pathlib import Path

import pytest

import mindmusicgen
from mindmusicgen.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for place in (
        ".",
        "docs",
        "tutorials",
        "scripts/benchmark",
        "mindmusicgen/demo",
        "mindmusicgen/fonts",
        "mindmusicgen/jukebox/solfa",
        "mindmusicgen/musicldm/beats",
    )
    for path in (ROOT / place).glob("*.md")
)
PAIRS = [(page, twin) for twin in PAGES if twin.endswith("_CN.md") for page in [twin.replace("_CN.md", ".md")]]
INDICES = ("docs/README.md", "docs/README_CN.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HAN = "[\u4e00-\u9fff]"


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page):
    """A page without its blocks of code."""
    return FENCE.sub("", read(page))


def anchors(page):
    """What a heading is called in links, as GitHub does it."""
    made = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        kept = (c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
        made.add("".join(kept).replace(" ", "-"))
    return made


def broken_links(page):
    """The links of a page that lead nowhere inside the repository."""
    lost = []
    for link in LINK.findall(prose(page)):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        inside = target.resolve().is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target.resolve().relative_to(ROOT))):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert not broken_links(page)


def test_a_broken_link_is_seen(monkeypatch):
    for text in ("[a](nowhere.md)", "[a](#nowhere)", "![a](docs/nowhere.png)", "[a](../outside.md)"):
        monkeypatch.setattr("test_docs.read", lambda page, text=text: text)
        assert broken_links("README.md"), text


@pytest.mark.parametrize("index", INDICES)
def test_the_index_names_every_page(index):
    named = {((ROOT / index).parent / link.partition("#")[0]).resolve() for link in LINK.findall(read(index))}
    if index.endswith("_CN.md"):
        wanted = set(PAGES) - {page for page, _ in PAIRS}
    else:
        wanted = set(PAGES) - {twin for _, twin in PAIRS}
    assert not [page for page in wanted - set(INDICES) if (ROOT / page).resolve() not in named]


@pytest.mark.parametrize(("page", "twin"), PAIRS)
def test_both_languages_say_the_same_numbers_and_commands(page, twin):
    def numbers(name):
        rows = [line for line in read(name).splitlines() if line.startswith("|")]
        return [sorted(re.findall(r"\d+(?:\.\d+)?", row.replace(",", ""))) for row in rows]

    def commands(name):
        lines = (line for _, block in FENCE.findall(read(name)) for line in block.splitlines())
        bare = (re.sub(r"\s*#.*", "", line) for line in lines)
        same = (re.sub(rf'"[^"]*{HAN}[^"]*"|"\w+ prompt"|tutorials/(en|zh)| --language zh', "", line) for line in bare)
        return [line for line in same if line]

    assert numbers(page) == numbers(twin)
    assert commands(page) == commands(twin)


@pytest.mark.parametrize("page", PAGES)
def test_lists_and_lines_are_as_they_were_meant(page):
    text = prose(page)
    assert not re.search(r"\S - \*\*|[\w.] {2,}\w", re.sub(r"(?m)^(\||    ).*$", "", text)), "a list that was joined"
    assert page.startswith("tutorials") or not re.search(f"{HAN}\n{HAN}", text), (
        "a line that breaks between two characters, where a gap would show"
    )
    assert "mindmusicgen[" not in read(page), "the package is on no index; extras are installed from a checkout"


def test_the_rooms_of_the_architecture_exist_once():
    rooms = re.findall(r"^\| (`.+?`) \|", read("docs/architecture.md"), re.MULTILINE)
    names = [name for room in rooms for name in re.findall(r"`([\w./]+)`", room)]
    assert len(names) > 20 and len(names) == len(set(names))
    assert not [name for name in names if not (ROOT / "mindmusicgen" / name).exists()]


def documented_commands():
    """(page, words) of every call of the command line in the pages' blocks."""
    for page in PAGES:
        for block in (block for language, block in FENCE.findall(read(page)) if language == "bash"):
            for line in re.sub(r"(&&|\\)\s*\n\s*", " && ", block).splitlines():
                words = shlex.split(line.replace(";", " ; "), comments=True)
                while words:
                    end = next((i for i, word in enumerate(words) if word in ("&&", "|", ";")), len(words))
                    call, words = words[:end], words[end + 1 :]
                    names = [Path(word).name for word in call]
                    if "mindmusicgen" in names and call[:2] != ["docker", "build"]:
                        yield page, call[names.index("mindmusicgen") + 1 :]


def test_documented_commands_exist():
    calls = list(documented_commands())
    assert len(calls) > 30
    for page, words in calls:
        try:
            build_parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{page}: mindmusicgen {' '.join(words)}")


def test_documented_variables_exist():
    package = ROOT / "mindmusicgen"
    sources = [path.read_text(encoding="utf-8") for end in ("py", "c", "h") for path in package.rglob(f"*.{end}")]
    known = {name for text in sources for name in re.findall(r"MINDMUSICGEN_[A-Z]+", text)}
    named = {name for page in PAGES for name in re.findall(r"MINDMUSICGEN_[A-Z]+", read(page))}
    assert len(named) >= 5 and named <= known, named - known


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The folder of the API reference's pages."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "scripts" / "docs" / "build.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("api")
    script.build(folder)
    return folder


def test_every_public_name_has_an_entry(reference):
    page = (reference / "mindmusicgen.html").read_text(encoding="utf-8")
    entries = dict(re.findall(r'<section id="([\w.]+)">(.*?)</section>', page, re.DOTALL))
    for name in mindmusicgen.__all__:
        assert name in entries, name
        assert name == "__version__" or 'class="docstring"' in entries[name], f"{name} has no docstring"
    assert 'id="arguments"' in entries["MusicgenForConditionalGeneration"], "arguments are not a list"


def test_the_reference_links_to_its_own_pages(reference):
    pages = list(reference.rglob("*.html"))
    assert len(pages) > 10
    for path in pages:
        for link in re.findall(r'href="([^"#]+)', path.read_text(encoding="utf-8")):
            assert re.match(r"\w+:", link) or (path.parent / link).exists(), f"{path.name}: {link}"
