"""How busy each NVIDIA card is, from the driver's own library (NVML). It knows no replica and needs no package."""

import ctypes
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_UUID_BYTES, _NAME_BYTES = 96, 96


@dataclass(frozen=True, slots=True)
class CardRow:
    """One card at `t_us` from the run's start: share of the last sampling period with a kernel running, and memory in bytes."""

    t_us: int
    card: str
    busy: float
    memory_used_bytes: int
    memory_bytes: int


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Cards:
    """The cards of this machine by index (in PCI order) or UUID; `names` is empty where there is no NVIDIA driver."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._handles: dict[str, ctypes.c_void_p] = {}
        try:
            self._nvml: Any = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        count = ctypes.c_uint()
        if self._nvml.nvmlInit_v2() or self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return
        for index in range(count.value):
            self._find(index)

    def read(self, card: str, epoch_s: float) -> CardRow:
        """ValueError for a card that is not here; RuntimeError when the driver refuses (it does for a part of a card)."""
        if card not in self._handles:
            raise ValueError(f"card {card!r} is not on this machine; allowed: {', '.join(self._handles) or 'none'}")
        rates, memory = _Rates(), _Memory()
        handle = self._handles[card]
        for call, result in (("GetUtilizationRates", rates), ("GetMemoryInfo", memory)):
            if code := getattr(self._nvml, f"nvmlDevice{call}")(handle, ctypes.byref(result)):
                raise RuntimeError(f"card {card}: NVML's {call} failed with {code}")
        t_us = round((time.monotonic() - epoch_s) * 1e6)
        return CardRow(t_us, card, rates.gpu / 100, int(memory.used), int(memory.total))

    def _find(self, index: int) -> None:
        handle = ctypes.c_void_p()
        if self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            return
        uuid, name = ctypes.create_string_buffer(_UUID_BYTES), ctypes.create_string_buffer(_NAME_BYTES)
        self._nvml.nvmlDeviceGetUUID(handle, uuid, _UUID_BYTES)
        self._nvml.nvmlDeviceGetName(handle, name, _NAME_BYTES)
        for card in (str(index), uuid.value.decode()):
            self._handles[card] = handle
            self.names[card] = name.value.decode()


class CardWatch:
    """Reads these cards once an interval in a thread of its own, from `start` to `stop`; `missed` counts what did not come."""

    def __init__(self, cards: Cards, watched: Sequence[str], epoch_s: float, interval_s: float = 1.0) -> None:
        self._cards, self._watched, self._epoch_s, self._interval_s = cards, tuple(watched), epoch_s, interval_s
        self._over = threading.Event()
        self._rows: list[CardRow] = []
        self.missed = 0
        self._thread = threading.Thread(target=self._follow, daemon=True, name="cards")

    def start(self) -> None:
        """ValueError or RuntimeError when a card cannot be read."""
        for card in self._watched:
            self._cards.read(card, self._epoch_s)
        self._thread.start()

    def stop(self) -> list[CardRow]:
        self._over.set()
        self._thread.join(self._interval_s + 5.0)
        return list(self._rows)

    def _follow(self) -> None:
        while not self._over.wait(self._interval_s):
            try:
                self._rows += [self._cards.read(card, self._epoch_s) for card in self._watched]
            except RuntimeError:
                self.missed += 1
