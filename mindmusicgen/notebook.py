"""The first cell of a lesson: says what this machine has and what that means, and makes ready for quiet notebooks."""

import atexit
import importlib.metadata
import os
import platform
import shutil
import tempfile
import warnings

from . import __version__

OLDEST, TOO_NEW = (2, 7), (2, 11)  # MindSpore; as in setup.py
SAYINGS = {
    "en": {
        "package": "mindmusicgen {} on Python {}, {} CPU cores",
        "missing": "MindSpore is not installed: run  pip install mindspore==2.7.2  and restart the kernel",
        "old": "MindSpore {} is too old for these lessons: run  pip install -U 'mindspore>=2.7,<2.11'  and restart "
        "the kernel",
        "new": "MindSpore {} is newer than what this package was tested with (2.7 to 2.10); it may work",
        "broken": "MindSpore {} is installed but does not start: {}",
        "mindspore": "MindSpore {}: good",
        "CPU": "Device: CPU. The demo model is made for it; facebook/musicgen-small needs about half a minute here for "
        "5 seconds of music",
        "Ascend": "Device: Ascend NPU. The first call of each shape compiles for it, which takes longer than on a CPU",
        "other": "Device: {}. This package was written for CPU and Ascend; if something fails, try "
        "mindspore.set_device('CPU')",
        "kernels": "C kernels: in use, so steps are fast",
        "no kernels": "C kernels: not in use ({}). Everything works, only slower",
        "cache": "Graphs: none kept from earlier runs, in this notebook; so first calls compile",
        "shipped": "Model: {}, which comes with the package. No network is needed; the sound plays in your browser",
        "folder": "Model: the folder {}. No network is needed",
        "hub": "Model: {}, downloaded on first use (from {}). Without network choose 'demo', or the path of a folder",
    },
    "zh": {
        "package": "mindmusicgen {}，Python {}，{} 个 CPU 核",
        "missing": "没有安装 MindSpore：请运行  pip install mindspore==2.7.2  ，然后重启内核",
        "old": "MindSpore {} 版本太旧，无法运行本课程：请运行  pip install -U 'mindspore>=2.7,<2.11'  ，然后重启内核",
        "new": "MindSpore {} 比本软件包测试过的版本（2.7 至 2.10）更新，可能可以运行",
        "broken": "MindSpore {} 已安装，但无法启动：{}",
        "mindspore": "MindSpore {}：可用",
        "CPU": "设备：CPU。演示模型就是为它准备的；若用 facebook/musicgen-small，5 秒音乐大约需要半分钟",
        "Ascend": "设备：昇腾 NPU。每种形状第一次调用时要编译，比在 CPU 上编译更久",
        "other": "设备：{}。本软件包面向 CPU 和昇腾；如果出错，请试试 mindspore.set_device('CPU')",
        "kernels": "C 算子：已启用，每一步都很快",
        "no kernels": "C 算子：未启用（{}）。一切照常运行，只是慢一些",
        "cache": "静态图：这个笔记本不用以前运行留下的，所以第一次调用都要编译",
        "shipped": "模型：软件包自带的 {}。不需要网络；声音在浏览器里播放",
        "folder": "模型：文件夹 {}。不需要网络",
        "hub": "模型：{}，第一次使用时下载（来自 {}）。没有网络时请改用 'demo' 或本地文件夹的路径",
    },
}


def begin(language="en", model="demo", empty_cache=False):
    """Print what was found, in one line each, and choose the language of pictures and of errors.

    Args:
        language (str): "en" or "zh".
        model (str): what the lesson is going to open.
        empty_cache (bool): keep compiled graphs in an empty folder of this process alone, so that first calls compile
            whatever earlier runs have kept. For before the first model.

    Raises:
        InputError: for another language.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    from .display import set_language

    os.environ.setdefault("GLOG_v", "3")  # MindSpore's errors only
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.filterwarnings("ignore", message=".*IProgress not found")  # the text bar does as well
    set_language(language)
    os.environ.setdefault("MINDMUSICGEN_LANG", language)
    for line in found(SAYINGS[language], model):
        print(line)
    if empty_cache and os.environ.get("MINDMUSICGEN_CACHE") != "0":  # off: every graph is compiled anyway
        folder = tempfile.mkdtemp(prefix="mindmusicgen-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MINDMUSICGEN_CACHE"] = folder
        print(SAYINGS[language]["cache"])


_shown = []  # the page of this notebook


def page(model=None, max_duration=120.0, keep=None, inline=True):
    """Show the web page of `mindmusicgen page` in the notebook; called again, it takes the place of the one before.

    The page and the notebook's own cells share the process: while one computes, the other waits for its turn.

    Args:
        model (str | Sequence[str]): folders or hub ids to choose from, the first of which is shown first; None is those
            that come with the package.
        max_duration (float): seconds of music in a piece, at most.
        keep (str): a folder that keeps a copy of every piece.
        inline (bool): show it below the cell; False serves it alone, at the `url` of what is returned.

    Returns:
        mindmusicgen.page.serve.Served: has `url`, and `close()`.

    Raises:
        InputError: if Gradio is not installed, or no port is free.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    from .page.serve import Served
    from .page.studio import Limits

    while _shown:
        _shown.pop().close()
    models = (model,) if isinstance(model, str) else tuple(model or Limits.models)
    limits = Limits(duration=max_duration, models=models, any_model=True)
    _shown.append(Served(limits, keep=keep, inline=inline))
    return _shown[-1]


def found(say, model):
    """The lines that `begin` prints, from what is installed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield say["package"].format(__version__, platform.python_version(), cores)
    try:
        version = importlib.metadata.version("mindspore")
    except importlib.metadata.PackageNotFoundError:
        yield say["missing"]
        return
    number = tuple(int(part) for part in version.split(".")[:2])
    if number < OLDEST:
        yield say["old"].format(version)
        return
    try:
        import mindspore as ms
    except Exception as error:  # a numpy that does not fit, a missing CANN: each raises its own
        yield say["broken"].format(version, str(error).strip().splitlines()[0])
        return
    yield (say["new"] if number >= TOO_NEW else say["mindspore"]).format(version)
    device = ms.get_context("device_target")
    yield say.get(device, say["other"]).format(device)
    if device == "CPU":
        from .ops import native

        yield say["kernels"] if native.library_path() else say["no kernels"].format(native.why_not())
    yield _about_model(say, model)


def _about_model(say, model):
    """Where a model comes from."""
    from .checkpoint.source import SHIPPED

    if model in SHIPPED:
        return say["shipped"].format(model)
    if os.path.isdir(model):
        return say["folder"].format(os.path.basename(os.path.abspath(model)))
    return say["hub"].format(model, os.environ.get("HF_ENDPOINT", "huggingface.co"))
