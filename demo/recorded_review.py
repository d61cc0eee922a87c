"""What a person did with the label maps of the demo's patients, recorded so that it can be played back.

The patients are simulated, so the truth is known: corrections are the truth, and everything else is what people do.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from bidsapp.corobl.grid import crop_image
from bidsapp.layout import OutputLayout, SessionLayout
from bidsapp.records import SIDES, Side
from demo.simulate import simulate_side

PATIENTS, SEED = 5, 7
CORRECTED: tuple[tuple[str, Side], ...] = (("P1", "L"), ("P2", "R"))
REJECTED: tuple[str, Side] = ("P3", "R")
FLIPPED: tuple[str, Side] = ("P4", "L")
DESCRIPTION = {
    "Name": "Simulated people: CorObl crops",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [{"Name": "HippoTune's demo"}],
}


def write_crops(folder: Path) -> Path:
    """Write the crops of `PATIENTS` simulated people as another tool would leave them; returns the data set."""
    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(json.dumps(DESCRIPTION), encoding="utf-8")
    for number in range(PATIENTS):
        session = SessionLayout(folder, f"P{number + 1}")
        session.anat.mkdir(parents=True)
        for side in SIDES:
            nib.save(_as_in_head(number, side)[0], session.crop(side, "T1w"))
    return folder


def record_review(study: OutputLayout) -> None:
    """Play back what the person saved and wrote into the table of `study`."""
    lines = ["participant_id\tsession_id\themi\tstatus\trater\tdate\taccept\tcomment"]
    for number in range(PATIENTS):
        for side in SIDES:
            person = f"P{number + 1}"
            status, comment = "approved", "n/a"
            if (person, side) == REJECTED:
                status, comment = "rejected", "the subject moved"
            if (person, side) in (*CORRECTED, FLIPPED):
                comment = "corrected"
                _save(study, person, side, _as_in_head(number, side)[1], flipped=(person, side) == FLIPPED)
            lines.append(f"sub-{person}\tn/a\t{side}\t{status}\tdemo\t2026-11-23\tn/a\t{comment}")
    study.review_table.parent.mkdir(parents=True, exist_ok=True)
    study.review_table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _save(study: OutputLayout, person: str, side: Side, label: nib.Nifti1Image, *, flipped: bool) -> None:
    """Save a correction; flipped, as programs do that go by the array and not by the header."""
    path = study.manual_label(person, None, side)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.asanyarray(label.dataobj)
    nib.save(crop_image(np.ascontiguousarray(data[::-1] if flipped else data), side), path)


def _as_in_head(number: int, side: Side) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Crop and label map of one side of a person, as in the head."""
    (image,), label = simulate_side(number, side, SEED, ("T1w",), 0.3)
    step = -1 if side == "L" else 1
    crop, labels = (np.ascontiguousarray(np.asanyarray(one.dataobj)[::step]) for one in (image, label))
    return crop_image(crop.astype(np.float32), side), crop_image(labels, side)
