"""What a report is made of: plots and tables, ready to be written.

Places are in percent of a plot's width (from the left) and of its height (from the
top), so that plots are as wide as the page and their text keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from policies.overlap import Verdict
from simulator.reporting.axes import Axis, Tick

__all__ = [
    "CANNOT",
    "NOTHING",
    "ROWS_MAX",
    "Badge",
    "Bar",
    "Bars",
    "Block",
    "Card",
    "Chart",
    "Column",
    "Figures",
    "Forest",
    "Line",
    "Mark",
    "Page",
    "Panel",
    "Point",
    "Section",
    "Stat",
    "Table",
    "Tone",
    "Words",
    "badge",
    "closed",
    "said",
]

CANNOT = "cannot tell"
"""What is said in the place of an interval."""

NOTHING = "no number"
"""What is said in the place of a number."""

ROWS_MAX = 36
"""A forest plot of more rows is folded."""

Tone = Literal["good", "fair", "bad", "plain"]
_TONES: Mapping[str, Tone] = {"usable": "good", "weak": "fair", "unusable": "bad"}


class Badge(msgspec.Struct, frozen=True):
    """A word that is seen at once.

    Attributes:
        word: It.
        tone: What it means; it has a colour and a sign for that.
    """

    word: str
    tone: Tone


def badge(verdict: Verdict | str) -> Badge:
    """Return the badge of a verdict."""
    return Badge(verdict, _TONES.get(verdict, "plain"))


Cell = str | Badge


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text.

    Attributes:
        caption: What they are.
        heads: What each column is.
        rows: As many cells each.
        words: How many columns at the left are words, not numbers.
    """

    kind: str = "table"
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a forest plot: a number with its interval, or that there is none.

    Attributes:
        name: What it is about; empty where the row above says it.
        about: By what, in small.
        value: The number, as text.
        interval: Its interval, as text.
        badges: What to know of it.
        series: Its colour and shape.
        at: Where the number is; none where there is none.
        low: Where its interval begins.
        high: Where it ends.
        open_low: Whether it goes on below the axis.
        open_high: Whether it goes on above.
        truth: Where the truth is, in a world that knows it.
        is_main: Whether this is what is judged by.
        is_weak: Whether nothing is to be decided by it.
    """

    name: str
    about: str = ""
    value: str
    interval: str
    badges: tuple[Badge, ...] = ()
    series: int = 0
    at: float | None = None
    low: float = 0.0
    high: float = 0.0
    open_low: bool = False
    open_high: bool = False
    truth: float | None = None
    is_main: bool = True
    is_weak: bool = False

    @classmethod
    def on(
        cls,
        axis: Axis,
        number: float | None,
        low: float | None,
        high: float | None,
        **rest: Any,
    ) -> Mark:
        """Return the mark of a number on an axis."""
        if number is None:
            return cls(**rest)
        return cls(
            at=axis.place(number),
            low=axis.place(axis.low if low is None else low),
            high=axis.place(axis.high if high is None else high),
            open_low=low is None or low < axis.low,
            open_high=high is None or high > axis.high,
            **rest,
        )


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers with intervals, one below the other on one axis.

    Attributes:
        caption: What they are.
        heads: What names, numbers and intervals are.
        rows: The numbers.
        ticks: The marks of the axis.
        reference: Where something is to compare with, and what; none without it.
        reading: How to read it.
        is_folded: Whether it is to be unfolded by the reader: there are many.
    """

    kind: str = "forest"
    caption: str
    heads: tuple[str, str, str]
    rows: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    reference: Tick | None = None
    reading: str = ""
    is_folded: bool = False


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A number on a chart.

    Attributes:
        x: Where it is.
        y: Likewise; none where there is no number: that is drawn at the bottom.
        low: Where its interval ends; none without one.
        high: Likewise.
        label: What it says when it is pointed at.
    """

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    label: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of one kind on a chart.

    Attributes:
        name: What they are.
        series: Their colour and shape.
        points: The numbers, from left to right.
        is_joined: Whether a line joins them.
    """

    name: str
    series: int
    points: tuple[Point, ...]
    is_joined: bool = True

    @property
    def pieces(self) -> list[tuple[float, float, float, float]]:
        """The line, from number to number; it breaks where there is none."""
        return [
            (one.x, one.y, next_.x, next_.y)
            for one, next_ in zip(self.points, self.points[1:], strict=False)
            if one.y is not None and next_.y is not None
        ]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a histogram.

    Attributes:
        x: Where it begins.
        width: How wide it is.
        height: How high.
        label: What it says when it is pointed at.
    """

    x: float
    width: float
    height: float
    label: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A plot with two axes.

    Attributes:
        title: What it shows.
        reading: How to read it.
        says: What it shows, for who cannot see it.
        x_name: What is from left to right.
        y_name: What is upwards.
        x_ticks: The marks at the bottom.
        y_ticks: Those at the left, from the top.
        lines: Numbers.
        columns: Columns.
        columns_series: Their colour.
        level: Where something is to compare with, from the top; none without it.
        upright: The same from the left.
        has_diagonal: Whether what is equal on both axes is drawn.
        is_square: Whether it is as high as it is wide.
        table: The same as numbers.
    """

    kind: str = "chart"
    title: str
    reading: str
    says: str
    x_name: str = ""
    y_name: str = ""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    columns: tuple[Column, ...] = ()
    columns_series: int = 0
    level: float | None = None
    upright: float | None = None
    has_diagonal: bool = False
    is_square: bool = False
    table: Table


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A bar from left to right.

    Attributes:
        name: What it is of.
        width: How long it is, in percent.
        other: Where something is to compare with, in percent; none without it.
        said: The number, as text.
    """

    name: str
    width: float
    other: float | None = None
    said: str


class Bars(msgspec.Struct, frozen=True, kw_only=True):
    """Bars, one below the other.

    Attributes:
        title: What they show.
        reading: How to read them.
        rows: The bars.
        series: Their colour.
        table: All of it as numbers.
    """

    kind: str = "bars"
    title: str
    reading: str
    rows: tuple[Bar, ...]
    series: int = 0
    table: Table


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """A number with a name.

    Attributes:
        name: What it is.
        value: The number, as text.
        note: What it should be.
        tone: Whether it is.
    """

    name: str
    value: str
    note: str = ""
    tone: Tone = "plain"


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences in a list.

    Attributes:
        lines: They.
        badge: What they are about.
    """

    kind: str = "words"
    lines: tuple[str, ...]
    badge: Badge | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Small plots side by side.

    Attributes:
        title: What they show together; empty where each says it.
        charts: They.
    """

    kind: str = "figures"
    title: str = ""
    charts: tuple[Chart | Bars, ...]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs together.

    Attributes:
        title: What it is about.
        about: More of that, in small.
        badge: What to know of it.
        series: Its colour and shape; none where it is of none.
        stats: Numbers.
        words: Sentences.
        charts: Small plots.
    """

    kind: str = "panel"
    title: str
    about: str = ""
    badge: Badge | None = None
    series: int | None = None
    stats: tuple[Stat, ...] = ()
    words: tuple[str, ...] = ()
    charts: tuple[Chart | Bars, ...] = ()


