"""Whatever name we give to a file, pybids reads back what we meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from bids.layout import parse_file_entities
from hypothesis import given
from hypothesis import strategies as st

from bidsapp.bids.index import index_anatomy
from bidsapp.bids.links import bids_uri, dataset_links
from bidsapp.layout import SessionLayout

LABELS = st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True)
SESSIONS = st.none() | LABELS
HEMIS = st.sampled_from(["L", "R"])
MODALITIES = st.sampled_from(["T1w", "T2w"])


def entities_of(path: Path) -> dict[str, object]:
    return {name: str(value) for name, value in parse_file_entities(f"/{path.as_posix()}").items()}


@given(LABELS, SESSIONS, HEMIS, MODALITIES)
def test_names_parse_back_to_what_made_them(label, session, hemi, modality):
    layout = SessionLayout(Path(), label, session)
    person = {"subject": label, "datatype": "anat"} | ({"session": session} if session else {})
    image = {**person, "extension": ".nii.gz"}
    side = {**image, "hemi": hemi}
    assert entities_of(layout.crop(hemi, modality)) == {
        **side,
        "space": "corobl",
        "desc": "preproc",
        "suffix": modality,
    }
    assert entities_of(layout.prediction(hemi)) == {**side, "space": "corobl", "desc": "nnunet", "suffix": "dseg"}
    assert entities_of(layout.native_prediction(hemi, modality)) == {
        **side,
        "space": modality,
        "desc": "nnunet",
        "suffix": "dseg",
    }
    assert entities_of(layout.transform(modality)) == {
        **person,
        "from": modality,
        "to": "corobl",
        "mode": "image",
        "suffix": "xfm",
        "extension": ".txt",
    }


@given(LABELS, SESSIONS, LABELS, SESSIONS, HEMIS, HEMIS)
def test_names_never_collide(first, session, second, other_session, hemi, other_hemi):
    one = (first, session, hemi)
    other = (second, other_session, other_hemi)
    paths = [SessionLayout(Path(), label, ses).crop(side, "T1w") for label, ses, side in (one, other)]
    assert (paths[0] == paths[1]) == (one == other)


@pytest.mark.parametrize("session", [None, "pre1"])
def test_our_own_files_are_indexed(raw, session):
    layout = SessionLayout(raw.root, "A1b", session)
    paths = [layout.crop("L", "T1w"), layout.crop("R", "T2w"), layout.transform("T1w")]
    layout.anat.mkdir(parents=True)
    for path in paths:
        path.write_bytes(b"")
    files = index_anatomy(raw.root)
    assert {file.path for file in files} == set(paths)
    assert {(file.participant, file.session) for file in files} == {("A1b", session)}


def test_names_of_data_sets_and_their_files():
    links = dataset_links(Path("bids"), [Path("hippunfold"), Path("fmriprep")])
    assert links == {"raw": Path("bids"), "deriv1": Path("hippunfold"), "deriv2": Path("fmriprep")}
    assert bids_uri("deriv1", "sub-01/anat/sub-01_T1w.nii.gz") == "bids:deriv1:sub-01/anat/sub-01_T1w.nii.gz"
