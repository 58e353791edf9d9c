"""Cards are read through the driver's library: a made-up one here, for most hosts have none."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

import pytest

from replicas.launch.cards import Cards, CardWatch


class Library:
    """NVML as far as it is called: two cards, the second of which refuses to tell how busy it is."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        handle._obj.value = 1000 + index
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, size: int) -> int:
        text.value = f"GPU-{handle.value}".encode()
        return 0

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: int) -> int:
        text.value = b"NVIDIA Made Up"
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:
        rates._obj.gpu, rates._obj.memory = 75, 30
        return 0 if handle.value == 1000 else 3

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.used = 80 << 30, 60 << 30
        return 0


def cards_by(library: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Cards:
    monkeypatch.setattr(ctypes, "CDLL", library)
    return Cards()


def test_a_card_is_known_by_index_and_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cards_by(lambda _: Library(), monkeypatch)
    assert found.names == dict.fromkeys(("0", "GPU-1000", "1", "GPU-1001"), "NVIDIA Made Up")
    for card in ("0", "GPU-1000"):
        row = found.read(card, time.monotonic() - 2.0)
        assert (row.card, row.busy, row.memory_used_bytes, row.memory_bytes) == (card, 0.75, 60 << 30, 80 << 30)
        assert 2_000_000 <= row.t_us < 3_000_000


def test_a_card_that_is_not_here_or_does_not_tell_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cards_by(lambda _: Library(), monkeypatch)
    with pytest.raises(ValueError, match="card '7' is not on this machine; allowed: 0, GPU-1000, 1, GPU-1001"):
        found.read("7", 0.0)
    with pytest.raises(RuntimeError, match="card 1: NVML's GetUtilizationRates failed with 3"):
        CardWatch(found, ["0", "1"], 0.0).start()


def test_cards_are_read_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = CardWatch(cards_by(lambda _: Library(), monkeypatch), ["0"], time.monotonic(), interval_s=0.02)
    watch.start()
    time.sleep(0.3)
    rows = watch.stop()
    assert 5 <= len(rows) <= 16
    assert rows == sorted(rows, key=lambda row: row.t_us)


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    assert cards_by(missing, monkeypatch).names == {}
