"""The command line as a user meets it: exit codes, messages, both spellings, any order."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidsapp.cli import _positionals_first, build_parser, main
from bidsapp.layout import ModelPlaces, OutputLayout
from bidsapp.levels.group import GroupRequest
from bidsapp.machine import keep_caches_in


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    folder = tmp_path / "bids"
    folder.mkdir()
    (folder / "file").write_text("")
    return folder


def failing(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def test_a_missing_bids_dir_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = failing(capsys, tmp_path / "nowhere", tmp_path / "out", "group")
    assert code == 66
    assert f"BIDS_DIR {tmp_path / 'nowhere'} does not exist" in said


def test_a_file_in_place_of_the_bids_dir_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code, said = failing(capsys, tmp_path / "file", tmp_path / "out", "group")
    assert code == 66
    assert f"BIDS_DIR {tmp_path / 'file'} is not a folder" in said


def test_the_output_may_not_be_the_input(bids: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = failing(capsys, bids, bids, "group", "--training-dir", bids)
    assert code == 2
    assert "derivatives/hippotune" in said


@pytest.mark.parametrize("words", [(), ("--training-dir", "nowhere")])
def test_where_nothing_can_be_learned_from_no_model_is_begun(
    words: tuple[str, ...], bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    code, said = failing(capsys, bids, output, "group", *words)
    assert code in (18, 66), said
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["group", "--training-dir", "{missing}"], (66, "does not exist")),
        (["group"], (18, "no label is approved")),
        (["group", "--left-is", "flipped"], (2, "--left-is is about the pairs of --training-dir")),
        (["group", "--training-dir", "{bids}", "--participant-label", "01"], (2, "--participant-label is about")),
        (["group", "--training-dir", "{bids}", "--label-map", "{bids}/file"], (2, "--label-map says nothing")),
        (["group", "--export-training-data", "{bids}"], (2, "is not an empty folder")),
        (["group", "--export-training-data", "{missing}", "--iterations", "0"], (2, "which trains nothing")),
        (["group", "--export-training-data", "{missing}", "--registry", "x"], (2, "--registry has no use")),
        (["review", "--models-dir", "x"], (2, "--models-dir belongs to the participant and group level")),
        (["review", "--port", "8000"], (2, "--port is about the editor")),
        (["review", "--serve", "--port", "70000"], (2, "'70000' is no port")),
        (["review", "--serve", "--fix-header"], (2, "--fix-header changes files that the editor shows")),
        (["review", "--serve", "--training-dir", "{bids}"], (2, "--serve is about the crops of OUTPUT_DIR")),
        (["review", "--serve"], (66, "has no crops to review")),
        (["group", "--serve"], (2, "--serve belongs to the review level")),
        (["group", "--hemi", "L"], (2, "--hemi belongs to the participant level")),
        (["group", "--work-dir", "{bids}"], (2, "is in the input")),
        (["group", "--training-dir", "{bids}"], (66, "_img.nii.gz")),
        (["group", "--training-dir", "{bids}", "--preset", "huge"], (2, "default, tiny, niftynet")),
        (["group", "--training-dir", "{bids}", "--set", "loss.nam=dice"], (2, "loss.name")),
        (["group", "--training-dir", "{bids}", "--iterations", "-5"], (2, "'-5' is not a whole number")),
        (["group", "--training-dir", "{bids}", "--iterations", "ten"], (2, "'ten' is not a whole number")),
        (["group", "--training-dir", "{bids}", "--model", "other"], (2, "--model other")),
        (["group", "--trainingdir", "{bids}"], (2, "--trainingdir")),
        (["group", "--training-dir", "{bids}", "--device", "gpu"], (2, "auto, cpu, cuda or cuda:N")),
        (["group", "--training-dir", "{bids}", "--device", "cuda:99"], (2, "GPU(s)")),
        (["group", "--training-dir", "{bids}", "--model-dir", "{bids}/file"], (2, "is a file")),
        (["group", "--training-dir", "{bids}", "--model-dir", "/proc/model"], (73, "/proc/model")),
        (["train"], (2, "train")),
    ],
)
def test_mistakes_have_a_code_and_a_way_out(
    words: list[str], expected: tuple[int, str], bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(bids=bids, missing=tmp_path / "missing") for word in words]
    code, said = failing(capsys, bids, tmp_path / "out", *filled)
    assert (code, expected[1] in said) == (expected[0], True), said
    assert "what to do:" in said
    assert "Traceback" not in said


def test_a_mistake_leaves_nothing_behind_that_blocks_the_next_try(bids: Path, tmp_path: Path) -> None:
    assert main([str(bids), str(tmp_path / "out"), "group", "--training-dir", str(bids)]) == 66
    assert not list((tmp_path / "out").rglob("*.lock"))
    assert not list((tmp_path / "out").rglob("config.ini"))


@pytest.mark.parametrize(
    "words",
    [
        "B O group --model-dir M --nprocs 2",
        "--model-dir M B O group --nprocs 2",
        "--nprocs 2 --model_dir M B O group",
        "B O group --model_dir=M --nprocs=2",
    ],
)
def test_options_stand_anywhere_in_both_spellings(words: str) -> None:
    parsed = build_parser().parse_args(_positionals_first(words.split()))
    assert (parsed.bids_dir, parsed.output_dir, parsed.level) == (Path("B"), Path("O"), "group")
    assert (parsed.model_dir, parsed.nprocs) == (Path("M"), 2)


def test_group_is_told_where_models_are_looked_up(bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[GroupRequest] = []
    monkeypatch.setattr("bidsapp.levels.group.run", asked.append)
    words = ["group", "--registry", "lab.toml", "--models_dir", str(tmp_path / "models")]
    assert main([str(bids), str(tmp_path / "out"), *words]) == 0
    assert asked[0].models == ModelPlaces(Path.cwd() / "lab.toml", tmp_path / "models")


def test_a_bug_of_ours_shows_a_traceback_and_says_so(
    bids: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bidsapp.levels.group.run", lambda _request: 1 / 0)
    code, said = failing(capsys, bids, bids.parent / "out", "group")
    assert code == 70
    assert "ZeroDivisionError" in said


@pytest.mark.parametrize(("level", "code"), [("group", 18), ("review", 66)])
def test_flags_that_launchers_give_to_every_level_stop_none(
    level: str, code: int, bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "filter.json").write_text("{}")
    for_all = ["--skip-bids-validation", "--work-dir", tmp_path / "w", "--stop-on-first-crash"]
    words = [bids, tmp_path / "out", level, *for_all, "--bids-filter-file", tmp_path / "filter.json"]
    got, said = failing(capsys, *words)
    assert got == code, said
    assert f"--skip-bids-validation: no use at the {level} level" in said


def test_caches_of_libraries_stay_below_the_work_dir_unless_the_user_named_one() -> None:
    environment = {"MPLCONFIGDIR": "/mine"}
    keep_caches_in(OutputLayout(Path("/out")).caches, environment)
    assert environment == {
        "MPLCONFIGDIR": "/mine",
        "XDG_CACHE_HOME": "/out/work/caches",
        "TORCHINDUCTOR_CACHE_DIR": "/out/work/caches/torchinductor",
        "TRITON_CACHE_DIR": "/out/work/caches/triton",
    }
