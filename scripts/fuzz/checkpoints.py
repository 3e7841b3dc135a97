"""Damaged files of models, and what their readers say of them.

    python scripts/fuzz/checkpoints.py               # the long form: a table
    python scripts/fuzz/checkpoints.py bin 500 7     # 500 mutations of a pytorch_model.bin with seed 7, as JSON

A reader may load a damaged file with the right weights, or refuse it with an InputError of one sentence. Faults are
any other exception, weights that differ without a word, more than 5 s and more than 1 GB for one file. Where a format
has no checksum of its values (safetensors), only what describes them is damaged, and NaN is put among them.
"""

import copy
import gc
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "fuzz"), str(ROOT / "scripts"), str(ROOT / "tests"), str(ROOT)]

import bark_files  # noqa: E402
import jukebox_files  # noqa: E402
import musicldm_files  # noqa: E402
from audio_files import mutate  # noqa: E402

SLOW, LARGE = 5.0, 1 << 20  # seconds of computing, and kilobytes, for one file
HANGS = 300.0  # seconds of waiting, which a busy machine may cause
VALUES = (None, True, False, "", "x", "\ud800", -1, 0, 1, 7, 10**9, 10**30, 0.5, 1e308, [], {}, [[]], ["a"], {"a": 1})
DEEP = "[" * 100_000


def mutate_json(text, rng):
    """A JSON text with one to three faults in its structure: values, names, depth, something twice.

    Args:
        text (str): an object.
        rng (random.Random): decides.

    Returns:
        bytes
    """
    root = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(root))
        holder, key = rng.choice(places)
        other, name = rng.choice(places)
        match rng.randrange(6):
            case 0:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
            case 1:
                holder[key] = copy.deepcopy(other[name])
            case 2:
                holder.pop(key)
            case 3 if isinstance(holder, dict):
                holder[rng.choice((f"{key}x", "to_dict", "__class__", "auto_map", "\u2028"))] = copy.deepcopy(
                    holder[key]
                )
            case 4 if isinstance(holder[key], (int, float)):
                holder[key] = holder[key] * rng.choice((-1, 2, 0.5, 1000)) + rng.choice((0, 1))
            case _:
                holder[key] = rng.choice(("\0", DEEP, '"', "twice"))
        if not root:
            break
    made = json.dumps(root).replace(json.dumps(DEEP), DEEP)
    if rng.random() < 0.1 and made.startswith('{"'):  # the first name once more
        made = made[:-1] + "," + made[1 : made.index(",")] + "}" if "," in made else made
    return made.encode()


