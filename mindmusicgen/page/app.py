"""The page itself, of Gradio's parts: what it looks like, and which event of the desk answers what."""

import asyncio
import base64
import inspect
from pathlib import Path

import gradio as gr

from ..auto import part_of_family
from ..checkpoint.source import DEMO
from ..commands.flags import SCHEDULERS
from .desk import AREAS, dice
from .fields import FIELDS, USES
from .sessions import FORMATS
from .texts import EXAMPLES, LANGUAGES, TEXTS

HERE = Path(__file__).parent
QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}  # of all models: MindSpore serves one caller at a time
OWN = ("guidance_start", "temperature", "top_k", "top_p", "steps")  # empty means the model's own
EMPTY = (*OWN, "guidance_end", "seed")
CHOICES = {"use": USES}
BUTTONS = ("make", "stop", "again", "variation", "further")
SHOWN = ("made", "piece", "recipe", "pieces", "no_pieces", "format", "download", "pictures")  # of a piece
PATIENCE = 20.0  # seconds after which a listener is told that nothing came, and asks again
LIVE = """<div class="live" id="live" hidden><canvas aria-hidden="true"></canvas><div class="line">
<button type="button" aria-label="pause / play"><svg viewBox="0 0 24 16" width="24" height="16" aria-hidden="true">
<path fill="currentColor" d="M0 0 12 8 0 16ZM14 0h3v16h-3zM20 0h3v16h-3z"/></svg></button>
<span class="clock"></span></div></div>"""
LIVE_CSS = """.live canvas { width: 100%; height: 56px; display: block; }
.live .line { display: flex; gap: 10px; align-items: center; font-variant-numeric: tabular-nums; }
.live button { font-size: 1.2em; min-width: 44px; min-height: 36px; border-radius: 6px; cursor: pointer;
border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }"""
TO_REFUSAL = "() => setTimeout(() => document.querySelector('.refusal')?.scrollIntoView({block: 'center'}), 150)"


