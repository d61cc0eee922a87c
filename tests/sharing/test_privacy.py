"""What must not leave is found wherever it hides, and a clean export is let through."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bidsapp.layout import ModelLayout
from bidsapp.sharing.privacy import KnownSecrets, LeakKind, known_secrets, scan_archive, scan_for_leaks
from tests.tiny_model import Export, Json

KNOWN = KnownSecrets(
    people=frozenset({"sub-01", "sub-P0123", "pat77", "HC-104_left"}),
    hosts=frozenset({"cortex7", "cortex7.example.org"}),
    users=frozenset({"amyers"}),
    paths=frozenset({"/home/amyers", "/lab/hippo models/default"}),
)
FOLDER = "nnUNetTrainer__nnUNetPlans__3d_fullres"
Files = dict[str, bytes]


def unpack(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def pack(files: Files, archive: Path, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
        packed.comment = comment
    return archive


def ending(files: Files, end: str) -> str:
    return next(name for name in files if name.endswith(end))


def with_json(name: str, change: Callable[[Json], None]) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        content = json.loads(files[ending(files, name)])
        change(content)
        files[ending(files, name)] = json.dumps(content).encode()

    return plant


def with_checkpoint(change: Callable[[Json], None]) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        name = ending(files, ".pth")
        content = torch.load(io.BytesIO(files[name]), weights_only=True)
        change(content)
        stream = io.BytesIO()
        torch.save(content, stream)
        files[name] = stream.getvalue()

    return plant


def with_file(name: str, content: bytes) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        files[f"{ending(files, 'plans.json').removesuffix('plans.json')}{name}"] = content

    return plant


def renamed(dataset: str) -> Callable[[Files], None]:
    def plant(files: Files) -> None:
        for name in list(files):
            files[f"{dataset}/{name.partition('/')[2]}"] = files.pop(name)

    return plant


LEAKS: list[tuple[str, Callable[[Files], None], LeakKind, str]] = [
    ("plans", with_json("plans.json", lambda c: c.update(source="/data/study/plans.json")), "path", "plans.json"),
    ("dataset.json", with_json("dataset.json", lambda c: c.update(training=["./imagesTr/pat77.nii.gz"])),
     "person", "dataset.json"),
    ("description", with_json("dataset.json", lambda c: c.update(description="seen")), "free text", "description"),
    ("init_args", with_checkpoint(lambda c: c["init_args"].update(plans={"a": [{"b": "C:\\Users\\x\\plans"}]})),
     "path", "checkpoint_final.pth"),
    ("my_init_kwargs", with_checkpoint(lambda c: c.update(my_init_kwargs={"output": "\\\\nas\\share\\x"})),
     "path", "checkpoint_final.pth"),
    ("logs", with_checkpoint(lambda c: c.update(logging={"seen": ["sub-01_hemi-L"]})), "person", "data.pkl"),
    ("config", with_file("config.ini", b"[training]\npairs = /lab/hippo models/default\n"), "path", "config.ini"),
    ("debug.json", with_file("debug.json", b"{}"), "unexpected file", ""),
    ("file name", with_file("fold_0/checkpoint_pat77.pth", b"\x00"), "person", "checkpoint_pat77"),
    ("host", with_json("hippotune.json", lambda c: c.update(machine="Cortex7")), "host", ", machine"),
    ("user", with_checkpoint(lambda c: c.update(trainer_name="nnUNetTrainer_amyers")), "user", "data.pkl"),
    ("home path", with_json("plans.json", lambda c: c.update(plans_name="~ is /home/amyers")), "path", "plans_name"),
    ("ISO date", with_json("dataset.json", lambda c: c.update(name="seen 2019-03-05")), "date", ", name"),
    ("DICOM date", with_json("plans.json", lambda c: c.update(plans_name="plans_20190305T1030")), "date", "plans_name"),
    ("numeric date", with_json("hippotune.json", lambda c: c.update(StudyDate=20190305)), "date", "StudyDate"),
    ("bare label", with_json("hippotune.json", lambda c: c.update(worst="P0123")), "person", "worst"),
    ("CamelCase sub", renamed("Dataset512_ModelSub01Net"), "person", "Dataset512_ModelSub01Net"),
    ("glued sub", renamed("Dataset512_sub01net"), "person", "Dataset512_sub01net"),
    ("CamelCase label", renamed("Dataset512_VoxelsP0123Net"), "person", "Dataset512_VoxelsP0123Net"),
    ("key that stands twice",
     with_file("dataset.json", b'{"name": "sub-44", "name": "fine"}'), "person", ", name"),
    ("e-mail", with_json("hippotune.json", lambda c: c.update(authors=["a.myers@example.org"])), "e-mail", "authors"),
    ("case name", with_json("hippotune.json", lambda c: c.update(worst="HC-104_left")), "person", "worst"),
    ("comment in a note", with_json("plans.json", lambda c: c.update(note="the left one moved a lot")),
     "free text", "note"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "kind", "place"), [leak[1:] for leak in LEAKS], ids=[leak[0] for leak in LEAKS])
def test_every_planted_leak_is_found(
    export: Export, tmp_path: Path, plant: Callable[[Files], None], kind: LeakKind, place: str
) -> None:
    files = unpack(export().archive)
    plant(files)
    found = scan_archive(pack(files, tmp_path / "planted.zip"), KNOWN)
    assert [leak for leak in found if leak.kind == kind and place in leak.place], found


def test_the_comment_of_a_zip_is_read(export: Export, tmp_path: Path) -> None:
    archive = pack(unpack(export().archive), tmp_path / "planted.zip", b"made on cortex7 for sub-9001")
    assert {leak.kind for leak in scan_archive(archive, KNOWN)} == {"host", "person"}


def test_a_pickle_is_read_and_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    evil = b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR."
    found = scan_for_leaks({"x/data.pkl": evil}, KnownSecrets())
    assert {leak.kind for leak in found} == {"path"}
    assert not witness.exists()


def test_a_damaged_pickle_or_json_cannot_be_searched() -> None:
    found = scan_for_leaks({"a.pkl": b"\x80\x04\x95nonsense", "b.json": b"{"}, KNOWN)
    assert [leak.kind for leak in found] == ["cannot be searched", "cannot be searched"]


def test_a_clean_export_is_let_through(export: Export) -> None:
    model = export()
    assert scan_archive(model.archive, KNOWN) == ()
    assert scan_archive(model.archive, known_secrets(ModelLayout(model.folder), None)) == ()


def test_words_of_the_format_are_no_users(export: Export) -> None:
    model = export()
    plans = json.loads((model.folder / "plans.json").read_text())
    words = set(re.findall(r"[A-Za-z0-9]{3,}", " ".join(plans["foreground_intensity_properties_per_channel"]["0"])))
    words |= {"max", "mean", "train", "root", "model"}
    known = KnownSecrets(people=frozenset(words), hosts=frozenset(words), users=frozenset(words))
    assert scan_archive(model.archive, known) == ()


@pytest.mark.parametrize(
    "text",
    [
        "https://doi.org/10.1038/s41592-020-01008-z",
        "https://zenodo.org/records/20250101",
        "Creative Commons Attribution-ShareAlike 4.0 / and or / to the extent",
        "and/or T1w/T2w 1/2 mm3/s </div>",
        "torch 2.12.0.dev20260101+cpu, hippotune 0.1.0+d20261123",
        "sub-fields of the hippocampus, Sub 1 CA1 2",
        "64f20190305aa0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b5",
        "0.20190305, iteration 100000, Dataset512_default",
    ],
)
def test_what_only_looks_like_a_leak_is_none(text: str) -> None:
    assert scan_for_leaks({"CARD.md": text.encode()}, KNOWN) == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("PATH=/opt/x:/usr/local/bin", "path"), ("see file:///mnt/a", "path"), ("D:/scans/a.nii", "path"),
        ("'/scratch'", "path"), ("(/project/hippo)", "path"), ("2019/03/05", "date"), ("5 o'clock, 05.03.2019", "date"),
        ("/My Data/hippo study/x.nii", "path"), ("in ~/study/x", "path"), ("03/25/2019", "date"),
        ("20190305103000.5", "date"),
        ("by amyers.", "user"), ("at cortex7.example.org", "host"), ("SUB-01", "person"), ("sub_01", "person"),
        ("sub-unknown7", "person"), ("pat77_left", "person"),
    ],
)  # fmt: skip
def test_forms_of_leaks(text: str, kind: str) -> None:
    assert kind in {leak.kind for leak in scan_for_leaks({"CARD.md": text.encode()}, KNOWN)}


@pytest.mark.parametrize("text", ["pat777", "xpat77", "pat77x"])
def test_labels_are_whole_words(text: str) -> None:
    assert scan_for_leaks({"CARD.md": text.encode()}, KNOWN) == ()
