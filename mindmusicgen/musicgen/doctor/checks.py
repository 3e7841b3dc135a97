"""The checks: every stage of the demo model against golden values."""

import numpy as np

from ...doctor.stages import AUDIO_TOLERANCES, CHOICE_TOLERANCES, TOLERANCES, StageCheck, largest_error, part_different
from . import golden

AUDIO_CODES_TOLERANCE = 0.02  # part of the codes that may differ: what lies between two codes may fall to either


def stage_checks(stages, gold, device, dtype, quick=False):
    """The checks of the demo model.

    Args:
        stages (Stages): the model on the device.
        gold (dict): from `golden.load`.
        device (str): "CPU" or "Ascend".
        dtype (str): of text encoder and decoder.
        quick (bool): leave out what other stages cover in part.

    Returns:
        list[StageCheck].
    """
    text = gold["states"], gold["mask"]
    clip, audio = gold["codes"][:1, :, : golden.AUDIO_FRAMES], AUDIO_TOLERANCES[device]
    checks = [
        StageCheck("tokenizer", lambda: _tokens(stages, gold)),
        StageCheck("text encoder", lambda: _compare(stages.states(gold["ids"], gold["mask"]), gold["states"], dtype)),
        StageCheck("decoder, column by column", lambda: _logits(stages.step_logits, text, gold, dtype)),
        StageCheck("decoder, all columns at once", lambda: _logits(stages.prompt_logits, text, gold, dtype)),
        StageCheck("decode loop", lambda: _loop(stages, text, gold, device, dtype)),
        StageCheck("sampling", lambda: _sampling(stages, text, gold)),
        StageCheck("codec decoder", lambda: (largest_error(stages.audio(clip), gold["audio"]), audio, "")),
        StageCheck("codec encoder", lambda: _audio_codes(stages, gold)),
    ]
    if quick:
        return checks
    checks.insert(5, StageCheck("decode loop after a prompt", lambda: _continuation(stages, text, gold, device, dtype)))
    pieces = StageCheck(
        "codec decoder, in pieces", lambda: (largest_error(stages.audio_in_pieces(clip), gold["audio"]), audio, "")
    )
    checks.insert(-1, pieces)
    return checks


def _tokens(stages, gold):
    return part_different(stages.tokens(gold["prompts"]), (gold["ids"], gold["mask"])), 0.0, ""


def _compare(found, expected, dtype):
    return largest_error(found, expected), TOLERANCES[dtype], ""


def _logits(stage, text, gold, dtype):
    """Teacher-forced logits; the remark names the first column that is wrong."""
    found, expected = stage(*text, gold["codes"], golden.LOGIT_COLUMNS), gold["logits"]
    error, tolerance = largest_error(found, expected), TOLERANCES[dtype]
    if found.shape != expected.shape or error <= tolerance:
        return error, tolerance, ""
    off = ~np.isfinite(found) | (np.abs(found - expected) > tolerance * np.abs(expected).max())
    columns = [c for c, wrong in zip(golden.LOGIT_COLUMNS, off.any(axis=(1, 2, 3)), strict=True) if wrong]
    cause = "" if columns[0] == 0 else f", columns before are right: {_cause(stage)}"
    return error, tolerance, f"wrong from column {columns[0]} on{cause}"


def _cause(stage):
    return "look at the cache" if stage.__name__ == "step_logits" else "look at the mask between columns"


def _loop(stages, text, gold, device, dtype, prompt=None):
    """Greedy codes: each must be the best of its own logits, and in float32 those of the golden run."""
    codes = stages.codes(*text, prompt)
    expected = gold["codes"]
    if codes.shape != expected.shape or codes.min() < 0:
        return float("inf"), CHOICE_TOLERANCES[dtype], f"shape {codes.shape}, expected {expected.shape}"
    deficits = stages.deficits(*text, codes)
    known = 0 if prompt is None else prompt.shape[2]
    error = float(deficits[:, :, known:].max())
    differing = np.nonzero((codes != expected).any(axis=(0, 1)))[0]
    same = int(differing[0]) if len(differing) else codes.shape[2]
    certain = golden.certain_frames(gold["margins"], device)
    remark = f"{same} of {codes.shape[2]} frames as in the golden run"
    if dtype == "float32" and same < certain:
        return float("inf"), CHOICE_TOLERANCES[dtype], f"{remark}, {certain} should be"
    return error, CHOICE_TOLERANCES[dtype], remark


def _continuation(stages, text, gold, device, dtype):
    return _loop(stages, text, gold, device, dtype, gold["codes"][:, :, : golden.KNOWN_FRAMES])


def _sampling(stages, text, gold):
    """Golden logits and uniforms must give the golden codes, in every dtype: sampling is float32."""
    found = stages.sampled(*text, gold["logits"], gold["uniforms"])
    return part_different([found], [gold["sampled"]]), 0.0, ""


def _audio_codes(stages, gold):
    return part_different([stages.audio_codes(gold["audio"])], [gold["audio_codes"]]), AUDIO_CODES_TOLERANCE, ""
