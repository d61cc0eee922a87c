"""The words of a shared model: MODEL_CARD.md in Hugging Face's format, and CITATION.cff.

Texts are made of what is known, and say so where nothing is. Nothing here reads a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bidsapp.evaluation.scores import MeasureSummary
from bidsapp.models.licences import HUGGING_FACE, OTHER, Parent
from bidsapp.nnunet_names import EXPORTED_TRAINER, NNUNET_CONFIGURATION
from bidsapp.printable import people_text

PARTS = {"train": "training", "validation": "validation", "test": "test"}
NOT_KNOWN = "not known"
CITE = (
    "nnU-Net: Isensee et al., Nature Methods 2021, https://doi.org/10.1038/s41592-020-01008-z",
    "HippUnfold, whose CorObl space this model works in: DeKraker et al., eLife 2022, "
    "https://doi.org/10.7554/eLife.77945",
)
INTENDED_USE = (
    "Segmenting the hippocampus on MRI for research: crops in CorObl space, of the modality and about the voxel size "
    "named above. Look at every result before you measure with it."
)
LIMITS = (
    "Not a medical device; not for diagnosis or treatment.",
    "Left hemispheres must be flipped along the first axis before, and their label maps back afterwards.",
    "Other scanners, ages, diseases and protocols than those trained on can give plausible and wrong label maps.",
    "Scores are of held-out people of the same data; expect less elsewhere.",
)


@dataclass(frozen=True)
class SharedModel:
    """All that the texts say."""

    title: str
    dataset: str
    """``Dataset<NNN>_<name>``."""
    licence: str
    authors: tuple[str, ...]
    people: Mapping[str, int]
    """Part of the split -> number of people."""
    iterations: int | None
    channels: tuple[str, ...]
    """Names, in the order of the network; `labels` likewise."""
    labels: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    """Voxel size (x, y, z) that the network works at."""
    space: str
    labels_from: str
    """Who answers for the labels."""
    scores: Mapping[str, Mapping[str, MeasureSummary]] = field(default_factory=dict)
    """Label, and ``all labels`` -> measure -> its scores over the test people; empty: none are known."""
    score_notes: tuple[str, ...] = ()
    """What must be said with the scores, or in their place."""
    demographics: tuple[str, ...] = ()
    """Lines about ages and sex; empty where not asked for."""
    parents: tuple[Parent, ...] = ()
    """Models that it was trained from, the nearest first; empty: from scratch."""
    about: str = ""
    """Markdown of those who share it: which data, for whom, where it ends."""
    leakage: str = ""
    """What is known of people whom both it and its parents were given."""
    fingerprints: int = 0
    """How many images it can be asked for."""
    label_kinds: str = ""
    """How many of those trained on were corrected, drawn, ...; empty: not known."""
    pairs: tuple[str, ...] = ()
    """How its pairs were grouped, stored and turned."""
    storage: Mapping[str, str] = field(default_factory=dict)
    """Side -> axes of the images that it was trained on; empty: not known."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def dataset_id(self) -> str:
        """The number that nnU-Net's ``-d`` takes."""
        return self.dataset.removeprefix("Dataset").partition("_")[0]


def model_card(model: SharedModel) -> str:
    """MODEL_CARD.md."""
    sections = (
        ("What it is", _about(model)),
        *([("From its authors", [model.about.strip()])] if model.about.strip() else []),
        ("Run it in plain nnU-Net", _usage(model)),
        ("Trained on", _training(model)),
        ("Test scores", _scores(model)),
        ("Intended use", [INTENDED_USE]),
        ("Limits", _bullets(LIMITS)),
        ("Where it comes from", _parents(model)),
        ("Licence", [model.licence]),
        ("Cite", _bullets(("the authors of this model, see CITATION.cff", *CITE))),
    )
    text = "".join(f"\n## {heading}\n\n" + "\n".join(lines) + "\n" for heading, lines in sections)
    return f"{_front_matter(model)}\n# {_inline(model.title)}\n{text}"


def citation(model: SharedModel) -> str:
    """CITATION.cff, version 1.2.0. Without authors the model's title stands for them, as the format wants one.

    The format knows SPDX licences only: ``LicenseRef-`` is left to the model card.
    """
    authors = [_cff_author(author) for author in model.authors or (f"The authors of {model.title}",)]
    lines = [
        "cff-version: 1.2.0",
        f"message: {_quote('If you use this model, please cite it as below.')}",
        "type: software",
        f"title: {_quote(model.title)}",
        "authors:",
        *authors,
    ]
    if not model.licence.startswith(OTHER):
        lines.append(f"license: {model.licence}")
    lines += ["keywords:", *(f"  - {_quote(word)}" for word in ("hippocampus", "segmentation", "nnU-Net"))]
    return "\n".join(lines) + "\n"


def _front_matter(model: SharedModel) -> str:
    known = HUGGING_FACE.get(model.licence)
    licence = [f"license: {known}"] if known else ["license: other", f"license_name: {_quote(model.licence)}"]
    tags = ("hippocampus", "mri", "segmentation", "nnunet", *model.channels)
    lines = (
        *licence,
        "library_name: nnunetv2",
        "pipeline_tag: image-segmentation",
        "tags:",
        *(f"  - {_quote(tag)}" for tag in dict.fromkeys(tags)),
        "metrics:",
        "  - dice",
        "  - hausdorff_distance",
    )
    return "\n".join(("---", *lines, "---", ""))