def _places(value):
    """Every (dict or list, key) below a value."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


class Kind:
    """Files of one format, and how they are read.

    Attributes:
        title (str): for the table.
        files (list[str]): names in the folder that are damaged, one at a time.
    """

    title, files = "", []

    def __init__(self, folder):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.make()
        self.whole = {name: (Path(self.folder) / name).read_bytes() for name in self.files}
        self.right = self.read()

    def make(self):
        """Write whole files."""
        raise NotImplementedError

    def read(self):
        """Read them; what must be the same for damaged ones, or None."""
        raise NotImplementedError

    def damage(self, name, data, rng):
        """The damaged bytes of a file."""
        if name.endswith(".json") and rng.random() < 0.7:
            return mutate_json(data.decode(), rng)
        return mutate(data, rng)

    def put(self, name, data):
        """Write one file in the place of another, which may still be mapped."""
        path = Path(self.folder) / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def attempt(self, rng):
        """Damage one file, read, restore; what came out."""
        name = rng.choice(self.files)
        data = self.damage(name, self.whole[name], rng)
        self.put(name, data)
        try:
            return _outcome(self)
        finally:
            self.put(name, self.whole[name])


def _outcome(kind):
    from mindmusicgen import InputError

    def late(*_):
        raise TimeoutError(f"more than {SLOW} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, SLOW), signal.ITIMER_REAL: (signal.SIGALRM, HANGS)}
    before = {number: signal.signal(number, late) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        found = kind.read()
    except InputError as error:
        said = str(error).replace(kind.folder, "")
        return "refused" if said.isprintable() and len(said) <= 400 else f"no sentence: {said[:200]!r}"
    except TimeoutError:
        return "slow"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers' library raises panics, which are no Exception
        return f"{type(error).__name__}: {str(error)[:150]}"
    finally:
        for timer, (number, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
    return "read" if found == kind.right else "wrong"


def tiny_codec():
    """A codec of few weights, with weight norm."""
    from transformers import EncodecConfig

    from mindmusicgen import EncodecModel

    sizes = {"num_filters": 2, "hidden_size": 4, "codebook_dim": 4, "codebook_size": 8, "upsampling_ratios": [2]}
    sizes |= {"num_lstm_layers": 1, "sampling_rate": 32000, "target_bandwidths": [96.0], "use_causal_conv": False}
    return EncodecModel(EncodecConfig(**sizes)).initialise(1)


def tiny_text_encoder():
    """A text encoder of few weights."""
    from transformers import T5Config

    from mindmusicgen import T5EncoderModel

    sizes = {"vocab_size": 16, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes)).initialise(1)


def weights(network):
    """What is compared: the bytes of every parameter."""
    return {name: parameter.asnumpy().tobytes() for name, parameter in network.parameters_and_names()}


class Checkpoint(Kind):
    """Weights of one network in Hugging Face's layout."""

    network, files = staticmethod(tiny_codec), ["model.safetensors"]

    def make(self):
        from mindmusicgen.musicgen.checkpoint.names import stored_tensors

        self.cell = self.network()
        self.stored = {name: read() for name, _, _, read in stored_tensors(self.cell)}
        self.write()

    def write(self):
        from mindmusicgen.checkpoint.safetensors_file import write_safetensors

        entries = [(name, value.shape, value.dtype, lambda v=value: v) for name, value in self.stored.items()]
        write_safetensors(os.path.join(self.folder, "model.safetensors"), entries, {"format": "pt"})

    def read(self):
        from mindmusicgen.checkpoint.source import open_weights
        from mindmusicgen.musicgen.checkpoint import names

        names.load(self.cell, open_weights(self.folder), self.folder, width=1)
        return weights(self.cell)

    def damage(self, name, data, rng):
        return damaged_safetensors(data, rng) if name.endswith(".safetensors") else super().damage(name, data, rng)


