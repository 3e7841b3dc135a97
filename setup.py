"""Installation of mindmusicgen; the C kernels are optional and their absence only costs speed."""

import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent

SOURCES = (
    "convolution",
    "float_gpt",
    "gemm",
    "gpt",
    "gradients",
    "gradients_attention",
    "kernels",
    "packing4",
    "pictures",
    "product",
    "quantized",
    "quantized_decoder",
    "quantized_gpt",
    "rings",
    "sampling",
    "sequence",
    "tile_attention",
)

# MindSpore may unload a library whose threads still wait in it; -z nodelete keeps it.
KERNELS = Extension(
    "mindmusicgen.ops._kernels",
    sources=[f"mindmusicgen/ops/csrc/{name}.c" for name in SOURCES],
    depends=sorted(str(path.relative_to(HERE)) for path in HERE.glob("mindmusicgen/ops/csrc/*.h")),
    libraries=["m"],
    extra_compile_args=["-O3", "-std=gnu11", "-fvisibility=hidden", "-fno-math-errno", "-pthread"],
    extra_link_args=["-pthread", "-Wl,-z,nodelete"],
    optional=True,
)

ORACLE = ["torch>=2.4", "transformers>=4.57,<6", "diffusers>=0.35,<0.36"]
TUTORIALS = ["jupyterlab>=4", "ipykernel>=6", "nbclient>=0.9", "nbformat>=5.9", "ipywidgets>=8"]
DOCS = ["pdoc>=15"]
PAGE = ["gradio>=6.31,<7"]
TEST = ["pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "ipython>=8", *DOCS]
MINDNLP = [  # what imports together with MindNLP, which wants MindSpore 2.7.0
    "mindnlp==0.5.1",
    "transformers<5",
    "huggingface_hub<1",
    "diffusers<0.36",
    "peft<0.18",
    "datasets<4",
    "pyarrow<19",
    "pandas<2.3",
]

setup(
    name="mindmusicgen",
    version=re.search(r'__version__ = "(.+)"', (HERE / "mindmusicgen/__init__.py").read_text(encoding="utf-8"))[1],
    description="MusicGen on MindSpore: text in, music out, every step a compiled graph",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["mindmusicgen", "mindmusicgen.*"]),
    package_data={
        "mindmusicgen.ops": ["csrc/*"],
        "mindmusicgen": [
            "demo/*",
            "bark/digits/*",
            "bark/doctor/*.npz",
            "bark/digits/speaker_embeddings/v2/*",
            "fonts/*",
            "jukebox/doctor/*.npz",
            "jukebox/solfa/*",
            "musicgen/doctor/*.npz",
            "page/*.css",
            "page/*.js",
            "musicldm/beats/*",
            "musicldm/beats/*/*",
            "musicldm/doctor/*.npz",
            "sentences_zh.json",
        ],
    },
    ext_modules=[KERNELS],
    install_requires=[
        "mindspore>=2.7.0,<2.11",
        "numpy>=1.25,<2",
        "transformers>=4.57,<6",
        "safetensors>=0.4.3",
        "huggingface_hub>=0.34",
        "sentencepiece>=0.2",
        "soundfile>=0.12",
        "scipy>=1.11",
        "tqdm>=4.66",
        "matplotlib>=3.7",
        "pyloudnorm>=0.1.1",
        "PyYAML>=6",
    ],
    extras_require={
        "test": TEST,
        "docs": DOCS,
        "parity": TEST + ORACLE,
        "tutorials": TUTORIALS,
        "mindnlp": MINDNLP,
        "ray": ["ray>=2.9"],
        "page": PAGE,
        "test-page": [*TEST, *PAGE, *TUTORIALS, "playwright>=1.49"],  # with a Chromium of the system's
        "completion": ["argcomplete>=3"],  # of commands and options in a shell
        "demo": ORACLE + ["librosa>=0.10"],  # to train and judge the demo model again
    },
    entry_points={"console_scripts": ["mindmusicgen=mindmusicgen.cli:main"]},
)
