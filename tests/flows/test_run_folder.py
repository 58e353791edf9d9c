"""One run writes one folder: it must be new, or be resumed with the same study, by one process at a time."""

from pathlib import Path

import pytest

from flows.choose_run import choose
from flows.load_study import load_study
from flows.run_folder import RunFolder, check_new
from flows.study import StudyError


def made(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create(load_study("smoke"))
    return folder


def test_a_new_run_goes_to_a_folder_of_its_own(tmp_path: Path) -> None:
    study, path = choose("smoke", str(tmp_path / "new"), [], None, None)
    assert (study.name, path) == ("smoke", tmp_path / "new")
    assert not path.exists()
    named = choose(None, None, [], None, None)[1]
    assert named.parent.name == "runs"
    assert named.name.startswith("quickstart-2")
    made(path)
    with pytest.raises(StudyError, match=r"already exists; .*--resume"):
        choose("smoke", str(path), [], None, None)


def test_a_resumed_run_keeps_its_study(tmp_path: Path) -> None:
    made(tmp_path / "run")
    resume = str(tmp_path / "run")
    assert choose(None, None, [], None, resume)[0] == load_study("smoke")
    assert choose("smoke", None, [], None, resume)[0] == load_study("smoke")
    with pytest.raises(StudyError, match="it holds another study; these keys differ: load, seeds"):
        choose(None, None, ["load.rps=9"], 4, resume)
    with pytest.raises(StudyError, match="no run folder"):
        choose(None, None, [], None, str(tmp_path))
    with pytest.raises(StudyError, match="stays in its own folder"):
        choose(None, str(tmp_path / "x"), [], None, resume)


def test_a_resumed_run_needs_the_trace_no_more_once_it_has_its_own_copy(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    study = load_study("smoke", [f"workload.trace={trace}"])
    folder = RunFolder(tmp_path / "run")
    folder.create(study)
    trace.unlink()
    with pytest.raises(StudyError, match=r"workload\.trace"):
        choose(None, None, [], None, str(folder.path))
    folder.conversations.write_bytes(b"")
    assert choose(None, None, [], None, str(folder.path))[0] == study


def test_two_runs_never_write_one_folder(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    with folder.locked(), pytest.raises(StudyError, match=r"another run \(process \d+\)"), RunFolder(folder.path).locked():
        pass
    with folder.locked():
        assert (folder.path / "run.lock").is_file()


def test_a_dead_run_s_lock_is_taken_over(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    (folder.path / "run.lock").write_text("4194304")
    with folder.locked():
        assert (folder.path / "run.lock").read_text() != "4194304"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, said in (
        ("file", "is a file, not a folder"),
        ("file/run", "is a file, not a folder"),
        ("x" * 300, "cannot be a folder"),
    ):
        with pytest.raises(StudyError, match=said):
            check_new(tmp_path / out)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_study_edited_by_hand_and_a_broken_manifest_are_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(load_study("smoke"))
    folder.study.write_text(folder.study.read_text().replace("rps: 6.0", "rps: 7.0"))
    with pytest.raises(StudyError, match="changed since the run began"):
        folder.check_same(load_study(str(folder.study)))
    folder.manifest.write_text("{")
    with pytest.raises(StudyError, match=r"manifest\.json: not JSON"):
        folder.read_manifest()
