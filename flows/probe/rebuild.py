"""Tables and page of a finished probe anew, from its evidence files. It runs no cell and asks for none."""

from pathlib import Path

from flows.probe.answers import Heard
from flows.probe.evidence import stored_answer
from flows.probe.plan import plan_of_probe
from flows.probe.run_files import read_study
from flows.probe.tables import write_results
from flows.run_folder import RunFolder
from flows.study import StudyError


def is_probe(run: Path) -> bool:
    """Whether a run folder is a probe's."""
    return "probed_phases" in RunFolder(run).read_manifest()


def rebuild_probe(run: Path) -> Path:
    """results.duckdb and report.html of a probe; returns the page. StudyError when it has no evidence yet."""
    from reports.probe.conclude import findings
    from reports.probe.page import build_probe_page

    folder = RunFolder(run)
    known = folder.read_manifest()
    study = read_study(folder)
    heard = Heard(study, folder)
    heard.add(stored_answer(path) for path in sorted(folder.cells.glob("[!.]*.parquet")))
    if not heard.answers:
        raise StudyError(f"RUN = {str(run)!r}: a probe without any cell; finish it with: stampede probe --resume {run}")
    plan = plan_of_probe(study, float(known["c_ref_rps"]), known["probed_phases"])
    write_results(folder.path, heard.answers, findings(plan, heard.answers))
    return build_probe_page(folder.path)
