"""Captions that say what is in a song, in varied English or Chinese."""

import numpy as np

CHINESE_SHARE = 0.12
LEADS = {"saw": "saw lead", "square": "square lead", "pluck": "plucked lead", "bell": "bells", "piano": "piano"}
LEADS |= {"organ": "organ", "flute": "flute"}
CHORDS = {"pad": "synth pads", "saw": "synth chords", "organ": "organ", "piano": "piano", "pluck": "guitar"}
CHORDS |= {"square": "arpeggios"}
BASSES = {"synth bass": "synth bass", "sub bass": "deep bass", "upright bass": "upright bass", "square": "square bass"}
CHINESE = {
    "80s pop": "八十年代流行", "rock": "摇滚", "techno": "科技舞曲", "house": "浩室", "disco": "迪斯科",
    "lo-fi hip hop": "低保真嘻哈", "jazz": "爵士", "jazz waltz": "爵士圆舞曲", "waltz": "圆舞曲", "ambient": "氛围音乐",
    "chiptune": "八位机音乐", "ballad": "抒情歌", "folk": "民谣", "reggae": "雷鬼", "saw lead": "锯齿波主音",
    "square lead": "方波主音", "plucked lead": "拨弦主音", "bells": "钟琴", "piano": "钢琴", "organ": "风琴",
    "flute": "长笛", "synth pads": "合成铺底", "synth chords": "合成和弦", "guitar": "吉他", "arpeggios": "琶音",
    "synth bass": "合成贝斯", "deep bass": "低音贝斯", "upright bass": "低音提琴", "square bass": "方波贝斯",
    "major": "大调", "minor": "小调", "bright": "明亮", "dark": "暗淡", "happy": "欢快", "calm": "平静",
    "energetic": "有力", "sad": "忧伤",
}  # fmt: skip
TEMPO_WORDS = (  # slower than, in English, in Chinese
    (85, ("slow", "slow tempo", "relaxed"), "慢速"),
    (112, ("mid-tempo", "moderate tempo"), "中速"),
    (142, ("upbeat", "lively", "medium fast"), "轻快"),
    (999, ("fast", "very fast", "rapid"), "快速"),
)
MOODS = {
    "happy": ("happy", "cheerful", "joyful"),
    "calm": ("calm", "peaceful", "gentle"),
    "energetic": ("energetic", "intense", "driving"),
    "sad": ("sad", "melancholic", "moody"),
}
TONES = {"bright": ("bright", "bright sound", "crisp"), "dark": ("dark", "muffled", "warm and dark")}


def mood(song):
    """The mood that mode and tempo suggest."""
    if song.mode == "major":
        return "happy" if song.bpm >= 100 else "calm"
    return "energetic" if song.bpm >= 100 else "sad"


def instruments(song):
    """The names of the pitched instruments, without repetition."""
    names = (
        BASSES.get(song.bass),
        CHORDS.get(song.chords[0]) if song.chords else None,
        LEADS.get(song.lead),
    )
    return list(dict.fromkeys(name for name in names if name))


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
        adjectives.append(one(next(words for limit, words, _ in TEMPO_WORDS if song.bpm < limit)))
    if chance(0.35):
        adjectives.append(one(MOODS[mood(song)]))
    if song.tone in TONES and chance(0.4):
        adjectives.append(one(TONES[song.tone]))
    rng.shuffle(adjectives)
    head = " ".join([", ".join(adjectives), song.genre if chance(0.9) else "music"]).strip()
    head += one(("", "", " track", " song", " tune", " music")) if not head.endswith("music") else ""
    parts = [name for name in instruments(song) if chance(0.7)]
    drums = chance(0.8, name_drums)
    if song.drums and drums:
        parts.append(one(("drums", "drums", "a drum beat", f"{_drum_word(song)} drums")))
    rng.shuffle(parts)
    if parts:
        listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + one((" and ", ", ")) + parts[-1]
        head += one((" with ", " with ", " featuring ")) + listed
    tail = []
    if not song.drums and drums:
        tail.append(one(("no drums", "without drums", "no percussion")))
    if chance(0.7, name_tempo):
        tail.append(one((f"{song.bpm} bpm", f"{song.bpm} bpm", f"at {song.bpm} BPM", f"tempo {song.bpm}")))
    if song.meter == 3 and chance(0.5):
        tail.append(one(("3/4", "in three", "waltz time")))
    if chance(0.25):
        tail.append(one((f"{song.mode} key", f"in a {song.mode} key", song.mode)))
    rng.shuffle(tail)
    text = ", ".join([head, *tail])
    return text if chance(0.85) else text.capitalize() + "."


def _drum_word(song):
    return {"four on the floor": "four on the floor", "swing": "swing", "half time": "half time"}.get(
        song.drums, "steady"
    )


def _chinese(song, rng):
    words = []
    if rng.random() < 0.5:
        words.append(next(word for limit, _, word in TEMPO_WORDS if song.bpm < limit) + "的")
    if rng.random() < 0.4:
        words.append(CHINESE[mood(song)] + "的")
    if song.tone in TONES and rng.random() < 0.3:
        words.append(CHINESE[song.tone] + "的")
    text = "".join(words) + CHINESE[song.genre]
    parts = [CHINESE[name] for name in instruments(song) if rng.random() < 0.7]
    named = rng.random() < 0.8
    if song.drums and named:
        parts.append("鼓")
    if parts:
        text += "，" + "、".join(parts)
    if not song.drums and named:
        text += "，没有鼓"
    if rng.random() < 0.7:
        text += f"，{song.bpm} bpm"
    if rng.random() < 0.25:
        text += "，" + CHINESE[song.mode]
    return text
