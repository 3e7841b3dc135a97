"""Jukebox from the command line: songs in folders, resumed and carried on; info, batch, encode, decode, convert."""

import copy
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mindmusicgen import AutoConfig, AutoModelForTextToWaveform, AutoProcessor, JukeboxModel, JukeboxTokenizer, cli
from mindmusicgen.audio import read_audio, read_comment, write_audio
from mindmusicgen.codes_file import load_codes
from mindmusicgen.jukebox import priors, progress
from mindmusicgen.jukebox.checkpoint import info
from mindmusicgen.jukebox.decode_loop import PriorGraphs
from mindmusicgen.jukebox.initial_weights import initialise
from mindmusicgen.jukebox.tokenizer import FILES

SONG = ["--artist", "mara stone", "--genre", "deep rock", "--lyrics", "old town road"]
SECONDS = 4.5 * 128 / 44100


@pytest.fixture(scope="module", autouse=True)
def eager():
    """Without graphs, which take longer to compile than these songs to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            priors, "PriorGraphs", lambda prior, samples, usual, eager: PriorGraphs(prior, samples, usual, True)
        )
        yield


@pytest.fixture(scope="module")
def folder(both, tmp_path_factory):
    """A model of one layer and random weights, with the golden lists."""
    golden, made = both["1b"], tmp_path_factory.mktemp("jukebox") / "singer"
    config = copy.deepcopy(golden.model.config)
    for prior in config.prior_configs:
        prior.num_layers = 1
    model = JukeboxModel(config)
    for prior in model.priors:
        initialise(prior, 0.3)
    model.tokenizer = JukeboxTokenizer.from_pretrained(golden.folder)
    model.save_pretrained(made)
    return str(made)


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capfd):
    """A function that gives a command, with FOLDER in place of the model, and returns the exit code and what was
    said."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        try:
            code = cli.main([folder if word == "FOLDER" else str(word) for word in words])
        except SystemExit as end:
            code = end.code
        told = capfd.readouterr()
        return code, told.out + told.err

    def sing(*words, seconds=SECONDS):
        return call("generate", "-m", "FOLDER", *SONG, "-s", 5, *(["-d", seconds] if seconds else []), *words)

    call.sing = sing
    return call


def codes_of(song):
    return [np.load(Path(song, f"level_{level}", "codes.npy")) for level in range(3)]


def same_codes(one, other):
    return all(np.array_equal(a, b) for a, b in zip(codes_of(one), codes_of(other), strict=True))


def sounds_of(song):
    return {str(path.relative_to(song)): path.read_bytes() for path in Path(song).rglob("*.wav")}


def test_a_song_is_a_folder_that_can_be_made_again(run):
    code, said = run.sing("-o", "song", "--copies", 2, "--codes", "c.npz", "--temperature", 1.1)
    assert code == 0 and said.count("non-commercial") == 1 and "song/song-2.wav: 0.01 s, seed 6" in said
    assert sorted(one.name for one in Path("song").iterdir()) == [
        "level_0",
        "level_1",
        "level_2",
        "run.json",
        "song-1.wav",
        "song-2.wav",
    ]
    assert [one.shape for one in codes_of("song")] == [(2, 4), (2, 16), (2, 64)]
    recipe = json.loads(read_comment("song/song-2.wav"))
    assert recipe["artist"] == "mara stone" and recipe["seed"] == 6 and recipe["temperature"] == 1.1
    assert recipe["model"] == "singer" and "copies" not in recipe
    assert json.loads(read_comment("song/level_0/sample_1.wav"))["lyrics"] == "old town road"
    assert run("generate", "--like", "song/song-2.wav", "-m", "FOLDER", "-o", "again.flac")[0] == 0
    assert all(np.array_equal(a[1:], b) for a, b in zip(codes_of("song"), codes_of("again"), strict=True))
    assert load_codes("c.npz").shape == (2, 21, 4)
    assert run("decode", "c.npz", "-m", "FOLDER", "-o", "d.wav")[0] == 0
    assert Path("d-2.wav").read_bytes()[-400:] == Path("song/song-2.wav").read_bytes()[-400:]
    assert "mara stone" in run("info", "song/song-1.wav")[1]


