"""HippUnfold's tar: its rule's steps replayed, and the same prediction."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bidsapp.errors import BadDataError, UsageError
from bidsapp.exchange.loading import load_model
from bidsapp.sharing.hippunfold import export_for_hippunfold
from tests.exchange.test_loading import predict
from tests.tiny_model import Export

yaml = pytest.importorskip("yaml")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_its_rule_unpacks_and_predicts_the_same(export: Export, tmp_path: Path, suffix: str) -> None:
    model = export()
    tar = tmp_path / f"tiny.{suffix}"
    url = f"https://example.org/{tar.name}"
    (entry,) = yaml.safe_load(export_for_hippunfold(model.archive, tar, url=url))["nnunet_models"].items()
    name, fields = entry
    assert name == "tiny"
    assert set(fields) == {"url", "arch_version", "dataset_id", "configuration", "trainer", "plans", "checkpoint"}
    assert (fields["url"], fields["arch_version"]) == (url, "nnunet_v2")

    results = tmp_path / "tempmodel"
    results.mkdir()
    options = "-xzf" if suffix.endswith("gz") else "-xf"
    subprocess.run(["tar", options, str(tar), "-C", str(results)], check=True)
    found = f"nnunet_v2/Dataset{fields['dataset_id']}_*/nnUNetTrainer*/fold_*"
    (fold,) = results.glob(found)
    assert fold.parent.name == f"{fields['trainer']}__{fields['plans']}__{fields['configuration']}"
    assert fold.name == "fold_0"
    assert (fold / fields["checkpoint"]).is_file()
    expected = predict(load_model(model.archive))
    for path in (tar, fold.parent):
        np.testing.assert_array_equal(predict(load_model(path)), expected)


def test_the_tar_names_nobody_and_is_always_the_same(export: Export, tmp_path: Path) -> None:
    model = export()
    for name in ("1.tar.gz", "2.tar.gz"):
        export_for_hippunfold(model.archive, tmp_path / name)
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "1.tar.gz") as packed:
        for entry in packed:
            assert (entry.uname, entry.gname, entry.uid, entry.gid, entry.mtime) == ("", "", 0, 0, 0)


def test_refusals(export: Export, tmp_path: Path) -> None:
    model = export()
    with pytest.raises(UsageError, match="no name for a tar"):
        export_for_hippunfold(model.archive, tmp_path / "a.zip")
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        export_for_hippunfold(model.archive, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == b"mine"
    export_for_hippunfold(model.archive, tmp_path / "b.tar")
    with pytest.raises(BadDataError, match="no export of HippoTune"):
        export_for_hippunfold(tmp_path / "b.tar", tmp_path / "c.tar")
