"""Durations, and where in a file something is wrong."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import FileError, Problem
from policies.toml import (
    Duration,
    Section,
    _Places,
    join_texts,
    parse,
    parse_all,
    split_text,
)

LOOKS_LIKE_MORE = """\
# A text in which not all is a table or a key that looks like one.
title = '''
[inner]
span = 7
'''
tags = [ # Three of them.
  "a", [1,
  2],
  ~~~
[inner]
~~~, { x = [1, 2] }, 'b',
  0,
]
"quoted.key".a = "]"
[inner]
span = "7d" # [[inners]]
  [[ inners ]]
[inners.deep]
a.b = ["]"]
[[inners]]
""".replace("~~~", '"' * 3)

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


@pytest.mark.parametrize(
    ("span", "text"),
    [("0ms", "0s"), ("1500ms", "1500ms"), ("90s", "90s"), ("60m", "1h"), ("2w", "14d")],
)
def test_a_duration_is_written_in_its_longest_unit(span: str, text: str) -> None:
    assert Duration.parse(span).text == text
    assert Duration.parse(text) == Duration.parse(span)


def test_a_duration_is_not_endless() -> None:
    assert Duration.parse("3660d") == 3660 * UNITS["d"]
    with pytest.raises(ValueError, match="at most 3660d, not 3661d"):
        Duration.parse("3661d")


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


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("title", 2),
        ("tags", 6),
        ("tags 0", 7),
        ("tags 1", 7),
        ("tags 1 0", 7),
        ("tags 1 1", 8),
        ("tags 2", 9),
        ("tags 3", 11),
        ("tags 3 x 1", 11),
        ("tags 4", 11),
        ("tags 5", 12),
        ("quoted.key a", 14),
        ("inner", 15),
        ("inner span", 16),
        ("inner span end", 16),
        ("inners 0", 17),
        ("inners 0 deep", 18),
        ("inners 0 deep a b", 19),
        ("inners 1", 20),
        ("nowhere", None),
    ],
)
def test_each_key_and_entry_of_a_list_has_its_line(path: str, line: int | None) -> None:
    section = parse(LOOKS_LIKE_MORE, "file")

    section.problem("is wrong", *path.split(" "))

    assert [line] == [problem.line for problem in section.problems]


def test_a_text_that_is_cut_off_has_lines_all_the_same() -> None:
    section = Section({}, _Places([("", "a = [\n1,")]))

    section.problem("is wrong", "a", "0")

    (problem,) = section.problems
    assert problem.line == 2


def test_ends_of_lines_may_be_those_of_another_system() -> None:
    section = parse("a = 1\r\n[b]\r\nc = [\r\n1,\r\n2]\r\n", "file")

    section.problem("is wrong", "b", "c", "1")

    (problem,) = section.problems
    assert problem.line == 5


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


class Named(msgspec.Struct, forbid_unknown_fields=True):
    spans: dict[str, Inner] = {}
    size: int = 0
    counts: dict[str, int] = {}


class Strict(msgspec.Struct):
    named: dict[str, Named]
    kind: str


def test_what_is_wrong_in_tables_by_names_is_named_with_theirs() -> None:
    text = """
    [spans]
    no = 1
    [spans.a]
    span = "7d"
    [spans.b]
    spn = 1
    [spans.c]
    span = 1
    [counts]
    x = 1
    y = "2"
    z = 3
    v = "4"
    """
    section = parse("size = 'x'\n" + text, "file")

    named = section.convert(Named)

    assert named == Named(
        spans={"a": Inner(Duration.parse("7d")), "b": Inner(), "c": Inner()},
        counts={"x": 1, "z": 3},
    )
    assert {
        f"line {problem.line}: {problem.field}" for problem in section.problems
    } == {
        "line 1: size",
        "line 4: spans.no",
        "line 8: spans.b.spn",
        "line 10: spans.c.span",
        "line 13: counts.y",
        "line 15: counts.v",
    }


class Checked(msgspec.Struct):
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"high must be above low, not {self.high}")
        if self.low < 0:
            raise ValueError("numbers are not negative")


class Various(msgspec.Struct):
    counts: dict[str, int] = {}
    by_kind: dict[Literal["a", "b"], int] = {}
    ranges: dict[str, Checked] = {}
    last: int = 0


def test_what_a_struct_says_is_named_with_the_key_that_it_begins_with() -> None:
    text = "[ranges.a]\nlow = 1\nhigh = 1\n[ranges.b]\nlow = -1\n"
    section = parse(text, "file")

    section.convert(Various)

    assert {(problem.line, problem.field) for problem in section.problems} == {
        (3, "ranges.a.high"),
        (4, "ranges.b"),
    }


def test_an_entry_of_a_table_is_named_whatever_else_is_wrong() -> None:
    text = "last = 'x'\n[counts]\na = 1\nb = 'x'\n[by_kind]\na = 1\nc = 2\n"
    section = parse(text, "file")

    assert section.convert(Various) == Various({"a": 1}, {"a": 1})

    assert {(problem.line, problem.field) for problem in section.problems} == {
        (1, "last"),
        (4, "counts.b"),
        (7, "by_kind.c"),
    }


def test_what_lacks_what_is_required_is_nothing() -> None:
    section = parse("[named.a]\nsize = 'x'\n[named.b]\nsize = 1\n", "file")

    assert section.convert(Strict) is None

    assert {(problem.line, problem.field) for problem in section.problems} == {
        (2, "named.a.size"),
        (None, "kind"),
    }


def test_a_table_that_lacks_what_is_required_is_left_out() -> None:
    section = parse("kind = 'x'\n[named.a]\n", "file")

    class Kinds(msgspec.Struct):
        named: dict[str, Strict] = {}
        kind: str = ""

    assert section.convert(Kinds) == Kinds(kind="x")


def test_what_is_known_to_be_wrong_has_no_consequences() -> None:
    section = parse("[inner]\nspan = 7\n[[inners]]\nspan = 7\n", "file")
    section.convert(Outer)

    section.problem("is 0", "inner", "span")
    section.problem("is 0", "inners", "0", "span")
    section.problem("is short", "inner")

    said = [(problem.field, problem.description) for problem in section.problems]
    assert [field for field, _ in said] == ["inner.span", "inners.0.span", "inner"]
    assert said[2][1] == "is short"


def test_a_list_with_a_wrong_entry_is_left_out_as_a_whole() -> None:
    section = parse("inners = [3, { spn = 1 }]", "file")

    assert section.convert(Outer) == Outer()

    assert [problem.field for problem in section.problems] == ["inners.0"]


def test_tables_are_taken_out_by_their_names() -> None:
    section = parse("[t.a]\nx = 1\n[t.b]\n", "file")

    tables = section.table("t")

    assert [list(tables), section.data] == [["a", "b"], {}]
    assert section.table("none") == {}
    tables["a"].problem("is wrong", "x")
    (problem,) = section.problems
    assert problem == Problem("t.a.x", "is wrong", 2)


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

    assert section.problems == [Problem("file", "is empty")]


def test_what_no_hook_reads_is_a_bug_of_ours() -> None:
    class Strange(msgspec.Struct):
        value: complex

    with pytest.raises(NotImplementedError):
        parse("value = 1", "file").convert(Strange)


def test_several_files_are_read_as_one() -> None:
    files = [
        ("a.toml", "size = 1\n[counts]\nx = 1\n"),
        ("b.toml", "[spans.a]\nspan = '7d'\n"),
        ("c.toml", "[spans.b]\nspan = '8d'\n"),
    ]
    section = parse_all(files, "shop")

    assert section.convert(Named) == Named(
        spans={
            "a": Inner(Duration.parse("7d")),
            "b": Inner(Duration.parse("8d")),
        },
        size=1,
        counts={"x": 1},
    )
    assert section.problems == []


def test_no_files_are_an_empty_one() -> None:
    assert parse_all([], "shop").convert(Named) == Named()


def test_a_problem_names_the_file_that_it_is_in() -> None:
    files = [
        ("a.toml", "[spans.a]\nspan = '7d'\n"),
        ("b.toml", "size = 1\n[spans.b]\nspan = 7\n"),
    ]
    section = parse_all(files, "shop")

    section.convert(Named)
    section.problem("is wrong", "spans", "a", "span")
    section.problem("is wrong", "spans")
    section.problem("is wrong", "nowhere")

    span = "a duration is written like 7d, 90m or 1d12h"
    assert str(FileError("shop", section.problems)).splitlines() == [
        "shop: nowhere: is wrong",
        "a.toml: line 1: spans: is wrong",
        "a.toml: line 2: spans.a.span: is wrong",
        f"b.toml: line 3: spans.b.span: {span}, not 7",
    ]


TWICE = [
    # What the second file says, after "x = 1", a table t with a key and [t.u.v] in the
    # first; then what stands in both.
    ("x = 1", ["b.toml line 1: x: a.toml, line 1"]),
    ("[x]", ["b.toml line 1: x: a.toml, line 1"]),
    ("[t]", ["b.toml line 1: t: a.toml, line 2"]),
    ("[t]\nother = 1", ["b.toml line 1: t: a.toml, line 2"]),
    ("[t.u]\ny = 1", []),
    ("[t.u.w]", []),
    ("[t.u.v]", ["b.toml line 1: t.u.v: a.toml, line 4"]),
    ("[t.y]", ["b.toml line 1: t.y: a.toml, line 3"]),
    ("y = 1\n[t.w]\n[[t.z]]", []),
    ("x = 2\n[t.u.v]", ["b.toml line 1: x: a.toml", "b.toml line 2: t.u.v: a.toml"]),
]


@pytest.mark.parametrize(("second", "twice"), TWICE, ids=[text for text, _ in TWICE])
def test_what_two_files_give_is_named_with_both(second: str, twice: list[str]) -> None:
    first = "x = 1\n[t]\ny = 2\n[t.u.v]\n"

    section = parse_all([("a.toml", first), ("b.toml", second)], "shop")

    said = [
        f"{p.file} line {p.line}: {p.field}: {p.description.removeprefix('is in ')}"
        for p in section.problems
    ]
    assert len(said) == len(twice)
    for one, start in zip(said, twice, strict=True):
        assert one.startswith(start)


def test_what_two_files_give_is_named_where_only_the_first_has_a_name() -> None:
    section = parse_all([("", "x.y = 1"), ("b.toml", "x.y = 2")], "shop")

    (problem,) = section.problems
    assert problem.file == "b.toml"
    assert problem.description.startswith("is in another file, line 1")


def test_all_files_that_are_not_toml_are_named() -> None:
    files = [
        ("a.toml", "a = 1\n"),
        ("b.toml", "\nb = ?"),
        ("", "["),
        ("d.toml", "x" + "." * 3),
    ]

    with pytest.raises(FileError) as caught:
        parse_all([*files, ("e.toml", "a = " + "[" * 1_000)], "shop")

    starts = [
        "shop: line 1: syntax",
        "b.toml: line 2: syntax",
        "d.toml: line 1: syntax",
    ]
    lines = str(caught.value).splitlines()
    assert [*starts, "e.toml: syntax: nests too deep"] == [
        line if line.startswith("e.toml") else ": ".join(line.split(": ")[:3])
        for line in lines
    ]


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)
TEXTS = st.text(st.sampled_from("#: file ax=1\n")).map(lambda text: f"{text}\n")


@given(st.lists(st.tuples(NAMES, TEXTS), min_size=1))
def test_files_come_out_of_one_text_as_they_went_in(
    files: list[tuple[str, str]],
) -> None:
    if any(
        re.match("#: file .", line) for _, text in files for line in text.split("\n")
    ):
        with pytest.raises(FileError, match="#: file "):
            join_texts(files)
    else:
        assert split_text(join_texts(files)) == files


def test_a_text_that_ends_within_a_line_gets_an_end_of_line() -> None:
    joined = join_texts([("a.toml", "x = 1"), ("b.toml", ""), ("c.toml", "y = 1")])

    assert split_text(joined) == [
        ("a.toml", "x = 1\n"),
        ("b.toml", ""),
        ("c.toml", "y = 1\n"),
    ]


def test_a_text_that_was_not_joined_is_one_file_without_a_name() -> None:
    assert split_text("x = 1\n # : file a\n") == [("", "x = 1\n # : file a\n")]
    assert split_text("") == [("", "")]
    assert split_text("#: file a") == [("a", "")]


def test_what_stands_before_the_first_file_has_no_name() -> None:
    assert split_text("x = 1\n#: file a\ny = 2\n") == [
        ("", "x = 1\n"),
        ("a", "y = 2\n"),
    ]
    assert split_text("\n\n#: file a\ny = 2\n") == [("a", "y = 2\n")]


def test_a_line_that_parts_files_is_not_taken_for_a_comment() -> None:
    with pytest.raises(
        FileError, match=r"b.toml: line 2: file: begins with '#: file '"
    ):
        join_texts([("a.toml", ""), ("b.toml", "x = 1\n#: file c\n")])


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_who_collects_no_garbage_need_not_begin_to(uncollected: None) -> None:
    parse("x = 1", "file")

    assert not gc.isenabled()


def test_garbage_is_collected_after_reading() -> None:
    with pytest.raises(FileError):
        parse("x = ?", "file")

    assert gc.isenabled()


def test_many_wrong_tables_are_named_in_good_time() -> None:
    text = "".join(f"[spans.a{n}]\nspan = {n}\n" for n in range(20_000))
    section = parse(text, "file")

    section.convert(Named)

    assert [(2 * n + 2, f"spans.a{n}.span") for n in range(20_000)] == [
        (problem.line, problem.field) for problem in section.problems
    ]
