"""The page's HTTP endpoints: what docs/page.md shows is run here; and what a visitor must not be able to do."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_server import Server

from mindmusicgen.audio import read_audio, read_comment
from mindmusicgen.sound.recipe import recipe_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, verbose=False)


def generate(client, **values):
    return client.predict(**{"prompt": "calm piano", "duration": 1} | values, api_name="/generate")


def block_of(language, word):
    """The block of code of docs/page.md in a language that holds a word."""
    text = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
    return next(block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if word in block)


def test_the_documented_python_runs(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = block_of("python", "gradio_client").replace("http://127.0.0.1:7860", server.url)
    exec(compile(source, "docs/page.md", "exec"), {})
    said = capsys.readouterr().out
    assert "'unit': 's'" in said and ".wav" in said


def test_the_documented_curl_runs(server, tmp_path):
    source = block_of("bash", "curl").replace("http://127.0.0.1:7860", server.url.rstrip("/"))
    ran = subprocess.run(["bash", "-euo", "pipefail", "-c", source], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "event: generating" in ran.stdout and "event: complete" in ran.stdout
    assert read_audio(str(tmp_path / "piano.wav"), 32000, 1).shape[1] == 3 * 32000


def test_a_piece_is_made_told_and_kept(client, server):
    job = client.submit(prompt="calm piano", duration=2, seed=5, api_name="/generate")
    steps = [told for told, _ in job]
    said, path = job.result()
    done = [step["done"] for step in steps if "done" in step]
    assert done == sorted(done) and done[-1] == 2.0 and said["seed"] == 5 and said["seconds"] == 2.0
    audio = read_audio(path, 32000, 1)
    assert audio.shape == (1, 64000) and np.abs(audio).max() > 0.01
    assert recipe_of(read_comment(path)) == said["recipe"]
    kept = next(server.keep.glob("calm-piano-5*.wav"))
    assert np.array_equal(read_audio(str(kept), 32000, 1), audio)


def test_a_recording_is_continued(client):
    _, path = generate(client, seed=5)
    said, longer = generate(client, seed=6, recording=handle_file(path))
    assert said["seconds"] == 2.0 and "audio" in said["recipe"]
    before, after = read_audio(path, 32000, 1), read_audio(longer, 32000, 1)[:, :32000]
    assert np.corrcoef(before[0], after[0])[0, 1] > 0.8


def test_other_families_make_pieces(client):
    """The third is in test_browser.py."""
    said, path = generate(client, prompt="three one", model="digits", voice="v2/en_speaker_1", duration=3)
    assert said["recipe"]["voice"] == ["v2/en_speaker_1"] and np.abs(read_audio(path, 24000, 1)).max() > 0.01
    said, path = generate(client, prompt="", model="solfa", artist="soprano", lyrics="do re", duration=0.75)
    assert said["recipe"]["lyrics"] == "do re" and np.abs(read_audio(path, 22050, 1)).max() > 0.01


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"duration": 500}, "at most 60 s at once"),
        ({"steps": 5}, "--steps is for models such as ucsd-reach/musicldm"),
        ({"model": "nobody"}, "nobody"),
        ({"seed": "abc"}, "seed is 'abc'; expected a whole number"),
        ({"prompt": ["a"]}, "prompt is ['a']; expected a text"),
        ({"voice": "/etc/passwd.npz", "model": "digits"}, "not one of this model's 3"),
        ({"scheduler": "foo", "model": "beats"}, "scheduler is 'foo'"),
        ({"recording": handle_file(__file__)}, "audio 'test_api.py' cannot be read"),
        ({"use": "sing"}, "recording is 'sing'; expected continue or melody"),
    ],
)
def test_a_refusal_is_one_sentence(client, values, sentence):
    with pytest.raises(AppError) as caught:
        generate(client, **values)
    assert sentence in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def post(url, values, **headers):
    headers = {"Content-Type": "application/json"} | headers
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(values).encode(), headers), timeout=60
    ) as answer:
        return json.load(answer)


def events_of(server, values, **headers):
    """What curl would see of a piece: (event, data) pairs."""
    name = post(f"{server.url}gradio_api/call/v2/generate", values, **headers)["event_id"]
    with urllib.request.urlopen(f"{server.url}gradio_api/call/generate/{name}", timeout=120) as answer:
        text = answer.read().decode()
    return re.findall(r"event: (\w+)\ndata: (.*)", text)


def test_a_refusal_is_json_in_the_language_that_is_asked_for(server):
    kind, data = events_of(server, {"prompt": "x", "top_p": 3})[-1]
    assert kind == "error" and json.loads(data)["error"].startswith("top_p is 3")
    kind, data = events_of(server, {"prompt": "x", "top_p": 3}, **{"Accept-Language": "zh-CN,zh"})[-1]
    assert kind == "error" and "应为" in json.loads(data)["error"]


def test_files_of_the_machine_are_not_read(server, tmp_path):
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, np.zeros(16000, np.float32), 16000)  # so that reading it would work
    for path in ("/etc/passwd", str(secret), str(ROOT / "setup.py"), "../../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url}gradio_api/file={path}", timeout=30)
        assert caught.value.code in (403, 404), path
        sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
        kind, data = events_of(server, {"prompt": "x", "duration": 1, "recording": sent})[-1]
        assert kind == "error" and "not uploaded" in json.loads(data)["error"], data


def test_what_is_too_large_is_not_taken(server, client, tmp_path):
    large = tmp_path / "large.wav"
    large.write_bytes(b"RIFF" + bytes(6 * 1024 * 1024))
    with pytest.raises(Exception, match="413|[Ss]ize"):
        generate(client, recording=handle_file(str(large)))


def test_who_goes_while_a_piece_is_made_frees_the_place(server):
    """A client that is killed in the middle of a minute of music does not keep the next one waiting."""
    script = (
        "import sys; from gradio_client import Client\n"
        f"job = Client({server.url!r}, verbose=False).submit(prompt='calm piano', duration=60, api_name='/generate')\n"
        "for told in job: print(told, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    said, _ = generate(Client(server.url, verbose=False), duration=1, seed=1)
    assert said["seconds"] == 1.0 and time.monotonic() - begun < 15


def test_a_piece_can_be_cancelled(server, client):
    job = client.submit(prompt="calm piano", duration=60, api_name="/generate")
    next(iter(job))
    begun = time.monotonic()
    job.cancel()
    generate(client, duration=1)
    assert time.monotonic() - begun < 15


def test_clients_at_once_get_each_their_own(server):
    found = {}

    def ask(seed):
        said, path = generate(Client(server.url, verbose=False), seed=seed, duration=0.5 + seed / 2)
        found[seed] = (said["seed"], said["seconds"], read_audio(path, 32000, 1).shape[1] / 32000)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {seed: (seed, 0.5 + seed / 2, 0.5 + seed / 2) for seed in range(4)}


def test_a_password_is_asked_for_and_sigterm_ends_what_is_made():
    server = Server("--auth", "me:secret", "--host", "127.0.0.1")
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(f"{server.url}gradio_api/call/v2/generate", {"prompt": "x"})
    assert caught.value.code == 401
    job = Client(server.url, auth=("me", "secret"), verbose=False).submit(
        prompt="calm piano", duration=100, api_name="/generate"
    )
    next(iter(job))
    code, said, seconds = server.end()
    assert code == 0 and "Traceback" not in said and seconds < 20, said


def test_a_notebook_shows_it(server):
    from mindmusicgen import notebook

    first = notebook.page(inline=False, max_duration=5)
    second = notebook.page("demo", inline=False, max_duration=5)
    try:
        assert not first.blocks.is_running and second.blocks.is_running
        with urllib.request.urlopen(second.url, timeout=30) as answer:
            assert b"gradio" in answer.read() and second.url in repr(second)
    finally:
        second.close()
        notebook._shown.clear()


def test_a_notebook_shows_it_below_the_cell():
    """In a kernel of its own, as a student has it."""
    import nbformat
    from nbclient import NotebookClient

    cells = ["from mindmusicgen import notebook\npage = notebook.page(max_duration=5)\nprint(page.url)", "page.close()"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    outputs = book.cells[0].outputs
    shown = [one["data"]["text/html"] for one in outputs if "text/html" in one.get("data", {})]
    url = next(one.text.strip() for one in outputs if one.get("name") == "stdout")
    assert len(shown) == 1 and f'<iframe src="{url}"' in shown[0]


def test_a_melody_is_followed(client, tmp_path):
    """By a melody model in a folder; the demo, which follows words alone, says so."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
    from random_checkpoint import build_tokenizer
    from test_melody import tiny

    from mindmusicgen import MusicgenMelodyProcessor

    folder, tune = str(tmp_path / "melody"), str(tmp_path / "tune.wav")
    tiny().save_pretrained(folder)
    MusicgenMelodyProcessor(tokenizer=build_tokenizer()).save_pretrained(folder)
    soundfile.write(tune, 0.3 * np.sin(2 * np.pi * 440 * np.arange(64000) / 32000), 32000)
    follow = {"recording": handle_file(tune), "use": "melody", "seed": 1}
    about, path = generate(client, model=folder, **follow)
    assert about["recipe"]["melody"] == ["tune.wav"] and soundfile.info(path).frames == 32000
    with pytest.raises(AppError, match="follows words alone"):
        generate(client, model="demo", **follow)
