"""nnU-Net's plans.json and dataset.json in a MODEL_DIR, which may come from somebody else: checked value by value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bidsapp.errors import BadDataError
from bidsapp.exchange.plans import Json, check_dataset, check_plans
from bidsapp.files import read_json
from bidsapp.layout import DATASET, ModelLayout
from bidsapp.nnunet_names import NNUNET_CONFIGURATION, NNUNET_PLANS
from bidsapp.records import LabelTable

RESTORE = "Restore it from a backup, or train anew in another --model-dir."


def read_dataset(layout: ModelLayout) -> Json:
    """nnU-Net's dataset.json of a model, checked: channel names, labels and the like.

    Raises
    ------
    BadDataError
        When it is not what `write_raw_dataset` writes.
    NoInputError
        When it is gone.
    """
    path = layout.raw_dataset / "dataset.json"
    return _checked(path, check_dataset)


def read_plans(layout: ModelLayout) -> Json:
    """nnU-Net's plans of a model, checked value by value: they name classes, which nnU-Net imports.

    Raises
    ------
    BadDataError
        When they are not of this data set, or hold anything that nnU-Net did not plan itself.
    NoInputError
        When they are gone.
    """
    path, channels = layout.plans, len(read_dataset(layout)["channel_names"])
    plans = _checked(path, lambda plans, origin: check_plans(plans, NNUNET_CONFIGURATION, channels, origin))
    folder = plans["configurations"][NNUNET_CONFIGURATION].get("data_identifier")
    named = (plans["dataset_name"], plans["plans_name"], folder)
    ours = (DATASET, NNUNET_PLANS, f"{NNUNET_PLANS}_{NNUNET_CONFIGURATION}")
    if named != ours:
        raise BadDataError(f"{path} is of {', '.join(map(str, named))}, and not of {', '.join(ours)}", RESTORE)
    return plans


def _checked(path: Path, check: Callable[[Json, str], Json]) -> Json:
    """What a file of a MODEL_DIR holds; the hints for other people's models are of no use here."""
    content = read_json(path, RESTORE)
    if not isinstance(content, dict):
        raise BadDataError(f"{path} does not hold a JSON object", RESTORE)
    try:
        return check(content, str(path))
    except BadDataError as error:
        raise BadDataError(error.message, RESTORE) from error


def network_labels(layout: ModelLayout) -> LabelTable:
    """The values that the network of a MODEL_DIR learns, and their names; they need not be those that people use."""
    labels = read_dataset(layout)["labels"]
    return LabelTable({value: name for name, value in sorted(labels.items(), key=lambda item: item[1]) if value})
