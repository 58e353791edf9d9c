"""Which study to run into which folder, checked before anything is written. It knows no Prefect."""

from datetime import UTC, datetime
from pathlib import Path

from flows.load_study import load_study
from flows.run_folder import RunFolder, check_new, resumable
from flows.study import Study, StudyError


def choose(
    study: str | None, out: str | None, sets: list[str] | None, seed: int | None, resume: str | None
) -> tuple[Study, Path]:
    """The checked study (quickstart when none is named) and the run's folder. Writes nothing.

    StudyError when they cannot be had or do not match.
    """
    if resume is None:
        chosen = load_study(study or "quickstart", sets, seed)
        path = Path(out) if out is not None else new_folder(chosen, Path("runs"))
        check_new(path)
        return chosen, path.absolute()
    if out is not None:
        raise StudyError(f"--out {out}: a resumed run stays in its own folder {resume}")
    there = str(resumable(Path(resume)))
    folder = RunFolder(Path(resume))
    chosen = load_study(study or there, sets, seed, trace_known=folder.conversations.is_file())
    folder.check_same(chosen)
    return chosen, folder.path


def new_folder(study: Study, parent: Path) -> Path:
    """`<study>-<utc time>` in `parent`; not yet made."""
    return parent / f"{study.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