class Page:
    """Builds the page.

    Args:
        desk (Desk): what answers.

    Attributes:
        blocks (gradio.Blocks): the page, not yet shown to anybody.
    """

    def __init__(self, desk):
        self.desk, self.parts, self.words = desk, {}, {}
        with gr.Blocks(title="mindmusicgen", analytics_enabled=False, delete_cache=(600, 86400)) as self.blocks:
            with gr.Row():
                self.put("title", gr.Markdown, word="value")
                languages = [(name, key) for key, name in LANGUAGES.items()]
                self.put("language", gr.Radio, choices=languages, value="en", show_label=False, container=False)
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    self._wishes(desk.studio.limits)
                with gr.Column(scale=6, min_width=320):
                    self._answers()
            self._wire()

    def put(self, name, kind, word="label", **options):
        """A component, whose words follow the language: its text `name`, and `name_info` and `name_placeholder`."""
        found = {word: name, "info": f"{name}_info", "placeholder": f"{name}_placeholder"}
        found = {key: text for key, text in found.items() if text in TEXTS["en"]}
        if name in OWN:
            found["placeholder"] = "own"
        self.words[name] = found
        chosen = {"choices": [(TEXTS["en"][one], one) for one in CHOICES[name]]} if name in CHOICES else {}
        words = {key: TEXTS["en"][text] for key, text in found.items()}
        made = self.parts[name] = kind(**words, **chosen, **{"elem_id": name, **options})
        if name in FIELDS and kind is not gr.Audio:
            made.preprocess = lambda payload: payload  # what is wrong, the job's own checks say in one sentence
        return made

    def _wishes(self, limits):
        """The left side: what is wanted."""
        put, first = self.put, limits.models[0]
        put("model", gr.Dropdown, choices=list(limits.models), value=first, allow_custom_value=True)
        if limits.any_model:
            self.words["model"]["info"] = "any_model_info"
        self._refusal("model")
        put("prompt", gr.Textbox, lines=3, value="", max_lines=8)
        for name, lines in (("artist", 1), ("genre", 1), ("lyrics", 5)):
            if name in FIELDS:
                put(name, gr.Textbox, lines=lines, visible=False)
        put("voice", gr.Dropdown, choices=[], value=None, visible=False, allow_custom_value=True)
        self._refusal("prompt")
        samples = examples(first, "en")
        put("examples", gr.Dataset, components=[self.parts["prompt"]], samples=samples, samples_per_page=4)
        with gr.Row():
            bounds = {"minimum": 1, "maximum": limits.duration, "value": min(10, limits.duration), "step": 0.5}
            put("duration", gr.Slider, **bounds, scale=3, min_width=200)
            put("seed", gr.Number, precision=0, value=None, scale=2, min_width=100)
            put("dice", gr.Button, word="value", scale=0, min_width=90)
        self._refusal("length")
        with gr.Row():
            put("make", gr.Button, word="value", variant="primary", scale=3, min_width=140)
            put("stop", gr.Button, word="value", variant="stop", interactive=False, min_width=90)
        with put("source", gr.Accordion, open=False):
            put("recording", gr.Audio, sources=["upload", "microphone"], type="filepath")
            put("use", gr.Radio, value="continue", visible=False)
            self._refusal("recording")
        with put("more", gr.Accordion, open=False):
            self._settings()
            self._refusal("more")

    def _settings(self):
        put = self.put
        put("negative_prompt", gr.Textbox, value="")
        with gr.Row():
            put("guidance_start", gr.Number, value=None, step=0.5, min_width=130)
            put("guidance_end", gr.Number, value=None, step=0.5, min_width=130)
        with gr.Row():
            put("temperature", gr.Number, value=None, step=0.1, min_width=130)
            put("top_k", gr.Number, value=None, precision=0, min_width=130)
            put("top_p", gr.Number, value=None, step=0.05, min_width=130)
        with gr.Row():
            put("steps", gr.Number, value=None, precision=0, min_width=130)
            put("scheduler", gr.Dropdown, choices=list(SCHEDULERS), value=None, allow_custom_value=True, min_width=130)
        put("candidates", gr.Number, value=1, precision=0)
        put("int8", gr.Checkbox, value=False)

    def _refusal(self, area):
        self.parts[f"refusal_{area}"] = gr.HTML(visible=False)

    def _answers(self):
        """The right side: what was made."""
        put, script = self.put, (HERE / "player.js").read_text(encoding="utf-8")
        put("status", gr.HTML)
        listen = listener(self.desk.sounds)
        live = {"html_template": LIVE, "css_template": LIVE_CSS, "js_on_load": script, "server_functions": [listen]}
        put("player", gr.HTML, value="", **live)
        with put("made", gr.Column, visible=False):
            put("piece", gr.Audio, interactive=False, type="filepath", buttons=["download"])  # and none that shares it
            with gr.Row():
                for name in ("again", "variation", "further"):
                    put(name, gr.Button, word="value", min_width=100)
            with gr.Row():
                put("format", gr.Radio, choices=list(FORMATS), value="wav", scale=4, min_width=260)
                put("download", gr.DownloadButton, scale=1, min_width=110)
            buttons = ["download", "fullscreen"]
            put("pictures", gr.Image, interactive=False, type="filepath", show_label=False, buttons=buttons)
            with put("recipe_box", gr.Accordion, open=False):
                put("recipe", gr.JSON, show_label=False)
        put("pieces", gr.Radio, choices=[], visible=False)
        put("no_pieces", gr.Markdown, word="value")
        put("dropped", gr.File, file_types=["audio"], type="filepath", height=120)
        put("progress", gr.JSON, visible=False)
        put("file", gr.File, visible=False)
        put("api", gr.Button, visible=False)

    def _wire(self):
        """Which touch is answered by which of the desk's functions."""
        part, desk = self.parts, self.desk
        values, shown = self.of(FIELDS), self.of(SHOWN)
        refusals = self.of(f"refusal_{area}" for area in AREAS)
        busy = [*refusals, *self.of((*BUTTONS, "status", "player"))]
        hidden = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        seen = {"api_visibility": "private", "show_progress": "minimal"}

        def refuse(event):
            """What fails in an event is said beside its field."""
            told = [*busy, part["source"], part["more"]]
            event.failure(self.answer(desk.refused), None, told, **hidden).then(None, js=TO_REFUSAL, **hidden)
            return event

        def make(event):
            """A piece is wanted, when `event` comes."""
            begun = refuse(event(self.answer(desk.begin), values, busy, **hidden))
            made = begun.success(
                self.answer(desk.make), values, [*shown, *busy], show_progress_on=part["status"], **seen, **QUEUE
            )
            refuse(made).success(self.answer(desk.draw), part["pieces"], part["pictures"], **seen)

        self._wire_words(refuse, hidden, [*values, part["source"], *refusals])
        self.blocks.unload(desk.leave)
        texts = [part[name] for name in ("prompt", "lyrics") if name in part]  # of which a model has one
        part["examples"].click(lambda sample: sample * len(texts), part["examples"], texts, **hidden)
        part["dice"].click(dice, None, part["seed"], **hidden)
        for sent in (part["recording"].upload, part["recording"].stop_recording):
            refuse(sent(self.answer(desk.sent), part["recording"], refusals, **seen))
        make(part["make"].click)
        make(part["prompt"].submit)
        for name in ("again", "variation", "further"):
            fill, filled = self.answer(getattr(desk, name)), [*values, part["source"]]
            filled = part[name].click(fill, part["pieces"], filled, **hidden)
            make(filled.success)
        part["stop"].click(desk.stop, None, None, **hidden)
        picked = part["pieces"].input(self.answer(desk.select), part["pieces"], shown, **hidden)
        picked.success(self.answer(desk.draw), part["pieces"], part["pictures"], **seen)
        wanted = self.of(("pieces", "format"))
        refuse(part["format"].input(self.answer(desk.convert), wanted, part["download"], **seen))
        filled = [*values, *self.of(("recipe_box", "recipe", "made")), *refusals]
        refuse(part["dropped"].upload(self.answer(desk.dropped), part["dropped"], filled, **seen))
        told = {"api_name": "generate", "show_progress": "hidden"}
        part["api"].click(with_names(desk.generate), values, self.of(("progress", "file")), **told, **QUEUE)

    def _wire_words(self, refuse, hidden, chosen):
        """The language, and the fields of a model."""
        part, words = self.parts, [self.parts[name] for name in self.words]

        def load(request: gr.Request):
            updates = self.spoken(self.desk.language(request), self.desk.studio.limits.models[0])
            for name in EMPTY:  # Gradio shows an empty number as 0 until it is told again
                updates[name] = {**updates[name], "value": None}
            return updates

        def speak(language, model, request: gr.Request):
            self.desk.session(request).language = language
            return self.spoken(language, model)

        def choose(model, request: gr.Request):
            fitting = gr.update(samples=examples(model, self.desk.language(request)))
            return {"examples": fitting} | self.desk.choose(model, request)

        self.blocks.load(self.answer(load), None, words, **hidden).then(
            self.answer(choose), part["model"], [*chosen, part["examples"]], **hidden
        )
        part["language"].input(self.answer(speak), self.of(("language", "model")), words, **hidden)
        refuse(part["model"].input(self.answer(choose), part["model"], [*chosen, part["examples"]], **hidden))

    def of(self, names):
        """Components by their names."""
        return [self.parts[name] for name in names]

    def spoken(self, language, model):
        """All words of the page, in a language."""
        text, updates = TEXTS[language], {}
        for name, found in self.words.items():
            chosen = {"choices": [(text[one], one) for one in CHOICES[name]]} if name in CHOICES else {}
            if found or chosen:
                updates[name] = gr.update(**{key: text[word] for key, word in found.items()}, **chosen)
        updates["language"] = gr.update(value=language)
        updates["examples"] = gr.update(label=text["examples"], samples=examples(model, language))
        return updates

    def answer(self, function):
        """A function whose dicts of names are given to Gradio as dicts of components."""

        def updates(found):
            return {self.parts[name]: value for name, value in found.items()} if found else gr.skip()

        def call(*values):
            return updates(function(*values))

        def calls(*values):
            for found in function(*values):
                yield updates(found)

        made = calls if inspect.isgeneratorfunction(function) else call
        made.__signature__, made.__annotations__ = inspect.signature(function), dict(function.__annotations__)
        return made


