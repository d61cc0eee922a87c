"""ITK-SNAP's label description: the names and colours of the page, where a person draws."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bidsapp.labels.colours import label_colours

_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def itksnap_label_file(labels: Mapping[int, str]) -> str:
    """Describe labels for `itksnap -l`, in the colours of `label_colours`.

    Parameters
    ----------
    labels
        value -> name. Quotes of names become apostrophes and control characters spaces, for ITK-SNAP has no way to
        write them; 0 is always ITK-SNAP's "Clear Label".
    """
    named = {value: name for value, name in labels.items() if value}
    colours = label_colours(named)
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    for value, name in named.items():
        red, green, blue = bytes.fromhex(colours[value][1:])
        rows.append(f'{value:5d}   {red:3d}  {green:3d}  {blue:3d}        1  1  1    "{_safe(name, value)}"')
    return _HEADER + "\n".join(rows) + "\n"


def _safe(name: str, value: int) -> str:
    return _UNSAFE.sub(" ", name).replace('"', "'").strip() or f"Label {value}"
