from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidsapp.errors import BadDataError, NoInputError
from bidsapp.labels.tables import (
    label_table_from_values,
    nnunet_values,
    read_label_table,
    well_known_table,
    write_label_table,
)
from bidsapp.records import LabelTable


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.tsv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("index\tname\n1\tAnterior\n2\tPosterior\n", LabelTable({1: "Anterior", 2: "Posterior"})),
        ("name\tindex\nDG\t8\nGM\t1\n", LabelTable({1: "GM", 8: "DG"})),
        ("\ufeffindex\tname\r\n1\tCA1 \r\n\r\n 2\tCA-2_a\t\r\n\t\r\n", LabelTable({1: "CA1", 2: "CA-2_a"})),
        ("index\tname\n0\tClear Label\n1\tx", LabelTable({1: "x"})),
        ("index\tname\tcolor\n53\thippo\t#ff0000\n", LabelTable({53: "hippo"})),
        ("index\tname\trequired\n1\ta\ttrue\n2\tb\tFalse\n3\tc\t1\n4\td\t\n5\te\tn/a\n6\tf\n",
         LabelTable({1: "a", 2: "b", 3: "c", 4: "d", 5: "e", 6: "f"}, frozenset({"a", "c"}))),
    ],
    ids=["plain", "any order", "Windows", "background", "more columns", "required"],
)  # fmt: skip
def test_tables_are_read(tmp_path, text, expected):
    table = read_label_table(write(tmp_path, text))
    assert table == expected
    assert list(table.names) == sorted(table.names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ", line 1: no column 'index' in []"),
        ("index,name\n1,a\n", ", line 1: no column 'index' in ['index,name']"),
        ("index\tlabel\n1\ta\n", ", line 1: no column 'name' in ['index', 'label']"),
        ("index\tname\n", " names no label"),
        ("index\tname\n0\tbackground\n", " names no label"),
        ("index\tname\n1.5\ta\n", ", line 2: index '1.5' is not a whole number from 0 to 32767"),
        ("index\tname\n-1\ta\n", ", line 2: index '-1' is not a whole number from 0 to 32767"),
        ("index\tname\n1\ta\n\n40000\tb\n", ", line 4: index '40000' is not a whole number from 0 to 32767"),
        ("index\tname\n\ta\n", ", line 2: index '' is not a whole number from 0 to 32767"),
        ("index\tname\n1 CA1\n", ", line 2: index '1 CA1' is not a whole number from 0 to 32767"),
        ("index\tname\n1\tCA 1\n", ", line 2: 'CA 1' is not a label name"),
        ("index\tname\n1\tCA4/DG\n", ", line 2: 'CA4/DG' is not a label name"),
        ("index\tname\n1\té\n", ", line 2: 'é' is not a label name"),
        ("index\tname\n1\n", ", line 2: '' is not a label name"),
        ("index\tname\n1\tBackground\n", ", line 2: nnU-Net keeps the name 'Background' for itself"),
        ("index\tname\n1\tignore\n", ", line 2: nnU-Net keeps the name 'ignore' for itself"),
        ("index\tname\n1\ta\n1\tb\n", ", line 3: index 1 stands twice"),
        ("index\tname\n1\ta\n2\ta\n", ", line 3: name 'a' stands twice"),
        ("index\tname\trequired\n1\ta\tmaybe\n", ", line 2: required is 'maybe'"),
        ("index\tname\n1\ta\tb\n", ", line 2: 'b' has no column"),
    ],
)
def test_errors_name_file_line_and_value(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(BadDataError) as caught:
        read_label_table(path)
    assert caught.value.message == f"{path}{message}"


def test_a_missing_table_a_folder_and_other_encodings(tmp_path):
    with pytest.raises(NoInputError, match=r"labels\.tsv does not exist"):
        read_label_table(tmp_path / "labels.tsv")
    with pytest.raises(NoInputError, match="cannot be read: Is a directory"):
        read_label_table(tmp_path)
    path = tmp_path / "labels.tsv"
    path.write_bytes("index\tname\n1\ta\n".encode("utf-16"))
    with pytest.raises(BadDataError, match=r"labels\.tsv is not UTF-8"):
        read_label_table(path)


tables = st.dictionaries(
    st.integers(1, 32767), st.from_regex(r"[A-Za-z0-9_-]{1,9}", fullmatch=True), max_size=8, min_size=1
).filter(lambda names: len(set(names.values())) == len(names) and not {"ignore", "background"} & set(names.values()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables, st.booleans())
def test_what_is_written_is_read(tmp_path, names, first_is_required):
    required = frozenset(list(names.values())[:1] if first_is_required else [])
    table = LabelTable(dict(sorted(names.items())), required)
    write_label_table(tmp_path / "labels.tsv", table)
    assert read_label_table(tmp_path / "labels.tsv") == table


def test_labels_without_a_table_are_named_after_their_values():
    assert label_table_from_values([53, 0, 17, 17]) == LabelTable({17: "label-17", 53: "label-53"})
    assert label_table_from_values([0]) == LabelTable({})


def test_nnunet_wants_values_without_gaps():
    assert nnunet_values(LabelTable({1: "CA1", 2: "CA2", 8: "SUB"})) == {1: 1, 2: 2, 8: 3}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({1, 2, 3, 4, 5, 6, 8}, ["GM", "SRLM", "MTLC", "Pial", "HATA", "IndGris", "DG"]),
        ({17, 53}, ["Left-Hippocampus", "Right-Hippocampus"]),
        ({53, 0}, ["Right-Hippocampus"]),
        ({1, 2}, None),  # the Decathlon's, or anybody's
        (set(range(1, 6)), None),  # HSF's, or tissue
        (set(range(1, 9)), None),  # HippUnfold's tissue, or its subfields
        ({1, 2, 3, 4, 8}, None),  # ASHS's, or tissue
        ({1, 17}, None),
        (set(), None),
    ],
)
def test_names_are_given_only_where_the_values_say_so(values, names, caplog):
    table = well_known_table(values)
    assert (table and list(table.names.values())) == names
    assert table is None or set(table.names) == values - {0}
    assert ("There is no labels.tsv" in caplog.text) == (names is not None)


def test_boundary_labels_without_known_names_ask_for_the_table():
    with pytest.raises(BadDataError, match="20, 21, 22, 23") as caught:
        well_known_table({1, 2, 4, 20, 21, 22, 23})
    assert "labels.tsv" in caught.value.hint
    assert well_known_table({20, 40}) is None
