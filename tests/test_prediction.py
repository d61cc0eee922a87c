"""Which device a prediction runs on."""

from __future__ import annotations

import pytest
import torch

from bidsapp.errors import UsageError
from bidsapp.prediction import choose_device


@pytest.mark.parametrize(
    ("text", "gpus", "device"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_that_exists(text: str, gpus: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert str(choose_device(text)) == device


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gpu", "is not known"),
        ("cpu:0", "is not known"),
        ("cuda:x", "is not known"),
        ("", "is not known"),
        ("cuda", r"torch sees 0 GPU\(s\)"),
        ("cuda:3", r"torch sees 0 GPU\(s\)"),
    ],
)
def test_a_device_that_does_not_exist_is_refused(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=reason):
        choose_device(text)