def with_names(function):
    """A function of the fields' values whose arguments have the fields' names, as they are the API's."""

    def call(*values):
        yield from function(*values)

    one = inspect.Parameter
    values = [one(name, one.POSITIONAL_OR_KEYWORD, default=None) for name in FIELDS]
    request = one("request", one.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    call.__signature__, call.__annotations__ = inspect.Signature([request, *values]), {"request": gr.Request}
    call.__doc__ = function.__doc__
    return call


def listener(sounds):
    """The function that the player asks for sound.

    Args:
        sounds (dict[str, Sound]): by their names.
    """

    async def listen(asked):
        """The chunks of a sound after the first so many, as soon as there are any: [name, number of them]."""
        name, taken = asked
        sound, loop = sounds.get(name), asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while sound is not None and len(sound.chunks) <= taken and not sound.ended and loop.time() < until:
            await asyncio.sleep(0.02)
        if sound is None:
            return {"rate": 0, "channels": 0, "chunks": [], "ended": True}
        ended = sound.ended  # before the chunks are looked at: none can come after it
        chunks = [base64.b64encode(chunk).decode() for chunk in sound.chunks[taken:]]
        return {"rate": sound.rate, "channels": sound.channels, "chunks": chunks, "ended": ended}

    return listen


def examples(model, language):
    """Prompts to click, for a model that comes with the package; a list of one-column rows."""
    if model == DEMO.name:
        texts = part_of_family(DEMO, "prompts").demo_words()["examples"]
        texts = [text for text in texts if (max(text) > "\u2e80") == (language == "zh")]
    else:
        texts = EXAMPLES.get(model, [])
    return [[text] for text in texts]
