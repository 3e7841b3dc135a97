"""Captions that say what is in a song, in varied English or Chinese: the words that the demo model understands."""

import numpy as np
from synthesiser import BEATS, FRAME_RATE

CHINESE_SHARE = 0.15
STYLES = {  # names in English and in Chinese
    "80s pop": (("80s pop", "80s pop", "synth pop", "pop"), ("八十年代流行", "流行")),
    "rock": (("rock", "rock", "guitar rock"), ("摇滚",)),
    "techno": (("techno", "techno", "electronic dance"), ("科技舞曲", "电子舞曲")),
    "lo-fi hip hop": (("lo-fi hip hop", "lo-fi hip hop", "lofi", "hip hop"), ("低保真嘻哈", "嘻哈")),
    "reggae": (("reggae",), ("雷鬼",)),
    "jazz": (("jazz", "jazz", "swing"), ("爵士",)),
    "waltz": (("waltz",), ("圆舞曲", "华尔兹")),
    "ambient": (("ambient", "ambient", "atmospheric"), ("氛围音乐",)),
    "chiptune": (("chiptune", "8-bit", "video game"), ("八位机音乐", "游戏音乐")),
    "ballad": (("ballad",), ("抒情歌", "抒情曲")),
}
INSTRUMENTS = {  # names in English and in Chinese
    "piano": (("piano",), "钢琴"), "electric piano": (("electric piano", "soft keys"), "电钢琴"),
    "synth chords": (("synth chords", "synths"), "合成和弦"), "synth pad": (("synth pads", "pads"), "合成铺底"),
    "guitar": (("guitar",), "吉他"), "arpeggio": (("arpeggios",), "琶音"), "synth bass": (("synth bass",), "合成贝斯"),
    "plucked bass": (("upright bass", "bass guitar", "bass"), "贝斯"),
    "deep bass": (("deep bass", "sub bass"), "低音贝斯"),
    "flute": (("flute",), "长笛"), "bells": (("bells",), "钟琴"), "square lead": (("square lead",), "方波主音"),
    "synth lead": (("synth lead",), "合成主音"),
}  # fmt: skip
TEMPO_WORDS = (  # slower than, in English, in Chinese
    (85, ("slow", "slow tempo", "relaxed"), "慢速"),
    (112, ("mid-tempo", "moderate tempo"), "中速"),
    (142, ("upbeat", "lively", "medium fast"), "轻快"),
    (999, ("fast", "very fast", "rapid"), "快速"),
)
MOODS = {
    "happy": (("happy", "cheerful", "joyful"), "欢快"),
    "calm": (("calm", "peaceful", "gentle"), "平静"),
    "energetic": (("energetic", "intense", "driving"), "有力"),
    "sad": (("sad", "melancholic", "moody"), "忧伤"),
}
TONES = {
    "bright": (("bright", "bright sound", "crisp"), "明亮"),
    "dark": (("dark", "muffled", "warm and dark"), "暗淡"),
}
MODES = {"major": "大调", "minor": "小调"}


def mood(song):
    """The mood that mode and tempo suggest."""
    if song.mode == "major":
        return "happy" if song.bpm >= 100 else "calm"
    return "energetic" if song.bpm >= 100 else "sad"


def tempo_words(song):
    """What the tempo is called in English, and in Chinese."""
    return next((english, chinese) for limit, english, chinese in TEMPO_WORDS if song.bpm < limit)


def instruments(song):
    """The pitched instruments, without repetition."""
    names = (song.bass and song.bass[0], song.chords and song.chords[0], song.lead)
    return list(dict.fromkeys(name for name in names if name))


def nearest_beat(bpm):
    """The beat in frames that lies nearest to a tempo."""
    return min(BEATS, key=lambda beat: abs(np.log(60 * FRAME_RATE / beat / bpm)))


def said_tempo(song, rng):
    """The number that a caption says: often the nearest one, else one that is still nearest to this tempo."""
    bpm = round(song.bpm)
    if rng.random() < 0.5:
        near = [other for other in range(bpm - 9, bpm + 10) if nearest_beat(other) == song.beat]
        bpm = near[rng.integers(len(near))]
    return bpm


def caption(song, seed=0):
    """One of many captions of a song; `seed` chooses which."""
    rng = np.random.default_rng([song.seed, 3, seed])
    return _chinese(song, rng) if rng.random() < CHINESE_SHARE else english(song, rng)


def english(song, rng, name_tempo=None, name_drums=None):
    """An English caption; `name_tempo` and `name_drums` force (True) or forbid (False) that it speaks of them."""

    def one(options):
        return options[rng.integers(len(options))]

    def chance(probability, forced=None):
        drawn = rng.random() < probability
        return drawn if forced is None else forced

    adjectives = []
    if chance(0.45):
        adjectives.append(one(tempo_words(song)[0]))
    if chance(0.35):
        adjectives.append(one(MOODS[mood(song)][0]))
    if chance(0.4):
        adjectives.append(one(TONES[song.tone][0]))
    rng.shuffle(adjectives)
    listed = instruments(song)
    if chance(0.12) and song.chords:  # "calm piano"
        head, listed = " ".join([", ".join(adjectives), one(INSTRUMENTS[song.chords[0]][0])]).strip(), []
    else:
        head = " ".join([", ".join(adjectives), one(STYLES[song.style][0]) if chance(0.92) else "music"]).strip()
        head += one(("", "", " track", " song", " tune", " music")) if not head.endswith("music") else ""
    parts = [one(INSTRUMENTS[name][0]) for name in listed if chance(0.7)]
    drums = chance(0.8, name_drums)
    if song.drums and drums:
        parts.append(one(("drums", "drums", "a drum beat", "steady drums")))
    rng.shuffle(parts)
    if parts:
        named = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + one((" and ", ", ")) + parts[-1]
        head += one((" with ", " with ", " featuring ")) + named
    tail = []
    if not song.drums and drums:
        tail.append(one(("no drums", "without drums", "no percussion")))
    if chance(0.7, name_tempo):
        bpm = said_tempo(song, rng)
        tail.append(one((f"{bpm} bpm", f"{bpm} bpm", f"at {bpm} BPM", f"tempo {bpm}")))
    if song.meter == 3 and chance(0.3):
        tail.append(one(("3/4", "in three", "waltz time")))
    if chance(0.25):
        tail.append(one((f"{song.mode} key", f"in a {song.mode} key", song.mode)))
    rng.shuffle(tail)
    text = ", ".join([head, *tail])
    return text if chance(0.85) else text.capitalize() + "."


def _chinese(song, rng):
    def chance(probability):
        return rng.random() < probability

    words = []
    if chance(0.5):
        words.append(tempo_words(song)[1] + "的")
    if chance(0.4):
        words.append(MOODS[mood(song)][1] + "的")
    if chance(0.4):
        words.append(TONES[song.tone][1] + "的")
    names = STYLES[song.style][1]
    text = "".join(words) + names[rng.integers(len(names))]
    parts = [INSTRUMENTS[name][1] for name in instruments(song) if chance(0.7)]
    named = chance(0.8)
    if song.drums and named:
        parts.append("鼓")
    if parts:
        text += "，" + "、".join(parts)
    if not song.drums and named:
        text += "，没有鼓"
    if chance(0.7):
        text += f"，{said_tempo(song, rng)} bpm"
    if chance(0.25):
        text += "，" + MODES[song.mode]
    return text
