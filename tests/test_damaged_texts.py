"""Every reader of text meets good files with bytes lost, changed and put in: it reads them, or names them (65)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidsapp.bids.description import read_description
from bidsapp.bids.filters import matches, read_filters
from bidsapp.config import preset_settings, read_config, render_config
from bidsapp.corobl.transforms import read_transform, write_transform
from bidsapp.errors import BadDataError
from bidsapp.evaluation.scores import COLUMNS, read_scores
from bidsapp.guards.label_guards import GuardLimits
from bidsapp.labels.label_map import read_label_map
from bidsapp.labels.tables import read_label_table
from bidsapp.layout import DATASET, ModelLayout, OutputLayout
from bidsapp.model_dir.nnunet_files import network_labels, read_plans
from bidsapp.model_dir.split import read_split, write_split
from bidsapp.model_dir.state import ModelState, Segment, TrainedCase, read_state, write_state
from bidsapp.models.registry import read_registry
from bidsapp.nnunet_names import NNUNET_CONFIGURATION, NNUNET_PLANS
from bidsapp.pairs.annotated import read_annotated
from bidsapp.pairs.approved import _read_record
from bidsapp.pairs.origins import read_origins
from bidsapp.pairs.pairs_table import read_pairs_tables, update_pairs_table
from bidsapp.records import LabelOrigin, LabelTable, Split, SplitRow
from bidsapp.review.decisions import _read_shown
from bidsapp.review.events import append_event, event_facts, last_events, read_events
from bidsapp.review.selection import read_subset
from bidsapp.review.settings import read_limits, render_limits
from bidsapp.review.table import add_rows, read_review_table
from tests.review.test_events import APPROVED, WITHDRAWN
from tests.review.test_review_table import PLAIN
from tests.tiny_model import tiny_dataset, tiny_plans

REGISTRY = (
    '[ours]\ntitle = "Ours"\nchannels = ["T1w"]\nurl = "https://example.org/ours.zip"\nlabels = ["Sub", "CA1"]\n'
    '[folder]\ntitle = "F"\nchannels = ["T2w"]\npath = "lab/model"\nverified = true\n'
)
FILTERS = '{"T1w": {"acquisition": "hires", "run": 2, "session": null}, "t2w": {"session": ["1", 2, "*"]}, "bold": {}}'


def review(path: Path) -> None:
    table = read_review_table(path)
    assert table.deciding_rows().keys() == table.rows_of_sides().keys()
    assert all(row.decision for row in table.rows)
    before = path.read_bytes()
    add_rows(path, table, [("zz", None, "L"), ("01", "1", "L")])
    assert path.read_bytes().startswith(before)


def ledger(path: Path) -> None:
    for event in last_events(read_events(path)).values():
        assert json.dumps(event_facts(event), allow_nan=False)


def filters(path: Path) -> None:
    for rules in read_filters(path, ["acquisition", "run", "session"]).values():
        matches({"run": 2, "acquisition": "hires"}, rules)


def shown(path: Path) -> None:
    layout = OutputLayout(path.parent)
    layout.shown.parent.mkdir(parents=True, exist_ok=True)
    path.replace(layout.shown)
    _read_shown(layout)


def approved_pairs(path: Path) -> None:
    path.replace(path.with_name("approved.json"))
    _read_record(path.parent)


def annotated(path: Path) -> None:
    read_annotated(path, ["a", "b"], LabelTable({1: "x", 2: "y"}))


def origins(path: Path) -> None:
    read_origins(path, ["a", "b"])


def split(path: Path) -> None:
    """What is written is what was read: nobody turns into somebody else."""
    found = read_split(path)
    write_split(path, found)
    assert read_split(path) == found


def pairs(path: Path) -> None:
    found = read_pairs_tables(path)
    update_pairs_table(path, {"c": {"content": "12"}})
    assert found.keys() <= read_pairs_tables(path).keys()


def state(path: Path) -> None:
    read_state(ModelLayout(in_place(path, "state.json")))


def dataset(path: Path) -> None:
    layout = ModelLayout(path.parent)
    layout.raw_dataset.mkdir(parents=True, exist_ok=True)
    path.replace(layout.raw_dataset / "dataset.json")
    network_labels(layout)


def plans(path: Path) -> None:
    content = path.read_bytes()
    path.write_text(json.dumps(tiny_dataset()))
    dataset(path)
    layout = ModelLayout(path.parent)
    layout.plans.parent.mkdir(parents=True, exist_ok=True)
    layout.plans.write_bytes(content)
    read_plans(layout)


def in_place(path: Path, name: str) -> Path:
    path.replace(path.with_name(name))
    return path.parent


def good_state(folder: Path) -> bytes:
    layout = ModelLayout(folder / "model")
    case = TrainedCase("sub-a", "L", "train", "ab", origin=LabelOrigin("corrected", 3))
    write_state(
        layout,
        ModelState(
            "scratch", {1: "x"}, ("x",), ("T1w",), Split((SplitRow("sub-a", "train", 1),)), (Segment(0, 9),),
            {"sub-a_hemi-Lflip": case}, {"ab": "sub-a"}, storage={"L": "RAS"},
        ),
    )  # fmt: skip
    return layout.state.read_bytes()


def good_plans(_folder: Path) -> bytes:
    named = {"dataset_name": DATASET, "plans_name": NNUNET_PLANS}
    plans = tiny_plans() | named
    plans["configurations"][NNUNET_CONFIGURATION]["data_identifier"] = f"{NNUNET_PLANS}_{NNUNET_CONFIGURATION}"
    return json.dumps(plans).encode()


def good_ledger(folder: Path) -> bytes:
    for event in (APPROVED, WITHDRAWN):
        append_event(folder / "good", event)
    return (folder / "good").read_bytes()


def good_transform(folder: Path) -> bytes:
    write_transform(folder / "good", np.eye(4))
    return (folder / "good").read_bytes()


READERS: dict[Callable[[Path], object], str | Callable[[Path], bytes]] = {
    review: PLAIN,
    ledger: good_ledger,
    filters: FILTERS,
    shown: '{"sub-01_hemi-L": {"source": "prediction", "label": "ab", "crop": "cd"}}',
    approved_pairs: '{"pairs": {"a": {"source": "x", "files": {"f": "1"}}}}',
    annotated: "id\tlabels\na\tx,y\nb\tx\n",
    origins: "id\tlabel_from\tvoxels_changed\tmodel_sha256\tshare_changed\na\tcorrected\t12\tn/a\t.5\n",
    split: "participant_id\tsplit\tgeneration\nsub-a\ttrain\t1\nsub-b\ttest\t2\n",
    pairs: "id\tparticipant\themi\tleft\taccept\na\tsub-a\tL\tn/a\tscale\nb\tn/a\tn/a\tflipped\tn/a\n",
    read_scores: "\t".join(COLUMNS) + "\na\ta_hemi-L\tL\tx\t0.5\t1\t1\t1\tn/a\timported\n",
    state: good_state,
    dataset: json.dumps(tiny_dataset()),
    plans: good_plans,
    read_limits: render_limits(GuardLimits()),
    read_config: render_config(preset_settings("tiny")),
    read_registry: REGISTRY,
    read_label_table: "index\tname\trequired\n1\tCA1\ttrue\n2\tSub\tfalse\n",
    read_label_map: "from_name\tto_name\na\tb\nc\tn/a\n",
    read_subset: "participant_id\tsession_id\themi\nsub-01\tses-1\tL\nsub-02\tn/a\tn/a\n",
    read_transform: good_transform,
    read_description: '{"Name": "x", "DatasetType": "derivative", "GeneratedBy": [{"Name": "HippoTune"}]}',
}

ODD = [
    b"", b"\0", b"\xff", b"\n", b"\r", b"\t", b'"', b"=", b"[", b"]", b"{", b",", b";", b"#", b"../", b"~x/", b"-1",
    b"9" * 5000, b"nan", b"1e999", b"null", b"true", b"\x1b[2J", b"\xe2\x80\xa8", rb"\ud800", b"%(x)s", b"[" * 9999,
    b"\x1d", b"\xc2\x85",
]  # fmt: skip
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(ODD) | st.binary(max_size=3))
"""Where, how many bytes are lost, and what stands there instead."""


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(edits=st.lists(EDIT, min_size=1))
def test_damaged_files_are_read_or_named(
    read: Callable[[Path], object], edits: list[tuple[float, int, bytes]], tmp_path: Path
) -> None:
    good: Any = READERS[read]
    content = good.encode() if isinstance(good, str) else good(tmp_path)
    for place, lost, put_in in edits:
        at = int(place * len(content))
        content = content[:at] + put_in + content[at + lost :]
    path = tmp_path / "damaged"
    path.write_bytes(content)
    (tmp_path / "good").unlink(missing_ok=True)
    try:
        read(path)
    except BadDataError as error:
        assert str(tmp_path) in error.message


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (split, "participant_id\tsplit\nsub-a\x0bb\ttrain\n"),
        (split, "participant_id\tsplit\nsub-a\u2028b\ttrain\n"),
        (pairs, "id\taccept\na\x1db\tscale\n"),
        (pairs, "id\taccept\na\x85b\tscale\n"),
    ],
)
def test_a_name_that_a_table_cannot_hold_is_refused(
    read: Callable[[Path], object], content: str, tmp_path: Path
) -> None:
    """Written again it would be somebody else's."""
    (tmp_path / "table.tsv").write_text(content)
    with pytest.raises(BadDataError, match=r"table\.tsv, line 2.*control characters"):
        read(tmp_path / "table.tsv")
