"""What approvals are worth, one at a time: the same as all at once, looked at again only when a file changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bidsapp.corobl.grid import SPACING_MM, crop_image
from bidsapp.files import write_json
from bidsapp.images.writing import write_image
from bidsapp.layout import sidecar
from bidsapp.records import Approval
from bidsapp.review import standing
from bidsapp.review.approval import approve, withdraw
from bidsapp.review.events import read_events
from bidsapp.review.ledger import find_approvals
from bidsapp.review.snapshots import ImageSnapshots
from bidsapp.review.standing import StandingApprovals
from tests.reviewed_person import KEY, Person, block, day

CHANGES = ("nothing", "label", "label gone", "crop", "crop gone", "transform", "same voxels")


@pytest.mark.parametrize("change", CHANGES)
def test_one_approval_is_judged_as_all_are(person: Person, change: str) -> None:
    approve(person.layout, KEY, person.label(block(40)), rater="Ada", when=day(1))
    path, session = person.layout.approved_label(*KEY), person.layout.session("01", None)
    if change == "label":
        write_image(path, crop_image(block(41).astype(np.uint8), "L"))
    elif change == "same voxels":
        write_image(path, crop_image(block(40).astype(np.int16), "L"))
    elif change == "label gone":
        path.unlink()
    elif change == "crop":
        write_image(session.crop("L", "T2w"), crop_image(block(3).astype(np.float32), "L"))
    elif change == "crop gone":
        session.crop("L", "T1w").unlink()
    elif change == "transform":
        session.transform("T1w").write_text("#another\n")
    (event,) = read_events(person.layout.ledger)
    assert isinstance(event, Approval)
    said = StandingApprovals(person.layout).why_refused(event)
    assert said == find_approvals(person.layout).refused.get("sub-01_hemi-L")
    assert (said is None) == (change in ("nothing", "same voxels"))


def test_files_are_read_once_until_they_change(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    approve(person.layout, KEY, person.label(block(40)), rater="Ada", when=day(1))
    crop = person.layout.session("01", None).crop("L", "T1w")
    write_json(sidecar(crop), {"HippoTune": {"registration": {"determinant": -2.0}}})
    known = StandingApprovals(person.layout)
    events = read_events(person.layout.ledger)
    expected = {"CA1": [1000 * SPACING_MM**3 * 2], "DG": [0.0], "cyst": [0.0]}
    assert known.volumes_of_others(events, "02") == {name: pytest.approx(one) for name, one in expected.items()}
    assert known.volumes_of_others(events, "01") == {}
    with monkeypatch.context() as patched:
        patched.setattr(ImageSnapshots, "__getitem__", None)
        patched.setattr(standing, "why_refused", None)
        known.find_out(events, lambda: True)
        assert known.volumes_of_others(events, "02")["CA1"] == pytest.approx(expected["CA1"])
    person.layout.approved_label(*KEY).write_bytes(b"damaged")
    assert known.volumes_of_others(events, "02") == {}
    withdraw(person.layout, KEY, rater="Ada", when=day(2))
    assert known.volumes_of_others(read_events(person.layout.ledger), "02") == {}


def test_a_volume_that_cannot_be_measured_counts_for_nobody(person: Person, tmp_path: Path) -> None:
    approve(person.layout, KEY, person.label(block(40)), rater="Ada", when=day(1))
    known = StandingApprovals(person.layout)  # its crop has no sidecar that tells how large the head is
    assert known.volumes_of_others(read_events(person.layout.ledger), "02") == {}
