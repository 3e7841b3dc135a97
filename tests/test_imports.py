"""Who may import whom, from the sources; and what must stay importable."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mindmusicgen
from mindmusicgen.families import CONFIGS, KINDS

PACKAGE = Path(mindmusicgen.__file__).parent
FAMILIES = {kind.room for kind in KINDS.values()}
ORDER = (  # a room uses those of the lines above, and those of its own line
    {"errors", "language"},
    {"ops"},
    {"runtime"},
    {"families", "habits", "words", "torch_names", "dtypes", "arguments", "outputs", "models"},
    {"generation", "checkpoint", "tokenizer", "sound", "audio", "codes_file", "display"},
    {"auto", "configs", "parts"},
    {"submodels", "doctor", "mindir", "training", "batch", "clap"},
    FAMILIES,
    {"commands", "page", "cli", "__main__"},
)
COURSE = {"exercises", "notebook"}  # may use whatever it teaches
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
OLD_NAMES = {  # that programs and notebooks import: a file that hands on what lies in the family now
    "generation.delay_pattern": ("FREE", "build_pattern", "codebook_delays", "columns_for", "is_delayed", "undelay"),
    "models.musicgen": ("MusicgenDecoder", "sinusoidal_positions"),
    "training.finetune": ("finetune",),
    "checkpoint.convert": ("convert",),
    "checkpoint.audiocraft": ("convert",),
    "mindir.runtime": ("MindIRMusicgen",),
}
PUBLIC = OLD_NAMES | {
    "notebook": ("begin",),
    "display": (
        "player",
        "plot_waveform",
        "plot_spectrogram",
        "plot_codes",
        "plot_alignment",
        "plot_delay_pattern",
        "plot_stages",
    ),
    "exercises": ("check", "examine", "EXERCISES"),
    "ops.native": ("library_path", "why_not"),
    "errors": ("InputError",),
    "cli": ("main",),
    "audio": ("read_audio", "write_audio"),
    "codes_file": ("load_codes", "save_codes"),
    "generation.decode_loop": ("bucket", "CACHE_BUCKETS"),
    "generation.sampling": ("guide", "choose", "filter_logits"),
    "models.encodec": ("Encodec",),
    "models.t5": ("T5Encoder",),
    "models.layers": ("Linear", "LayerNorm", "additive_mask"),
    "checkpoint.source": ("DEMO", "resolve"),
}


def modules():
    """(parts of its name, parsed source) of every module but the old names."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if ".".join(parts) not in OLD_NAMES:
            yield parts, ast.parse(path.read_text(encoding="utf-8"))


def imported(parts, tree):
    """Names below this package that a module imports, wherever in it: each as parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*parts[: len(parts) - node.level], *(node.module or "").split(".")]
            base = [part for part in base if part]
            yield from ([*base, alias.name] for alias in node.names)
        elif isinstance(node, (ast.ImportFrom, ast.Import)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name.split(".")[1:] for name in names if name.split(".")[0] == "mindmusicgen")


def test_rooms_use_those_above_them():
    wrong, seen = [], 0
    for parts, tree in modules():
        room = parts[0]
        if room in COURSE or parts == ("__init__",):
            continue
        for name in imported(parts, tree):
            other = name[0] if name else ""
            if other in RANK:
                seen += 1
                same = room == other or room not in FAMILIES | {"commands"} or other == "page"  # which a command opens
                if RANK[other] > RANK[room] or RANK[other] == RANK[room] and not same:
                    wrong.append((".".join(parts), ".".join(name)))
            elif other not in ("", "__version__", *mindmusicgen.__all__):
                wrong.append((".".join(parts), f"{other}, which has no place in ORDER"))
    assert seen > 500 and wrong == []


def test_only_the_course_and_a_family_itself_name_a_family():
    named = []
    for parts, tree in modules():
        if parts[0] in FAMILIES | COURSE or parts == ("__init__",):
            continue
        named += [".".join(parts) for name in imported(parts, tree) if name and name[0] in FAMILIES]
    assert named == []


def test_no_circles():
    graph, sources = {}, dict(modules())
    for parts, tree in sources.items():
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = imported(parts, ast.Module(top, []))
        graph[parts] = {tuple(name[:end]) for name in names for end in (len(name), len(name) - 1)} & set(sources)
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join(".".join(one) for one in [*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in graph.get(module, ()):
            visit(other)
        done.add(path.pop())

    for module in list(graph):
        visit(module)


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stay(module):
    found = importlib.import_module(f"mindmusicgen.{module}")
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


def test_names_of_families_exist():
    names = {*CONFIGS.values(), *(one.model for one in KINDS.values()), *(one.processor for one in KINDS.values())} - {
        ""
    }
    assert names <= set(mindmusicgen.__all__)
    for kind, one in KINDS.items():
        assert mindmusicgen.__dict__.get(one.model, getattr(mindmusicgen, one.model)).model_type == kind
        assert (PACKAGE / one.room / "command.py").exists()


def test_a_text_prompt_loads_what_it_needs(tmp_path):
    """Neither melody, 8 bits, sub-models nor training; and no command but its own."""
    code = (
        "import sys; from mindmusicgen.cli import main; assert main(sys.argv[1:]) == 0; "
        "print(*sorted(name for name in sys.modules if name.startswith('mindmusicgen')), file=sys.stderr)"
    )
    words = ["generate", "calm piano", "--max-new-tokens", "8", "-o", str(tmp_path / "a.wav")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split("\n")[-2].split())
    assert "mindmusicgen.musicgen.model" in loaded
    rooms = (
        "melody",
        "musicgen.melody",
        "musicgen.int8",
        "submodels",
        "training",
        "musicgen.training",
        "musicgen.mindir",
    )
    unwanted = [name for name in loaded if name.removeprefix("mindmusicgen.").startswith(rooms)]
    assert unwanted == []
