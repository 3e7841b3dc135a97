"""The page in a real browser: what somebody does with it, what is heard, and what is said when something is wrong."""

import base64
import json

import numpy as np
import pytest

from mindmusicgen.audio import read_audio, read_comment
from mindmusicgen.sound.recipe import recipe_of

RENDER = """async (chunks) => {
    const rate = 32000, offset = 3217, bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const all = chunks.map((text) => new Int16Array(bytes(text).buffer));
    const context = new OfflineAudioContext(1, offset + all.reduce((sum, one) => sum + one.length, 0), rate);
    let place = offset;
    for (const one of all) {
        const buffer = context.createBuffer(1, one.length, rate);
        buffer.copyToChannel(Float32Array.from(one, (value) => value / 32767), 0);
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(context.destination);
        source.start(place / rate);
        place += one.length;
    }
    return Array.from((await context.startRendering()).getChannelData(0).slice(offset));
}"""
WIDE = {"width": 1280, "height": 900}


class Visit:
    """A tab, and what the player in it was served."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(**{"locale": "en-US", "viewport": WIDE} | options)
        self.page, self.served, self.said = self.context.new_page(), [], []
        self.page.on("response", self._take)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#seed input[placeholder]")
        self.page.wait_for_function("document.querySelector('#seed input').value === ''")

    def _take(self, response):
        if "component_server" in response.url:
            self.served.append(response)

    def heard(self):
        """The samples that the player was served, joined, and those that it has taken, in seconds."""
        chunks = []
        for response in self.served:
            told = response.json()
            chunks += [base64.b64decode(chunk) for chunk in told["chunks"]]
        return np.frombuffer(b"".join(chunks), "<i2")

    def fill(self, **fields):
        for name, value in fields.items():
            self.page.fill(f"#{name} textarea, #{name} input", str(value))

    def make(self, button="make"):
        self.served.clear()
        self.page.click(f"#{button}")
        self.page.wait_for_function("!document.querySelector('#stop').disabled", timeout=20_000)

    def done(self, timeout=90_000):
        self.page.wait_for_function("document.querySelector('#stop').disabled", timeout=timeout)
        return self.page.inner_text("#status")

    def download(self, ending="wav"):
        """The piece that is shown, as a file."""
        if ending != "wav":
            before = self.page.get_attribute("#download", "href") or ""
            self.page.click(f"#format label:has-text('{ending}')")
            self.page.wait_for_function(f"document.querySelector('#download').href !== {json.dumps(before)}")
            self.page.wait_for_timeout(500)
        with self.page.expect_download() as waiting:
            self.page.click("#download")
        return str(waiting.value.path()), waiting.value.suggested_filename

    def live(self):
        return json.loads(self.page.eval_on_selector("#live", "live => JSON.stringify(live.dataset)"))


@pytest.fixture
def visit(server, browser):
    opened = []

    def visit(**options):
        opened.append(Visit(browser, server.url, **options))
        return opened[-1]

    yield visit
    for one in opened:
        one.context.close()
        assert one.said == []


@pytest.fixture(scope="module")
def warm(server, browser):
    """The demo's graphs are there: what is measured afterwards is the page."""
    one = Visit(browser, server.url)
    one.fill(prompt="calm piano", duration=10)
    one.make()
    one.done()
    one.context.close()


def test_a_piece_is_made_heard_and_kept(visit, warm, tmp_path):
    tab = visit()
    tab.page.click("#examples button >> nth=0")
    tab.fill(seed=7, duration=4)
    tab.make()
    tab.page.wait_for_function("document.querySelector('#live').dataset.first", timeout=20_000)
    assert "4.0 s of music" in tab.done() and "seed 7" in tab.page.inner_text("#status")
    path, name = tab.download()
    audio, heard = read_audio(path, 32000, 1), tab.heard()
    assert name.endswith("-7.wav") and np.abs(audio).max() > 0.05, "silence"
    assert np.abs(audio[0] * 32768 - heard).max() <= 2, "what was heard is not the piece"
    live = tab.live()
    assert float(live["made"]) == 4.0 and float(live["first"]) < 10_000
    recipe = recipe_of(read_comment(path))
    assert recipe["prompt"].startswith("upbeat 80s pop") and recipe["seed"] == 7
    tab.page.wait_for_selector("#pictures img")
    path, name = tab.download("ogg")
    assert name.endswith(".ogg") and recipe_of(read_comment(path)) == recipe
    assert "1. upbeat 80s pop" in tab.page.inner_text("#pieces")


def test_the_sound_is_played_without_seams(visit, warm):
    """The player's own schedule, rendered by the browser: sample for sample the piece."""
    tab = visit()
    tab.fill(prompt="techno", seed=3, duration=3)
    tab.make()
    tab.done()
    piece = tab.heard()
    chunks = [base64.b64decode(chunk) for one in tab.served for chunk in one.json()["chunks"]]
    rendered = tab.page.evaluate(
        RENDER,
        [base64.b64encode(chunk).decode() for chunk in chunks],
    )
    assert len(chunks) == 3 and np.abs(np.array(rendered) - piece / 32767).max() < 1e-6


