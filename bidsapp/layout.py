"""Every path that we read or write. No path is built anywhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NNUNET_CONFIGURATION = "3d_fullres"
NNUNET_PLANS = "nnUNetPlans"
TRAINER = "HippoTuneTrainer"
DATASET = "Dataset001_HippoTune"  # inside MODEL_DIR, which may be renamed; exports carry their own
EXPORTED_TRAINER = "nnUNetTrainer"


@dataclass(frozen=True)
class ModelLayout:
    """One model's folder; see the table of files in docs and README.

    Attributes
    ----------
    root
        MODEL_DIR.
    """

    root: Path

    @property
    def name(self) -> str:
        """The model's name as nnU-Net spells it in ``Dataset<NNN>_<name>``: letters and digits only."""
        return re.sub(r"[^A-Za-z0-9]", "", self.root.name) or "model"

    @property
    def config(self) -> Path:
        """The editable settings."""
        return self.root / "config.ini"

    @property
    def state(self) -> Path:
        """What was trained, from which pairs, how far."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that trains here."""
        return self.root / ".lock"

    @property
    def split(self) -> Path:
        """Which person is in which part."""
        return self.root / "split.tsv"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.root / "tensorboard"

    @property
    def logs(self) -> Path:
        """One folder per run."""
        return self.root / "logs"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.root / "report.html"

    @property
    def nnunet_raw(self) -> Path:
        """nnU-Net's raw data."""
        return self.root / "nnunet" / "raw"

    @property
    def nnunet_preprocessed(self) -> Path:
        """nnU-Net's preprocessed data."""
        return self.root / "nnunet" / "preprocessed"

    @property
    def nnunet_results(self) -> Path:
        """nnU-Net's results."""
        return self.root / "nnunet" / "results"

    @property
    def raw_dataset(self) -> Path:
        """imagesTr, labelsTr, imagesTs, labelsTs, dataset.json."""
        return self.nnunet_raw / DATASET

    @property
    def preprocessed_dataset(self) -> Path:
        """Fingerprint, plans, splits_final.json and the cases below `preprocessed_cases`."""
        return self.nnunet_preprocessed / DATASET

    @property
    def preprocessed_cases(self) -> Path:
        """One .b2nd, _seg.b2nd and .pkl per training case."""
        return self.preprocessed_dataset / f"{NNUNET_PLANS}_{NNUNET_CONFIGURATION}"

    @property
    def preprocessed_hashes(self) -> Path:
        """One file per case: the content that it was preprocessed from."""
        return self.preprocessed_dataset / "content"

    @property
    def fingerprint(self) -> Path:
        """nnU-Net's dataset fingerprint."""
        return self.preprocessed_dataset / "dataset_fingerprint.json"

    @property
    def plans(self) -> Path:
        """nnU-Net's plans, adapted to the settings."""
        return self.preprocessed_dataset / f"{NNUNET_PLANS}.json"

    @property
    def splits_final(self) -> Path:
        """Training and validation cases as nnU-Net reads them."""
        return self.preprocessed_dataset / "splits_final.json"

    @property
    def fold(self) -> Path:
        """Checkpoints of the training."""
        trainer = f"{TRAINER}__{NNUNET_PLANS}__{NNUNET_CONFIGURATION}"
        return self.nnunet_results / DATASET / trainer / "fold_0"

    @property
    def checkpoint(self) -> Path:
        """The newest state of the training."""
        return self.fold / "checkpoint_latest.pth"

    @property
    def previous_checkpoint(self) -> Path:
        """The state before that, should the newest be damaged."""
        return self.fold / "checkpoint_previous.pth"

    @property
    def test(self) -> Path:
        """Predictions and scores of the held-out people."""
        return self.root / "test"

    @property
    def scores(self) -> Path:
        """One row per person, side and label."""
        return self.test / "scores.tsv"

    @property
    def summary(self) -> Path:
        """Means with intervals."""
        return self.test / "summary.json"

    @property
    def export(self) -> Path:
        """Models to share."""
        return self.root / "export"

    @property
    def current_export(self) -> Path:
        """The newest accepted model."""
        return self.export / "current.zip"

    @property
    def export_staging(self) -> Path:
        """The model that is being tested, as a folder that nnU-Net's predictor understands."""
        return self.export / ".staging"

    def exported_model(self, iteration: int) -> Path:
        """The model after so many iterations."""
        return self.export / f"{self.root.name or self.name}-{iteration}.zip"

    def test_prediction(self, case: str) -> Path:
        """The predicted label map of a test case."""
        return self.test / f"{case}_dseg.nii.gz"

    def raw_images(self, part: str) -> Path:
        """``imagesTr`` (training and validation people) or ``imagesTs`` (test people)."""
        return self.raw_dataset / f"images{part}"

    def raw_labels(self, part: str) -> Path:
        """``labelsTr`` or ``labelsTs``."""
        return self.raw_dataset / f"labels{part}"

    def raw_hashes(self, part: str) -> Path:
        """One file per raw case: the content that it was written from."""
        return self.raw_dataset / f"content{part}"

    def run_log(self, run: str) -> Path:
        """The log file of one run."""
        return self.logs / run / "group.log"

    def run_settings(self, run: str) -> Path:
        """What one run really used."""
        return self.logs / run / "settings.ini"


def default_model_dir(output_dir: Path) -> Path:
    """Where the group level trains when it is not told."""
    return output_dir / "models" / "default"


def label_table_file(training_dir: Path) -> Path:
    """Names of the label values of a training folder; may be missing."""
    return training_dir / "labels.tsv"
