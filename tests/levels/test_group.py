"""What the group level keeps from one segment to the next."""

from __future__ import annotations

from pathlib import Path

from bidsapp.layout import ModelLayout
from bidsapp.levels.opening import _parent
from bidsapp.model_dir.state import ModelState
from bidsapp.records import Split


def state(**more: object) -> ModelState:
    return ModelState("ab" * 32, {1: "Anterior"}, (), ("T1w",), Split(()), **more)  # type: ignore[arg-type]


def test_a_model_that_was_worse_than_its_parent_is_held_against_it_again(tmp_path: Path) -> None:
    """There is no current export then: the next segment must not pass for want of something to compare with."""
    layout = ModelLayout(tmp_path)
    layout.parent_model.write_bytes(b"the parent")
    kept = _parent(layout, state(parent_labels={1: 1, 2: 1}, parent_channels=(0,)), None, {1: 1})
    assert kept == {"parent_labels": {1: 1, 2: 1}, "parent_channels": (0,)}
    assert layout.parent_model.read_bytes() == b"the parent"


def test_the_current_export_is_what_the_next_segment_is_held_against(tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path)
    layout.export.mkdir()
    layout.current_export.write_bytes(b"the current one")
    kept = _parent(layout, state(), None, {17: 1, 53: 2})
    assert kept == {"parent_labels": {1: 1, 2: 2}, "parent_channels": (0,)}
    assert layout.parent_model.read_bytes() == b"the current one"
    assert _parent(ModelLayout(tmp_path / "new"), None, None, {1: 1}) == {}
