"""What a probe's run folder holds for its children: the study, the trace, C_ref, the evidence. It runs nothing."""

from pathlib import Path

from flows.probe.run_cell import Scene
from flows.run_folder import RunFolder
from flows.study import DERIVED_KEYS, Study
from flows.study_text import parse
from flows.workload_plan import read_trace_file


def read_study(folder: RunFolder) -> Study:
    """The resolved study as it was run."""
    content = parse(folder.study.read_text(encoding="utf-8"), str(folder.study))
    return Study.model_validate({key: value for key, value in content.items() if key not in DERIVED_KEYS})


def read_scene(path: Path) -> Scene:
    """All that the cells of a probe share; ValueError where the folder has no C_ref yet."""
    folder = RunFolder(path)
    c_ref_rps = folder.read_manifest().get("c_ref_rps")
    if not isinstance(c_ref_rps, float):
        raise ValueError(f"{folder.manifest}: c_ref_rps is {c_ref_rps!r}; it must be found before any cell is run")
    return Scene(read_study(folder), read_trace_file(str(folder.conversations)), c_ref_rps, folder.cells)
