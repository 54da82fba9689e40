from __future__ import annotations

import numpy as np
import pytest

from connprops.errors import OptionError
from connprops.sources.predicate import checked_predicate
from connprops.sources.source import SourceColumn

COLUMNS = {
    "size": SourceColumn("size", "int64"),
    "confidence": SourceColumn("confidence", "float32", partial=True),
    "kind": SourceColumn("kind", "int32", ("a", "b")),
    "note": SourceColumn("note", "text"),
}
VALUES = {
    "size": np.array([1, 200, 300]),
    "confidence": np.array([0.9, 0.8, np.nan], dtype=np.float32),
    "kind": np.array([0, 1, 0], dtype=np.int32),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size > 100 and confidence >= 0.7", [False, True, False]),
        ("not confidence > 0.85", [False, True, False]),
        ("confidence is null", [False, False, True]),
        ("kind = 'a' or SIZE in (200)", [True, True, True]),
        ("kind like 'b%'", [False, True, False]),
        ("abs(size - 200) * 2 between 100 and 300", [False, False, True]),
        ("case when size > 1 then kind = 'b' else true end -- so", [True, True, False]),
        ("size::double / 3 = 100", [False, False, True]),
    ],
)
def test_a_predicate_holds_where_sql_says_so(text, expected):
    assert checked_predicate(text, COLUMNS).holds(VALUES).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "size >",
        "size",
        "size + 1",
        "true",
        "size > 1; drop table rows",
        "size > 1) from read_csv('/etc/passwd') --",
        "size > 1 from range(3)",
        "size > 1 order by 1",
        "size > 1, size > 2",
        "size > 1 as big",
        "(select true)",
        "exists (from read_text('/etc/passwd'))",
        "read_text('/etc/passwd') is null and size > 1",
        "getenv('HOME') = 'x' or size > 1",
        "count(*) > 1",
        "size > $1",
        "columns(*) > 1",
        "row_number() over () > size",
        "size > 'x'",
        "nothing > 1",
        "note = 'x'",
        "rowid > 1",
        "a.size > 1",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(OptionError, match="where"):
        checked_predicate(text, COLUMNS)
