"""`mindmusicgen generate` with a MusicLDM: its words, what they refuse, and the recipe in the file."""

import numpy as np
import pytest

from mindmusicgen.audio import read_audio, read_comment, write_audio
from mindmusicgen.checkpoint.source import ModelFolder
from mindmusicgen.cli import main
from mindmusicgen.musicldm.checkpoint.info import estimate
from mindmusicgen.musicldm.model import MusicLDMPipeline
from mindmusicgen.musicldm.settings import Noise
from mindmusicgen.sound.recipe import recipe_of


@pytest.fixture
def quick(monkeypatch):
    """Without the UNet, whose graphs take long to compile: the noise itself becomes sound. Returns what was asked."""
    asked = []

    def latents(self, request, work):
        asked.append((request, self.scheduler))
        return Noise(request.seeds, (8, request.lines, self.columns)).draw()

    monkeypatch.setattr(MusicLDMPipeline, "_latents", latents)
    return asked


def generate(golden, tmp_path, *words):
    return main(["generate", "calm piano", "-m", golden.folder, "-o", str(tmp_path / "a.wav"), *words])


def test_words(golden, tmp_path, quick):
    words = ["-d", "0.5", "--steps", "20", "--scheduler", "dpm", "--candidates", "2", "-s", "5"]
    words += ["--negative", "noise", "--guidance-scale", "3"]
    assert generate(golden, tmp_path, *words) == 0
    request, scheduler = quick[0]
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler" and len(request.table.timesteps) == 20
    assert request.negatives == ["noise"] * 2 and request.guidance == 3 and request.seeds == (5, 6)
    assert read_audio(tmp_path / "a.wav", 16000, 1).shape == (1, 8000)
    recipe = recipe_of(read_comment(tmp_path / "a.wav"))
    assert recipe["steps"] == 20 and recipe["scheduler"] == "dpm" and recipe["seed"] in (5, 6)
    assert (
        main(["generate", "--like", str(tmp_path / "a.wav"), "-m", golden.folder, "-o", str(tmp_path / "b.wav")]) == 0
    )
    again = read_audio(tmp_path / "b.wav", 16000, 1)
    assert (again == read_audio(tmp_path / "a.wav", 16000, 1)).all()


def test_several_pieces(golden, tmp_path, quick):
    words = ["-m", golden.folder, "-o", str(tmp_path / "a.wav"), "--copies", "2", "-d", "0.3", "--seed", "1"]
    assert main(["generate", "calm piano", "fast drums", *words]) == 0
    assert len(list(tmp_path.glob("*.wav"))) == 4 and quick[0][0].seeds == (1, 2, 3, 4)


def test_who_watches_is_told_what_it_will_take(golden, tmp_path, quick, capsys, monkeypatch):
    monkeypatch.setattr("mindmusicgen.runtime.progress.someone_watches", lambda: True)
    assert generate(golden, tmp_path, "-d", "0.5", "--steps", "20", "-s", "5") == 0
    said = capsys.readouterr().err
    assert "about 0 s on two CPU cores, and 0.8 GB of memory" in said
    short, long = (estimate(ModelFolder(golden.folder), 1, 0.5, steps)[0] for steps in (20, 200))
    assert 5 < long / short < 10
    assert estimate(ModelFolder(golden.folder), 3, 0.5)[0] == pytest.approx(3 * long)
    assert estimate(ModelFolder(golden.folder), 1, 0.5, guidance=1.0)[0] < 0.7 * long


@pytest.mark.parametrize(
    "words, said",
    [
        (("--melody", "x.wav"), "--melody is for models of codes"),
        (("--top-k", "3"), "--top-k is for models of codes"),
        (("--codes", "a.npz"), "--codes is for models of codes"),
        (("--steps", "0"), "num_inference_steps is 0"),
        (("--candidates", "0"), "candidates is 0"),
        (("--guidance-scale", "1:3"), "START:END"),
        (("-d", "70"), "duration is 70"),
        (("--scheduler", "heun"), "invalid choice: 'heun'"),
    ],
)
def test_refused_words(golden, tmp_path, capsys, words, said):
    try:
        code = generate(golden, tmp_path, *words)
    except SystemExit as end:
        code = end.code
    assert code == 2 and said in capsys.readouterr().err and not list(tmp_path.glob("*.wav"))


def test_rank(golden, tmp_path, capsys):
    rng, paths = np.random.default_rng(0), []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.wav"))
        write_audio(paths[-1], rng.standard_normal((1, 8000)).astype(np.float32) * 0.1 * (number + 1), 16000)
    assert main(["rank", golden.prompts[0], *paths, "--scorer", golden.folder]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert sorted(line[1] for line in lines) == paths
    scores = [float(line[0]) for line in lines]
    assert scores == sorted(scores, reverse=True) and -1 <= min(scores) < max(scores) <= 1


def test_candidates_of_another_family(golden, tmp_path, capsys):
    words = ["generate", "calm piano", "--max-new-tokens", "50", "--candidates", "2", "-s", "3"]
    words += ["-o", str(tmp_path / "a.wav")]
    assert main(words) == 2 and "--candidates needs --scorer" in capsys.readouterr().err
    assert main([*words, "--scorer", golden.folder]) == 0
    assert "fits best" in capsys.readouterr().err and len(list(tmp_path.glob("*.wav"))) == 1
    assert recipe_of(read_comment(tmp_path / "a.wav"))["seed"] in (3, 4)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--candidates", "2", "-o", "-"], "before anybody can judge"),
        (["--scorer", "somewhere"], "give --candidates too"),
    ],
)
def test_candidates_that_make_no_sense(capsys, words, said):
    assert main(["generate", "calm piano", *words]) == 2 and said in capsys.readouterr().err


def test_its_words_are_not_those_of_other_families(tmp_path, capsys):
    for words in (("--steps", "5"), ("--scheduler", "ddim")):
        assert main(["generate", "calm piano", "-o", str(tmp_path / "a.wav"), *words]) == 2
        assert f"{words[0]} is for models such as ucsd-reach/musicldm" in capsys.readouterr().err
