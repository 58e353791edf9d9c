"""One cell, measured on a pool that runs. It starts no replica but those that died, and knows no study."""

from replay.measured.check import check_arm, check_events, check_live
from replay.measured.measured_cell import run_measured_cell
from replay.measured.place import Place

__all__ = ["Place", "check_arm", "check_events", "check_live", "run_measured_cell"]
