"""Where everything lies in OUTPUT_DIR, MODEL_DIR and their subfolders.

Rooms join to these only names inside a folder of nnU-Net's (``dataset.json``, ``<case>.nii.gz``) or of an exported
model.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bidsapp.nnunet_names import NNUNET_CONFIGURATION, NNUNET_PLANS, TRAINER

DATASET = "Dataset001_HippoTune"  # inside MODEL_DIR, which may be renamed; exports carry their own


@dataclass(frozen=True)
class ModelLayout:
    """One model's folder; see the table of files in docs and README."""

    root: Path
    """MODEL_DIR."""

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
    def pairs_table(self) -> Path:
        """What a person says of training pairs, beside what was found in them."""
        return self.root / "pairs.tsv"

    @property
    def pairs_page(self) -> Path:
        """Every training pair with its outlines and findings."""
        return self.root / "pairs.html"

    @property
    def transfer(self) -> Path:
        """Where every tensor of the first weights came from, where the training began from a model."""
        return self.root / "transfer.tsv"

    @property
    def parent_model(self) -> Path:
        """The model that the training began from, as it was."""
        return self.root / "parent.zip"

    @property
    def training(self) -> Path:
        """Pairs that were made from approved labels."""
        return self.root / "training"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.root / "tensorboard"

    @property
    def tensorboard_source(self) -> Path:
        """The validation Dice of the model that the training began from, as a line."""
        return self.tensorboard / "source"

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
        """Three files per training case, see `preprocessed_case`."""
        return self.preprocessed_dataset / f"{NNUNET_PLANS}_{NNUNET_CONFIGURATION}"

    def preprocessed_case(self, case: str) -> tuple[Path, Path, Path]:
        """Image, segmentation, and where the labels are."""
        folder = self.preprocessed_cases
        return folder / f"{case}.npy", folder / f"{case}_seg.npy", folder / f"{case}.npz"

    @property
    def preprocessed_hashes(self) -> Path:
        """One file per case: the content that it was preprocessed from, and what its files are."""
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

    def staged_export(self, iteration: int) -> Path:
        """The same on its way, before it was searched for what must not leave."""
        return self.export_staging / self.exported_model(iteration).name

    def refused_export(self, iteration: int, date: str) -> Path:
        """The same, when it holds what must not leave."""
        return self.export / f"refused-{date}" / self.exported_model(iteration).name

    @property
    def test_labels(self) -> Path:
        """What the values of `test_prediction` mean, and which ones they are in the user's label maps."""
        return self.test / "labels.tsv"

    def test_prediction(self, case: str) -> Path:
        """The predicted label map of a test case."""
        return self.test / f"{case}_dseg.nii.gz"

    def raw_images(self, part: str) -> Path:
        """``imagesTr`` (training and validation people) or ``imagesTs`` (test people)."""
        return self.raw_dataset / f"images{part}"

    def raw_case(self, part: str, case: str, channels: int) -> tuple[Path, ...]:
        """The images of a case, one per channel."""
        return tuple(self.raw_images(part) / f"{case}_{channel:04d}.nii.gz" for channel in range(channels))

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


