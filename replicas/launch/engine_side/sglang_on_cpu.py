"""Run by SGLang's own Python, not ours: its server on a CPU. `python sglang_on_cpu.py OPTIONS…`; it imports nothing of ours.

Two packages are imported by SGLang and have no CPU build on the package index: `sgl_kernel` (the fallbacks in plain torch are
used instead) and torchvision's C++ operators (no image is ever decoded). So their names are declared, and a call to one of them
raises. SGLang spawns its scheduler and detokenizer, and a spawned child runs this file's top level again: so no `if` around it.
"""

# mypy: disable-error-code="import-not-found,no-any-return"

import runpy
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

KERNEL_VERSION = "0.4.10"  # SGLang refuses an older one
_WITH_GRADIENT = ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")


class _Declared(ModuleType):
    """A package whose every name is a function that raises."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"{self.__name__}.{name}: there is no CPU build of {self.__name__}")

        missing.__name__ = name
        return missing


def _declare_kernels() -> None:
    kernels = _Declared("sgl_kernel")
    kernels.__spec__ = ModuleSpec("sgl_kernel", None)
    kernels.__path__ = []
    kernels.__version__ = KERNEL_VERSION  # type: ignore[attr-defined]
    sys.modules["sgl_kernel"] = kernels


def _declare_vision_operators() -> Any:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms", *_WITH_GRADIENT, *(f"_{name}_backward" for name in _WITH_GRADIENT)):
        library.define(f"{name}(Tensor a) -> Tensor")
    return library


_declare_kernels()
_VISION = _declare_vision_operators()  # the names live as long as the library object

if __name__ == "__main__":
    sys.argv[0] = "sglang.launch_server"
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=False)
