"""Texts in ASCII, as the lyrics were that Jukebox learned from: accents go, quotes and dashes become plain, Greek and
Cyrillic letters become Latin ones that sound alike. What has no such form is dropped."""

import unicodedata

LATIN = {"ß": "ss", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Ø": "O", "ø": "o", "Đ": "D", "đ": "d", "Ð": "D"}
LATIN |= {"ð": "d", "Þ": "Th", "þ": "th", "Ł": "L", "ł": "l", "ı": "i", "Ħ": "H", "ħ": "h", "ŋ": "ng", "Ŋ": "NG"}
SIGNS = {
    "'": "‘’‛′ʼ´`ʻ",
    '"': "“”‟″",
    ",": "‚",
    ",,": "„",
    "-": "‐‑‒–−",
    "--": "—―",
    "...": "…",
    "*": "•·",
    "<<": "«",
    ">>": "»",
    "<": "‹",
    ">": "›",
    "x": "×",
    "/": "÷⁄",
    "!": "¡",
    "?": "¿",
    "(c)": "©",
    "(r)": "®",
    "tm": "™",
    "deg": "°",
    "EUR": "€",
    "PS": "£",
    "\n": "\u2028\u2029",
    "": "\u200b\u200c\u200d\ufeff\u00ad",
}
GREEK = dict(zip("αβγδεζηικλμνξοπρσςτυω", "abgdezeiklmnxoprsstuo", strict=True))
CYRILLIC = dict(
    zip(
        "абвгдезийклмнопрстуфъыьэіґ",
        "abvgdeziiklmnoprstuf\"y'eig",
        strict=True,
    )
)
GREEK |= {"θ": "th", "φ": "ph", "χ": "kh", "ψ": "ps"}
CYRILLIC |= {"ё": "io", "ж": "zh", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ю": "iu", "я": "ia"}
CYRILLIC |= {"ї": "yi", "є": "ie"}
OTHER = {character: plain for plain, characters in SIGNS.items() for character in characters} | LATIN
for letters in (GREEK, CYRILLIC):
    OTHER |= letters | {letter.upper(): plain.capitalize() for letter, plain in letters.items() if letter != "ς"}


def to_ascii(text):
    """A text with ASCII's characters alone."""
    return "".join(map(_plain, text))


def _plain(character):
    if character.isascii():
        return character
    if character in OTHER:
        return OTHER[character]
    parts = unicodedata.normalize("NFKD", character)
    if parts == character:
        return " " if unicodedata.category(character) == "Zs" else ""
    return "".join(_plain(part) for part in parts if not unicodedata.combining(part))
