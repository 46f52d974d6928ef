"""Durations, and where in a file something is wrong."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import FileError
from policies.toml import Duration, parse

UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


@given(st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 300), min_size=1))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int]) -> None:
    text = "".join(f"{count}{unit}" for unit, count in parts.items())
    span = sum(count * UNITS[unit] for unit, count in parts.items())

    if span <= 3660 * UNITS["d"]:
        assert Duration.parse(text) == span
    else:
        with pytest.raises(ValueError, match="3660d"):
            Duration.parse(text)


@pytest.mark.parametrize(
    "wrong", ["", "7", "d", "7 d", "-7d", "7.5h", "1y", "7D", "7d ", 7, None, ["7d"]]
)
def test_what_is_not_written_like_a_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="7d, 90m or 1d12h"):
        Duration.parse(wrong)


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    span: Duration = Duration(0)


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    inner: Inner = msgspec.field(default_factory=Inner)
    inners: list[Inner] = []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name = 1", "line 1: name"),
        ("\n\n  nme = 1", "line 3: nme"),
        ("# name = 1\n[inner] # here\nspan = 7", "line 3: inner.span"),
        ("[inner]\n\nspn = 7", "line 3: inner.spn"),
        ("inner.span = 7", "line 1: inner.span"),
        ("inner = { spn = 7 }", "line 1: inner.spn"),
        ("[[inners]]\nspn = 7", "line 2: inners.0.spn"),
        ('"name" = 1', "line 1: name"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_key(text: str, field: str) -> None:
    section = parse(text, "file")

    section.convert(Outer)

    assert [field] == [f"line {p.line}: {p.field}" for p in section.problems]


def test_all_that_is_wrong_is_named_at_once() -> None:
    section = parse("nme = 1\nname = 2\n[inner]\nspn = 7\nspan = 3\n", "file")

    section.convert(Outer)

    fields = {f"line {problem.line}: {problem.field}" for problem in section.problems}
    assert fields == {
        "line 1: nme",
        "line 2: name",
        "line 4: inner.spn",
        "line 5: inner.span",
    }


def test_tables_are_taken_out_by_their_names() -> None:
    section = parse("[t.a]\nx = 1\n[t.b]\n", "file")

    tables = section.table("t")

    assert [list(tables), section.data] == [["a", "b"], {}]
    assert section.table("none") == {}
    tables["a"].problem("is wrong", "x")
    (problem,) = section.problems
    assert problem == ("t.a.x", "is wrong", 2)


@pytest.mark.parametrize(("text", "field"), [("t = 3", "t"), ("t = { a = 3 }", "t.a")])
def test_what_should_be_tables_and_is_not_is_refused(text: str, field: str) -> None:
    section = parse(text, "file")

    assert section.table("t") == {}

    assert [(problem.field, problem.line) for problem in section.problems] == [
        (field, 1)
    ]


def test_what_is_not_toml_is_refused_with_its_line() -> None:
    with pytest.raises(FileError, match=r"file: line 2: syntax: "):
        parse("a = 1\nb = ?", "file")


def test_a_problem_of_no_key_is_of_the_file() -> None:
    section = parse("", "file")

    section.problem("is empty")

    assert section.problems == [("file", "is empty", None)]


def test_what_no_hook_reads_is_a_bug_of_ours() -> None:
    class Strange(msgspec.Struct):
        value: complex

    with pytest.raises(NotImplementedError):
        parse("value = 1", "file").convert(Strange)