def test_no_run_is_written_over(run):
    assert run.sing("-o", "song", "--levels", 1)[0] == 0
    before = sounds_of("song")
    assert run.sing("-o", "song/", "--levels", 1, "--temperature", 2)[0] == 0
    assert sounds_of("song") == before and Path("song-2/song.wav").exists()
    assert run.sing("-o", "song.wav", "--levels", 1)[0] == 0  # whose folder would be the first's
    assert not Path("song.wav").exists() and Path("song-3.wav").exists() and Path("song-3/run.json").exists()
    assert run.sing("-o", "song", "--levels", 1, "--temperature", 2, "--force")[0] == 0
    assert sounds_of("song")["song.wav"] != before["song.wav"]


def test_levels_one_after_the_other_are_the_whole(run):
    assert run.sing("-o", "whole", "--copies", 3)[0] == 0
    assert run.sing("-o", "parts", "--copies", 3, "--levels", 1)[0] == 0
    assert not Path("parts/level_1").exists() and len(read_audio("parts/song-1.wav", 44100, 1)[0]) == 512
    shutil.copytree("parts", "kept")
    assert run("generate", "--resume", "-o", "parts", "--levels", 2)[0] == 0
    assert run("generate", "--resume", "-o", "parts")[0] == 0
    assert same_codes("parts", "whole") and sounds_of("parts") == sounds_of("whole")
    assert run("generate", "--upsample", "kept", "--keep", "0,2", "-o", "two")[0] == 0
    assert all(np.array_equal(a, b[[0, 2]]) for a, b in zip(codes_of("two"), codes_of("whole"), strict=True))
    assert Path("two/song-2.wav").read_bytes() == Path("whole/song-3.wav").read_bytes()
    shutil.rmtree("kept")  # what a run began with lies in its folder
    assert run("generate", "--resume", "-o", "two")[0] == 0


def test_codes_in_a_file_are_upsampled(run):
    assert run.sing("-o", "whole", "--copies", 2)[0] == 0
    assert run.sing("-o", "top", "--copies", 2, "--levels", 1, "--codes", "top.npz")[0] == 0
    assert load_codes("top.npz").shape == (2, 1, 4)
    assert run.sing("--upsample", "top.npz", "-o", "up", seconds=None)[0] == 0
    assert same_codes("up", "whole")
    assert run.sing("--upsample", "top.npz", "--keep", 1, "-o", "one", "-s", 6, seconds=None)[0] == 0
    assert all(np.array_equal(a, b[1:]) for a, b in zip(codes_of("one"), codes_of("whole"), strict=True))


def test_a_recording_is_continued(run, folder):
    sound = 0.3 * np.sin(np.arange(700) / 9, dtype=np.float32)
    write_audio("riff.wav", sound[None], 44100)
    assert run.sing("--audio", "riff.wav", "-o", "song", "--copies", 2)[0] == 0
    assert [one.shape[1] for one in codes_of("song")] == [9, 36, 144]  # 5 whole codes of the recording, and 4
    assert run("encode", "riff.wav", "-m", "FOLDER", "-o", "riff.npz")[0] == 0
    assert run.sing("--audio", "riff.npz", "-o", "other", "--copies", 2)[0] == 0
    assert same_codes("song", "other")
    Path("riff.wav").unlink()
    Path("song/level_2/codes.npy").unlink()
    assert run("generate", "--resume", "-o", "song")[0] == 0 and same_codes("song", "other")
    assert json.loads(Path("song/run.json").read_text())["recipe"]["audio"] == ["riff.wav"]


