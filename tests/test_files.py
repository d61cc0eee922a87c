"""Temporary files: nobody foretells them, and what a killed writer leaves is swept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bidsapp import files
from bidsapp.errors import CannotWriteError, NoInputError
from bidsapp.files import (
    copy_file,
    create_beside,
    create_once,
    explain_write_errors,
    replace_atomically,
    sweep_unfinished,
    temporary_beside,
    write_text,
)
from bidsapp.review.superseded import keep_copy
from tests.conftest import ROOT

DIE_WRITING = """
import os, sys
from pathlib import Path
from bidsapp.files import replace_atomically
def write(temporary):
    temporary.write_text("half")
    os._exit(137)
replace_atomically(Path(sys.argv[1]), write)
"""


def die_writing(path: Path) -> Path:
    """A process that is killed while it writes `path`; gives what it left."""
    before = set(path.parent.iterdir())
    command = [sys.executable, "-c", DIE_WRITING, str(path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 137
    (left,) = set(path.parent.iterdir()) - before
    return left


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """As somebody may who knows our process's number, or has met the name before."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    page = tmp_path / "page.html"
    (tmp_path / f".{os.getpid()}.page.html").symlink_to(victim)
    write_text(page, "ours")
    assert victim.read_text() == "precious"
    assert page.read_text() == "ours"


def test_a_name_is_never_that_of_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the random part comes up again, as in a cloned container, nothing is overwritten."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 16)
    with temporary_beside(tmp_path / "page.html") as taken:
        victim = tmp_path / "victim"
        victim.write_text("precious")
        taken.unlink()
        taken.symlink_to(victim)
        with pytest.raises(CannotWriteError):
            write_text(tmp_path / "page.html", "ours")
        assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["a.nii.gz", "state.json", "README", "x" * 250 + ".tsv"])
def test_a_temporary_file_ends_like_its_target_and_is_gone_afterwards(tmp_path: Path, name: str) -> None:
    names: list[str] = []
    replace_atomically(tmp_path / name, lambda temporary: names.append(temporary.name))
    assert names[0].startswith(".tmp-")
    assert names[0].endswith("".join(Path(name).suffixes))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_killed_writer_left_is_swept_at_once(tmp_path: Path) -> None:
    """Also of 0.1.0, where nobody else writes; what people call so is left."""
    target = tmp_path / "model" / "fold_0" / "checkpoint.pth"
    target.parent.mkdir(parents=True)
    left = die_writing(target)
    sweep_unfinished(tmp_path, alone=False)
    assert not left.exists()
    old = [target.with_name(".123.checkpoint.pth"), target.with_name(f".{'a' * 32}.json")]
    kept = [target.with_name(name) for name in (".bidsignore", ".hidden", ".2nd", "123.txt", ".tmp-notes")]
    for path in (*old, *kept):
        path.touch()
    sweep_unfinished(tmp_path, alone=False)
    assert all(path.exists() for path in (*old, *kept))
    sweep_unfinished(tmp_path, alone=True)
    assert sorted(target.parent.iterdir()) == sorted(kept)


def test_what_another_machine_writes_is_left_for_a_day(tmp_path: Path) -> None:
    young, old = (tmp_path / f".tmp-{'0' * 8}-{digit * 16}.json" for digit in "12")
    for path in (young, old):
        path.touch()
    then = old.stat().st_mtime - files.NOBODY_WRITES_SECONDS - 60
    os.utime(old, (then, then))
    sweep_unfinished(tmp_path, alone=False)
    assert list(tmp_path.iterdir()) == [young]


def test_who_waits_for_a_lock_on_another_machine_is_not_swept(tmp_path: Path) -> None:
    """Whoever has the lock is alone but for those who wait for it, and no kernel sees both."""
    waiting, descriptor = create_beside(tmp_path / ".lock")
    os.close(descriptor)
    others = [tmp_path / f".tmp-{'0' * 8}-{'1' * 16}{ending}" for ending in (waiting.suffix, ".json")]
    for path in others:
        path.touch()
    sweep_unfinished(tmp_path, alone=True)
    assert list(tmp_path.iterdir()) == others[:1]


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    with temporary_beside(tmp_path / "a.json") as temporary:
        sweep_unfinished(tmp_path, alone=True)
        assert temporary.exists()


def test_a_swept_link_leaves_what_it_led_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".1.page.html").symlink_to(victim)
    sweep_unfinished(tmp_path, alone=True)
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


def test_private_files_are_private(tmp_path: Path) -> None:
    assert create_once(tmp_path / "key", "secret", private=True)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_a_pipe_is_never_copied(tmp_path: Path) -> None:
    pipe, kept = tmp_path / "pipe.nii.gz", tmp_path / "kept"
    os.mkfifo(pipe)
    refused = f"{pipe} cannot be read: it is a pipe or a device, not a file"
    with pytest.raises(NoInputError) as caught:
        copy_file(pipe, tmp_path / "copy")
    assert caught.value.message == refused
    (kept / "labels").mkdir(parents=True)
    (kept / "labels" / "a.nii.gz").touch()
    with pytest.raises(NoInputError) as caught:
        keep_copy(pipe, kept, Path("labels", "a.nii.gz"))
    assert (caught.value.message, caught.value.hint) == (
        refused,
        "Move away what is in its place, or put the file there.",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "pipe.nii.gz"]


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EACCES, "Look at the permissions"),
        (errno.EROFS, "can only be read"),
        (errno.ENOENT, "A folder on the way is missing"),
        (errno.ENOTDIR, "something else is in its place"),
        (errno.ENAMETOOLONG, "Choose a shorter name"),
        (errno.EIO, "Look at the disk"),
    ],
)
def test_the_way_out_fits_what_the_system_said(tmp_path: Path, number: int, way_out: str) -> None:
    with pytest.raises(CannotWriteError) as caught, explain_write_errors(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert way_out in caught.value.hint
    assert ("space" in caught.value.hint) == (number in (errno.ENOSPC, errno.EDQUOT))
