"""Which files are whole scans, which are ready-made crops, and which of several is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bidsapp.bids.filters import Rules, matches
from bidsapp.bids.index import IndexedFile
from bidsapp.records import Modality, Side

NIFTI = (".nii", ".nii.gz")

_IMAGE: Rules = {"datatype": ("anat",), "extension": NIFTI, "part": (None, "mag"), "label": (None,), "res": (None,)}
_RAW: Rules = {**_IMAGE, "space": (None,), "desc": (None,), "hemi": (None,)}
_PREPROCESSED: Rules = {**_IMAGE, "space": (None, "T1w", "T2w", "orig"), "desc": ("preproc",), "hemi": (None,)}
_CROP: Rules = {"datatype": ("anat",), "extension": NIFTI, "label": (None,), "space": ("corobl",)}


def raw_scans(files: Iterable[IndexedFile], modality: Modality, wanted: Rules) -> list[IndexedFile]:
    """List the whole scans of a raw data set, the one to use last.

    Without `wanted` a name with ``part-phase|real|imag``, ``space-``, ``desc-`` is none. The last acquisition,
    reconstruction, echo and run in this order counts, one without contrast agent before one with.
    """
    return _choose(files, {**_RAW, **wanted, "suffix": (modality,)}, wanted)


def preprocessed_scans(files: Iterable[IndexedFile], modality: Modality, wanted: Rules) -> list[IndexedFile]:
    """List ``desc-preproc`` images of whole heads in a person's own space, the one to use last."""
    return _choose(files, {**_PREPROCESSED, "suffix": (modality,)}, wanted)


def crops(files: Iterable[IndexedFile], side: Side, modality: Modality, wanted: Rules) -> list[IndexedFile]:
    """List ready-made crops in CorObl space, as in the head, the one to use last: ``desc-preproc`` if there is one.

    ``hemi-Lflip`` is none, though pybids reads it as L.
    """
    rules: Rules = {**_CROP, "hemi": (side,), "suffix": (modality,)}
    as_in_head = [file for file in files if f"_hemi-{side}_" in file.name]
    return sorted(_choose(as_in_head, rules, wanted), key=_by_description)


def itk_transforms(files: Iterable[IndexedFile], modality: Modality) -> list[IndexedFile]:
    """List ITK files that resample a scan to CorObl, in the order of their names."""
    rules: Rules = {"suffix": ("xfm",), "from": (modality,), "to": ("corobl",)}
    return [file for file in files if matches(file.entities, rules) and _is_itk(file.name)]


def _choose(files: Iterable[IndexedFile], rules: Rules, wanted: Rules) -> list[IndexedFile]:
    fitting = (file for file in files if matches(file.entities, rules) and matches(file.entities, wanted))
    return sorted(fitting, key=lambda file: _order(file.entities))


def _order(entities: Mapping[str, str | int]) -> tuple[object, ...]:
    return (
        "ceagent" not in entities,
        str(entities.get("acquisition", "")),
        str(entities.get("reconstruction", "")),
        int(entities.get("echo", 0)),
        int(entities.get("run", 0)),
        entities.get("space") is None,
        entities.get("extension") == ".nii.gz",
    )


def _by_description(crop: IndexedFile) -> tuple[bool, bool]:
    return crop.entities.get("desc") == "preproc", "desc" not in crop.entities


def _is_itk(name: str) -> bool:
    return "_type-itk" in name or ("_mode-image" in name and "_type-" not in name)
