"""Pictures that an earlier step saved."""

from __future__ import annotations

import struct
from pathlib import Path

from bidsapp.pictures.drawing import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIZE_AT = 16  # width and height follow the signature, the length and the name of the first chunk


def read_picture(path: Path | None, alt: str) -> Picture | None:
    """Read a PNG for a page; None where there is no file, or none that is a PNG."""
    try:
        png = path.read_bytes() if path else b""
    except OSError:
        return None
    if not png.startswith(_SIGNATURE) or len(png) < _SIZE_AT + 8:
        return None
    width, height = struct.unpack_from(">II", png, _SIZE_AT)
    return Picture(png, width, height, alt)
