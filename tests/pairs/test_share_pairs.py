"""What is given to others: valid BIDS, the same voxels, and nothing that leads home."""

from __future__ import annotations

import gzip
import json
import re
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.errors import BadDataError, CannotWriteError, UsageError
from bidsapp.layout import sidecar
from bidsapp.pairs.approved import ApprovedSides, gather_approved
from bidsapp.pairs.share_pairs import export_pairs, new_label, read_or_make_key
from bidsapp.review.selection import Wanted
from bidsapp.tsv import read_tsv
from tests.approvals import AFFINE, ApprovedLabels
from tests.validation import errors_of

CONFIG = {"ignore": [{"code": "ALL_FILENAME_RULES_HAVE_ISSUES", "location": "*_hemi-*"}]}
PEOPLE = ("Mustermann1931", "Doe1944")
RATERS = ("Ada Lovelace", "Bob Roberts")
SECRETS = (
    *PEOPLE,
    *RATERS,
    "20190307",
    "fornix",
    "Siemens",
    "Avanto",
    "2026-01-02",
    "HEADERTEXT",
    "HEADERFILE",
    "PRIVATEBLOCK",
)


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApprovedLabels:
    approved = ApprovedLabels(tmp_path / "home" / "out", monkeypatch)
    for person, rater in zip(PEOPLE, RATERS, strict=True):
        for hemi in ("L", "R"):
            one = approved.add(person, hemi, session="20190307", rater=rater, modalities=("T1w", "T2w"))
            for path in (*(approved.crop(one, modality) for modality in one.crop_sha256), approved.label(one)):
                _make_talkative(path, approved.layout.root)
    return approved


def _make_talkative(path: Path, root: Path) -> None:
    """A header and a sidecar that tell everything."""
    image = nib.load(path)
    loud = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        loud.header[field] = {"descrip": "HEADERTEXT", "aux_file": "HEADERFILE"}.get(field, "Doe1944")
    loud.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"PRIVATEBLOCK of {root}".encode()))
    nib.save(loud, path)
    facts = {
        "Manufacturer": "Siemens",
        "ManufacturersModelName": "Avanto",
        "Sources": [str(root)],
        "SkullStripped": True,
    }
    sidecar(path).write_text(json.dumps(facts))


def gathered(approved: ApprovedLabels) -> ApprovedSides:
    return gather_approved(approved.layout, Wanted())


