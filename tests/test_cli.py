"""The command line: what it writes, what it refuses and how, and that it leaves nothing half-written."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from random_checkpoint import build  # noqa: E402

from mindmusicgen import cli  # noqa: E402
from mindmusicgen.codes_file import load_codes  # noqa: E402

PROMPT = "80s pop track with bassy drums and synth"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build("tiny", str(folder))
    return str(folder)


def command(*arguments, cwd=None):
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "mindmusicgen", *arguments]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def refusal(capsys, *arguments):
    """The sentence on standard error for bad input."""
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("mindmusicgen: error: ")]
    assert len(lines) == 1 and "Traceback" not in captured.err, captured.err
    return lines[0]


def test_generate_writes_the_asked_seconds_and_says_the_seed(model, tmp_path):
    done = command("generate", PROMPT, "--model", model, "--duration", "1.5", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    audio, rate = soundfile.read(tmp_path / "out.wav")
    assert (rate, audio.shape) == (32000, (48000,))
    assert np.abs(audio).max() > 0
    assert "out.wav: 1.50 s, seed 1" in done.stdout
    noise = [line for line in done.stderr.splitlines() if "WARNING" in line or "[transformers]" in line]
    assert not noise
    assert os.listdir(tmp_path) == ["out.wav"]


def test_same_seed_same_file_and_fresh_seed_can_be_repeated(model, tmp_path, capsys):
    def run(name, *more):
        path = tmp_path / name
        assert (
            cli.main(["generate", PROMPT, "--model", model, "--max-new-tokens", "20", "--output", str(path), *more])
            == 0
        )
        return path.read_bytes(), capsys.readouterr().out

    first, said = run("a.wav")
    seed = said.split("seed ")[1].split(",")[0].strip()
    assert run("b.wav", "--seed", seed)[0] == first
    assert run("c.wav", "--seed", str(int(seed) + 1))[0] != first


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_batch_writes_one_numbered_file_each(model, tmp_path, ending):
    output = str(tmp_path / f"song.{ending}")
    arguments = ["generate", PROMPT, "calm piano", "--model", model, "--max-new-tokens", "20", "--greedy"]
    assert cli.main([*arguments, "--output", output]) == 0
    assert sorted(os.listdir(tmp_path)) == [f"song-1.{ending}", f"song-2.{ending}"]
    for name in os.listdir(tmp_path):
        info = soundfile.info(tmp_path / name)
        assert (info.frames, info.channels, info.samplerate) == (17 * 640, 1, 32000)


def test_converted_folder_gives_the_same_audio(model, tmp_path, capsys):
    assert cli.main(["convert", model, "--output", str(tmp_path / "native")]) == 0
    files = {}
    for name, folder in (("a.wav", model), ("b.wav", str(tmp_path / "native"))):
        arguments = ["generate", PROMPT, "--model", folder, "--seed", "3", "--max-new-tokens", "20"]
        assert cli.main([*arguments, "--output", str(tmp_path / name)]) == 0
        files[name], _ = soundfile.read(tmp_path / name, dtype="int16")
    np.testing.assert_array_equal(files["a.wav"], files["b.wav"])
    assert "own folder" in refusal(capsys, "convert", model, "--output", model)


def test_convert_script_is_the_same_command(model, tmp_path):
    words = [sys.executable, str(ROOT / "scripts/convert_hf.py"), model, "--output", str(tmp_path / "native")]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)
    assert (tmp_path / "native" / "mindspore_model.safetensors").is_file()


def test_a_file_says_how_it_was_made(model, tmp_path, capsys):
    path = str(tmp_path / "a.flac")
    words = ["generate", PROMPT, "--model", model, "--duration", "0.5", "--negative-prompt", "noise"]
    assert cli.main([*words, "--guidance-scale", "4:2", "--seed", "7", "--output", path]) == 0
    capsys.readouterr()
    assert cli.main(["info", path, "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe["prompt"] == PROMPT and recipe["negative_prompt"] == "noise"
    assert recipe["model"] == os.path.basename(model)
    assert (recipe["seed"], recipe["duration"], recipe["guidance_scale"]) == (7, 0.5, [4.0, 2.0])
    soundfile.write(tmp_path / "b.wav", np.zeros(9), 32000)
    assert cli.main(["info", str(tmp_path / "b.wav")]) == 0
    assert "does not say how it was made" in capsys.readouterr().out


def test_a_wav_says_how_it_was_made_from_a_long_prompt(model, tmp_path, capsys):
    """libsndfile leaves out a comment of more than some 2 kB."""
    path, prompt = str(tmp_path / "a.wav"), "slow " * 800
    assert (
        cli.main(["generate", prompt, "--model", model, "--max-new-tokens", "8", "--seed", "7", "--output", path]) == 0
    )
    capsys.readouterr()
    assert cli.main(["info", path, "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)
    assert recipe["seed"] == 7 and recipe["prompt"].startswith("slow slow") and "(4000 characters" in recipe["prompt"]


def test_audio_to_codes_and_back_and_on(model, tmp_path, capsys):
    """encode, decode, and generate from audio and from codes."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal((22050, 2)), 44100)
    codes, out = str(tmp_path / "codes.npz"), str(tmp_path / "out.wav")
    assert cli.main(["encode", str(tmp_path / "a.wav"), "--model", model, "--output", codes]) == 0
    assert "25 frames of 4 codebooks" in capsys.readouterr().out
    assert cli.main(["decode", codes, "--model", model, "--output", out, "--normalize", "peak"]) == 0
    audio, _ = soundfile.read(out)
    assert len(audio) == 16000 and np.abs(audio).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    made = {}
    for name, prompt in (("audio", str(tmp_path / "a.wav")), ("codes", codes)):
        words = ["generate", PROMPT, "--model", model, "--audio", prompt, "--duration", "0.4", "--seed", "3"]
        assert cli.main([*words, "--force", "--output", out, "--codes", str(tmp_path / "made.npz")]) == 0
        made[name] = load_codes(str(tmp_path / "made.npz"))
    assert made["audio"].shape == (1, 4, 45)
    np.testing.assert_array_equal(made["audio"], made["codes"])
    np.testing.assert_array_equal(made["codes"][:, :, :25], load_codes(codes))
    assert soundfile.info(out).duration == pytest.approx(0.9)