@dataclass(frozen=True)
class SessionLayout:
    """The files of one person's session below a folder: OUTPUT_DIR, or the place where they are prepared."""

    root: Path
    """OUTPUT_DIR."""
    participant: str
    session: str | None = None
    """Labels without ``sub-`` and ``ses-``."""

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``: how the files begin."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def folder(self) -> Path:
        """``sub-01`` or ``sub-01/ses-1``."""
        person = self.root / f"sub-{self.participant}"
        return person / f"ses-{self.session}" if self.session else person

    @property
    def anat(self) -> Path:
        """Crops, label maps and transforms."""
        return self.folder / "anat"

    @property
    def figures(self) -> Path:
        """Pictures, of all sessions of a person."""
        return self.root / f"sub-{self.participant}" / "figures"

    def crop(self, hemi: str, modality: str) -> Path:
        """The crop of one side, as in the head."""
        return self.anat / f"{self.name}_hemi-{hemi}_space-corobl_desc-preproc_{modality}.nii.gz"

    def prediction(self, hemi: str) -> Path:
        """The label map of a crop that a network predicted."""
        return self.anat / f"{self.name}_hemi-{hemi}_space-corobl_desc-nnunet_dseg.nii.gz"

    def approved(self, hemi: str) -> Path:
        """The label map of a crop that a person approved."""
        return self.anat / f"{self.name}_hemi-{hemi}_space-corobl_desc-approved_dseg.nii.gz"

    def native_prediction(self, hemi: str, modality: str) -> Path:
        """The same on the grid of the scan."""
        return self.anat / f"{self.name}_hemi-{hemi}_space-{modality}_desc-nnunet_dseg.nii.gz"

    def transform(self, modality: str) -> Path:
        """The ITK file that resamples the scan to CorObl."""
        return self.anat / f"{self.name}_from-{modality}_to-corobl_mode-image_xfm.txt"

    def head_picture(self, modality: str) -> Path:
        """The head with the crop boxes."""
        return self.figures / f"{self.name}_desc-head_{modality}.png"

    def native_predictions(self, hemi: str) -> tuple[Path, ...]:
        """The label map on the grid of every scan that it may have been brought to."""
        return tuple(self.native_prediction(hemi, modality) for modality in ("T1w", "T2w"))

    def plane_picture(self, hemi: str, modality: str, plane: str) -> Path:
        """One plane of a crop with outlines."""
        return self.figures / f"{self.name}_hemi-{hemi}_desc-{plane}_{modality}.png"

    def slices_picture(self, hemi: str, modality: str) -> Path:
        """Coronal slices of a crop from front to back."""
        return self.figures / f"{self.name}_hemi-{hemi}_desc-slices_{modality}.png"

    def thumbnail(self, hemi: str) -> Path:
        """A small picture for the list of all people."""
        return self.figures / f"{self.name}_hemi-{hemi}_desc-thumbnail.png"

    def label_colours(self, hemi: str) -> Path:
        """Names and colours of the labels for ITK-SNAP."""
        return self.figures / f"{self.name}_hemi-{hemi}_desc-itksnap_labels.txt"