def damaged_safetensors(data, rng):
    """Header, length or end are damaged, or a NaN lies among the values."""
    start = 8 + int.from_bytes(data[:8], "little")
    head, body = data[8:start], data[start:]
    match rng.randrange(4):
        case 0:
            return mutate(data[:start], rng) + body
        case 1:
            head = mutate_json(head.decode(), rng)
        case 2:
            cut = rng.randrange(1, len(body))
            body = rng.choice((body[:-cut], body + body[:cut], body[cut:] + b"\0" * (cut - 1)))
        case _:
            place = rng.randrange(len(body) // 4) * 4
            body = body[:place] + np.float32(rng.choice((np.nan, np.inf, -np.inf))).tobytes() + body[place + 4 :]
    return len(head).to_bytes(8, "little") + head + body


class TorchFile(Checkpoint):
    """pytorch_model.bin, as torch.save writes it."""

    files = ["pytorch_model.bin"]

    def write(self):
        from audiocraft_files import write

        write(Path(self.folder) / "pytorch_model.bin", self.stored)


class Shards(Checkpoint):
    """The index of a checkpoint in several files."""

    network, files = staticmethod(tiny_text_encoder), ["model.safetensors.index.json"]

    def write(self):
        from safetensors.numpy import save_file

        files = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
        index = {name: files[i % 3] for i, name in enumerate(self.stored)}
        for file in files:
            part = {name: np.ascontiguousarray(self.stored[name]) for name in index if index[name] == file}
            save_file(part, os.path.join(self.folder, file))
        self.put(self.files[0], json.dumps({"metadata": {"total_size": 1}, "weight_map": index}).encode())


class Native(Checkpoint):
    """mindspore_model.safetensors."""

    network, files = staticmethod(tiny_text_encoder), ["mindspore_model.safetensors"]

    def write(self):
        from mindmusicgen.checkpoint.safetensors_file import write_safetensors

        cells = {name: parameter.asnumpy().copy() for name, parameter in self.cell.parameters_and_names()}
        entries = [(name, value.shape, value.dtype, lambda v=value: v) for name, value in cells.items()]
        write_safetensors(os.path.join(self.folder, self.files[0]), entries, {"format": "mindspore"})

    def read(self):
        from mindmusicgen.checkpoint.native import load_native, stored_quantization
        from mindmusicgen.checkpoint.safetensors_file import open_safetensors

        path = os.path.join(self.folder, self.files[0])
        stored_quantization(self.folder)
        load_native(self.cell, open_safetensors(path), path)
        return weights(self.cell)


class Part(Checkpoint):
    """config.json of one network with its weights: it is built, and filled."""

    network, files = staticmethod(tiny_text_encoder), ["config.json"]

    def write(self):
        self.stored = {name.partition(".")[2]: value for name, value in self.stored.items()}
        super().write()
        (Path(self.folder) / "config.json").write_text(self.cell.config.to_json_string())

    def read(self):
        from mindmusicgen import T5EncoderModel

        return weights(T5EncoderModel.from_pretrained(self.folder))


def tiny_config():
    """The config of a composite."""
    from transformers import MusicgenConfig

    from mindmusicgen import MusicgenDecoderConfig

    decoder = MusicgenDecoderConfig(
        vocab_size=8, hidden_size=12, ffn_dim=8, num_hidden_layers=1, num_attention_heads=2, num_codebooks=2
    )
    parts = {"text_encoder": tiny_text_encoder().config, "audio_encoder": tiny_codec().config, "decoder": decoder}
    return MusicgenConfig(**{name: part.to_dict() for name, part in parts.items()})


class Config(Kind):
    """config.json of a composite."""

    files = ["config.json"]

    def make(self):
        self.put("config.json", tiny_config().to_json_string().encode())

    def read(self):
        from mindmusicgen.auto import model_class
        from mindmusicgen.musicgen.checkpoint.folder import load_config
        from mindmusicgen.musicgen.checkpoint.sizes import parameters

        model_class(self.folder)
        parameters(load_config(self.folder))


class GenerationSettings(Kind):
    """generation_config.json."""

    files = ["generation_config.json"]

    def make(self):
        from mindmusicgen.musicgen.checkpoint.folder import default_generation_config

        self.config = tiny_config()
        self.put(self.files[0], default_generation_config(self.config.decoder).to_json_string().encode())

    def read(self):
        from mindmusicgen.musicgen.checkpoint.folder import load_generation_config

        load_generation_config(self.folder, self.config.decoder)


class Preprocessor(Kind):
    """preprocessor_config.json and the config beside it, of text and of melody models."""

    files = ["preprocessor_config.json", "config.json", "melody/preprocessor_config.json", "melody/config.json"]

    def make(self):
        from mindmusicgen.musicgen.melody.feature_extractor import MusicgenMelodyFeatureExtractor
        from mindmusicgen.musicgen.processing import audio_settings

        os.makedirs(os.path.join(self.folder, "melody"))
        melody = MusicgenMelodyFeatureExtractor().to_dict()
        for start, settings, kind in (("", audio_settings(32000, 1), ""), ("melody/", melody, "_melody")):
            self.put(f"{start}preprocessor_config.json", json.dumps(settings).encode())
            parts = {"audio_encoder": {"sampling_rate": 32000}, "decoder": {"audio_channels": 1}}
            self.put(f"{start}config.json", json.dumps({"model_type": f"musicgen{kind}", **parts}).encode())

    def read(self):
        from mindmusicgen.musicgen.feature_extractors import EncodecFeatureExtractor
        from mindmusicgen.musicgen.melody.feature_extractor import MusicgenMelodyFeatureExtractor

        EncodecFeatureExtractor.of_folder(self.folder)
        MusicgenMelodyFeatureExtractor.of_folder(os.path.join(self.folder, "melody"))


class TokenizerFiles(Kind):
    """tokenizer.json, and the settings beside it."""

    files = ["tokenizer.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]

    def make(self):
        from random_checkpoint import build_tokenizer

        build_tokenizer().save_pretrained(self.folder)
        for name in self.files:
            if not os.path.isfile(os.path.join(self.folder, name)):  # version 5 of transformers writes no map
                self.put(name, b'{"pad_token": "<pad>"}')

    def read(self):
        from mindmusicgen.tokenizer import open_tokenizer

        open_tokenizer(self.folder)(["calm piano", "other \u4e00 words"], padding=True)


class SentencePiece(TokenizerFiles):
    """spiece.model alone."""

    files = ["spiece.model"]

    def make(self):
        shutil.copy(ROOT / "mindmusicgen" / "demo" / "spiece.model", self.folder)


class Audiocraft(Kind):
    """audiocraft's state_dict.bin and compression_state_dict.bin; half of the time only their settings."""

    files = ["state_dict.bin", "compression_state_dict.bin"]

    def make(self):
        from audiocraft_files import packages

        from mindmusicgen import MusicgenForConditionalGeneration
        from mindmusicgen.musicgen.checkpoint.names import stored_tensors

        model = MusicgenForConditionalGeneration(tiny_config()).initialise(1)
        stored = {name: read() for name, _, _, read in stored_tensors(model)}
        self.contents = packages(stored, model.config.to_dict())
        for name in self.files:
            self.package(name, self.contents[name])
        text = Path(self.folder) / "t5"
        text.mkdir()
        (text / "config.json").write_text(model.config.text_encoder.to_json_string())
        own = {name.partition(".")[2]: value for name, value in stored.items() if name.startswith("text_encoder.")}
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(value) for name, value in own.items()}, text / "model.safetensors")

    def package(self, name, content):
        from audiocraft_files import write

        path = Path(self.folder) / name
        path.unlink(missing_ok=True)
        write(path, content)
        return path.read_bytes()

    def damage(self, name, data, rng):
        if rng.random() < 0.5:
            return mutate(data, rng)
        settings = mutate(self.contents[name]["xp.cfg"].encode(), rng).decode(errors="replace")
        return self.package(name, self.contents[name] | {"xp.cfg": settings})

    def read(self):
        from mindmusicgen.musicgen.checkpoint.folder import open_folder

        return {name: tensor.read().tobytes() for name, tensor in open_folder(self.folder)[1].items()}