def test_without_a_prompt_the_model_is_free(model, tmp_path):
    path = str(tmp_path / "a.wav")
    assert cli.main(["generate", "--model", model, "--duration", "0.2", "--copies", "2", "--output", path]) == 0
    assert sorted(os.listdir(tmp_path)) == ["a-1.wav", "a-2.wav"]


@pytest.mark.parametrize("raw", [True, False])
def test_standard_output_carries_audio_alone(model, tmp_path, raw):
    words = [sys.executable, "-m", "mindmusicgen", "generate", PROMPT, "--model", model, "--output", "-"]
    words += ["--duration", "2.5", "--seed", "1", *(["--raw"] if raw else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0 and b"seed 1" in done.stderr, done.stderr
    if raw:
        streamed = np.frombuffer(done.stdout, "<i2")
    else:
        streamed, rate = soundfile.read(io.BytesIO(done.stdout), dtype="int16")
        assert rate == 32000
    assert len(streamed) == 80000 and os.listdir(tmp_path) == []
    path = str(tmp_path / "a.wav")
    assert cli.main([*words[3:8], path, *words[9:13]]) == 0
    whole, _ = soundfile.read(path, dtype="int16")
    assert np.abs(whole.astype(int) - streamed).max() <= 1  # one step of rounding


def test_a_stream_begins_with_its_prompt(model, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(3 * 32000), 32000)
    words = [sys.executable, "-m", "mindmusicgen", "generate", PROMPT, "--model", model, "--output", "-"]
    words += ["--audio", str(tmp_path / "a.wav"), "--duration", "1", "--seed", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert len(soundfile.read(io.BytesIO(done.stdout))[0]) == 4 * 32000


def test_a_listener_may_leave(model, tmp_path):
    words = [sys.executable, "-m", "mindmusicgen", "generate", PROMPT, "--model", model, "--output", "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*words, "--duration", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    )
    assert len(process.stdout.read(1000)) == 1000
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(120) == 0 and "has stopped" in said and "Traceback" not in said, said


def test_info_counts_parameters_and_memory(model, tmp_path, capsys):
    from mindmusicgen import MusicgenForConditionalGeneration

    assert cli.main(["info", model, "--duration", "30", "--batch", "2"]) == 0
    said = capsys.readouterr().out
    network = MusicgenForConditionalGeneration.from_pretrained(model)
    decoder = sum(p.size for name, p in network.parameters_and_names() if name.startswith(("decoder", "conditioner")))
    assert f"{decoder / 1e6:.1f} M parameters" in said
    assert "mono, Hugging Face layout" in said and "30 s, batch 2" in said
    assert cli.main(["convert", model, "--output", str(tmp_path / "native")]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "native")]) == 0
    said = capsys.readouterr().out
    assert "MindSpore layout" in said and f"{decoder / 1e6:.1f} M parameters" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--extend-stride", "31"], "extend_stride is 31.0"),
        (["--duration", "-1"], "duration is -1.0"),
        (["--duration", "nan"], "duration is nan"),
        (["--duration", "inf"], "duration is inf"),
        (["--max-new-tokens", "1504"], "at most 1503"),
        (["--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--seed", "-4"], "seed is -4"),
        (["--guidance-scale", "nan"], "guidance_scale is nan"),
        (["--guidance-scale", "-1"], "guidance_scale is -1.0"),
        (["--temperature", "0"], "temperature is 0.0"),
        (["--temperature", "inf"], "temperature is inf"),
        (["--top-k", "-1"], "top_k is -1"),
        (["--top-p", "1.5"], "top_p is 1.5"),
        (["--dtype", "int8"], "dtype is 'int8'"),
        (["--dtype", "bfloat16"], "bfloat16 has no CPU kernels"),
        (["--device", "GPU"], "device is 'GPU'; expected CPU, Ascend, or Ascend:1"),
        (["--device", "CPU", "--device-id", "1"], "a CPU has no number"),
        (["--device-id", "-1"], "device id is -1"),
        (["--output", "music.aac"], "ends in '.aac'"),
        (
            ["--output", "music.flac", "--bit-depth", "32"],
            "bit depth 32 does not exist in .flac files; expected 24 or 16",
        ),
        (["--raw"], "--raw belongs to --output -"),
        (["--output", "-", "--normalize", "peak"], "a stream has 16 bit"),
        (["--output", "-", "--copies", "2"], "standard output takes one piece, not 2"),
        (["--copies", "0"], "copies is 0"),
        (["--codes", "codes.txt"], "must end in .npz"),
        (["--audio", "no.wav"], "'no.wav' cannot be read"),
        (["--audio", "no.npz"], "'no.npz' cannot be read"),
        (["--audio", "a.wav", "--audio", "b.wav"], "2 audio prompts for 1 prompts"),
        (["--output", "no/such/folder/a.wav"], "does not exist"),
    ],
)
def test_bad_arguments_are_one_sentence(model, capsys, arguments, words):
    assert words in refusal(capsys, "generate", PROMPT, "--model", model, *arguments)