def test_stopping_keeps_what_is_there_and_it_goes_on_from_there(visit, warm):
    tab = visit()
    tab.fill(prompt="calm piano", duration=60, seed=5)
    tab.make()
    tab.page.wait_for_function("Number(document.querySelector('#live').dataset.made) >= 1", timeout=30_000)
    tab.page.click("#stop")
    said = tab.done()
    seconds = float(said.split(":")[1].split(" s")[0])
    assert said.startswith("stopped") and 1 <= seconds < 45
    first = read_audio(tab.download()[0], 32000, 1)
    assert first.shape[1] / 32000 == pytest.approx(seconds, abs=0.1)
    tab.fill(duration=1)
    tab.make("further")
    tab.done()
    longer = read_audio(tab.download()[0], 32000, 1)
    assert longer.shape[1] / 32000 == pytest.approx(seconds + 1, abs=0.1)
    assert np.corrcoef(first[0, :32000], longer[0, :32000])[0, 1] > 0.8
    assert "2. calm piano" in tab.page.inner_text("#pieces")


def test_again_is_the_same_and_a_variation_is_not(visit, warm):
    tab = visit()
    tab.fill(prompt="waltz with piano", duration=1, seed=11)
    tab.make()
    tab.done()
    first = tab.heard()
    tab.fill(prompt="something else", seed=1)
    tab.make("again")
    tab.done()
    assert np.array_equal(tab.heard(), first) and tab.page.input_value("#prompt textarea") == "waltz with piano"
    tab.make("variation")
    tab.done()
    assert not np.array_equal(tab.heard(), first) and tab.page.input_value("#seed input") != "11"


def test_the_language_is_the_browsers_and_can_be_changed(visit, warm):
    tab = visit(locale="zh-CN")
    assert tab.page.inner_text("#make") == "生成音乐"
    tab.page.click("#more button")
    tab.fill(prompt="平静的钢琴", temperature=-3)
    tab.page.click("#make")
    tab.page.wait_for_selector(".refusal")
    assert "应为" in tab.page.inner_text(".refusal")
    tab.page.click("#language label:has-text('English')")
    tab.page.wait_for_function("document.querySelector('#make').innerText === 'Make music'")
    tab.page.click("#make")
    tab.page.wait_for_function("document.querySelector('.refusal')?.innerText.includes('expected')")
    assert tab.page.evaluate("[...document.fonts].some(font => font.family === 'page-zh' && font.status === 'loaded')")


def test_a_broken_file_is_named_beside_the_recording(visit, tmp_path):
    tab, broken = visit(), tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF this is no sound")
    tab.page.click("#source button")
    tab.page.set_input_files("#recording input[type=file]", str(broken))
    refusal = tab.page.wait_for_selector("#source .refusal", timeout=20_000)
    assert "audio 'broken.wav' cannot be read" in refusal.inner_text()
    assert "Traceback" not in tab.page.content()


def test_a_refusal_stands_in_its_group_and_goes_with_the_next_piece(visit, warm):
    tab = visit()
    tab.page.click("#more button")
    tab.fill(prompt="calm piano", top_p=7, duration=1)
    tab.page.click("#make")
    assert "top_p is 7" in tab.page.wait_for_selector("#more .refusal").inner_text()
    tab.fill(top_p="")
    tab.make()
    tab.done()
    assert tab.page.query_selector(".refusal") is None


def test_a_piece_that_is_dropped_refills_the_fields(visit, warm):
    tab = visit()
    tab.fill(prompt="happy rock with guitar", seed=21, duration=1)
    tab.make()
    tab.done()
    path, name = tab.download()
    other = visit()
    with open(path, "rb") as file:
        other.page.set_input_files(
            "#dropped input[type=file]", {"name": name, "mimeType": "audio/wav", "buffer": file.read()}
        )
    other.page.wait_for_function("document.querySelector('#seed input').value === '21'")
    assert other.page.input_value("#prompt textarea") == "happy rock with guitar"
    assert "happy rock" in other.page.inner_text("#recipe_box")


def test_a_model_brings_its_fields(visit):
    tab = visit()
    assert not tab.page.is_visible("#voice")
    models = (("digits", "#voice", "#source"), ("solfa", "#lyrics", "#prompt"), ("beats", "#prompt", "#lyrics"))
    for model, seen, gone in models:
        tab.page.click("#model input")
        tab.page.click(f"ul[role=listbox] li:has-text('{model}')")
        tab.page.wait_for_selector(seen)
        tab.page.wait_for_selector(gone, state="hidden")
    tab.page.click("#more button")
    tab.page.wait_for_selector("#steps")
    tab.fill(prompt="fast electronic techno", steps=3, duration=2, seed=1)
    tab.make()
    assert "2.0 s of music" in tab.done()


def test_two_tabs_at_once_get_each_their_own_and_the_second_sees_its_place(visit, warm):
    one, two = visit(), visit()
    one.fill(prompt="calm piano", seed=31, duration=12)
    two.fill(prompt="techno", seed=32, duration=1)
    one.make()
    one.page.wait_for_function("document.querySelector('#status').innerText.includes('made')", timeout=30_000)
    two.page.click("#make")
    two.page.wait_for_function("document.querySelector('#status').parentElement.innerText.match(/queue/)")
    assert "seed 31" in one.done() and "seed 32" in two.done()
    assert len(one.heard()) == 12 * 32000 and len(two.heard()) == 32000
    assert "techno" not in one.page.inner_text("#pieces") and "calm" not in two.page.inner_text("#pieces")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_works_by_keyboard(visit, warm, scheme):
    tab = visit(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = tab.page.evaluate("document.body.classList.contains('dark') || !!document.querySelector('.dark')")
    assert dark == (scheme == "dark")
    tab.fill(duration=1)
    tab.page.focus("#prompt textarea")
    tab.page.keyboard.type("calm piano")
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.id") == "make":
            break
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("#piece audio, #piece #waveform", timeout=60_000, state="attached")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
