"""Which arithmetic a training on a processor uses, and that both kinds train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bidsapp.errors import UsageError
from bidsapp.training.trainer import CPU_BF16, _training_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(("said", "dtype"), [("1", torch.bfloat16), ("0", torch.float32)])
def test_the_environment_overrides_what_the_processor_says(
    said: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CPU_BF16, said)
    assert _training_dtype("auto", CPU) == dtype
    assert _training_dtype("fp32", CPU) == torch.float32
    assert _training_dtype("auto", torch.device("cuda")) == torch.float16


def test_another_word_there_is_a_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CPU_BF16, "yes")
    with pytest.raises(UsageError, match="HIPPOTUNE_CPU_BF16=yes"):
        _training_dtype("auto", CPU)


def test_unset_the_flags_of_the_processor_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CPU_BF16, raising=False)
    path = Path("/proc/cpuinfo")
    flags = path.read_text().split() if path.exists() else []
    has_it = bool({"avx512_bf16", "amx_bf16"} & set(flags))
    assert _training_dtype("auto", CPU) == (torch.bfloat16 if has_it else torch.float32)
