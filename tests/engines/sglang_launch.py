"""Starts SGLang's server on a CPU without its kernel package: `python sglang_launch.py OPTIONS…`. It imports nothing of ours.

PyPI has no CPU build of `sgl_kernel`, and its torchvision is built for another torch. Neither is called for a plain text model,
but both are imported: so their names are declared, and calling one raises. Spawned children import this module too.
"""

# mypy: disable-error-code="import-not-found,no-any-return"

import runpy
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

_PAIRS = ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
_VISION = ("nms", "qnms", *_PAIRS, *(f"_{name}_backward" for name in _PAIRS))
_library = torch.library.Library("torchvision", "FRAGMENT")
for _name in _VISION:
    _library.define(f"{_name}(Tensor a) -> Tensor")


class _Declared(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"sgl_kernel.{name}: there is no CPU build of sgl_kernel")

        missing.__name__ = name
        return missing


_kernels = _Declared("sgl_kernel")
_kernels.__spec__ = ModuleSpec("sgl_kernel", None)
_kernels.__path__ = []
_kernels.__version__ = "0.4.10"  # type: ignore[attr-defined]
sys.modules["sgl_kernel"] = _kernels

if __name__ == "__main__":
    sys.argv[0] = "sglang.launch_server"
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=False)
