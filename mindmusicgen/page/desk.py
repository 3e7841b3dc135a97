"""What happens when a visitor touches the page: from the fields' values to a job, and from a piece to what is shown.

The functions of `Desk` are Gradio's events. They return dicts by the components' names, which `app.py` turns into
Gradio's; a refusal becomes a `gradio.Error` with the one sentence, which programs get as JSON and which the page shows
beside the field that it is about.
"""

import contextlib
import html
import os
import random
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback

import gradio as gr

from ..cli import reason_of
from ..commands.like import read_recipe
from ..errors import InputError
from ..language import current, of, speaking
from .fields import FIELDS, about, check, job_of, shown, values_of
from .sessions import Session
from .studio import Sound, check_recording
from .texts import TEXTS

AREAS = {  # where on the page a refusal is said, by field; what is in no other is said beside the prompt
    "model": ("model",),
    "length": ("duration", "seed"),
    "recording": ("recording", "use"),
    "more": ("negative_prompt", "guidance_start", "guidance_end", "temperature", "top_k", "top_p", "candidates", "int8")
    + ("steps", "scheduler"),
    "prompt": (),
}


class Desk:
    """The events.

    Args:
        studio (studio.Studio): makes the pieces.
        folder (str): for what visitors make and send.
        keep (str): a folder that keeps a copy of every piece, or None.
        more (dict): words of every job, such as dtype.
    """

    def __init__(self, studio, folder, keep=None, more=None):
        self.studio, self.folder, self.keep, self.more = studio, folder, keep, more or {}
        self.sessions, self.sounds = {}, {}

    def session(self, request):
        """The visitor who asks."""
        name = request.session_hash or "nobody"
        if name not in self.sessions:
            self.sessions[name] = Session(os.path.join(self.folder, secrets.token_hex(8)))
        return self.sessions[name]

    def language(self, request):
        """What a visitor reads: as they chose, or else as the browser asks, or else as this computer does."""
        chosen = self.sessions[request.session_hash].language if request.session_hash in self.sessions else None
        accepted = request.headers.get("accept-language") if request.headers else None
        return chosen or (of(accepted) if accepted else current())

    def text(self, request, name, **values):
        return TEXTS[self.language(request)][name].format(**values)

    def leave(self, request: gr.Request):
        """A visitor has gone."""
        session = self.sessions.pop(request.session_hash, None)
        if session is not None:
            session.forget()

    @contextlib.contextmanager
    def refusals(self, request, page=True):
        """Context in which whatever fails is said in one sentence, in the visitor's language; on the page, or to a
        program."""
        try:
            yield
        except GeneratorExit:
            raise
        except Exception as error:
            with speaking(self.language(request)):
                sentence = reason_of(error)
            if sentence is None:
                traceback.print_exception(error, file=sys.stderr)
                sentence = self.text(request, "fault")
            sentence = re.sub(re.escape(self.folder) + r"[^'\"\s]*/", "", sentence)  # nobody needs to know the way
            if not self.studio.limits.any_model:  # nor, to whoever comes from elsewhere, where models lie
                sentence = re.sub(r"(?<![\w.:/])/(?:[^\s/'\"]+/)+", "", sentence)
            field = about(error.args[0]) if isinstance(error, InputError) else "prompt"
            if page:
                self.session(request).refusal = (field, sentence)
            raise gr.Error(sentence, visible=False, print_exception=False) from None

    def job(self, values, strict=False):
        """The job of the fields' values, and of what whoever runs the page has said.

        Raises:
            InputError: in one sentence.
        """
        source, limits = self.studio.source, self.studio.limits
        said = {name: value for name, value in values.items() if value is not None}
        values = {"model": limits.models[0], "duration": min(10.0, limits.duration)} | said
        for name, value in values.items():
            check(name, value)
        model = values["model"]
        more = {**self.more, **source, "output": os.path.join(self.folder, f"{secrets.token_hex(8)}.wav")}
        if values.get("candidates", 1) > 1:
            more["scorer"] = limits.scorer
        if model not in limits.models and not limits.any_model:  # before anything is looked for under that name
            limits.check(job_of({"model": model}))
        family, folder = self.studio.family_of(model)
        self._check_voice(values.get("voice"), folder)
        return job_of(values, *((None, None) if strict else (family, folder)), **more)

    def _check_voice(self, voice, folder):
        """A voice is one of the model's: a visitor reads no files of this machine."""
        if voice:
            names = voices(folder, self.studio.source)
            if names and voice not in names:
                raise InputError(f"voice {voice[:40]!r} is not one of this model's {len(names)}, such as {names[0]}")

    # What the page does.

    def choose(self, model, request: gr.Request):
        """A model was chosen: its fields appear."""
        with self.refusals(request):
            if model not in self.studio.limits.models and not self.studio.limits.any_model:
                self.studio.limits.check(job_of({"model": model}))
            family, folder = self.studio.family_of(model)
            had = shown(family, folder, self.studio.limits.scorer)
            updates = {name: gr.update(visible=name in had) for name in FIELDS if name != "use"}
            updates["use"] = gr.update(visible="use" in had)
            updates["source"] = gr.update(visible="recording" in had)
            if "voice" in had:
                names = voices(folder, self.studio.source)
                updates["voice"] = gr.update(choices=names, value=None, visible=True)
        return updates | self.quiet()

    def quiet(self):
        """Nothing is refused."""
        return {f"refusal_{area}": gr.update(visible=False) for area in AREAS}

    def refused(self, request: gr.Request):
        """The sentence of what failed last, beside its field."""
        field, sentence = self.session(request).refusal
        area = next((area for area, names in AREAS.items() if field in names), "prompt")
        said = f'<div class="refusal" role="alert">{html.escape(sentence)}</div>'
        updates = self.quiet() | {f"refusal_{area}": gr.update(value=said, visible=True), "status": ""}
        if area in ("more", "recording"):
            updates["source" if area == "recording" else "more"] = gr.update(open=True)
        return updates | self.ready()

    def ready(self, busy=False):
        """Which buttons can be pressed."""
        names = ("make", "again", "variation", "further")
        return {name: gr.update(interactive=not busy) for name in names} | {"stop": gr.update(interactive=busy)}

    def begin(self, request: gr.Request, *values):
        """Somebody wants a piece: what can be refused is refused before the queue."""
        session = self.session(request)
        session.stopped = threading.Event()
        with self.refusals(request):
            self.studio.check(self.job(dict(zip(FIELDS, values, strict=True))))
        return self.quiet() | self.ready(busy=True) | {"status": self.status(request, "queued"), "player": ""}

    def make(self, request: gr.Request, *values):
        """The piece, at last: its sound is told to the player, and how far it is to the reader."""
        session, named = self.session(request), dict(zip(FIELDS, values, strict=True))
        sound = Sound()
        self.sounds[sound.name] = sound
        with self.refusals(request):
            job = self.job(named)
            yield {"status": self.status(request, "opening", model=job.model), "player": sound.name}
            try:
                made = yield from self.watched(request, self.studio.make(job, session.stopped, sound))
                piece = session.add(made, named, self.keep)
            finally:
                sound.ended = True
                later = threading.Timer(30, self.sounds.pop, (sound.name, None))  # whoever listens takes the rest
                later.daemon = True
                later.start()
        words = {"seconds": piece.seconds, "taken": made.taken, "seed": piece.seed}
        ended = self.status(request, "stopped" if made.stopped else "done", **words)
        yield self.show(session, piece) | self.ready() | {"status": ended}

    def watched(self, request, making):
        """Hand on what `Studio.make` yields as words for the reader, twice a second; returns what it returns."""
        begun = last = None
        with contextlib.closing(making):
            while True:
                try:
                    step = next(making)
                except StopIteration as end:
                    return end.value
                now = time.monotonic()
                if begun is None:
                    begun = (now, step.done)
                if last is not None and now - last < 0.5 and step.done < step.of:
                    continue
                last, speed = now, (step.done - begun[1]) / max(now - begun[0], 1e-6)
                left = (step.of - step.done) / speed if speed > 0 else 0
                words = {"done": step.done, "of": step.of, "left": left}
                yield {"status": self.status(request, f"making_{step.unit}", **words)}

    def status(self, request, name, **values):
        return f'<p role="status">{html.escape(self.text(request, name, **values))}</p>'

    def stop(self, request: gr.Request):
        """What is made so far is enough."""
        self.session(request).stopped.set()

    def show(self, session, piece):
        """A piece in the player, with all that is known of it."""
        choices = [(one.title, number) for number, one in sorted(session.pieces.items(), reverse=True)]
        return {
            "made": gr.update(visible=True),
            "piece": piece.file(),
            "recipe": piece.recipe,
            "pieces": gr.update(choices=choices, value=piece.number, visible=True),
            "no_pieces": gr.update(visible=False),
            "format": "wav",
            "download": piece.file(),
            "pictures": None,
        }

    def select(self, number, request: gr.Request):
        """A piece of the list."""
        session = self.session(request)
        return self.show(session, session.pieces[number]) if number in session.pieces else {}

    def draw(self, number, request: gr.Request):
        """The pictures of a piece."""
        piece = self.session(request).pieces.get(number)
        if piece is None:
            return {}
        path = f"{piece.stem}-{self.language(request)}.png"
        if not os.path.isfile(path):
            try:
                with speaking(self.language(request)):
                    piece.pictures().savefig(path, dpi=90)
            except (OSError, InputError):
                if os.path.isdir(self.session(request).folder):
                    raise
                return {}  # the visitor has gone meanwhile, and with them the folder
        return {"pictures": path}

    def convert(self, number, ending, request: gr.Request):
        """A piece as a file of another format."""
        piece = self.session(request).pieces.get(number)
        with self.refusals(request):
            return {"download": piece.file(ending)} if piece else {}

    def again(self, number, request: gr.Request):
        """The fields as they were for a piece, with its seed."""
        piece = self.session(request).pieces.get(number)
        return dict(piece.values) | {"seed": piece.seed} if piece else {}

    def variation(self, number, request: gr.Request):
        """The same with a fresh seed."""
        piece = self.session(request).pieces.get(number)
        return dict(piece.values) | {"seed": dice()} if piece else {}

    def further(self, number, request: gr.Request):
        """The fields as they are, but that the piece is what the music goes on from."""
        piece = self.session(request).pieces.get(number)
        opened = {"source": gr.update(open=True)}
        return {"recording": piece.file(), "use": "continue", "seed": dice()} | opened if piece else {}

    def sent(self, path, request: gr.Request):
        """A recording was sent: is it one?"""
        with self.refusals(request):
            if path:
                check_recording(path)
        return self.quiet()

    def dropped(self, path, request: gr.Request):
        """A piece was dropped: its recipe fills in the fields."""
        if not path:
            return {}
        with self.refusals(request):
            recipe = read_recipe(path)
        limits, model = self.studio.limits, recipe["model"]
        named = {"model": model} if model in limits.models or limits.any_model else {}
        shown_too = {"recipe": recipe, "recipe_box": gr.update(open=True), "made": gr.update(visible=True)}
        return values_of(recipe) | named | shown_too | self.quiet()

    # What programs do.

    def generate(self, request: gr.Request, *values):
        """Make one piece of music, speech or song.

        Yields how far it is, {"done": 3.2, "of": 10.0, "unit": "s"}; last what it is, {"seconds": ..., "seed": ...,
        "recipe": ...}, and the .wav file. A refusal is an error with one sentence.
        """
        with self.refusals(request, page=False):
            job = self.job(dict(zip(FIELDS, values, strict=True)), strict=True)
            self.studio.check(job)
            with contextlib.closing(self.studio.make(job, threading.Event())) as making:
                while True:
                    try:
                        step = next(making)
                    except StopIteration as end:
                        made = end.value
                        break
                    yield {"done": round(step.done, 2), "of": round(step.of, 2), "unit": step.unit}, None
            folder = tempfile.mkdtemp(dir=self.folder)
            try:
                piece = Session(folder).add(made, {}, self.keep)
                said = {"seconds": piece.seconds, "seed": piece.seed, "stopped": made.stopped, "recipe": piece.recipe}
                yield said, piece.file()  # Gradio copies it to where it serves from
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def dice():
    """A seed, small enough to be read aloud."""
    return random.SystemRandom().randrange(1_000_000)


def voices(folder, source):
    """The names of the voices that a model has."""
    from ..auto import AutoProcessor

    where = {name: source[name] for name in ("cache_dir", "local_files_only") if name in source}
    return list(getattr(AutoProcessor.from_pretrained(folder, **where), "available_voice_presets", ()))