def test_words_reach_the_sampling(run, monkeypatch):
    asked = []

    def sample(self, codes, labels, recipe, **options):
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(JukeboxModel, "_sample", sample)
    words = ["--total-length", 0.5, "--offset", 0.1, "--greedy", "--extend-stride", 0.05, "--batch-size", 3]
    code, said = run.sing(*words, "-o", "song")
    assert code == 130 and "the windows that are complete are in 'song', and --resume goes on" in said
    found = asked[0]
    assert found["total_length_in_seconds"] == 0.5 and found["offset"] == 4410 and found["top_k"] == 1
    assert found["hop_fraction"][0] == pytest.approx(0.05 * 44100 / 128 / 32) and found["hop_fraction"][1:] == [0.5] * 2
    assert found["max_batch_size"] == found["lower_batch_size"] == 3 and found["seed"] == (5,)
    Path("words.txt").write_text("one\ntwo", encoding="utf-8")
    monkeypatch.undo()


REFUSED = {
    "generate -m FOLDER": "give --artist, --genre or --lyrics",
    "generate blues -m FOLDER --artist a": "Jukebox takes no prompt; say what is sung with --lyrics",
    "generate -m FOLDER --artist a --melody b.wav": "--melody is for other models",
    "generate -m FOLDER --artist a --guidance-scale 3": "--guidance-scale is for other models",
    "generate -m FOLDER --artist a --candidates 2": "candidates are judged by their prompt",
    "generate -m FOLDER --artist a --plot a.png": "--plot is for other models",
    "generate -m FOLDER --artist a -o -": "a song is made level by level",
    "generate -m FOLDER --artist a -o a.xyz": "ends in '.xyz'",
    "generate -m FOLDER --artist a -o FOLDER/config.json/b": "is a file",
    "generate -m FOLDER --artist a -d 0": "duration is 0.0; expected a number above 0",
    "generate -m FOLDER --artist a -d nan": "duration is nan",
    "generate -m FOLDER --artist a -d 0.001": "less than one code of the top level",
    "generate -m FOLDER --artist a -d 1.5": "more than max_duration, 1 s",
    "generate -m FOLDER --artist a -d 0.5 --total-length 0.2": "less than the sample",
    "generate -m FOLDER --artist a -d 0.1 --total-length 1": "outside what the model knows",
    "generate -m FOLDER --artist a -d 0.1 --offset -1": "offset is -1.0",
    "generate -m FOLDER --artist a -d 0.1 --offset 0.3 --total-length 0.2": "is not within the song",
    "generate -m FOLDER --artist a -d 0.1 --top-k 3 --top-p 0.5": "top_k is 3 and top_p is 0.5; give one",
    "generate -m FOLDER --artist a -d 0.1 --temperature 0": "sampling_temperature is 0",
    "generate -m FOLDER --artist a -d 0.1 --levels 4": "levels is 4; this model has 3",
    "generate -m FOLDER --artist a -d 0.1 --levels 0": "levels is 0",
    "generate -m FOLDER --artist a -d 0.1 --batch-size 0": "batch_size is 0",
    "generate -m FOLDER --artist a -d 0.1 --extend-stride 9": "extend_stride is 9",
    "generate -m FOLDER --artist a -d 0.1 --audio no.wav": "no.wav",
    "generate -m FOLDER --artist a -d 0.1 --audio a.wav --audio b.wav": "there are 2 audio prompts",
    "generate -m FOLDER --artist a -d 0.1 --lyrics no.txt": "the lyrics 'no.txt' cannot be read",
    "generate -m FOLDER --lyrics \u6b4c\u6b4c\u6b4c -d 0.1": "would lose",
    "generate --resume -o nowhere": "holds no run to go on with",
    "generate --resume -o nowhere -d 3": "leave --duration and --audio out",
    "generate --resume -o nowhere --like a.wav": "give one of them",
    "generate --upsample FOLDER -o up": "does not say how it was made",
    "generate -m FOLDER --artist a --upsample no.npz": "'no.npz' cannot be read",
    "generate -m FOLDER --artist a --keep 0": "--keep chooses among the samples of --upsample",
    "generate -m FOLDER --artist a --keep x": "invalid numbers value",
    "generate calm -m demo --artist a": "--artist is for models that sing",
    "generate calm -m demo --levels 1": "--levels is for models that sing",
    "info demo --artist a": "are for models that sing",
    "info FOLDER -d -1": "cannot plan",
    "export -m FOLDER -o files": "holds a 'jukebox' model; this is for models of",
    "train --data FOLDER -m FOLDER -o run": "jukebox",
    "convert FOLDER -o FOLDER": "is the model's own folder",
    "convert FOLDER -o out --quantization int8": "not stored in 8 bits",
    "voices FOLDER": "voices are of models that speak",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_words(run, words, folder):
    code, said = run(*(word.replace("FOLDER", folder) for word in words.split()))
    line = said.strip().splitlines()[-1]
    assert code == 2 and REFUSED[words] in line and len(line) <= 340 and not list(Path().iterdir())


def test_what_is_in_the_way_or_of_another_run_is_refused(run, folder, tmp_path):
    assert run.sing("-o", "song", "--copies", 2, "--levels", 1)[0] == 0
    facts = json.loads(Path("song/run.json").read_text())
    assert "song: a run that has ended" in run("info", "song")[1]
    Path("song/run.json").write_text(json.dumps(facts | {"finished": False}))
    said = run("info", "song")[1]
    assert "song: a run that --resume goes on with" in said and "mara stone" in said and "old town road" in said
    assert "has not ended; --resume goes on" in run.sing("-o", "song")[1]
    assert "another seeds" in run("generate", "--resume", "-o", "song", "-s", 8)[1]
    assert "another labels" in run("generate", "--resume", "-o", "song", "--lyrics", "a new town road")[1]
    assert "another temperatures" in run("generate", "--resume", "-o", "song", "--temperature", 3)[1]
    assert (
        "--keep is 2; expected different numbers from 0 to 1" in run("generate", "--upsample", "song", "--keep", 2)[1]
    )
    assert "--keep is 1,1" in run("generate", "--upsample", "song", "--keep", "1,1")[1]
    shutil.copytree(folder, "other")
    config = json.loads(Path("other/config.json").read_text())
    Path("other/config.json").write_text(json.dumps(config | {"max_duration": 2.0}))
    assert "another model" in run("generate", "--resume", "-o", "song", "-m", "other")[1]
    np.save("song/level_0/codes.npy", np.load("song/level_0/codes.npy")[:, :3])
    assert "the top level of 'song' has not ended" in run("generate", "--upsample", "song", "-o", "up")[1]
    Path("song/run.json").write_text(json.dumps(facts | {"codes": 3}))
    assert "does not say how many codes" in run("generate", "--upsample", "song", "-o", "up")[1]
    Path("song/run.json").write_text(json.dumps({**facts, "recipe": None}))
    assert "was not begun by this command" in run("generate", "--resume", "-o", "song")[1]
    Path("song/run.json").write_text("{")
    assert "not valid JSON" in run("generate", "--resume", "-o", "song")[1]
    Path("full.npz").write_bytes(b"nothing")
    assert "'full.npz' cannot be read" in run.sing("--upsample", "full.npz", seconds=None)[1]


def test_a_damaged_beginning_is_refused(run):
    write_audio("riff.wav", np.zeros((1, 700), np.float32), 44100)
    assert run.sing("--audio", "riff.wav", "-o", "song", "--levels", 1)[0] == 0
    Path("song/given.npz").write_bytes(b"PK nothing")
    code, said = run("generate", "--resume", "-o", "song")
    assert code == 2 and "given.npz cannot be read" in said
    np.savez("song/given.npz", *(np.zeros((1, n), np.int32) for n in (5, 20, 80)))
    code, said = run("generate", "--resume", "-o", "song")
    assert code == 2 and "another given_codes" in said


def test_too_little_room_is_told_before_the_model_is_opened(run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    code, said = run.sing("-o", "song")
    assert code == 2 and "output needs" in said and "non-commercial" not in said


def test_what_a_run_has_already_needs_no_room(run, monkeypatch):
    assert run.sing("-o", "song", "--copies", 3)[0] == 0
    free = SimpleNamespace(free=5000)  # for the three pieces of 1 kB, and no more
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    Path("song/level_2/codes.npy").unlink()
    assert run("generate", "--resume", "-o", "song")[0] == 0
    free.free = 2000
    assert "output needs" in run("generate", "--resume", "-o", "song")[1]


def test_info_says_what_a_model_is(run, both):
    said = run("info", "FOLDER", "--table")[1]
    assert "songs with words" in said and "6 artists, 5 genres" in said and "batch 16" in said
    code, said = run("info", "openai/jukebox-1b-lyrics", "-d", 20)
    assert code == 0 and "942.6 M" in said and "6890, 27562, 110250 steps" in said
    assert run("info", "FOLDER", "--artist", "STONE")[1].strip() == "mara stone"
    said = run("info", "FOLDER", "--genre", "rock", "--artist", "qqq")[1]
    assert "deep rock" in said and "no artist has 'qqq' in its name" in said
    for golden in both.values():
        for level, prior in enumerate(golden.model.priors):
            count = sum(one.size for one in prior.get_parameters())
            assert info.prior_parameters(golden.model.config, level) == count
    assert info.time_for(info.published_config("openai/jukebox-1b-lyrics"), 20 * 44100)[2] > 3 * 3600


def test_the_family_is_found(folder):
    assert isinstance(
        AutoConfig.from_pretrained(folder), type(AutoModelForTextToWaveform.from_pretrained(folder).config)
    )
    assert isinstance(AutoProcessor.from_pretrained(folder), JukeboxTokenizer)


def test_convert_writes_a_folder_that_opens(run, folder):
    assert run("convert", "FOLDER", "-o", "copy", "--dtype", "float16")[0] == 0
    model = JukeboxModel.from_pretrained("copy")
    before = JukeboxModel.from_pretrained(folder)
    pairs = zip(model.priors[1].get_parameters(), before.priors[1].get_parameters(), strict=True)
    assert all(np.allclose(a.asnumpy(), b.asnumpy(), atol=1e-3) for a, b in pairs)
    assert all(Path("copy", name).exists() for name in FILES.values())


KILLED = """
import os, signal, sys
from mindmusicgen import cli
from mindmusicgen.jukebox import priors, run_folder
from mindmusicgen.jukebox.decode_loop import PriorGraphs

priors.PriorGraphs = lambda prior, samples, usual, eager: PriorGraphs(prior, samples, usual, True)
end, left = sys.argv.pop(1), int(sys.argv.pop(1))
save = run_folder.RunFolder._save

def killed(self, path, write):
    global left
    left -= path.endswith(end)
    save(self, path, write if left else lambda file: (write(file), os.kill(os.getpid(), signal.SIGKILL)))

run_folder.RunFolder._save = killed
cli.main(sys.argv[1:])
"""


LONG = [*SONG, "-s", "5", "-d", str(40.5 * 128 / 44100)]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A song of several windows at each level, that nothing interrupted."""
    made = str(tmp_path_factory.mktemp("whole") / "whole")
    assert cli.main(["generate", "-m", folder, *LONG, "-o", made]) == 0
    return made


@pytest.mark.parametrize(
    "file, number", [("run.json", 1), ("level_0/codes.npy", 2), ("level_1/codes.npy", 3), ("level_2/codes.npy", 2)]
)
def test_a_killed_run_goes_on_bit_for_bit(run, folder, whole, file, number):
    """Killed within the writing of a file; 40 codes of the top level are three windows, and 160 and 640 below."""
    words = ["generate", "-m", folder, *LONG]
    killed = subprocess.run([sys.executable, "-c", KILLED, file, str(number), *words, "-o", "song"], timeout=200)
    assert killed.returncode == -signal.SIGKILL and len(list(Path("song").rglob(".mindmusicgen-*"))) == 1
    assert not Path("song/song.wav").exists()
    if file == "run.json":  # nothing is lost: it had not begun
        assert "holds no run to go on with" in run("generate", "--resume", "-o", "song")[1]
        assert run(*words, "-o", "song", "--levels", 1)[0] == 0
    else:
        assert "has not ended; --resume goes on" in run(*words, "-o", "song")[1]
        made = np.load(Path("song", file)) if number > 1 else np.zeros((1, 0))
        assert 0 < made.shape[1] < 640
    assert run("generate", "--resume", "-o", "song")[0] == 0
    assert same_codes("song", whole) and sounds_of("song") == sounds_of(whole)
    assert not list(Path("song").rglob(".mindmusicgen-*"))


class TestBatch:
    lines = (
        {"artist": "mara stone", "genre": "deep rock", "lyrics": "old town road", "id": "a", "seed": 5},
        {"artist": "the paper boats", "lyrics": "a new town", "id": "b", "duration": SECONDS, "temperature": 1.1},
        {"genre": "deep rock", "id": "c"},
    )

    def make(self, run, *words, lines=lines):
        Path("songs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return run("batch", "songs.jsonl", "-m", "FOLDER", "-o", "out", "-d", SECONDS, *words)

    def test_each_is_the_song_that_generate_makes(self, run):
        code, said = self.make(run)
        assert code == 0 and "3 made" in said and said.count("non-commercial") == 1
        assert run.sing("-o", "a")[0] == 0
        assert np.array_equal(read_audio("a/song.wav", 44100, 1), read_audio("out/a.wav", 44100, 1))
        recipe = json.loads(read_comment("out/b.wav"))
        assert recipe["artist"] == "the paper boats" and "prompt" not in recipe
        assert run("generate", "--like", "out/b.wav", "-m", "FOLDER", "-o", "b")[0] == 0
        assert np.array_equal(read_audio("b/song.wav", 44100, 1), read_audio("out/b.wav", 44100, 1))
        before = Path("out/c.wav").read_bytes()
        assert "0 made, 3 were there already" in self.make(run)[1]
        Path("out/c.wav").unlink()  # its codes are there
        assert "1 made" in self.make(run)[1] and Path("out/c.wav").read_bytes() == before

    @pytest.mark.parametrize(
        "line, said",
        [
            ({"text": "calm"}, "Jukebox takes no text"),
            ({"text": "calm", "artist": "x"}, "of different models"),
            ({"artist": 3}, "artist holds 3; expected text"),
            ({"artist": "x", "steps": 3}, "steps is for other models"),
            ({"artist": "x", "negative": "y"}, "negative_text is for"),
            ({"artist": "x", "duration": -1}, "duration is -1"),
            ({"artist": "x", "offset": "a"}, "offset is 'a'"),
            ({"artist": "x", "top_k": 2, "top_p": 0.5}, "give one of them"),
        ],
    )
    def test_a_wrong_line_is_named(self, run, line, said):
        code, told = self.make(run, lines=[line])
        assert code == 2 and "songs.jsonl, line 1: " in told and said in told and not Path("out").exists()

    def test_songs_are_not_for_other_models(self, run):
        Path("songs.jsonl").write_text('{"artist": "x"}\n', encoding="utf-8")
        code, said = run("batch", "songs.jsonl", "-m", "demo", "-o", "out")
        assert code == 2 and "are for models that sing" in said


def test_a_song_tells_of_its_levels(run, monkeypatch):
    monkeypatch.setattr(progress, "WORTH_TELLING", 0.0)
    monkeypatch.setattr(progress, "MEASURED", 24)
    said = run.sing("-o", "song", seconds=40.5 * 128 / 44100)[1]
    assert [said.count(f"level {level}: {40 * 4**level} steps, about 0 min") for level in range(3)] == [1, 1, 1]
    assert said.count("; the levels after it about 0 min more") == 2
