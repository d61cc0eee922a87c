"""Image files that are damaged or meant to harm, at every strictness: one line each, and never a hang."""

from __future__ import annotations

import gzip
import io
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel import imageglobals

from bidsapp.corobl.grid import GRIDS
from bidsapp.errors import BadDataError, HippoTuneError, NoInputError
from bidsapp.files import open_file, read_json
from bidsapp.images.volumes import VolumeError, foresee_scan, read_grid, read_volume
from bidsapp.review.label_file import read_label_file
from bidsapp.review.table import read_review_table
from bidsapp.tsv import read_tsv

SHAPE = (20, 24, 16)
VOXEL_MM = 2.0


def good_bytes(dtype: type = np.int16, kind: type[nib.Nifti1Image] = nib.Nifti1Image) -> bytes:
    values = (np.arange(np.prod(SHAPE)) % 7).reshape(SHAPE).astype(dtype)
    image = kind(values, np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1]))
    image.set_qform(image.affine, 1)
    return image.to_bytes()


def patched(offset: int, packed: bytes, content: bytes | None = None) -> bytes:
    changed = bytearray(content or good_bytes())
    changed[offset : offset + len(packed)] = packed
    return bytes(changed)


def read_in_every_way(path: Path) -> list[str]:
    """What is said of a file, in order: a scan, its grid, a pair, a returned label, any image; ``""``: it is fine.

    Anything but our own errors passes through and fails the test.
    """
    said = []
    readers = [(read_volume, "scan"), (read_grid, "scan"), (read_volume, "pair"), (read_volume, "any")]
    for read, strictness in readers:
        try:
            read(path, strictness)
            said.append("")
        except HippoTuneError as error:
            assert error.exit_code in {65, 66}
            assert isinstance(error, BadDataError | NoInputError)
            assert strictness != "pair" or isinstance(error, VolumeError)
            assert "\n" not in error.message and str(path) in error.message
            said.append(error.message)
    label = read_label_file(path, "L", GRIDS)
    said.insert(3, "; ".join(finding.problem for finding in label.findings if finding.guard == "file"))
    return said


HUGE_DIMENSIONS = struct.pack("<4h", 3, 32767, 32767, 32767)
HUGE_DIMENSIONS_2 = struct.pack("<4q", 3, 2**40, 2**40, 2**40)

HOSTILE: dict[str, tuple[bytes, str]] = {
    "terabytes": (patched(40, HUGE_DIMENSIONS), "damaged or truncated: its header asks for 32767 x 32767 x 32767"),
    "terabytes, packed": (gzip.compress(patched(40, HUGE_DIMENSIONS)), "its header asks for 32767 x 32767 x 32767"),
    "exabytes": (patched(16, HUGE_DIMENSIONS_2, good_bytes(kind=nib.Nifti2Image)), "its header asks for"),
    "far offset": (patched(108, struct.pack("<f", 1e30)), "its header asks for"),
    "no offset": (patched(108, struct.pack("<f", 0)), "damaged"),
    "infinite offset": (patched(108, struct.pack("<f", np.inf)), "damaged header"),
    "offset that is no number": (patched(108, struct.pack("<f", np.nan)), "damaged header"),
    "infinite scale": (patched(112, struct.pack("<f", np.inf)), "its values are scaled by inf and 0"),
    "infinite intercept": (patched(112, struct.pack("<2f", 1, -np.inf)), "damaged header"),
    "negative dimensions": (patched(42, struct.pack("<h", -20)), "has no voxels"),
    "eight dimensions": (patched(40, struct.pack("<h", 8)), "damaged header"),
    "half a header": (good_bytes()[:200], "damaged header"),
    "a few bytes": (b"\x5c\x01\x00\x00", "damaged header"),
    "half the voxels": (good_bytes()[:5000], "damaged or truncated"),
    "half the voxels, packed": (gzip.compress(good_bytes()[:5000]), "damaged or truncated"),
    "half of a gzip file": (gzip.compress(good_bytes())[:-20], "damaged or truncated gzip"),
    "only the mark of gzip": (b"\x1f\x8b", "damaged or truncated gzip"),
    "megabytes behind": (gzip.compress(good_bytes() + bytes(2**25)), "goes on for megabytes behind its last voxel"),
    "something behind": (gzip.compress(good_bytes()) + b"<html>", "holds all its voxels, and then something that gzip"),
    "something behind too few": (gzip.compress(good_bytes()[:5000]) + b"<html>", "damaged or truncated gzip"),
    "another format": (b"NRRD0004\n# Complete NRRD file format", "is not a NIfTI file"),
}


