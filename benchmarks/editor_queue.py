"""How fast is the editor's queue? `python -m benchmarks.editor_queue [--sides 1000 4000] [--approved 0.5]`.

Makes an OUTPUT_DIR with so many sides (sidecars as participant writes them, and small files in place of images, which
the queue never opens), half of them approved, and prints what the page waits for: the first list, the list again, the
list after one decision, and one side.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bidsapp.editor.sides import Sides
from bidsapp.layout import OutputLayout, sidecar
from bidsapp.records import SIDES, Approval
from bidsapp.review.events import append_event, event_facts
from bidsapp.review.table import COLUMNS

JUDGEMENTS = [
    {"level": "green", "measure": name, "value": 1.0, "words": f"the {name} of this hippocampus is as usual"}
    for name in ("margin_mm", "volume_mm3", "template_dice", "largest_piece")
]
WHEN = datetime(2026, 11, 25, tzinfo=UTC).isoformat()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--approved", type=float, default=0.5, help="share of them that is approved")
    arguments = parser.parse_args()
    print(f"{'sides':>6} {'first list':>11} {'again':>9} {'after a decision':>17} {'one side':>9}  (seconds)")
    for count in arguments.sides:
        with TemporaryDirectory() as folder:
            layout = OutputLayout(Path(folder) / "out")
            make_study(layout, count, arguments.approved)
            measure(layout)


def make_study(layout: OutputLayout, count: int, approved: float) -> None:
    """Write sidecars, a table and a ledger of `count` sides."""
    rows, events = ["\t".join(COLUMNS)], []
    for number in range(count):
        participant, hemi = f"{number // 2:05d}", SIDES[number % 2]
        session = layout.session(participant, None)
        session.anat.mkdir(parents=True, exist_ok=True)
        facts = {"registration": {"judgements": JUDGEMENTS}, "warnings": [], "scanner": {}, "file_sha256": "0" * 64}
        for image, more in ((session.crop(hemi, "T1w"), {}), (session.prediction(hemi), {"hippocampus_mm3": 3000.0})):
            image.write_bytes(b"not read")
            sidecar(image).write_text(json.dumps({"HippoTune": {**facts, **more, "judgements": JUDGEMENTS}}, indent=2))
        status, rater = ("approved", "Ada") if number < approved * count else ("pending", "n/a")
        rows.append(f"sub-{participant}\tn/a\t{hemi}\t{status}\t{rater}\tn/a\tn/a\tn/a")
        if status == "approved":
            events.append(event_of(participant, hemi))
    layout.ledger.parent.mkdir(parents=True)
    layout.review_table.write_text("\n".join(rows) + "\n")
    layout.ledger.write_text("".join(json.dumps(event_facts(event)) + "\n" for event in events))


def event_of(participant: str, hemi: str) -> Approval:
    """An approval, as the ledger keeps it."""
    return Approval(
        when=WHEN, rater="Ada", participant=participant, session=None, hemi="L" if hemi == "L" else "R",
        source="prediction", source_sha256="0" * 64, label_sha256="0" * 64, file_sha256="0" * 64,
        crop_sha256={"T1w": "0" * 64}, crop_file_sha256={"T1w": "0" * 64}, transform_sha256={"T1w": None},
        labels={1: "Anterior", 2: "Posterior"}, accepted=(), comment="", model="default", model_sha256="0" * 64,
        effort=(), version="0.1.0",
    )  # fmt: skip


def measure(layout: OutputLayout) -> None:
    """Print one line."""
    sides = Sides(layout)
    first, queue = timed(sides.queue)
    again, _ = timed(sides.queue)
    append_event(layout.ledger, event_of(queue.lines[-1].participant, queue.lines[-1].hemi))
    sides.touch(queue.lines[-1].id)
    decided, _ = timed(sides.queue)
    one, _ = timed(lambda: sides.line(queue.lines[0].id))
    print(f"{len(queue.lines):6d} {first:11.3f} {again:9.5f} {decided:17.3f} {one:9.4f}")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
