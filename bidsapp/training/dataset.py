"""nnU-Net's raw dataset and its one split, from checked pairs. Test people live in imagesTs and labelsTs only."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bidsapp.files import write_json, write_text
from bidsapp.labels.tables import nnunet_values
from bidsapp.layout import DATASET, ModelLayout
from bidsapp.model_dir.split import pairs_in
from bidsapp.nnunet_names import TURNS_TO_RAS
from bidsapp.records import LabelTable, Pair, Split
from bidsapp.training.import_pairs import write_nnunet_case
from bidsapp.training.rehearsal import EarlierPairs


@dataclass(frozen=True)
class Parts:
    """The pairs of every part of a split."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def seen_in_training(self) -> tuple[Pair, ...]:
        """Training and validation: what nnU-Net plans from and trains on."""
        return (*self.train, *self.validation)


def divide(pairs: Iterable[Pair], split: Split) -> Parts:
    """Give every pair to its person's part."""
    pairs = tuple(pairs)
    return Parts(
        train=pairs_in(split, "train", pairs),
        validation=pairs_in(split, "validation", pairs),
        test=pairs_in(split, "test", pairs),
    )


def write_raw_dataset(
    layout: ModelLayout,
    parts: Parts,
    content: Mapping[str, str],
    table: LabelTable,
    channels: tuple[str, ...],
    *,
    reader: str = "SimpleITKIO",
    rehearsal: EarlierPairs | None = None,
) -> None:
    """Bring imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json up to date.

    Cases whose content is unchanged are left as they are; cases that are gone are removed.

    Parameters
    ----------
    content
        Case -> hash, from `check_pairs`.
    reader
        nnU-Net's reader; another one only where the training goes on from a model that was trained with it.
    rehearsal
        Earlier pairs that are trained on too.
    """
    values = nnunet_values(table)
    written_from = {case: f"{digest} {sorted(values.items())}" for case, digest in content.items()}
    earlier = rehearsal.pairs if rehearsal else ()
    written_from |= {pair.case: rehearsal.checked.content[pair.case] for pair in earlier if rehearsal}
    trained = (*parts.seen_in_training, *earlier)
    for part, pairs in (("Tr", trained), ("Ts", parts.test)):
        images, labels, known = layout.raw_images(part), layout.raw_labels(part), layout.raw_hashes(part)
        for folder in (images, labels, known):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*"):  # of a run that was killed while writing
                if not leftover.is_dir():
                    leftover.unlink()
        wanted = {pair.case: pair for pair in pairs}
        for marker in [one for one in known.iterdir() if one.is_symlink() or not one.is_dir()]:
            stands = marker.name in wanted and marker.is_file()
            if not stands or marker.read_bytes() != written_from[marker.name].encode():
                marker.unlink()
                _remove_case(marker.name, images, labels)
        for case, pair in wanted.items():
            if not (known / case).exists() or not all(path.is_file() for path in _files_of(layout, part, pair)):
                own_values = rehearsal.values if rehearsal and pair in earlier else values
                write_nnunet_case(pair, images, labels, values=own_values, as_las=reader == TURNS_TO_RAS)
                write_text(known / case, written_from[case])
    write_json(
        layout.raw_dataset / "dataset.json",
        {
            "name": DATASET,
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {"background": 0} | {table.names[value]: position for value, position in values.items()},
            "numTraining": len(trained),
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": reader,
            # without this list nnU-Net starts twelve processes to match file names
            "dataset": {pair.case: _relative_files(pair) for pair in trained},
        },
    )
    write_json(
        layout.splits_final,
        [{"train": [pair.case for pair in (*parts.train, *earlier)], "val": [pair.case for pair in parts.validation]}],
    )


def _files_of(layout: ModelLayout, part: str, pair: Pair) -> list[Path]:
    return [*layout.raw_case(part, pair.case, len(pair.images)), layout.raw_labels(part) / f"{pair.case}.nii.gz"]


def _relative_files(pair: Pair) -> dict[str, object]:
    channels = range(len(pair.images))
    return {
        "images": [f"imagesTr/{pair.case}_{channel:04d}.nii.gz" for channel in channels],
        "label": f"labelsTr/{pair.case}.nii.gz",
    }


def _remove_case(case: str, images: Path, labels: Path) -> None:
    for path in (*images.glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9].nii.gz"), labels / f"{case}.nii.gz"):
        path.unlink(missing_ok=True)
