"""The page's work without the page: fields to jobs, limits, pieces that are made one after the other, and kept."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import soundfile

from mindmusicgen import InputError, cli, families, language
from mindmusicgen.audio import read_audio, read_comment
from mindmusicgen.commands.job import Job
from mindmusicgen.page import fields, serve, texts
from mindmusicgen.page.serve import free_port
from mindmusicgen.page.sessions import FORMATS, Session
from mindmusicgen.page.studio import Limits, Made, Progress, Sound, Studio, check_recording
from mindmusicgen.runtime.interrupt import Interrupts
from mindmusicgen.sound.recipe import recipe_of


@pytest.fixture(scope="module")
def studio():
    made = Studio(Limits(duration=30.0))
    yield made
    made.close()


def job_of(studio, model="demo", **values):
    family, folder = studio.family_of(model)
    return fields.job_of({"model": model, **values}, family, folder, output="x.wav")


def drained(making):
    steps = []
    while True:
        try:
            steps.append(next(making))
        except StopIteration as end:
            return steps, end.value


# Fields


def test_what_the_fields_say_is_a_job(studio):
    job = job_of(
        studio, prompt=" calm piano ", duration=5, seed=7.0, guidance_start=3, guidance_end=1, top_k=40, temperature=0.8
    )
    assert job == Job(
        ["calm piano"],
        model="demo",
        duration=5,
        seed=7,
        guidance_scale=(3, 1),
        top_k=40,
        temperature=0.8,
        output="x.wav",
    )
    assert job_of(studio, prompt="x", guidance_start=3).guidance_scale == 3
    assert job_of(studio, prompt="x", int8=True).quantization == "int8"
    assert job_of(studio, prompt="x", recording="a.wav").audio == ["a.wav"]
    assert job_of(studio, prompt="").prompts == []


def test_what_another_model_has_left_in_the_fields_does_not_count(studio):
    left = {"prompt": "x", "steps": 20, "voice": "v2/en_speaker_0", "top_k": 5, "recording": "a.wav", "int8": True}
    assert job_of(studio, **left) == Job(
        ["x"], model="demo", top_k=5, audio=["a.wav"], quantization="int8", output="x.wav"
    )
    assert job_of(studio, "beats", **left) == Job(["x"], model="beats", steps=20, output="x.wav")
    assert job_of(studio, "digits", **left).voice == ["v2/en_speaker_0"]


def test_a_model_shows_the_fields_that_its_family_honours(studio):
    had = {model: fields.shown(*studio.family_of(model)) for model in ("demo", "beats", "digits")}
    assert {"recording", "negative_prompt", "top_k"} <= had["demo"]
    assert not {"steps", "voice", "use", "candidates"} & had["demo"]
    assert {"steps", "scheduler", "candidates"} <= had["beats"] and "recording" not in had["beats"]
    assert "voice" in had["digits"] and "guidance_start" not in had["digits"]
    assert "candidates" in fields.shown(*studio.family_of("demo"), scorer="laion/clap-htsat-unfused")


def test_a_model_that_sings_has_words_in_place_of_a_prompt():
    had = fields.shown(families.room("jukebox", "command"), None)
    assert {"artist", "genre", "lyrics", "temperature", "recording"} <= had
    assert not {"prompt", "negative_prompt", "guidance_start", "candidates", "use"} & had
    job = fields.job_of({"artist": "mara stone", "lyrics": "old town road", "duration": 2.0})
    assert job.song and (job.prompts, job.lyrics) == ([], "old town road")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "abc"),
        ("seed", 1.5),
        ("top_k", True),
        ("duration", float("nan")),
        ("temperature", [1]),
        ("prompt", 5),
        ("lyrics", {"a": 1}),
        ("int8", "yes"),
        ("negative_prompt", "x" * 30_000),
    ],
)
def test_a_field_that_holds_what_it_cannot_is_named(name, value):
    with pytest.raises(InputError, match=f"^{name} (is|has) .*expected"):
        fields.check(name, value)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -3}, "top_k"),
        ({"seed": -4}, "seed"),
        ({"duration": 400}, "duration"),
        ({"duration": 0}, "duration"),
        ({"guidance_end": 3}, "guidance_start"),
        ({"model": "nobody"}, "model"),
        ({"candidates": 99}, "candidates"),
        ({"scheduler": "fast"}, "scheduler"),
        ({"negative_prompt": "drums", "prompt": ""}, "negative_prompt"),
        ({"prompt": "half \ud83d"}, "prompt"),
        ({"recording": __file__}, "recording"),
        ({"model": "beats", "steps": 0}, "steps"),
    ],
)
def test_a_refusal_is_about_its_field(studio, values, field, tmp_path):
    values = {"model": "demo", "prompt": "x"} | values
    with pytest.raises(InputError) as caught:
        job = fields.job_of(values, output=str(tmp_path / "x.wav"))
        studio.check(job)
        drained(studio.make(job, threading.Event()))
    assert fields.about(caught.value.args[0]) == field, str(caught.value)


def test_a_recipe_fills_the_fields_that_made_it(studio):
    job = job_of(studio, prompt="calm piano", duration=0.4, seed=3, guidance_start=3, guidance_end=2, top_k=20)
    _, made = drained(studio.make(job, threading.Event()))
    again = fields.values_of(made.recipe)
    assert {
        name: again[name] for name in ("prompt", "duration", "seed", "top_k", "guidance_start", "guidance_end")
    } == {
        "prompt": "calm piano",
        "duration": 0.4,
        "seed": 3,
        "top_k": 20,
        "guidance_start": 3,
        "guidance_end": 2,
    }
    _, twin = drained(studio.make(job_of(studio, **again), threading.Event()))
    assert np.array_equal(twin.codes, made.codes)


# Limits


def test_limits_are_named():
    limits = Limits(duration=20, models=("demo",))
    with pytest.raises(InputError, match="20 s at once"):
        limits.check(Job(["x"], model="demo", duration=21))
    with pytest.raises(InputError, match="not one of this page: demo"):
        limits.check(Job(["x"], model="/etc"))
    Limits(models=("demo",), any_model=True).check(Job(["x"], model="facebook/musicgen-small"))


def test_a_recording_is_read_to_its_end(tmp_path):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(16000, np.float32) + 0.1, 16000)
    assert check_recording(path) == pytest.approx(1.0, abs=0.01)
    with open(path, "rb") as file:
        content = file.read()
    for broken in (b"", b"no sound", content[:20]):
        bad = tmp_path / "broken.wav"
        bad.write_bytes(broken)
        with pytest.raises(InputError, match="broken.wav"):
            check_recording(str(bad))
    soundfile.write(path, np.zeros(8000 * 700, np.int16), 8000)
    with pytest.raises(InputError, match="600"):
        check_recording(path)


# Pieces


def test_what_is_heard_while_it_is_made_is_the_piece(studio):
    sound = Sound()
    job = job_of(studio, prompt="calm piano", duration=2.4, seed=5)
    steps, made = drained(studio.make(job, threading.Event(), sound))
    joined = np.frombuffer(b"".join(sound.chunks), "<i2").reshape(-1, sound.channels).T
    assert sound.ended and len(sound.chunks) == 3 and made.seed == 5 and not made.stopped
    assert np.array_equal(joined, (np.clip(made.audio, -1, 1) * 32767).round().astype(np.int16))
    family, folder = studio.family_of("demo")
    ((offline, codes, _),) = family.prepare(job, folder).make()
    assert np.array_equal(made.codes, codes) and np.abs(made.audio - offline).max() < 1e-5
    assert all(isinstance(step, Progress) and step.of == pytest.approx(2.4) for step in steps)
    assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_stopping_keeps_what_is_there(studio):
    stopped, sound = threading.Event(), Sound()
    making = studio.make(job_of(studio, prompt="calm piano", duration=4.5, seed=5), stopped, sound)
    while next(making).done < 1:
        pass
    stopped.set()
    _, made = drained(making)
    seconds = made.audio.shape[1] / made.rate
    assert made.stopped and 1 <= seconds < 4.5 and made.codes.shape[1] == round(seconds * 50)


def test_a_listener_who_goes_frees_the_place(studio):
    making = studio.make(job_of(studio, prompt="calm piano", duration=4.5, seed=5), threading.Event())
    next(making)
    begun = time.monotonic()
    making.close()
    assert time.monotonic() - begun < 10 and not studio.running
    _, made = drained(studio.make(job_of(studio, prompt="calm piano", duration=0.4), threading.Event()))
    assert made.audio.shape[1] == 12800


def test_a_piece_that_fails_frees_the_place(studio):
    with pytest.raises(InputError, match="temperature"):
        drained(studio.make(job_of(studio, prompt="x", temperature=-2), threading.Event()))
    with pytest.raises(InputError, match="before the piece was begun"):
        stopped = threading.Event()
        stopped.set()
        drained(studio.make(job_of(studio, prompt="x"), stopped))
    assert not studio.running


def test_two_at_once_are_made_one_after_the_other(studio):
    found = {}

    def make(seed):
        _, found[seed] = drained(
            studio.make(job_of(studio, prompt="calm piano", duration=0.6, seed=seed), threading.Event())
        )

    threads = [threading.Thread(target=make, args=(seed,)) for seed in (1, 2, 1001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for seed, made in found.items():
        _, alone = drained(studio.make(job_of(studio, prompt="calm piano", duration=0.6, seed=seed), threading.Event()))
        assert made.seed == seed and np.array_equal(made.codes, alone.codes)
    assert len(found) == 3


def test_models_are_kept_open_but_few(studio):
    drained(studio.make(job_of(studio, "beats", prompt="fast techno", steps=2, scheduler="dpm"), threading.Event()))
    kept = dict(studio.models)
    drained(studio.make(job_of(studio, "beats", prompt="slow waltz", steps=2, scheduler="dpm"), threading.Event()))
    assert list(studio.models.values())[-1] is list(kept.values())[-1] and len(studio.models) <= 2


# Keeping


def made_of(seconds=0.2, seed=7, codes=True):
    audio = np.sin(np.arange(round(seconds * 32000)) / 20)[None].astype(np.float32) / 3
    recipe = {"mindmusicgen": "0", "model": "demo", "prompt": "calm piano / ../..", "seed": seed}
    return Made(audio, 32000, np.zeros((4, 10), np.int32) if codes else None, 50, seed, recipe, 0.1, False)


def test_a_piece_is_a_file_of_any_format_with_its_recipe(tmp_path):
    session = Session(str(tmp_path / "one"))
    piece = session.add(made_of(), {"prompt": "calm piano"})
    for ending in FORMATS:
        path = piece.file(ending)
        assert os.path.dirname(path) == session.folder and recipe_of(read_comment(path))["seed"] == 7
        assert read_audio(path, 32000, 1).shape[1] == pytest.approx(6400, abs=2400)
    assert piece.pictures().axes and "calm piano" in piece.title
    session.forget()
    assert not os.path.exists(session.folder)


def test_a_copy_is_kept_and_nothing_is_written_over(tmp_path):
    session, keep = Session(str(tmp_path / "one")), tmp_path / "kept"
    keep.mkdir()
    for _ in range(2):
        session.add(made_of(codes=False), {}, str(keep))
    names = sorted(path.name for path in keep.iterdir())
    assert len(names) == 2 and all(name.startswith("calm-piano-7") for name in names)
    assert sorted(session.pieces) == [1, 2]


def test_a_visitor_keeps_so_many_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("mindmusicgen.page.sessions.MOST", 3)
    session = Session(str(tmp_path / "one"))
    for seed in range(5):
        session.add(made_of(0.01, seed), {})
    assert sorted(session.pieces) == [3, 4, 5] and len(os.listdir(session.folder)) == 6


# Words


def test_both_languages_have_the_same_words_with_the_same_gaps():
    english, chinese = texts.TEXTS["en"], texts.TEXTS["zh"]
    assert english.keys() == chinese.keys()
    for name in english:
        gaps = [sorted(part.split("}")[0] for part in text[name].split("{")[1:]) for text in (english, chinese)]
        assert gaps[0] == gaps[1], name


def test_a_thread_speaks_the_language_of_its_visitor(monkeypatch):
    monkeypatch.setenv("MINDMUSICGEN_LANG", "en")
    error = InputError("temperature is -1; expected a number at least 1e-18 and at most 1e+18")
    with language.speaking("zh-CN"):
        assert "应为" in str(error) and language.current() == "zh"
        with language.speaking("en"):
            assert "expected" in str(error)
    with language.speaking(None):
        assert "expected" in str(error)


def test_a_port_that_is_taken_is_named():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1"):
            free_port("127.0.0.1", port)
        assert free_port("127.0.0.1", None) != port
    with pytest.raises(InputError, match="no.such.host"):
        free_port("no.such.host.invalid", 80)


# The command


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--auth", "me"], "--auth has no user and password"),
        (["--auth", ":secret"], "--auth has no user and password"),
        (["--max-duration", "0"], "--max-duration is 0; expected 1 to 3600"),
        (["--max-duration", "nan"], "--max-duration is nan"),
        (["--max-upload", "0"], "--max-upload is 0; expected 1 to 4096"),
        (["--keep", __file__], "cannot be a folder"),
        ([], "the page needs Gradio, which is not installed"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_sentence(words, sentence, monkeypatch, capfd):
    def none(name):
        raise serve.PackageNotFoundError(name)

    monkeypatch.setattr(serve, "version", none)
    assert cli.main(["page", *words]) == 2
    said = capfd.readouterr().err
    assert sentence in said and "Traceback" not in said and said.count("\n") == 1


def test_an_old_gradio_is_named(monkeypatch):
    monkeypatch.setattr(serve, "version", lambda name: "6.9.1")
    with pytest.raises(InputError, match="needs Gradio 6.31 or newer, not 6.9.1"):
        serve.check_gradio()


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "auth": ("me", "secret")}, False),
        ({"host": "127.0.0.1"}, False),
        ({}, False),
    ],
)
def test_a_page_that_others_reach_without_a_password_is_warned_of(options, warned, monkeypatch, capfd):
    class Shown:
        url = "http://here"

        def __init__(self, **options):
            pass

        def warm(self):
            os.kill(os.getpid(), signal.SIGTERM)

        def close(self):
            Shown.closed = True

    monkeypatch.setattr(serve, "Served", Shown)
    before = signal.getsignal(signal.SIGTERM)
    serve.serve(Interrupts(), **options)
    said = capfd.readouterr()
    assert Shown.closed and signal.getsignal(signal.SIGTERM) is before
    assert ("whoever reaches 0.0.0.0" in said.err) == warned and "http://here" in said.out
