"""`mindmusicgen batch`: from its arguments to files in a folder."""

import os
import time
from dataclasses import replace

from ..audio import FORMATS, check_format
from ..auto import AutoProcessor, known_kind, part_of_family
from ..checkpoint.native import stored_quantization
from ..checkpoint.source import resolve
from ..dtypes import dtype_name
from ..errors import InputError, whole_number
from ..families import KINDS
from ..language import said
from ..runtime import device as devices
from ..runtime.files import check_folder, remove_leftovers
from ..runtime.folder_lock import alone_in
from ..runtime.telling import tell
from .pieces import batches, plan
from .prompts import SETTINGS, read_prompts
from .ranks import rank_and_size
from .run import Writer, failures_file, make_all
from .workers import Pool


def batch(arguments, interrupts):
    """Make what is missing.

    Args:
        arguments (argparse.Namespace): of the command line.
        interrupts (Interrupts): asked between batches.

    Returns:
        int: the exit code: 1 if a piece failed, else 0; of one process among several always 0.

    Raises:
        InputError: before anything is made, for what can be seen before.
    """
    started = time.perf_counter()
    rank, size = rank_and_size()
    _check(arguments, size)
    defaults = {name: getattr(arguments, name, None) for name in (*SETTINGS, "negative_text")}
    defaults["do_sample"] = False if arguments.greedy else None
    prompts = read_prompts(arguments.prompts, defaults, arguments.seed)
    folder = resolve(arguments.model, arguments.revision, arguments.cache_dir, arguments.local_files_only)
    source = {"cache_dir": arguments.cache_dir, "local_files_only": arguments.local_files_only}
    usual = part_of_family(folder, "batching").DEFAULTS
    prompts = [replace(prompt, settings=usual | prompt.settings) for prompt in prompts]
    with_processor = KINDS[known_kind(folder)].processor
    processor = AutoProcessor.from_pretrained(folder, **source) if with_processor else None
    tokenizer = getattr(processor, "tokenizer", processor)  # a Jukebox's is all that it has
    model = arguments.model
    more = {"model": os.path.basename(os.path.abspath(model)) if os.path.exists(model) else model}
    arguments.dtype = _dtype(arguments, folder)
    names = ("dtype", "quantization", "normalize", "bit_depth")
    more |= {name: getattr(arguments, name) for name in names if getattr(arguments, name) not in (None, "none")}
    pieces = plan(prompts, arguments.prompts, folder, tokenizer, arguments.output, arguments.format, more, **source)
    with alone_in(arguments.output, shared=size > 1):
        share = pieces[rank::size]  # neighbours take equally long, so the shares do as well
        left = frozenset(piece.path for piece in share if not piece.finished())
        interrupts.check()
        remove_leftovers(arguments.output)
        failures = failures_file(arguments.output, rank, size)
        writer = Writer(None, arguments.normalize, arguments.bit_depth, failures, left)
        if left:
            # Of a batch that an interruption has cut all is computed again: in a smaller one rounding would differ.
            whole = batches(share, arguments.batch_size)
            todo = [batch for batch in whole if any(piece.path in left for piece in batch)]
            _make(arguments, interrupts, folder, source, todo, writer)
        writer.list_failures()
    taken = time.perf_counter() - started
    of = f"rank {rank} of {size}: " if size > 1 else ""
    line = (
        f"{len(share)} pieces: {writer.made} made, {len(share) - len(left)} were there already, "
        f"{len(writer.failed)} failed{f', see {failures}' if writer.failed else ''}; {taken:.1f} s"
    )
    tell(of + said(line), error=True)
    # msrun ends all processes when one reports an error, and the others are still at work.
    return 1 if writer.failed and size == 1 else 0


def _check(arguments, size):
    """Refuse what needs no look at any file."""
    if f".{arguments.format}" not in FORMATS:
        raise InputError(f"format is {arguments.format!r}; expected one of {', '.join(name[1:] for name in FORMATS)}")
    check_format(f"any.{arguments.format}", arguments.bit_depth)
    check_folder(arguments.output, "output")
    whole_number("batch size", arguments.batch_size, 1)
    whole_number("seed", arguments.seed, 0)
    whole_number("workers", 1 if arguments.workers is None else arguments.workers, 1)
    if arguments.workers is None and arguments.ray_address:
        raise InputError("--ray-address belongs to --workers; say how many workers the cluster is to run")
    if arguments.workers is not None and (arguments.device_id is not None or ":" in (arguments.device or "")):
        raise InputError("--workers gives each process an NPU of its own; name --device Ascend without a number")
    if arguments.workers is not None and size > 1:
        raise InputError("--workers starts its own processes; run the command without msrun")


def _dtype(arguments, folder):
    """The name of the dtype that pieces are made with. This process does not know what the workers' device is."""
    if arguments.dtype in (None, "auto") and arguments.workers is not None:
        return "float16" if devices.named(arguments.device)[0] == "Ascend" and not arguments.quantization else "float32"
    return dtype_name(arguments.dtype, bool(arguments.quantization or stored_quantization(folder)))


def _make(arguments, interrupts, folder, source, todo, writer):
    """Make batches of pieces, here or in workers."""
    maker = {"folder": folder, "dtype": arguments.dtype, "quantization": arguments.quantization, "source": source}
    family = part_of_family(folder, "batching")
    if hasattr(family, "SINGS"):  # for hours: what is made so far is kept
        maker["runs"] = os.path.abspath(arguments.output)
    if arguments.workers is not None:
        maker["folder"] = "demo" if arguments.model == "demo" else os.path.abspath(folder)
        with Pool(arguments.workers, arguments.ray_address, maker, devices.named(arguments.device)[0]) as pool:
            pool.make_all(todo, writer, interrupts)
        return
    here = family.Maker(**maker)
    writer.sampling_rate = here.sampling_rate
    make_all(here, todo, writer, interrupts)
