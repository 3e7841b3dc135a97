"""`mindmusicgen info` and `batch` with a MusicLDM."""

import json

import pytest

from mindmusicgen.audio import read_audio, read_comment
from mindmusicgen.cli import main
from mindmusicgen.musicldm.checkpoint.info import describe, work
from mindmusicgen.musicldm.config import UNetConfig, VaeConfig, VocoderConfig
from mindmusicgen.musicldm.settings import Sizes
from mindmusicgen.sound.recipe import recipe_of


def test_work_of_the_published_sizes():
    """Counted by torch with the published sizes, 10.24 s: 183 GFLOP a step with guidance, 636 and 1029 to decode."""
    step, decoding = work(Sizes(UNetConfig(), VaeConfig(), VocoderConfig()), 256)
    assert abs(step / 183e9 - 1) < 0.1 and abs(decoding / 1665e9 - 1) < 0.1


def test_info(golden, capsys, refused):
    assert main(["info", golden.folder, "-d", "1", "--table"]) == 0
    said = capsys.readouterr().out
    for words in (
        "MusicLDM, music, 16000 Hz",
        "ranks",
        "widths 8 16 24 40",
        "DDIMScheduler",
        "trained on 1.28 s",
        "batch 16",
    ):
        assert words in said
    refused(lambda: describe(golden.folder, 0), "cannot plan")


def test_batch(golden, tmp_path, monkeypatch, capsys):
    from mindmusicgen.musicldm.model import MusicLDMPipeline
    from mindmusicgen.musicldm.settings import Noise

    asked = []

    def latents(self, request, work):
        asked.append((request, type(self.scheduler).__name__))
        return Noise(request.seeds, (8, request.lines, self.columns)).draw()

    monkeypatch.setattr(MusicLDMPipeline, "_latents", latents)
    lines = [
        {"prompt": "a", "duration": 0.3, "steps": 5},
        {"prompt": "b", "duration": 0.3, "steps": 5, "negative": "c"},
        {"prompt": "d", "duration": 0.3, "scheduler": "euler", "id": "d"},
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["batch", str(tmp_path / "prompts.jsonl"), "-o", str(tmp_path / "out"), "-m", golden.folder, "-s", "7"]
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == ["00001.wav", "00002.wav", "d.wav"]
    assert read_audio(tmp_path / "out" / "d.wav", 16000, 1).shape == (1, 4800)
    both = next(request for request, _ in asked if request.rows == 2)
    assert both.seeds == (7, 8) and both.negatives == ["", "c"] and len(both.table.timesteps) == 5
    assert {name for _, name in asked} == {"DDIMScheduler", "EulerDiscreteScheduler"}
    assert recipe_of(read_comment(tmp_path / "out" / "00001.wav"))["steps"] == 5
    count = len(asked)
    assert main(words) == 0 and len(asked) == count and "3 were there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, said",
    [
        ({"steps": 0}, "num_inference_steps is 0"),
        ({"scheduler": "heun"}, "scheduler is 'heun'"),
        ({"voice": "v2/en_speaker_6"}, "voice is for models of codes"),
        ({"guidance_scale": [3, 1]}, "guidance_scale is [3, 1]"),
        ({"duration": 61}, "audio_length_in_s is 61"),
    ],
)
def test_lines_that_are_refused(golden, tmp_path, capsys, line, said):
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "a"} | line))
    assert main(["batch", str(tmp_path / "prompts.jsonl"), "-o", str(tmp_path / "out"), "-m", golden.folder]) == 2
    error = capsys.readouterr().err
    assert said in error and "line 1" in error
