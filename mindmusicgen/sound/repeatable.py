"""The same piece is the same file, byte for byte: what libsndfile writes by chance or by the clock is taken out."""

import struct
import zlib

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
PAGE_HEADER = 27  # bytes of an Ogg page before its table of segments


def make_repeatable(path, kind):
    """Take the clock out of a WAV file's PEAK chunk, and the random serial number out of an Ogg file's pages.

    Args:
        path (str): a whole file that libsndfile wrote.
        kind (str): "WAV", "OGG" or another, which is left as it is.
    """
    if kind == "WAV":
        with open(path, "r+b") as file:
            _still_peak(file)
    elif kind == "OGG":
        with open(path, "r+b") as file:
            content = bytearray(file.read())
            _number_pages(content)
            file.seek(0)
            file.write(content)


def _still_peak(file):
    """PEAK, which float files have, holds a version and the time of writing."""
    place = 12
    while True:
        file.seek(place)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if name == b"PEAK":
            file.seek(place + 12)
            file.write(bytes(4))
        if name in (b"PEAK", b"data", bytes(4)):
            return
        place += 8 + size + size % 2


def _number_pages(content):
    """Every page of an Ogg stream holds the stream's number and a checksum of the page."""
    place = 0
    while place < len(content):
        segments = content[place + PAGE_HEADER - 1]
        table = place + PAGE_HEADER
        end = table + segments + sum(content[table : table + segments])
        content[place + 14 : place + 18] = bytes(4)
        content[place + 22 : place + 26] = bytes(4)
        content[place + 22 : place + 26] = _checksum(content[place:end]).to_bytes(4, "little")
        place = end


def _checksum(page):
    """Ogg's CRC is zlib's of bits in the other order, without its two inversions."""
    found = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)