@pytest.fixture
def shared(approved: ApprovedLabels, tmp_path: Path) -> Path:
    export_pairs(approved.layout, tmp_path / "shared", gathered(approved))
    return tmp_path / "shared"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, compressed ones unpacked, by its path below `folder`."""
    return {
        path.relative_to(folder).as_posix(): gzip.decompress(path.read_bytes())
        if path.suffix == ".gz"
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_validator_has_no_errors(shared: Path) -> None:
    assert errors_of(shared) == (0, [])


def test_sidecars_and_tables_are_valid_where_only_the_hemi_of_names_is_forgiven(shared: Path, tmp_path: Path) -> None:
    (shared / ".bidsignore").unlink()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    assert errors_of(shared, "-c", str(config))[1] == []


def test_nothing_leads_home(approved: ApprovedLabels, shared: Path, tmp_path: Path) -> None:
    key = approved.layout.export_key.read_text().strip()
    secrets = [*SECRETS, str(approved.layout.root), str(tmp_path), key]
    for name, content in contents(shared).items():
        for secret in secrets:
            assert secret not in name
            assert secret.encode() not in content, (name, secret)
            assert secret.lower().encode() not in content.lower(), (name, secret)


def test_compressed_files_carry_no_name_and_no_time(shared: Path) -> None:
    for path in shared.rglob("*.gz"):
        head = path.read_bytes()[:10]
        assert head[3] == 0, "no name, no comment"
        assert head[4:8] == bytes(4), "no time"


def test_people_keep_their_new_ids_and_nobody_can_guess_them(
    approved: ApprovedLabels, shared: Path, tmp_path: Path
) -> None:
    ids = [row.cells["participant_id"] for row in read_tsv(shared / "participants.tsv", ["participant_id"])]
    assert ids == sorted(path.name for path in shared.glob("sub-*"))
    assert all(re.fullmatch("sub-[a-z2-7]{12}", one) for one in ids)
    assert (shared / "participants.tsv").read_text().splitlines()[0] == "participant_id"
    approved.add("New", "L", session="x", modalities=("T1w", "T2w"))
    export_pairs(approved.layout, tmp_path / "later", gathered(approved))
    assert set(ids) < {path.name for path in (tmp_path / "later").glob("sub-*")}
    assert new_label(b"a" * 32, "sub-01") != new_label(b"b" * 32, "sub-01")


def test_the_key_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "export.key"
    key = read_or_make_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_key(path) == key
    path.write_text("short")
    with pytest.raises(BadDataError, match="damaged"):
        read_or_make_key(path)


def test_images_are_as_in_the_head_with_plain_headers(approved: ApprovedLabels, shared: Path) -> None:
    given = {
        (hemi, suffix): np.asanyarray(nib.load(path).dataobj)
        for name, one in approved.approvals.items()
        if PEOPLE[0] in name
        for hemi, suffix, path in [
            *((one.hemi, modality, approved.crop(one, modality)) for modality in one.crop_sha256),
            (one.hemi, "dseg", approved.label(one)),
        ]
    }
    person = f"sub-{new_label(read_or_make_key(approved.layout.export_key), f'sub-{PEOPLE[0]}')}"
    files = sorted((shared / person).rglob("*.nii.gz"))
    assert len(files) == len(given) == 6
    for path in files:
        hemi = path.name.split("_hemi-")[1][0]
        image = nib.load(path)
        np.testing.assert_array_equal(
            np.asanyarray(image.dataobj), given[hemi, path.name.split("_")[-1][: -len(".nii.gz")]]
        )
        np.testing.assert_allclose(image.affine, AFFINE)
        assert not image.header.extensions
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            assert image.header[field].item() == b""


def test_sidecars_say_what_bids_needs_and_no_more(shared: Path) -> None:
    keys = {tuple(sorted(json.loads(path.read_text()))) for path in shared.rglob("sub-*.json")}
    assert keys == {("SkullStripped", "SpatialReference"), ("Manual", "SpatialReference", "index", "name")}
    tables = {path.read_text() for path in shared.rglob("*_dseg.tsv")}
    assert tables == {"index\tname\n1\tAnterior\n2\tPosterior\n"}


def test_the_readme_and_the_description_tell_labels_people_and_licence(shared: Path) -> None:
    readme = (shared / "README").read_text()
    assert "4 hemispheres of 2 people" in readme
    assert "1  Anterior" in readme
    assert "Licence: not stated, do not redistribute" in readme
    description = json.loads((shared / "dataset_description.json").read_text())
    assert description["License"] == "not stated, do not redistribute"
    assert not {"Authors", "DatasetLinks", "SourceDatasets"} & description.keys()


def test_a_folder_with_content_is_never_written_to(approved: ApprovedLabels, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine").write_text("")
    for destination in (folder, folder / "mine", approved.layout.root / "shared"):
        with pytest.raises(UsageError):
            export_pairs(approved.layout, destination, gathered(approved))
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert not approved.layout.export_key.exists()


def test_a_failure_leaves_nothing_behind(approved: ApprovedLabels, tmp_path: Path) -> None:
    sides = gathered(approved)
    approved.label(sides.approvals[-1]).write_bytes(b"damaged")
    empty = tmp_path / "empty"
    empty.mkdir()
    for destination in (empty, tmp_path / "new"):
        with pytest.raises(BadDataError):
            export_pairs(approved.layout, destination, sides)
    assert not list(empty.iterdir())
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_named(approved: ApprovedLabels) -> None:
    with pytest.raises(CannotWriteError, match="/proc/shared"):
        export_pairs(approved.layout, Path("/proc/shared"), gathered(approved))