@dataclass(frozen=True)
class OutputLayout:
    """OUTPUT_DIR: a BIDS derivative data set."""

    root: Path
    """OUTPUT_DIR."""
    work_dir: Path | None = None
    """Where unfinished work lies; None: OUTPUT_DIR/work."""

    @property
    def dataset_description(self) -> Path:
        """What BIDS wants to know of the data set."""
        return self.root / "dataset_description.json"

    @property
    def bidsignore(self) -> Path:
        """What the validator passes over."""
        return self.root / ".bidsignore"

    @property
    def descriptions(self) -> Path:
        """What each ``desc-`` means."""
        return self.root / "descriptions.tsv"

    @property
    def participants(self) -> Path:
        """The table of people."""
        return self.root / "participants.tsv"

    @property
    def pairs_table(self) -> Path:
        """What a person says of pairs that were made elsewhere, beside what was found in them."""
        return self.root / "pairs.tsv"

    @property
    def pairs_page(self) -> Path:
        """Pairs that were made elsewhere, with their outlines and findings."""
        return self.root / "pairs.html"

    @property
    def readme(self) -> Path:
        """What this folder is."""
        return self.root / "README"

    @property
    def index(self) -> Path:
        """The page of all people."""
        return self.root / "index.html"

    @property
    def volumes(self) -> Path:
        """The volumes of all people in one table."""
        return self.root / "group_volumes.tsv"

    @property
    def work(self) -> Path:
        """Unfinished work, ours alone; may be removed when nothing runs."""
        if self.work_dir is None:
            return self.root / "work"
        ours = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:12]
        return self.work_dir / f"hippotune-{ours}"

    @property
    def fetched_models(self) -> Path:
        """Models that came by name where the user's data folder cannot be written."""
        return self.work / "models"

    @property
    def caches(self) -> Path:
        """What libraries keep for their next start: fonts, compiled kernels."""
        return self.work / "caches"

    @property
    def logs(self) -> Path:
        """Log files, one folder per run, and who failed."""
        return self.root / "logs"

    @property
    def failures(self) -> Path:
        """One file per person and session that failed."""
        return self.logs / "failed"

    @property
    def labels(self) -> Path:
        """What belongs to people: corrections, decisions, approved labels."""
        return self.root / "labels"

    @property
    def review_table(self) -> Path:
        """A person's decisions, one row per person, session and side."""
        return self.labels / "review.tsv"

    @property
    def people_split(self) -> Path:
        """Which person is in which part, for all models that are trained on the approved labels."""
        return self.labels / "split.tsv"

    @property
    def people_split_lock(self) -> Path:
        """Held for the moment in which people are added to `people_split`."""
        return self.labels / ".split.lock"

    @property
    def export_key(self) -> Path:
        """What turns people into the ids under which their pairs are given away; never leaves home."""
        return self.logs / "export.key"

    @property
    def label_names(self) -> Path:
        """What the values of label maps mean, where people draw without a model; theirs to write."""
        return self.labels / "labels.tsv"

    @property
    def review_settings(self) -> Path:
        """Limits of the guards; written once, theirs to edit."""
        return self.labels / "review.ini"

    @property
    def ledger(self) -> Path:
        """Every approval and withdrawal, one JSON object per line, only appended to."""
        return self.labels / "logs" / "approvals.jsonl"

    @property
    def shown(self) -> Path:
        """What every side showed when it was reviewed last, and on which crop a correction was seen first."""
        return self.labels / "logs" / "shown.json"

    @property
    def review_lock(self) -> Path:
        """Held while decisions are recorded, or approvals read."""
        return self.labels / ".review.lock"

    @property
    def review_page(self) -> Path:
        """The state of the review, with pictures."""
        return self.labels / "review.html"

    @property
    def labels_description(self) -> Path:
        """What BIDS wants to know of `labels`, a data set of its own."""
        return self.labels / "dataset_description.json"

    @property
    def labels_bidsignore(self) -> Path:
        """What the validator passes over in `labels`."""
        return self.labels / ".bidsignore"

    @property
    def labels_descriptions(self) -> Path:
        """What each ``desc-`` means in `labels`."""
        return self.labels / "descriptions.tsv"

    @property
    def labels_readme(self) -> Path:
        """What `labels` is."""
        return self.labels / "README"

    @property
    def all_superseded(self) -> Path:
        """One folder per date, see `superseded`."""
        return self.labels / "superseded"

    @property
    def models(self) -> Path:
        """Models that the group level trained."""
        return self.root / "models"

    def page(self, participant: str) -> Path:
        """What a person looks at."""
        return self.root / f"sub-{participant}.html"

    def failure(self, session_name: str) -> Path:
        """Why a session failed; gone once it succeeded."""
        return self.failures / f"{session_name}.json"

    def session(self, participant: str, session: str | None) -> SessionLayout:
        """The finished files of a session."""
        return SessionLayout(self.root, participant, session)

    @property
    def editor(self) -> Path:
        """What the editor keeps of sides that are not decided yet: drafts, and how long people worked on them."""
        return self.work / "editor"

    @property
    def editor_lock(self) -> Path:
        """Held by the one server of this folder, wherever its work lies."""
        return self.root / "work" / "locks" / "editor.lock"

    def draft(self, side_name: str) -> Path:
        """What a person painted and has not saved yet."""
        return self.editor / f"{side_name}_dseg.nii.gz"

    def editing_work(self, side_name: str) -> Path:
        """How long they worked on it, and what they painted."""
        return self.editor / f"{side_name}.json"

    def unfinished(self, participant: str, session: str | None) -> SessionLayout:
        """The files of a session on their way."""
        name = SessionLayout(self.root, participant, session).name
        return SessionLayout(self.work / "participant" / name, participant, session)

    def session_lock(self, session_name: str) -> Path:
        """Held by the one process that works on a session, wherever its work lies."""
        return self.root / "work" / "locks" / f"{session_name}.lock"

    def publishing(self, session_name: str) -> Path:
        """There while finished files of a session are being moved to their place."""
        return self.work / "participant" / f"{session_name}.publishing"

    def publishing_copy(self, session_name: str) -> Path:
        """Where finished files wait that were made on another disk."""
        return self.root / "work" / "publishing" / session_name

    def persons_labels(self, participant: str, session: str | None) -> SessionLayout:
        """Where people save corrections of a session."""
        return SessionLayout(self.labels, participant, session)

    def manual_label(self, participant: str, session: str | None, hemi: str) -> Path:
        """A person's correction of a side."""
        session_layout = self.persons_labels(participant, session)
        return session_layout.anat / f"{session_layout.name}_hemi-{hemi}_space-corobl_desc-manual_dseg.nii.gz"

    def approved_label(self, participant: str, session: str | None, hemi: str) -> Path:
        """The label map of a side that a person approved."""
        return self.persons_labels(participant, session).approved(hemi)

    def imported_label(self, participant: str, session: str | None, hemi: str) -> Path:
        """Another tool's label map of a side, brought in for review."""
        session_layout = self.persons_labels(participant, session)
        return session_layout.anat / f"{session_layout.name}_hemi-{hemi}_space-corobl_desc-imported_dseg.nii.gz"

    def review_picture(self, key: tuple[str, str | None, str], version: str) -> Path:
        """A small picture of one version of a side's label map."""
        session = self.persons_labels(*key[:2])
        return session.figures / f"{session.name}_hemi-{key[2]}_desc-{version}.png"

    def superseded(self, date: str) -> Path:
        """Labels that were replaced or withdrawn, and crops that a later crop replaced."""
        return self.all_superseded / date

    def run_log(self, run: str) -> Path:
        """The log file of one run."""
        return self.logs / run / "participant.log"

    def review_log(self, run: str) -> Path:
        """The log file of one review."""
        return self.logs / run / "review.log"

    def session_log(self, run: str, session_name: str) -> Path:
        """The log file of one session in one run."""
        return self.logs / run / f"{session_name}.log"


