"""The archive to publish: what it says, what it refuses, and that it still is the same model."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bidsapp.errors import BadDataError, NoInputError, UsageError
from bidsapp.evaluation.scores import summarise, write_summary
from bidsapp.exchange.export import build_model_folder, write_zip, zip_model
from bidsapp.exchange.loading import load_model
from bidsapp.layout import ModelLayout
from bidsapp.model_dir.fingerprints import fingerprint, read_fingerprints
from bidsapp.model_dir.state import ModelState, Segment, TrainedCase, read_state, write_state
from bidsapp.models.licences import Parent, check_licence, check_parents
from bidsapp.models_cli import main
from bidsapp.records import CaseScore, LabelKind, Split, SplitRow
from bidsapp.sharing.share import export_model, read_export
from tests.tiny_model import Json, random_weights, tiny_dataset, tiny_plans

yaml = pytest.importorskip("yaml")
PEOPLE = [f"sub-P{number:04d}" for number in range(8)]
FACTS: Json = {
    "iterations": 200,
    "people": {"train": 4, "validation": 1, "test": 3},
    "labels_from": {"statement": "labels approved through review (16 by 2 raters)", "approvals": 16, "raters": 2},
    "space": "network space: left hemispheres are flipped along the first axis",
}


def plans() -> Json:
    """Voxels of 1 x 0.5 x 0.3 mm (x, y, z); nnU-Net put y in front."""
    turned = tiny_plans()
    turned |= {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    turned["configurations"]["3d_fullres"]["spacing"] = [0.5, 0.3, 1.0]
    return turned


def model_dir(root: Path, *, facts: Json = FACTS, base: str = "scratch", name: str = "tiny") -> ModelLayout:
    layout = ModelLayout(root / "default")
    folder = build_model_folder(
        layout.export_staging,
        name=name,
        weights=random_weights(tiny_plans(), 1),
        plans=plans(),
        dataset_json=tiny_dataset(),
        facts=facts,
    )
    zip_model(folder, layout.current_export)
    shutil.rmtree(layout.export_staging)
    rows = tuple(SplitRow(person, "test" if person in PEOPLE[:3] else "train", 1) for person in PEOPLE)
    state = ModelState(
        base, {1: "Anterior", 2: "Posterior"}, (), ("T1w",), Split(rows), (Segment(0, 200, "exported"),),
        {f"{row.participant_id}_hemi-L": TrainedCase(row.participant_id, "L", row.split, "0") for row in rows},
    )  # fmt: skip
    write_state(layout, state)
    scores = [
        CaseScore(person, f"{person}_hemi-L", "L", label, dice, 1.5, 0.5, 10.0, 1.0)
        for label in ("Anterior", "Posterior")
        for person, dice in zip(PEOPLE[:3], (0.8, 0.85, 0.9), strict=True)
    ]
    layout.test.mkdir()
    write_summary(layout.summary, summarise(scores, seed=1), iterations=200)
    return layout


def rewrite_scores(layout: ModelLayout, kinds: dict[str, LabelKind], *, dice: float = 0.9) -> None:
    """Test scores of people whose labels are of these kinds."""
    scores = [CaseScore(person, f"{person}_hemi-L", "L", "Anterior", dice, 1.5, 0.5, 10.0, 1.0, label_from=kind)
              for person, kind in kinds.items()]  # fmt: skip
    write_summary(layout.summary, summarise(scores, seed=1), iterations=200)


def inside(archive: Path, name: str) -> str:
    with zipfile.ZipFile(archive) as packed:
        return next(packed.read(one).decode() for one in packed.namelist() if one.endswith(name))


def test_the_archive_is_the_same_model_with_card_and_citation(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    archive = export_model(
        layout.root, tmp_path / "out" / "hippo.zip", licence="cc-by-4.0", title="Hippo | one",
        authors=["Meyer, Anna", "The Hippo Lab"],
    )  # fmt: skip
    assert load_model(archive).digest == load_model(layout.current_export).digest
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
    (dataset,) = {name.split("/")[0] for name in names}
    assert {f"{dataset}/{one}" for one in ("MODEL_CARD.md", "CITATION.cff", "hippotune.json")} < set(names)
    manifest = json.loads(inside(archive, "hippotune.json"))
    assert manifest["license"] == "CC-BY-4.0"
    assert {f"{dataset}/{name}" for name in manifest["sha256"]} == set(names) - {f"{dataset}/hippotune.json"}

    _, front, card = inside(archive, "MODEL_CARD.md").split("---\n", 2)
    matter = yaml.safe_load(front)
    assert (matter["license"], matter["library_name"]) == ("cc-by-4.0", "nnunetv2")
    assert "T1w" in matter["tags"]
    assert "dice" in matter["metrics"]
    number = dataset.removeprefix("Dataset").split("_")[0]
    for line in (
        "# Hippo \\| one",
        "training: 4 people; validation: 1 person; test: 3 people; nobody is in two parts.",
        "Labels approved through review (16 by 2 raters).",
        "Voxel size of the network: 1 x 0.5 x 0.3 mm.",
        "1 Anterior, 2 Corps d'Ammon – 海馬",
        "| all labels | 0.850 (0.800 to 0.900) | 1.500 (1.500 to 1.500) |",
        f"-d {number} -c 3d_fullres -tr nnUNetTrainer -f 0",
        "Trained from scratch",
        "Not a medical device",
    ):
        assert line in card, (line, card)
    assert "Ages" not in card


def test_the_card_says_how_the_pairs_were_grouped_stored_and_turned(tmp_path: Path) -> None:
    lines = ["12 ids are 6 people: they differ by the side only", "9 of 12 pairs were turned by their headers"]
    facts = FACTS | {"pairs": lines, "storage": {"R": "LAS", "L": "RAS"}}
    archive = export_model(model_dir(tmp_path, facts=facts).root, tmp_path / "a.zip", licence="CC-BY-4.0")
    card = inside(archive, "MODEL_CARD.md")
    for line in (
        *lines,
        "Axes of its images: right hemispheres LAS, left hemispheres RAS. nnU-Net does not turn images",
    ):
        assert line in card
    older = inside(
        export_model(model_dir(tmp_path / "older").root, tmp_path / "b.zip", licence="CC-BY-4.0"), "MODEL_CARD.md"
    )
    assert "Axes of its images" not in older


def test_fingerprints_leave_only_when_asked_for(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    state = read_state(layout)
    assert state is not None
    people = {f"{number:064x}": row.participant_id for number, row in enumerate(state.split.rows)}
    write_state(layout, replace(state, image_people=people, storage={"L": "RAS"}))
    words = ["export", str(layout.root), str(tmp_path / "with.zip"), "--license", "CC-BY-4.0"]
    assert main([*words, "--with-fingerprints"]) == 0
    known = read_fingerprints(load_model(tmp_path / "with.zip").facts, layout.root)
    assert known is not None
    places = {row.participant_id: row.split for row in state.split.rows}
    assert known.parts == {fingerprint(image): places[person] for image, person in people.items()}
    assert "fingerprints (salted hashes) of 8 images" in inside(tmp_path / "with.zip", "MODEL_CARD.md")
    stated = inside(tmp_path / "with.zip", "hippotune.json")
    assert not [one for one in (*people, *PEOPLE) if one in stated]

    without = export_model(layout.root, tmp_path / "without.zip", licence="CC-BY-4.0")
    assert "fingerprints" not in inside(without, "hippotune.json")
    assert "fingerprints" not in inside(without, "MODEL_CARD.md")


def test_where_no_fingerprints_can_be_made_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = model_dir(tmp_path)
    words = ["export", str(layout.root), str(tmp_path / "a.zip"), "--license", "CC-BY-4.0", "--with-fingerprints"]
    assert main(words) == 66
    assert "state.json knows no image" in capsys.readouterr().out
    layout.state.unlink()
    assert main(words) == 66
    assert "no fingerprints can be made" in capsys.readouterr().out
    assert not (tmp_path / "a.zip").exists()


def test_the_citation_has_the_shape_of_cff(tmp_path: Path) -> None:
    archive = export_model(
        model_dir(tmp_path).root, tmp_path / "a.zip", licence="CC-BY-4.0", authors=["Meyer, Anna", 'Lab: "H"']
    )
    content = yaml.safe_load(inside(archive, "CITATION.cff"))
    assert set(content) == {"cff-version", "message", "type", "title", "authors", "license", "keywords"}
    assert content["cff-version"] == "1.2.0"
    assert content["type"] == "software"
    assert content["license"] == "CC-BY-4.0"
    assert content["authors"] == [{"family-names": "Meyer", "given-names": "Anna"}, {"name": 'Lab: "H"'}]


def test_a_licence_of_ones_own_is_named_where_the_formats_have_a_place(tmp_path: Path) -> None:
    archive = export_model(model_dir(tmp_path).root, tmp_path / "a.zip", licence="LicenseRef-Lab.1")
    matter = yaml.safe_load(inside(archive, "MODEL_CARD.md").split("---\n")[1])
    assert (matter["license"], matter["license_name"]) == ("other", "LicenseRef-Lab.1")
    content = yaml.safe_load(inside(archive, "CITATION.cff"))
    assert "license" not in content
    assert content["authors"] == [{"name": f"The authors of {content['title']}"}]


def test_the_same_model_gives_the_same_bytes_and_nothing_is_overwritten(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    one, two = (export_model(layout.root, tmp_path / name, licence="MIT") for name in ("1.zip", "2.zip"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(UsageError, match=r"1\.zip exists"):
        export_model(layout.root, one, licence="MIT")
    assert one.read_bytes() == two.read_bytes()


def test_no_export_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match=r"current\.zip"):
        export_model(tmp_path / "nothing", tmp_path / "a.zip", licence="MIT")


def test_scores_of_another_state_are_not_stated(tmp_path: Path) -> None:
    layout = model_dir(tmp_path, facts=FACTS | {"iterations": 100})
    card = inside(export_model(layout.root, tmp_path / "a.zip", licence="MIT"), "MODEL_CARD.md")
    assert "Not stated: no test of exactly these weights is known." in card


@pytest.mark.parametrize("text", ["sub-P0003 alone", "from /data/study", "seen 2019-03-05"])
def test_a_title_that_gives_away_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadDataError, match=r"MODEL_CARD\.md"):
        export_model(model_dir(tmp_path).root, tmp_path / "a.zip", licence="MIT", title=text)
    assert not (tmp_path / "a.zip").exists()


def test_the_card_says_what_its_authors_say_of_it(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    about = "Children of 8 to 12 years.\n\n- one scanner\n"
    archive = export_model(layout.root, tmp_path / "hippo.zip", licence="CC0-1.0", about=about)
    assert f"\n## From its authors\n\n{about}\n## Run it" in inside(archive, "MODEL_CARD.md")
    silent = export_model(layout.root, tmp_path / "silent.zip", licence="CC0-1.0")
    assert "From its authors" not in inside(silent, "MODEL_CARD.md")
    with pytest.raises(BadDataError, match=r"MODEL_CARD.md"):
        export_model(layout.root, tmp_path / "no.zip", licence="CC0-1.0", about=f"Mostly of {PEOPLE[0]}.")


def test_authors_may_have_the_name_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "meyer")
    layout = model_dir(tmp_path)
    export_model(layout.root, tmp_path / "a.zip", licence="MIT", authors=["Meyer, Anna"])
    with pytest.raises(BadDataError, match="user"):
        export_model(layout.root, tmp_path / "b.zip", licence="MIT", title="the Meyer model")


def test_a_changed_export_is_refused(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    with zipfile.ZipFile(layout.current_export) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(layout.current_export, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content.replace(b"1.0", b"1.1") if name.endswith("plans.json") else content)
    with pytest.raises(BadDataError, match="changed"):
        export_model(layout.root, tmp_path / "a.zip", licence="MIT")


def test_ages_only_where_asked_for_and_for_enough_people(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    table = tmp_path / "participants.tsv"
    rows = "".join(f"{person}\t{20 + 10 * (number % 2)}\t{'FM'[number % 2]}\n" for number, person in enumerate(PEOPLE))
    table.write_text(f"participant_id\tage\tsex\n{rows}sub-other\t99\tF\n")
    archive = export_model(
        layout.root, tmp_path / "a.zip", licence="MIT", include_demographics=True, participants=table
    )
    card = inside(archive, "MODEL_CARD.md")
    assert "Ages in years: mean 25, SD 5, 20 to 30 (8 of 8)." in card
    assert "Sex: 4 F, 4 M." in card
    table.write_text("participant_id\tage\nsub-P0001\t20\n")
    few = export_model(layout.root, tmp_path / "b.zip", licence="MIT", include_demographics=True, participants=table)
    assert "Ages" not in inside(few, "MODEL_CARD.md")
    with pytest.raises(UsageError, match=r"participants\.tsv"):
        export_model(layout.root, tmp_path / "c.zip", licence="MIT", include_demographics=True)


def test_parents_are_named_and_their_licence_is_kept(tmp_path: Path) -> None:
    layout = model_dir(tmp_path, facts=FACTS | {"parents": [{"name": "old one", "license": "CC-BY-SA-4.0"}]})
    with pytest.raises(UsageError, match=r"CC-BY-4\.0 conflicts with the licence of old one, CC-BY-SA-4\.0"):
        export_model(layout.root, tmp_path / "a.zip", licence="CC-BY-4.0")
    card = inside(export_model(layout.root, tmp_path / "a.zip", licence="CC-BY-SA-4.0"), "MODEL_CARD.md")
    assert "- old one, licence: CC-BY-SA-4.0" in card


def test_the_command_writes_both_archives_and_prints_the_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = model_dir(tmp_path, facts=FACTS | {"parents": [{"name": "old one", "license": "CC-BY-SA-4.0"}]})
    archive, tar = tmp_path / "ours.zip", tmp_path / "ours.tar.gz"

    def export(*words: object) -> tuple[int, str]:
        return main(["export", str(layout.root), *map(str, words)]), capsys.readouterr().out

    for words, code, message in (
        ([archive, "--license", "CC-BY-4.0"], 2, "conflicts with the licence of old one"),
        ([archive, "--license", "mine"], 2, "no licence that is known"),
        ([archive], 2, "--license"),
        ([archive, "--license", "CC-BY-SA-4.0", "--hippunfold", tmp_path / "ours.7z"], 2, "no name for a tar"),
        ([archive, "--license", "CC-BY-SA-4.0", "--title", "sub-P0003 alone"], 65, "MODEL_CARD.md"),
    ):
        got, said = export(*words)
        assert (got, message in said) == (code, True), said
        assert not archive.exists()
    code, said = export(archive, "--license", "CC-BY-SA-4.0", "--author", "Doe, Jane", "--hippunfold", tar)
    assert code == 0, said
    assert 'family-names: "Doe"' in inside(archive, "CITATION.cff")
    ((name, entry),) = yaml.safe_load(said[said.index("nnunet_models:") :])["nnunet_models"].items()
    assert (name, entry["arch_version"], entry["checkpoint"]) == ("tiny", "nnunet_v2", "checkpoint_best.pth")
    assert len({load_model(path).digest for path in (archive, tar, layout.current_export)}) == 1
    assert export(archive, "--license", "CC-BY-SA-4.0")[0] == 2


def test_a_parent_that_is_only_a_digest_is_said(tmp_path: Path) -> None:
    layout = model_dir(tmp_path, base="ab" * 32)
    card = inside(export_model(layout.root, tmp_path / "a.zip", licence="MIT"), "MODEL_CARD.md")
    assert f"a model with the digest {'ab' * 32}, licence: not known" in card


def test_the_card_tells_the_genealogy_and_what_was_added(tmp_path: Path) -> None:
    parents = [
        {"name": "theirs", "license": "CC-BY-SA-4.0", "digest": "cd" * 32, "people": {"train": 120, "test": 40},
         "labels": ["Anterior", "Posterior"], "channels": ["T1w"]},
        {"name": "older", "license": None, "digest": "ef" * 32, "people": None, "labels": [], "channels": []},
    ]  # fmt: skip
    facts = FACTS | {"parents": parents, "leakage": "leakage against older could not be checked"}
    layout = model_dir(tmp_path, facts=facts, base="cd" * 32)
    with pytest.raises(UsageError, match="MIT conflicts with the licence of theirs, CC-BY-SA-4"):
        export_model(layout.root, tmp_path / "refused.zip", licence="MIT")
    archive = export_model(layout.root, tmp_path / "a.zip", licence="CC-BY-SA-4.0")
    card = inside(archive, "MODEL_CARD.md")
    assert "theirs, licence: CC-BY-SA-4.0; trained on 120 people for Anterior, Posterior in T1w" in card
    assert "older, licence: not known; trained on a number of people that is not known" in card
    assert "This model added 4 people for Anterior," in card
    assert "leakage against older could not be checked" in card
    assert json.loads(inside(archive, "hippotune.json"))["parents"] == parents


@pytest.mark.parametrize(
    ("licence", "parent", "allowed"),
    [
        ("MIT", "CC-BY-4.0", True),
        ("MIT", None, True),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0", True),
        ("CC0-1.0", "CC-BY-SA-4.0", False),
        ("MIT", "GPL-3.0-only", False),
        ("ODbL-1.0", "ODbL-1.0", True),
        ("CC-BY-4.0", "CC-BY-NC-4.0", False),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", True),
        ("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", False),
        ("CC-BY-NC-ND-4.0", "CC-BY-NC-ND-4.0", False),
    ],
)
def test_what_parents_ask(licence: str, parent: str | None, allowed: bool) -> None:
    if allowed:
        check_parents(licence, (Parent("it", parent),))
    else:
        with pytest.raises(UsageError, match="conflicts"):
            check_parents(licence, (Parent("it", parent),))


@pytest.mark.parametrize("licence", ["", "CC", "proprietary", "LicenseRef-", "LicenseRef-a b"])
def test_an_unknown_licence_is_refused(licence: str) -> None:
    with pytest.raises(UsageError, match="no licence that is known"):
        check_licence(licence)


def test_the_card_scores_no_labels_that_a_model_drew(tmp_path: Path) -> None:
    kinds = {"train": {"corrected": 2, "as_predicted": 6}}
    layout = model_dir(tmp_path, facts=FACTS | {"label_kinds": kinds})
    rewrite_scores(layout, {"a": "as_predicted", "b": "as_predicted", "c": "as_predicted", "d": "corrected"}, dice=0.97)
    card = inside(export_model(layout.root, tmp_path / "a.zip", licence="CC0-1.0"), "MODEL_CARD.md")
    scores = card.split("## Test scores")[1].split("##")[0]
    assert "Test scores: too few to tell: 1 side of 1 person with a corrected, drawn or imported label, 3" in scores
    assert "Consistency with 3 sides of 3 people" in scores
    assert "| all labels |" not in scores
    assert "Labels to train on: 2 corrected, 6 approved as predicted." in card


def test_the_card_says_that_nothing_was_learned(tmp_path: Path) -> None:
    layout = model_dir(tmp_path)
    rewrite_scores(layout, dict.fromkeys("abc", "imported"), dice=0.0)
    card = inside(export_model(layout.root, tmp_path / "a.zip", licence="CC0-1.0"), "MODEL_CARD.md")
    assert "| all labels | 0.000" in card
    assert "The network has not learned yet: 200 iterations are few; see the curve." in card


def change_manifest(layout: ModelLayout, changed: Json) -> None:
    packed = read_export(layout.current_export)
    manifest = packed.manifest | {key: value for key, value in changed.items() if value is not ...}
    for key in [key for key, value in changed.items() if value is ...]:
        del manifest[key]
    with layout.current_export.open("wb") as stream:
        files = packed.files | {"hippotune.json": json.dumps(manifest).encode()}
        write_zip(stream, ((f"{packed.dataset}/{name}", content) for name, content in files.items()))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"people": "many"}, "people is 'many'"),
        ({"people": {"train": None}}, "people.train is None"),
        ({"labels_from": 3}, "labels_from is 3"),
        ({"labels_from": {"statement": []}}, "labels_from is []"),
        ({"label_kinds": {"train": []}}, "label_kinds.train is []"),
        ({"pairs": True}, "pairs is True"),
        ({"storage": 1.5}, "storage is 1.5"),
        ({"space": {}}, "space is {}"),
        ({"parents": [{"license": "MIT"}]}, "name is missing"),
        ({"parents": ["x"]}, "parents.0 is 'x'"),
        ({"parents": [{"name": "x", "license": 3}]}, "license is 3"),
        ({"nnunetv2": ...}, "nnunetv2 is missing"),
    ],
)
def test_a_manifest_that_the_card_cannot_be_made_of_is_named(tmp_path: Path, changed: Json, said: str) -> None:
    layout = model_dir(tmp_path)
    change_manifest(layout, changed)
    with pytest.raises(BadDataError) as refusal:
        export_model(layout.root, tmp_path / "new.zip", licence="MIT")
    assert said in refusal.value.message
    assert str(layout.current_export) in refusal.value.message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"all_labels": {"dice": {"mean": "good"}}}, "all_labels.dice.mean is 'good'"),
        ({"all_labels": {}}, "dice"),
        ({"labels": 3}, "labels is 3"),
        ({"notes": 3}, "notes is 3"),
    ],
)
def test_a_summary_that_cannot_be_read_is_named(tmp_path: Path, changed: Json, said: str) -> None:
    layout = model_dir(tmp_path)
    summary = json.loads(layout.summary.read_text())
    layout.summary.write_text(json.dumps(summary | changed))
    with pytest.raises(BadDataError) as refusal:
        export_model(layout.root, tmp_path / "new.zip", licence="MIT")
    assert said in refusal.value.message
    assert str(layout.summary) in refusal.value.message