@pytest.mark.parametrize(("content", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_bytes_that_make_no_sense_are_said_by_every_reader(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / ("a.nii.gz" if content.startswith(b"\x1f\x8b") else "a.nii")
    path.write_bytes(content)
    scan, grid, pair, label, fingerprint = read_in_every_way(path)
    assert all(problem in said for said in (pair, label, fingerprint)), (pair, label, fingerprint)
    assert problem in scan or "no human head" in scan  # which it sees in the header, before it reads on
    assert grid in ("", scan)
    with pytest.raises(HippoTuneError) as caught:
        foresee_scan(path)
    assert caught.value.message == scan


@pytest.mark.parametrize(
    "content",
    [
        good_bytes(),
        gzip.compress(good_bytes()),
        gzip.compress(good_bytes() + bytes(100)),
        gzip.compress(good_bytes()[:5000]) + gzip.compress(good_bytes()[5000:]),
        gzip.compress(good_bytes()) + bytes(512),  # as tapes and block devices fill up
    ],
    ids=["plain", "packed", "more behind the voxels", "in two pieces", "filled up"],
)
def test_nothing_is_foreseen_of_a_good_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    foresee_scan(path)
    assert read_volume(path, "scan").data.shape == SHAPE


def test_a_sparse_image_of_terabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(patched(40, struct.pack("<4h", 3, 20000, 20000, 20000)))
    os.truncate(path, 16 * 10**12 + 352)  # no disk blocks behind it
    assert all("20000 x 20000 x 20000 voxels, more than any head" in said for said in read_in_every_way(path)[2:])


def test_gigabytes_of_zeros_behind_the_voxels_are_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(good_bytes())
        for _ in range(64):
            stream.write(bytes(2**24))
    unpacked = 0
    read = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal unpacked
        piece = read(self, size)
        unpacked += len(piece)
        return piece

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(BadDataError, match="goes on for megabytes"):
        read_volume(path, "any")
    assert unpacked < 2**25


def _link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (os.mkfifo, "is a pipe or a device, not a file"),
        (_link_to_zeros, "is a pipe or a device, not a file"),
        (os.mkdir, "is a folder"),
        (_loop, "cannot be read"),
        (lambda path: path.symlink_to("gone"), "is a link to nothing"),
        (lambda path: None, "does not exist"),
    ],
)
def test_only_files_are_read(tmp_path: Path, make: Callable[[Path], None], problem: str) -> None:
    path = tmp_path / "a.nii.gz"
    make(path)
    assert all(problem in said for said in read_in_every_way(path))


@pytest.mark.parametrize("make", [os.mkfifo, _link_to_zeros])
def test_tables_and_sidecars_are_files_too(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "a.tsv"
    make(path)
    for read in (lambda: read_tsv(path, ()), lambda: read_json(path), lambda: read_review_table(path)):
        with pytest.raises(NoInputError, match="it is a pipe or a device, not a file"):
            read()


def test_a_file_that_is_opened_waits_for_its_content_as_usual(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    with open_file(tmp_path / "a") as stream:
        assert os.get_blocking(stream.fileno()) and stream.read() == b"text"


def test_what_is_not_needed_stops_nobody(tmp_path: Path) -> None:
    """Beside a good sform and good dimensions, every other field of the header may hold what it likes."""
    needed = {"sizeof_hdr", "dim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "sform_code", "magic"}
    needed |= {"srow_x", "srow_y", "srow_z"}
    header = nib.Nifti1Header()
    for name in set(header.keys()) - needed:
        dtype, offset = header.structarr.dtype.fields[name][:2]
        for byte in (0x00, 0x7F, 0xFF):
            path = tmp_path / f"{name}-{byte}.nii"
            path.write_bytes(patched(offset, bytes([byte]) * dtype.itemsize))
            assert read_in_every_way(path) == ["", "", "", "", ""], (name, byte)


def test_a_damaged_extension_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    image = nib.Nifti1Image.from_bytes(good_bytes())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 100))
    path.write_bytes(patched(352, struct.pack("<2i", 2**30, 99), image.to_bytes()))
    assert read_in_every_way(path) == ["", "", "", "", ""]


def test_one_volume_in_more_dimensions_is_one_volume_for_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(patched(40, struct.pack("<8h", 6, *SHAPE, 1, 1, 1, 1)))
    assert read_in_every_way(path) == ["", "", "", "", ""]
    assert read_volume(path, "pair").data.shape == read_volume(path, "scan").data.shape == SHAPE


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_values_are_those_that_nibabel_reads(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(patched(112, struct.pack("<2f", 0.37, 11.3), good_bytes(dtype)))
    image = nib.load(path)
    np.testing.assert_array_equal(read_volume(path, "any").data, np.asanyarray(image.dataobj))
    np.testing.assert_array_equal(read_volume(path, "scan").data, image.get_fdata(dtype=np.float32))


@pytest.mark.parametrize(("offset", "packed"), [(254, struct.pack("<h", 9)), (80, bytes(12))])
def test_what_nibabel_mends_in_a_header_prints_nothing(tmp_path: Path, offset: int, packed: bytes) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(patched(offset, packed))
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    imageglobals.logger.addHandler(handler)
    try:
        read_in_every_way(path)
    finally:
        imageglobals.logger.removeHandler(handler)
    assert printed.getvalue() == ""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=8), packed=st.booleans()
)
def test_any_header_ends_in_voxels_or_in_one_line(tmp_path: Path, changes: list[tuple[int, int]], packed: bool) -> None:
    content = bytearray(good_bytes())
    for offset, value in changes:
        content[offset] = value
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(bytes(content), 1) if packed else bytes(content))
    read_in_every_way(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_byte_of_a_packed_file_may_be_wrong(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed:
        packed.write(good_bytes())
    content = bytearray(stream.getvalue())
    for offset, value in changes:
        content[offset % len(content)] = value
    path = tmp_path / "a.nii.gz"
    path.write_bytes(bytes(content))
    read_in_every_way(path)