def test_bad_models_are_one_sentence(capsys, tmp_path, model):
    assert "neither an existing folder" in refusal(capsys, "generate", PROMPT, "--model", str(tmp_path / "none"))
    assert "config.json cannot be read" in refusal(capsys, "generate", PROMPT, "--model", str(tmp_path))
    assert "config.json cannot be read" in refusal(capsys, "info", str(tmp_path))
    assert "cannot plan" in refusal(capsys, "info", model, "--batch", "0")
    assert "a prompt is '  '; expected some words" in refusal(capsys, "generate", "  ", "--model", model)


def test_half_characters_are_refused_before_a_model_is_opened(capsys, tmp_path):
    half, none = "calm \udcff piano", str(tmp_path / "none")
    assert "a prompt holds half a character" in refusal(capsys, "generate", half, "--model", none)
    words = ("--negative-prompt", half, "--model", none)
    assert "the negative prompt holds half a character" in refusal(capsys, "generate", PROMPT, *words)


def test_unwritable_output_is_refused(model, capsys, tmp_path):
    (tmp_path / "taken.wav").mkdir()
    assert "cannot be written" in refusal(
        capsys, "generate", PROMPT, "--model", model, "--output", str(tmp_path / "taken.wav")
    )


def test_over_long_prompt_says_what_is_cut(model, tmp_path, capsys):
    words = ["generate", "happy techno " * 300 + "with zither", "--model", model, "--max-new-tokens", "8"]
    assert cli.main([*words, "--output", str(tmp_path / "a.wav")]) == 0
    said = capsys.readouterr().err
    assert "text encoder takes 512" in said and "cut off" in said


def test_interrupt_exits_with_130_and_leaves_no_file(model, tmp_path):
    words = [sys.executable, "-m", "mindmusicgen", "generate", PROMPT, "--model", model, "--duration", "30"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted" in said and "Traceback" not in said
    assert os.listdir(tmp_path) == []


def test_importing_the_package_does_not_start_mindspore():
    code = "import sys, mindmusicgen; assert 'mindspore' not in sys.modules; print(mindmusicgen.__version__)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