class MindIRManifest(Kind):
    """manifest.json of exported files, and the configs beside it."""

    files = ["manifest.json", "manifest.json", "config.json", "generation_config.json"]

    def make(self):
        from mindmusicgen.mindir.manifest import digest
        from mindmusicgen.musicgen.checkpoint.folder import default_generation_config

        config = tiny_config()
        self.put("config.json", config.to_json_string().encode())
        self.put("generation_config.json", default_generation_config(config.decoder).to_json_string().encode())
        os.makedirs(os.path.join(self.folder, "chunk"))
        self.put("chunk/graph.mindir", b"a graph")
        sizes = {"batch": 1, "text_length": 16, "cache_length": 64, "prompt_columns": 64, "prompt_samples": 640}
        manifest = {"format": 1, "mindspore": "2.7.0", "model": "a", "dtype": "float32", "pad_code": 8}
        manifest |= {"sizes": sizes | {"chunk": 25}, "cache": {"layers": 1, "heads": 2, "head_size": 6}}
        manifest |= {"codec": {"left": 3, "right": 3, "reach": 2, "layers": 1, "hidden": 4, "piece": 25}}
        manifest |= {"graphs": {"chunk": {"file": "chunk/graph.mindir", "inputs": []}}}
        names = ("config.json", "generation_config.json", "chunk/graph.mindir")
        manifest |= {"files": {name: digest(os.path.join(self.folder, name)) for name in names}}
        self.put("manifest.json", json.dumps(manifest).encode())

    def read(self):
        from mindmusicgen.musicgen.mindir.manifest import Manifest
        from mindmusicgen.musicgen.mindir.runtime import _configs

        manifest = Manifest(self.folder)
        manifest.check_listed()
        config, _ = _configs(self.folder)
        manifest.check_fits(config.decoder)
        manifest.check_files()
        manifest.graph("chunk")