def _about(model: SharedModel) -> list[str]:
    edges = " x ".join(f"{edge:g}" for edge in model.spacing_mm)
    made_with = ", ".join(f"{name} {version}" for name, version in model.versions.items())
    return _bullets(
        (
            f"A 3D U-Net of nnU-Net v2 ({NNUNET_CONFIGURATION}) that segments the hippocampus.",
            f"Input: {_join(model.channels)}, in this order.",
            f"Labels: {_join(f'{value} {name}' for value, name in enumerate(model.labels, 1))}.",
            f"Space: {_inline(model.space)}.",
            *_storage(model),
            f"Voxel size of the network: {edges} mm.",
            f"Made with {made_with or NOT_KNOWN}.",
        )
    )


def _usage(model: SharedModel) -> list[str]:
    return [
        "```",
        "nnUNetv2_install_pretrained_model_from_zip MODEL.zip",
        f"nnUNetv2_predict -i IMAGES -o LABELS -d {model.dataset_id} -c {NNUNET_CONFIGURATION} "
        f"-tr {EXPORTED_TRAINER} -f 0 --disable_tta",
        "```",
        "",
        "Without a GPU add `-device cpu` to the second line.",
        "",
        "Images are named `NAME_0000.nii.gz`"
        + "".join(f", `NAME_{channel:04d}.nii.gz`" for channel in range(1, len(model.channels)))
        + f" ({_join(model.channels)}). The folder to install is `{model.dataset}`.",
    ]


def _training(model: SharedModel) -> list[str]:
    people = [f"{what}: {people_text(model.people[part])}" for part, what in PARTS.items() if part in model.people]
    return _bullets(
        (
            "; ".join(people) + "; nobody is in two parts." if people else f"Number of people: {NOT_KNOWN}.",
            f"{_inline(model.labels_from)[:1].upper()}{_inline(model.labels_from)[1:]}.",
            *([f"Labels to train on: {_inline(model.label_kinds)}."] if model.label_kinds else []),
            f"Iterations: {model.iterations if model.iterations is not None else NOT_KNOWN}.",
            *(f"{_inline(line)}." for line in model.pairs),
            *model.demographics,
            *_fingerprints(model),
        )
    )


def _fingerprints(model: SharedModel) -> list[str]:
    if not model.fingerprints:
        return []
    return [
        f"hippotune.json holds fingerprints (salted hashes) of {model.fingerprints} images. Whoever has an image can "
        "ask whether it was in the training, and in which part: `hippotune-models contains MODEL.zip IMAGE`."
    ]


def _storage(model: SharedModel) -> list[str]:
    sides = {"R": "right hemispheres", "L": "left hemispheres", "n/a": "those of an unknown side"}
    stored = [f"{what} {_inline(model.storage[side])}" for side, what in sides.items() if side in model.storage]
    if not stored:
        return []
    return [f"Axes of its images: {', '.join(stored)}. nnU-Net does not turn images: turn yours to these axes first."]


def _scores(model: SharedModel) -> list[str]:
    notes = [line for note in model.score_notes for line in ("", f"{_inline(note)[:1].upper()}{_inline(note)[1:]}.")]
    if not model.scores:
        return notes[1:] or ["Not stated: no test of exactly these weights is known."]
    rows = (
        f"| {_inline(name)} | {_score(measures['dice'])} | {_score(measures['hd95_mm'])} |"
        for name, measures in model.scores.items()
    )
    return [
        "Means over the held-out test people and sides whose label was corrected, drawn or imported, with 95 % "
        "intervals (bootstrap by person).",
        "",
        "| label | Dice | HD95 (mm) |",
        "| --- | --- | --- |",
        *rows,
        *notes,
    ]


def _score(measure: MeasureSummary) -> str:
    """The mean with its 95 % interval, where there is one."""
    if measure.mean is None:
        return "n/a"
    interval = measure.interval_95
    return f"{measure.mean:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _parents(model: SharedModel) -> list[str]:
    if not model.parents:
        return ["Trained from scratch, from no other model."]
    added = f"This model added {people_text(model.people.get('train', 0))} for {_listed(model.labels)}."
    lines = ["Trained further from, the nearest first:", "", *_bullets(map(_parent_line, model.parents)), "", added]
    return [*lines, *(["", f"{_inline(model.leakage)}."] if model.leakage else [])]


def _parent_line(parent: Parent) -> str:
    trained = (parent.people or {}).get("train")
    people = "on a number of people that is not known" if trained is None else f"on {people_text(trained)}"
    what = f" for {_listed(parent.labels)}" if parent.labels else ""
    images = f" in {_listed(parent.channels)}" if parent.channels else ""
    return f"{_inline(parent.name)}, licence: {_inline(parent.license or NOT_KNOWN)}; trained {people}{what}{images}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_inline(name) for name in names)


def _cff_author(author: str) -> str:
    """``Family, Given`` is a person, anything else a name of people or a group."""
    family, comma, given = (part.strip() for part in author.partition(","))
    if comma and family and given:
        return f"  - family-names: {_quote(family)}\n    given-names: {_quote(given)}"
    return f"  - name: {_quote(author.strip())}"


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _join(names: Iterable[str]) -> str:
    return ", ".join(_inline(name) for name in names)


def _inline(text: str) -> str:
    """Somebody's text on one line, without what Markdown or HTML would act on."""
    plain = " ".join(text.split())
    return "".join(f"\\{one}" if one in "\\`*[]<>#|" else one for one in plain)


def _quote(text: str) -> str:
    """A scalar in YAML, which reads JSON's strings."""
    return json.dumps(text)
