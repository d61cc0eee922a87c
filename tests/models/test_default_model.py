"""The model that ships with the package: what the registry says of it is true, and its predictions stay the same."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bidsapp.evaluation.metrics import dice
from bidsapp.exchange.loading import LoadedModel, load_model
from bidsapp.layout import ModelPlaces
from bidsapp.model_dir.fingerprints import read_fingerprints
from bidsapp.models.registry import load_registry
from bidsapp.models.shelf import availability, locate_model
from bidsapp.pairs.membership import Membership, find_in_training
from bidsapp.prediction import Predictor, choose_device
from bidsapp.records import SIDES, Side
from bidsapp.sharing.share import read_export
from models.msd_pairs import block_files
from models.train_default import place_blocks
from tests.conftest import ROOT, run_py
from tools.make_default_labels import template_labels

MOST_BYTES = 12 * 2**20
SMALLEST_DICE = 0.999
LICENCE_FILE = "bidsapp/models/default.LICENSE.txt"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(locate_model("default", ModelPlaces(None, tmp_path_factory.mktemp("none"))))


def test_the_registry_tells_the_truth_of_it(model: LoadedModel, tmp_path: Path) -> None:
    places = ModelPlaces(None, tmp_path)
    entry = load_registry(places)["default"]
    assert availability("default", entry, places) == "here"
    assert model.source == entry.path
    assert (model.channels, tuple(model.labels.values())) == (entry.channels, entry.labels)
    assert model.source.stat().st_size <= MOST_BYTES
    assert entry.licence == "CC-BY-SA-4.0"
    assert LICENCE_FILE in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license-files"]
    assert (ROOT / LICENCE_FILE).read_text().startswith("Attribution-ShareAlike 4.0")


def test_it_carries_its_card_and_licence(model: LoadedModel) -> None:
    packed = read_export(model.source)
    card = packed.files["MODEL_CARD.md"].decode()
    assert packed.manifest["license"] == "CC-BY-SA-4.0"
    assert (ROOT / "models" / "about.md").read_text().strip() in card
    for line in ("license: cc-by-sa-4.0", "| Anterior | 0.8", "| Posterior | 0.8", "test: 40 people"):
        assert line in card, (line, card)


def test_it_knows_the_blocks_that_it_learned_from(model: LoadedModel) -> None:
    known = read_fingerprints(model.facts, model.source)
    assert known is not None
    assert Counter(known.parts.values()) == {"train": 140, "validation": 20, "test": 40}
    assert known.unchecked == ()


def test_it_knows_them_in_the_part_where_each_was(model: LoadedModel, shared_data: Path) -> None:
    known = read_fingerprints(model.facts, model.source)
    assert known is not None
    files = block_files(shared_data / "msd_hippocampus")
    places = {row.participant_id: row.split for row in place_blocks([f"sub-{person}" for person in files]).rows}
    for person, path in list(files.items())[::10]:
        assert find_in_training(str(path), known) == Membership(None, places[f"sub-{person}"])


@pytest.mark.parametrize("side", SIDES)
def test_its_predictions_have_not_drifted(model: LoadedModel, side: Side) -> None:
    """On the bundled crops of the CIT168 template."""
    labels = np.asanyarray(template_labels(Predictor(model, choose_device("cpu"), cores=1), side).dataobj)
    stored = nib.load(Path(__file__).parent / "data" / f"tpl-CIT168_hemi-{side}_desc-default_dseg.nii.gz")
    expected = np.asanyarray(stored.dataobj)
    assert set(np.unique(expected)) == {0, *model.labels}
    for value in model.labels:
        assert dice(labels == value, expected == value) >= SMALLEST_DICE


def test_participant_takes_it_unasked_and_warns_of_a_t2w(tmp_path: Path) -> None:
    anat = tmp_path / "data" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (tmp_path / "data" / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.10.0"}')
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), np.eye(4)), anat / "sub-01_T2w.nii.gz")
    out = tmp_path / "out"
    done = run_py(tmp_path / "data", out, "participant", "--modality", "T2w", "--device", "cpu", "--dry-run")
    assert done.code == 0, done.output
    assert "was trained on T1w and now gets T2w: its labels may be wrong everywhere" in done.output
    assert "model default on cpu: Anterior, Posterior" in done.output
    assert not out.exists()
