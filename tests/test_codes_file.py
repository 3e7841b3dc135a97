"""Files of codes: what is written comes back, and foreign files are refused before they are unpacked."""

import os
import zipfile

import numpy as np
import pytest

from mindmusicgen import InputError, codes_file
from mindmusicgen.codes_file import load_codes, save_codes


@pytest.fixture
def codes():
    return np.random.default_rng(0).integers(0, 64, (2, 4, 30)).astype(np.int32)


def test_codes_come_back(codes, tmp_path, quad):
    path = str(tmp_path / "a.npz")
    save_codes(path, codes, 32000, 50)
    np.testing.assert_array_equal(load_codes(path), codes)
    np.testing.assert_array_equal(load_codes(path, quad.model.config), codes)


def test_codes_of_other_models_are_refused(codes, tmp_path, quad):
    path = str(tmp_path / "a.npz")
    for values, rates, words in (
        (codes[:, :2], (32000, 50), "2 codebooks; this model has 4"),
        (codes, (24000, 50), "24000 Hz; this model has 32000"),
        (codes, (32000, 75), "75 frames a second; this model has 50"),
        (codes + 1, (32000, 50), "go up to 64; this model's end at 63"),
    ):
        save_codes(path, values, *rates)
        with pytest.raises(InputError, match=words):
            load_codes(path, quad.model.config)


def test_what_is_no_file_of_codes_is_refused(codes, tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="cannot be read"):
        load_codes(str(path))
    save_codes(str(path), codes, 32000, 50)
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:40] + b"\0" * 40 + whole[80:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            load_codes(str(path))
    for arrays in ({"codes": codes}, {"a": codes}, {"codes": np.array([{}]), "sampling_rate": 1, "frame_rate": 1}):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match="cannot be read"):
            load_codes(str(path))
    for values in (codes[0], codes - 1, codes / 2, codes[:, :, :0]):
        np.savez(path, codes=values, sampling_rate=32000, frame_rate=50)
        with pytest.raises(InputError, match="expected whole numbers from 0 on, .batch, codebooks, frames."):
            load_codes(str(path))
    monkeypatch.setattr(codes_file, "LARGEST", 1 << 20)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("a bomb was unpacked"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("codes.npy", bytes(2 << 20))
    with pytest.raises(InputError, match="cannot be read"):
        load_codes(str(path))


@pytest.mark.parametrize(
    "foreign",
    [
        {"codes": np.full((1, 4, 3), 1 << 40)},  # it became other codes as 32 bit
        {"codes": np.full((1, 4, 3), np.iinfo(np.uint64).max, np.uint64)},
        {"codes": np.zeros((1, 4, 3), "m8[s]")},  # NumPy counts times as whole numbers
        {"codes": np.zeros((1, 4, 3), [("a" * 500, "i4")] * 1)},
        {"codes": np.zeros((1,) * 32, int)},
        {"sampling_rate": np.inf},
        {"sampling_rate": np.array([32000])},
        {"sampling_rate": "32000"},
        {"frame_rate": np.nan},
        {"frame_rate": b"50"},
    ],
)
def test_foreign_content_is_one_sentence(codes, tmp_path, foreign):
    path = str(tmp_path / "a.npz")
    np.savez(path, **{"codes": codes, "sampling_rate": 32000, "frame_rate": 50} | foreign)
    with pytest.raises(InputError, match="codes '.*'.*; expected") as caught:
        load_codes(path)
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)


def test_archives_of_other_things_are_one_sentence(codes, tmp_path):
    path = tmp_path / "a.npz"
    save_codes(str(path), codes, 32000, 50)
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999, 4, 4), }".ljust(118)
    )
    for name, content, how in (
        ("codes.npy", header, {}),  # says to have more than any memory
        ("codes.npy", header[:10] + b"(" * 118, {}),
        ("codes.npy", b"text", {}),
        ("codes", b"\x93NUMPY", {}),
        ("codes.npy", header, {"compress_type": zipfile.ZIP_LZMA}),
        ("../codes.npy", header, {}),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content, **how)
        with pytest.raises(InputError, match="cannot be read"):
            load_codes(str(path))
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(InputError, match="cannot be read"):  # it waited for ever
        load_codes(str(path))


def test_unwritable_places_are_refused(codes, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for path in ("a.txt", "no/such/a.npz", "folder.npz"):
        with pytest.raises(InputError, match="codes .* (must end|cannot be written|does not exist)"):
            save_codes(str(tmp_path / path), codes, 32000, 50)
    assert len(list(tmp_path.iterdir())) == 1
