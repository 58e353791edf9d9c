"""A trace that no workload can be made of is refused before anything is written, in one line that names it."""

from pathlib import Path

import pytest

from flows.load_study import load_study
from flows.study import StudyError
from flows.workload_plan import read_trace

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:15:46.68,{},44\n"
UNUSABLE = [
    ("empty", HEAD, "poisson", "holds no conversation"),
    ("beyond the context", HEAD + ROW.format(999_999), "poisson", "no conversation of 'azure_llm_2023' fits"),
    ("one row", HEAD + ROW.format(9), "trace", "fewer than two different start times"),
    ("one time", HEAD + ROW.format(9) * 3, "trace", "fewer than two different start times"),
]


@pytest.mark.parametrize(("name", "text", "process", "said"), UNUSABLE, ids=[u[0] for u in UNUSABLE])
def test_an_unusable_trace_is_refused(name: str, text: str, process: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    study = load_study("smoke", [f"workload.trace={path}", f"workload.arrival.process={process}"])
    with pytest.raises(StudyError, match=rf"^workload\.trace = '.*t\.csv': .*{said}"):
        read_trace(study)


def test_one_row_is_enough_for_drawn_arrivals(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEAD + ROW.format(9))
    assert read_trace(load_study("smoke", [f"workload.trace={path}"])).turn_count == 1
