"""Plays scripts against real servers, and compares what comes with what is expected."""

from __future__ import annotations

import datetime as dt
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from examples.scenarios import guards
from examples.scenarios.player import Player
from examples.scenarios.populations import learn, live
from examples.scenarios.script import End, Learning, Refused, Scenario, Step, Year
from examples.scenarios.serving import (
    Clock,
    Prepared,
    by_learning,
    by_priority,
    prepare,
    serving,
)
from policies import catalogue as catalogues
from policies.errors import CatalogueError

__all__ = ["Row", "play"]


class Row(NamedTuple):
    """What came of a step.

    Attributes:
        at_ms: When it was; none where no time matters.
        title: What happened.
        asked: What the product asked; empty if nothing.
        came: What it was answered.
        why: Why.
        misses: What was expected and did not come, or came and was not expected.
    """

    at_ms: int | None
    title: str
    asked: str
    came: str
    why: str
    misses: tuple[str, ...]


async def play(scenario: Scenario, folder: Path) -> list[Row]:
    """Play a script from its beginning to its end.

    Args:
        scenario: The scenario.
        folder: Where servers may keep their files; an empty one.

    Raises:
        CatalogueError: If the scenario's own catalogue is wrong.
    """
    async with AsyncExitStack() as stack:
        stage = _Stage(scenario, folder, stack)
        rows = [row async for row in stage.rows()]
    return [*rows, *(_refused(scenario, entry) for entry in scenario.script.refused)]


class _Stage:
    """Where a script is played: a clock, and a server for each variation."""

    def __init__(self, scenario: Scenario, folder: Path, stack: AsyncExitStack) -> None:
        self._scenario = scenario
        self._folder = folder
        self._stack = stack
        self._clock = Clock(_ms(scenario.script.start))
        self._prepared: dict[str, Prepared] = {}
        self._players: dict[str, Player] = {}

    async def rows(self) -> AsyncIterator[Row]:
        """Play one step after the other."""
        script = self._scenario.script
        for number, step in enumerate(script.step):
            at_ms = self._clock.now_ms + step.after
            self._clock.now_ms = at_ms if step.at is None else _ms(step.at)
            yield await self._row(step)
            if step.guards:
                yield await self._guards(number, step)
        if script.end is not None:
            yield _ended(script.end, self._players.values())
        for number, learning in enumerate(script.learning):
            async for row in self._learned(number, learning):
                yield row
        if script.year is not None:
            yield await self._year(script.year)

    async def _learned(self, number: int, learning: Learning) -> AsyncIterator[Row]:
        """Let a server learn of users whose wishes the script knows."""
        rewards = self._scenario.script.rewards
        settings = by_learning(rewards, learning.explores)
        clock = Clock(self._clock.now_ms)
        prepared = self._prepare(learning.under)
        async with serving(prepared, f"learning {number}", clock, settings) as served:
            for group, found in (await learn(learning, served)).items():
                said, misses = found
                title = f"{learning.title}: {group}"
                yield Row(None, title, f"{learning.asks} of them", *said, misses)

    async def _year(self, year: Year) -> Row:
        settings = by_learning(self._scenario.script.rewards)
        clock = Clock(self._clock.now_ms)
        async with serving(self._prepare(""), "year", clock, settings) as served:
            said, misses = await live(year, served)
        return Row(None, year.title, f"{year.users} users", *said, misses)

    async def _row(self, step: Step) -> Row:
        player = await self._player(step.under)
        came = await player.play(step)
        return Row(self._clock.now_ms, step.title, *came)

    async def _player(self, under: str) -> Player:
        if under not in self._players:
            settings = by_priority(self._scenario.script.rewards)
            served = serving(self._prepare(under), "script", self._clock, settings)
            self._players[under] = Player(await self._stack.enter_async_context(served))
        return self._players[under]

    def _prepare(self, under: str) -> Prepared:
        if under not in self._prepared:
            folder = self._folder / (under or "catalogue")
            catalogue = self._scenario.catalogue_under(under)
            self._prepared[under] = prepare(folder, catalogue, self._clock())
        return self._prepared[under]

    async def _guards(self, number: int, step: Step) -> Row:
        """Hold new users back, each on a server of its own, whose time may go on."""
        now_ms = self._clock.now_ms
        prepared = self._prepare(step.under)
        settings = by_priority(self._scenario.script.rewards)
        held: list[str] = []
        misses: list[str] = []
        for guard in guards.GUARDS:
            name = f"{number} {guard.name}"
            own = serving(prepared, name, Clock(now_ms), settings)
            async with own as served:
                reasons, wrong = await guards.hold(guard, served, step)
            held += reasons
            misses += wrong
        title = "… and the same for others, who are held back"
        return Row(now_ms, title, "", "nothing", ", ".join(held), tuple(misses))


def _refused(scenario: Scenario, entry: Refused) -> Row:
    """Lint a catalogue that must be refused."""
    try:
        catalogues.read(f"{scenario.catalogue}\n{entry.add}")
    except CatalogueError as error:
        found = [p for p in error.problems if p.field == entry.wrong]
        why = "; ".join(f"{p.field}: {p.description}" for p in found or error.problems)
        misses = () if found else (f"{entry.wrong} is not named as wrong",)
        return Row(None, entry.title, "", "catalogue refused", why, misses)
    miss = "the catalogue is taken as it is"
    return Row(None, entry.title, "", "catalogue taken", "", (miss,))


def _ended(end: End, players: Iterable[Player]) -> Row:
    interruptions: Counter[str] = Counter()
    for player in players:
        interruptions.update(player.interruptions)
    median = statistics.median(interruptions.values())
    came = f"median {median:g}"
    misses = () if median == end.interruptions else (f"not {end.interruptions:g}",)
    why = f"{len(interruptions)} users, {interruptions.total()} interruptions"
    return Row(None, end.title, "", came, why, misses)


def _ms(at: dt.datetime) -> int:
    return round(at.timestamp() * 1_000)