Block = Table | Forest | Figures | Panel | Words


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a report with a heading.

    Attributes:
        id: By which it is linked to.
        title: The heading.
        intro: How to read it.
        blocks: What is in it.
    """

    id: str
    title: str
    intro: str = ""
    blocks: tuple[Block, ...]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A policy at a glance.

    Attributes:
        name: Its name.
        value: What it earns, as text.
        unit: Of what.
        detail: How sure that is.
        badge: What to know of it.
        series: Its colour and shape.
    """

    name: str
    value: str
    unit: str
    detail: str
    badge: Badge | None = None
    series: int = 0


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A report.

    Attributes:
        title: What the window is called.
        kicker: What kind of report it is.
        subject: What it is about.
        headline: What can be concluded.
        badges: Whether it can.
        leads: What to know at once, a sentence or two each.
        cards: The policies at a glance.
        sections: All else.
        asked: What was asked, by name.
        definitions: What words mean.
        format: What it was made of.
    """

    title: str
    kicker: str
    subject: str
    headline: str
    badges: tuple[Badge, ...]
    leads: tuple[str, ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    asked: tuple[tuple[str, str], ...]
    definitions: tuple[tuple[str, str], ...]
    format: str


def said(lines: Iterable[str]) -> tuple[str, ...]:
    """Make sentences of what was found, each once.

    Examples:
        >>> said(["two of three", "two of three"])
        ('Two of three.',)
    """
    return closed(line[:1].upper() + line[1:] for line in lines)


def closed(lines: Iterable[str]) -> tuple[str, ...]:
    """End sentences with a full stop, each once; names at their beginning stay."""
    return tuple(line.rstrip(".") + "." for line in dict.fromkeys(lines) if line)
