"""Credit that is used up and refilled by a quantum, when all who compete have none left. It does not know what it pays for."""

from collections.abc import Collection


class Deficits:
    """Key → credit (0 for a new one); deficit round robin's counters (Shreedhar & Varghese 1995), served in any order."""

    def __init__(self, quantum: float) -> None:
        self._quantum = quantum
        self._credit: dict[int, float] = {}

    def __getitem__(self, key: int) -> float:
        return self._credit.get(key, 0.0)

    def spend(self, key: int, amount: float) -> None:
        self._credit[key] = self._credit.get(key, 0.0) - amount

    def with_credit(self, keys: Collection[int]) -> list[int]:
        """Those of the keys whose credit is positive; if none is, all of them are refilled first, as often as it takes."""
        credit = self._credit
        able = [key for key in keys if credit.get(key, 0.0) > 0]
        if able:
            return able
        rounds = 1 + int(-max([credit.get(key, 0.0) for key in keys]) // self._quantum)
        for key in keys:
            credit[key] = credit.get(key, 0.0) + rounds * self._quantum
        return [key for key in keys if credit[key] > 0]

    def keep(self, keys: Collection[int]) -> None:
        """Forgets all others."""
        self._credit = {key: credit for key, credit in self._credit.items() if key in keys}