KINDS = {
    "safetensors": ("model.safetensors (header, length, end, NaN)", Checkpoint),
    "bin": ("pytorch_model.bin", TorchFile),
    "index": ("index of shards", Shards),
    "native": ("mindspore_model.safetensors (header, length, end, NaN)", Native),
    "config": ("config.json", Config),
    "part": ("config.json of one network, which is built", Part),
    "generation": ("generation_config.json", GenerationSettings),
    "preprocessor": ("preprocessor_config.json", Preprocessor),
    "tokenizer": ("tokenizer.json and its settings", TokenizerFiles),
    "spiece": ("spiece.model", SentencePiece),
    "audiocraft": ("audiocraft's state dicts and their settings", Audiocraft),
    "manifest": ("MindIR manifest", MindIRManifest),
    **bark_files.kinds(Kind),
    **musicldm_files.kinds(Kind),
    **jukebox_files.kinds(Kind),
}


def attempt(name, count, seed=0):
    """Damage files of one kind.

    Args:
        name (str): of `KINDS`.
        count (int): how many.
        seed (int): of the first; each has its own.

    Returns:
        dict: outcomes (dict of outcome to number), slowest (s of computing), memory (MB that it took).
    """
    outcomes, slowest = Counter(), 0.0
    gc.collect()  # graphs of models before are released now, not in somebody's seconds
    with tempfile.TemporaryDirectory() as folder:
        kind = KINDS[name][1](folder)
        peak = before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(seed, seed + count):
            started = time.process_time()
            outcome = kind.attempt(random.Random(f"{name} {number}"))
            slowest = max(slowest, time.process_time() - started)
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            outcome, peak = "large" if now - peak > LARGE else outcome, max(now, peak)
            outcomes[outcome if outcome in ("read", "refused") else f"{outcome} (seed {number})"] += 1
    return {"outcomes": dict(outcomes), "slowest": slowest, "memory": (peak - before) // 1024}


def said(outcomes):
    """Outcomes in the table's words."""
    counted = Counter()
    for outcome, number in outcomes.items():
        kind = {"read": "loaded right", "refused": "refused in one sentence", "wrong": "wrong weights without a word"}
        kind |= {"slow": "above 5 s", "large": "above 1 GB", "no sentence": "refused in no sentence"}
        counted[kind.get(outcome.partition(" (seed")[0].partition(":")[0], "raw exception")] += number
    return ", ".join(f"{number} {what}" for what, number in sorted(counted.items()))


def rows(scale=1.0):
    """Rows of the table in docs/reliability.md.

    Args:
        scale (float): 1.0 is the long form, 10,000 files of each format.

    Returns:
        list[tuple]: what was tried, how many, what came out, the command that repeats it.
    """
    made = []
    for name, (title, _) in KINDS.items():
        count = max(1, round(10_000 * scale))
        command = ["scripts/fuzz/checkpoints.py", name, str(count), "0"]
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            came = f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        else:
            found = json.loads(done.stdout.splitlines()[-1])[name]
            came = f"{said(found['outcomes'])}; slowest {found['slowest']:.2f} s, {found['memory']} MB"
        made.append((f"damaged {title}", count, came, "python " + " ".join(command)))
    return made


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "4")
    if sys.argv[1:]:
        names, number, first = sys.argv[1].split(","), int(sys.argv[2]), int((*sys.argv[3:], "0")[0])
        print(json.dumps({name: attempt(name, number, first) for name in names}))
    else:
        print("| tried | times | came out | again with |", "|---|---|---|---|", sep="\n")
        for row in rows():
            print("| {} | {} | {} | `{}` |".format(*row))