def crash_file(log: Path) -> Path:
    """What is written about a bug of ours, beside the log of the run or session."""
    return log.with_suffix(".crash.txt")


def sidecar(image: Path) -> Path:
    """The JSON file beside an image."""
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def table_sidecar(table: Path) -> Path:
    """The JSON file that describes the columns of a table."""
    return table.with_suffix(".json")


def label_names(dseg: Path) -> Path:
    """The table of names and volumes beside a label map."""
    return sidecar(dseg).with_suffix(".tsv")


def default_model_dir(output_dir: Path) -> Path:
    """Where the group level trains when it is not told."""
    return output_dir / "models" / "default"


@dataclass(frozen=True)
class ModelPlaces:
    """Where models are found by name."""

    registry: Path | None
    """A lab's own list beside the one that we ship; None: there is none."""
    models: Path
    """Where fetched models lie, as ``<name>.zip``, ``<name>.tar.gz``, ... and ``<name>.json``: what is known of
    them."""
    others: tuple[Path, ...] = ()
    """Folders that models are looked for in after that one; nothing is written there."""
    unwritable: Path | None = None
    """The user's data folder, where `models` stands in for it; None otherwise."""

    @property
    def shipped_registry(self) -> Path:
        """Our list."""
        return Path(__file__).parent / "models" / "registry.toml"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where models are looked for, in this order."""
        return (self.models, *self.others)

    def fetched(self, name: str, suffix: str, folder: Path | None = None) -> Path:
        """The file of a fetched model; in `models` unless another of `folders` is given."""
        return (folder or self.models) / f"{name}{suffix}"

    def fetch_record(self, name: str, folder: Path | None = None) -> Path:
        """Where it came from, and its sha256; beside the model."""
        return (folder or self.models) / f"{name}.json"


def model_places(
    registry: Path | None, models: Path | None, environment: Mapping[str, str], *, in_work: Path
) -> ModelPlaces:
    """What the user named, else the folders of the XDG Base Directory Specification.

    Where the data folder cannot be written, models go to `in_work`, a folder below the work directory. Models are
    looked for in both, so that one that came when it was otherwise is found again.
    """
    own = registry or _xdg_folder(environment, "XDG_CONFIG_HOME", ".config") / "registry.toml"
    listed = own if registry or _is_file(own) else None
    if models:
        return ModelPlaces(listed, models)
    data = _xdg_folder(environment, "XDG_DATA_HOME", ".local/share") / "models"
    if _can_be_written(data):
        return ModelPlaces(listed, data, others=(in_work,))
    return ModelPlaces(listed, in_work, others=(data,), unwritable=data)


def models_in_work(folder: Path) -> Path:
    """Where fetched models lie below the folder that `hippotune-models` was started in."""
    return folder / "work" / "models"


def _xdg_folder(environment: Mapping[str, str], variable: str, default: str) -> Path:
    """Our folder there; a relative path counts as none, as the specification says."""
    named = Path(environment.get(variable, ""))
    home = Path(environment.get("HOME") or "/")  # containers may run without one
    return (named if named.is_absolute() else home / default) / "hippotune"


def _can_be_written(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, is one that we may write to; nothing is made."""
    while not os.path.lexists(folder):  # unlike Path.exists, never raises in somebody else's home
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in somebody else's home
        return False


def label_table_file(training_dir: Path) -> Path:
    """Names of the label values of a training folder; may be missing."""
    return training_dir / "labels.tsv"


def annotation_file(training_dir: Path) -> Path:
    """Which labels a pair of a training folder annotates; may be missing."""
    return training_dir / "annotated.tsv"


def origins_file(training_dir: Path) -> Path:
    """How the labels of a training folder came about; may be missing."""
    return training_dir / "origins.tsv"


def pair_images(training_dir: Path, case: str, channels: int) -> tuple[Path, ...]:
    """The images of a pair, one per channel."""
    if channels == 1:
        return (training_dir / f"{case}_img.nii.gz",)
    return tuple(training_dir / f"{case}_img_{channel:04d}.nii.gz" for channel in range(channels))


def pair_label(training_dir: Path, case: str) -> Path:
    """The label map of a pair."""
    return training_dir / f"{case}_lbl.nii.gz"


def approved_pairs_file(training_dir: Path) -> Path:
    """Which pairs of a training folder we wrote, and from which approvals."""
    return training_dir / "approved.json"
