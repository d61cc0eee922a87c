"""What a segment is trained on is judged by the places that people really get."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bidsapp.config import Settings
from bidsapp.errors import BadDataError
from bidsapp.images.volumes import read_volume
from bidsapp.layout import ModelLayout, OutputLayout
from bidsapp.levels.request import GroupRequest
from bidsapp.levels.segment_pairs import PairSource, SegmentPairs, check_segment_pairs
from bidsapp.model_dir.fingerprints import fingerprint
from bidsapp.model_dir.lineage import Lineage
from bidsapp.model_dir.split import write_split
from bidsapp.pairs.check_pairs import image_digest
from bidsapp.records import LabelTable, LabelTrust, Split, SplitRow
from tests.conftest import ROOT
from tests.training_folder import SHAPE, TrainingFolder

PEOPLE = tuple(f"sub-{number}" for number in range(1, 7))
TABLE = LabelTable({1: "Head", 2: "Tail", 3: "Cyst"})


@pytest.fixture
def request_(folder: TrainingFolder, tmp_path: Path) -> GroupRequest:
    for person in PEOPLE:
        folder.pair(f"{person}_hemi-R")
    return GroupRequest(ModelLayout(tmp_path / "model"), OutputLayout(tmp_path / "out"))


def check(request: GroupRequest, folder: TrainingFolder, lineage: Lineage, *, by: str = "review") -> SegmentPairs:
    source = PairSource(folder.path, LabelTrust(by), ("T1w",), TABLE)  # type: ignore[arg-type]
    return check_segment_pairs(request, source, None, Settings(), parent=None, lineage=lineage)


ANOTHER_RUN = """
import sys
from pathlib import Path
from bidsapp.layout import OutputLayout
from bidsapp.lock import folder_lock
from bidsapp.records import Split, SplitRow
from bidsapp.model_dir.split import write_split
output = OutputLayout(Path(sys.argv[1]))
with folder_lock(output.people_split_lock):
    print("held", flush=True)
    sys.stdin.readline()
    write_split(output.people_split, Split((SplitRow("sub-1", "validation"),)))
"""


def test_somebody_whom_another_run_places_meanwhile_is_judged_by_that_place(
    request_: GroupRequest, folder: TrainingFolder
) -> None:
    """A model before was trained on sub-1; a run at the same time gives them to validation, for all models here."""
    other = subprocess.Popen(
        [sys.executable, "-c", ANOTHER_RUN, str(request_.output.root)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdin
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(check(request_, folder, Lineage(inherited=Split((SplitRow("sub-1", "train"),)))))
        except BadDataError as error:
            outcome.append(error)

    checking = threading.Thread(target=run)
    checking.start()
    checking.join(5)  # by now everything that needs no lock is done
    other.stdin.write("go on\n")
    other.stdin.flush()
    checking.join(50)
    assert other.wait(20) == 0
    (error,) = outcome
    assert isinstance(error, BadDataError)
    assert "sub-1, who was in train, in validation" in error.message
    assert request_.output.people_split.read_text().count("sub-") == 1


IMAGES = {1: "train", 2: "test", 3: "validation"}
"""Of whom a model before knew the images, where; nobody else."""


def lineage_by_images(folder: TrainingFolder) -> Lineage:
    """What an export says of these people's images, mirrored and in another number type."""
    parts = {
        fingerprint(image_digest(read_volume(folder.path / f"sub-{number}_hemi-R_img.nii.gz", "pair").data[::-1])): part
        for number, part in IMAGES.items()
    }
    return Lineage(fingerprints=parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["review", "user"])
def test_whose_image_a_model_before_knows_gets_that_place(
    by: str, request_: GroupRequest, folder: TrainingFolder
) -> None:
    split = check(request_, folder, lineage_by_images(folder), by=by).split
    places = {row.participant_id: row.split for row in split.rows}
    assert {number: places[f"sub-{number}"] for number in IMAGES} == IMAGES


@pytest.mark.parametrize("by", ["review", "user"])
def test_whose_image_a_model_before_knows_is_refused_another_place(
    by: str, request_: GroupRequest, folder: TrainingFolder
) -> None:
    write_split(request_.layout.split, Split((SplitRow("sub-1", "test"), SplitRow("sub-2", "train"))))
    with pytest.raises(BadDataError) as raised:
        check(request_, folder, lineage_by_images(folder), by=by)
    assert "sub-1_hemi-R shows somebody, who was in train, in test" in raised.value.message
    assert "sub-2_hemi-R shows somebody, who was in test, in train" in raised.value.message
    assert not request_.output.people_split.exists()


def test_whom_a_model_before_was_tested_on_is_not_rehearsed(
    request_: GroupRequest, folder: TrainingFolder, tmp_path: Path
) -> None:
    lineage = lineage_by_images(folder)
    earlier = TrainingFolder(tmp_path / "earlier")
    (earlier.path / "labels.tsv").write_text("index\tname\n1\tHead\n2\tTail\n")
    for number in IMAGES:
        for what in ("img", "lbl"):
            old = f"sub-old{number}_hemi-R_{what}.nii.gz"
            (folder.path / f"sub-{number}_hemi-R_{what}.nii.gz").rename(earlier.path / old)
    chosen = check(replace(request_, rehearse=earlier.path), folder, lineage)
    assert chosen.rehearsal is not None
    assert [pair.participant for pair in chosen.rehearsal.pairs] == ["sub-old1"]


def place(request: GroupRequest) -> None:
    parts = ("train", "train", "train", "train", "validation", "test")
    write_split(request.layout.split, Split(tuple(map(SplitRow, PEOPLE, parts))))  # type: ignore[arg-type]


def give_cyst(folder: TrainingFolder, person: str) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2, 3:6] = (1, 2, 3)
    folder.write(f"{person}_hemi-R_lbl.nii.gz", array)


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ("sub-1", ["nobody in validation has the label Cyst: it does not count", "nobody in test has the label Cyst"]),
        ("sub-5", ["nobody in training has the label Cyst: it cannot be learned", "nobody in test has the label Cyst"]),
        ("sub-6", ["nobody in training has the label Cyst: it cannot be learned",
                   "nobody in validation has the label Cyst"]),
    ],
)  # fmt: skip
def test_a_label_that_a_part_lacks_is_named(
    request_: GroupRequest,
    folder: TrainingFolder,
    caplog: pytest.LogCaptureFixture,
    holder: str,
    said: list[str],
) -> None:
    place(request_)
    give_cyst(folder, holder)
    check(request_, folder, Lineage(), by="user")
    warnings = [record.getMessage() for record in caplog.records if "nobody in" in record.getMessage()]
    assert len(warnings) == len(said)
    assert all(warning.startswith(one) for warning, one in zip(warnings, said, strict=True))


def test_where_every_part_has_every_label_nothing_is_said(
    request_: GroupRequest, folder: TrainingFolder, caplog: pytest.LogCaptureFixture
) -> None:
    place(request_)
    for person in ("sub-1", "sub-5", "sub-6"):
        give_cyst(folder, person)
    check(request_, folder, Lineage(), by="user")
    assert "nobody in" not in caplog.text
