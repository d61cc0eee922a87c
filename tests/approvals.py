"""Approved labels without a review: real files where people's labels are, and a ledger that believes the test."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.content import image_sha256
from bidsapp.layout import OutputLayout
from bidsapp.records import Approval, Modality, Side
from bidsapp.review.ledger import Approvals
from demo.simulate import LABELS, simulate_side
from tests.flip import reverse_axis_0

SHAPE = (6, 7, 8)
AFFINE = np.array([[-0.5, 0, 0, -2.25], [0, 0.75, 0, -51.0], [0, 0, 1.25, -32.5], [0, 0, 0, 1]])
"""As crops have it: axis 0 from right to left; anisotropic."""

NAMES = {1: "Anterior", 2: "Posterior"}


class ApprovedLabels:
    """Plays review and ledger for one OUTPUT_DIR."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = OutputLayout(root)
        self.layout.labels.mkdir(parents=True)
        self.approvals: dict[str, Approval] = {}
        self.refused: dict[str, str] = {}
        monkeypatch.setattr("bidsapp.pairs.approved.find_approvals", self.find)

    def find(self, layout: OutputLayout, **_: object) -> Approvals:
        assert layout.root == self.layout.root
        return Approvals(tuple(one for _, one in sorted(self.approvals.items())), dict(self.refused))

    def add(
        self,
        participant: str,
        hemi: Side,
        *,
        session: str | None = None,
        names: Mapping[int, str] = NAMES,
        modalities: tuple[Modality, ...] = ("T1w",),
        rater: str = "Ada",
        label: np.ndarray | None = None,
    ) -> Approval:
        """A tiny crop of noise with a label of its own; every value of `names` is there."""
        rng = np.random.default_rng(zlib.crc32(f"{participant}{session}{hemi}".encode()))
        if label is None:
            label = np.zeros(SHAPE, np.uint8)
            for number, value in enumerate(names):
                label[1 + number, 2, 3] = label[1 + number, 5, 3] = value
        images = [nib.Nifti1Image(rng.normal(size=label.shape).astype(np.float32), AFFINE) for _ in modalities]
        drawn = nib.Nifti1Image(label, AFFINE)
        return self.save(
            participant, hemi, images, drawn, session=session, names=names, modalities=modalities, rater=rater
        )

    def simulate(
        self, people: int, *, seed: int = 3, spacing_mm: float = 1.0, names: Mapping[int, str] = LABELS
    ) -> None:
        """Both sides of simulated people, cut from the CIT168 atlas, as in the head."""
        for person in range(people):
            for hemi in ("L", "R"):
                images, label = simulate_side(person, hemi, seed, ("T1w",), spacing_mm)
                if hemi == "L":
                    images, label = [reverse_axis_0(image) for image in images], reverse_axis_0(label)
                self.save(f"P{person + 1:02d}", hemi, images, label, names=names)

    def save(
        self,
        participant: str,
        hemi: Side,
        images: list[nib.Nifti1Image],
        label: nib.Nifti1Image,
        *,
        session: str | None = None,
        names: Mapping[int, str] = NAMES,
        modalities: tuple[Modality, ...] = ("T1w",),
        rater: str = "Ada",
    ) -> Approval:
        folder = self.layout.session(participant, session)
        crops = {modality: folder.crop(hemi, modality) for modality in modalities}
        for path, image in zip(crops.values(), images, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, path)
        path = self.layout.approved_label(participant, session, hemi)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(label, path)
        approval = Approval(
            participant=participant,
            session=session,
            hemi=hemi,
            rater=rater,
            when="2026-01-02T03:04:05",
            labels=dict(names),
            label_sha256=content_of(path),
            crop_sha256={modality: content_of(crop) for modality, crop in crops.items()},
            transform_sha256=dict.fromkeys(crops),
            source="manual",
            comment="fornix looked odd",
        )
        self.approvals[approval.name] = approval
        return approval

    def refuse(self, name: str, reason: str) -> None:
        del self.approvals[name]
        self.refused[name] = reason

    def redraw(self, name: str, label: np.ndarray) -> None:
        """Approve another label map of a side."""
        approval = self.approvals[name]
        nib.save(nib.Nifti1Image(label, AFFINE), self.label(approval))
        self.approvals[name] = dataclasses.replace(approval, label_sha256=content_of(self.label(approval)))

    def label(self, approval: Approval) -> Path:
        return self.layout.approved_label(*approval.key)

    def crop(self, approval: Approval, modality: Modality = "T1w") -> Path:
        return self.layout.session(approval.participant, approval.session).crop(approval.hemi, modality)


def content_of(path: Path) -> str:
    image = nib.load(path)
    return image_sha256(np.asanyarray(image.dataobj), image.affine)
