"""Make the package's font for Chinese text, mindmusicgen/fonts, from WenQuanYi Micro Hei (Apache License 2.0).

    python scripts/make_font.py wqy-microhei.ttc     # Debian has it as fonts-wqy-microhei

Every character of GB 2312, GBK, Big5 and JIS X 0208 that the font has, without hints. Six rare kana and the wave dash,
which it lacks, are put together from its own parts.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.pens.ttGlyphPen import TTGlyphPen

FONT = Path(__file__).resolve().parents[1] / "mindmusicgen" / "fonts" / "WenQuanYiMicroHei-Subset.ttf"
BLOCKS = (range(0x20, 0x7F), range(0x3041, 0x3097), range(0x30A1, 0x30FB), range(0xFF61, 0xFFA0))  # ASCII and kana
CHARSETS = ("gb2312", "gbk", "big5", "shift_jis")
MARKED = {"ヷ": "ワ", "ヸ": "ヰ", "ヹ": "ヱ", "ヺ": "ヲ"}  # with a voice mark
SMALL = {"ゕ": "か", "ゖ": "け"}
SAME = {"〜": "～"}
NAMES = {
    1: "WenQuanYi Micro Hei Subset",
    3: "mindmusicgen - WenQuanYi Micro Hei Subset",
    4: "WenQuanYi Micro Hei Subset",
    6: "WenQuanYiMicroHeiSubset",
    10: "Subset of WenQuanYi Micro Hei with the characters of GB 2312, GBK, Big5 and JIS X 0208, without hints.",
}


def characters():
    """Every character that two bytes of the charsets give, the half-width kana, and ASCII."""
    found = {chr(code) for block in BLOCKS for code in block} | {*SAME}
    pairs = [bytes([first, second]) for first in range(0x81, 0xFF) for second in range(0x40, 0xFF)]
    for charset in CHARSETS:
        found |= {text for text in (pair.decode(charset, "ignore") for pair in pairs) if len(text) == 1}
    return found


def complete(font):
    """Add the characters that the font can be given from its own parts."""
    names, glyphs, metrics = font.getBestCmap(), font["glyf"], font["hmtx"]

    def add(character, source, *parts):
        pen = TTGlyphPen(glyphs)
        for part, transformation in parts:
            pen.addComponent(names[ord(part)], transformation)
        name = f"uni{ord(character):04X}"
        glyphs[name] = pen.glyph()
        glyphs[name].recalcBounds(glyphs)
        metrics[name] = metrics[names[ord(source)]]
        for table in font["cmap"].tables:
            if table.isUnicode():
                table.cmap[ord(character)] = name

    whole = (1, 0, 0, 1, 0, 0)
    for character, source in MARKED.items():
        add(character, source, (source, whole), ("゛", (0.8, 0, 0, 0.8, 1000, 400)))
    for character, source in SMALL.items():
        add(character, source, (source, (0.75, 0, 0, 0.75, 256, 0)))
    for character, source in SAME.items():
        add(character, source, (source, whole))


def main(source):
    options = subset.Options(hinting=False, name_IDs=["*"], name_languages=[0x409], layout_features=[], font_number=0)
    options.drop_tables += ["GSUB", "GPOS", "vhea", "vmtx"]
    font = subset.load_font(source, options)
    complete(font)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(sorted(characters())))
    subsetter.subset(font)
    font["name"].names = [record for record in font["name"].names if record.nameID < 16]
    for record in font["name"].names:
        record.string = NAMES.get(record.nameID, record.toUnicode())
    font["head"].modified = font["head"].created  # the same file from the same source
    font.recalcTimestamp = False
    font.save(FONT)
    print(f"{FONT.name}: {len(font.getBestCmap()):,} characters, {FONT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
