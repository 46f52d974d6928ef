"""What a script of a scenario may say, and how it is read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

import msgspec

from policies.errors import FileError, Problem
from policies.model import FeatureValue
from policies.rewards import RewardSettings
from policies.toml import Duration, parse

__all__ = [
    "FOLDER",
    "Ask",
    "Beginning",
    "Contact",
    "End",
    "Ending",
    "Expect",
    "Gauge",
    "Group",
    "Later",
    "Learned",
    "Learning",
    "Refused",
    "Scenario",
    "Script",
    "Step",
    "Tell",
    "Variation",
    "Workflow",
    "Year",
    "names",
    "read_scenario",
    "told",
]

FOLDER = Path(__file__).parent

Needs = Literal["experiments", "the ledger"]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a script; what it does not know is refused."""


class Beginning(_Part, frozen=True):
    """A life-state that begins.

    Attributes:
        lasts: After how long it ends by itself; none for not.
        about: The categories that it is about.
    """

    lasts: Duration | None = None
    about: tuple[str, ...] = ()


class Ending(_Part, frozen=True):
    """A life-state that is over; `badly` if the user is not content with its end."""

    badly: bool = False


class Workflow(_Part, frozen=True):
    """A critical workflow: its key, and after how long it ends by itself."""

    key: str
    lasts: Duration
    allow_inline: bool = False


class Contact(_Part, frozen=True):
    """A contact by a person or through another channel."""

    by: str = ""
    about: tuple[str, ...] = ()


class Tell(_Part, frozen=True):
    """What the product tells of a user, or of the account itself.

    Attributes:
        of: Of whom: the user, or the account itself.
        owns: Products that they have now.
        about_to_own: Products that they are about to have, for seven days.
        begins: Life-states that begin, by name.
        ends: Life-states that are over, by name.
        opts_out: What they do not want to see any more: `all`, `category:NAME` or
            `offer:NAME`.
        opts_in: What they want to see again.
        quiet: From when to when they are not to be disturbed, as two times of day.
        enters: A critical workflow that begins.
        leaves: The key of one that ends.
        bought: Products that they bought outside of the offers.
        cancelled: Products that they gave up.
        rated: How content they say they are, from 0 to 1.
        ticket: The categories that a support ticket is about, which they open.
        ticket_closed: How the ticket ended: `well` or `badly`.
    """

    of: Literal["user", "account"] = "user"
    role: str | None = None
    engagement: Literal["low", "normal", "high"] | None = None
    value_discovered: bool | None = None
    owns: tuple[str, ...] = ()
    about_to_own: tuple[str, ...] = ()
    begins: dict[str, Beginning] = {}
    ends: dict[str, Ending] = {}
    opts_out: tuple[str, ...] = ()
    opts_in: tuple[str, ...] = ()
    zone: str | None = None
    quiet: tuple[str, str] | None = None
    enters: Workflow | None = None
    leaves: str = ""
    bought: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    contacted: Contact | None = None
    rated: float | None = None
    complained: bool = False
    ticket: tuple[str, ...] | None = None
    ticket_closed: Literal["well", "badly"] | None = None


class Gauge(_Part, frozen=True):
    """How much is used of something.

    Attributes:
        since: For how long the present cycle has been counted.
        left: In what time the count starts anew.
    """

    value: float
    limit: float | None = None
    per_day: float | None = None
    since: Duration | None = None
    left: Duration | None = None


class Ask(_Part, frozen=True):
    """What the product asks.

    Attributes:
        placements: The placements that can render now.
        offers: The only offers to consider; all if left out.
        max: How many offers to choose at most.
    """

    placements: tuple[str, ...]
    moment: str = ""
    session: str = ""
    role: str = ""
    cart: tuple[str, ...] = ()
    usage: dict[str, Gauge] = {}
    features: dict[str, FeatureValue] = {}
    offers: tuple[str, ...] = ()
    max: int = 1


class Expect(_Part, frozen=True):
    """What is to come of it; what is left out may be anything.

    Attributes:
        offer: The offer that is chosen, and no other.
        offers: The offers that are chosen, in their order.
        silence: The reason for which nothing is.
        why_not: By offer, the reason for which it cannot be chosen. It may be said of
            one wording, as `OFFER/CREATIVE`, or of one placement, as `OFFER@PLACEMENT`.
        again: In what time asking again may give an offer; `never` where time alone
            changes nothing.
        placement: Where the offer is to be shown.
        why_me: What the user is told why they see it, as a code.
        parameters: Values that the offer's text needs.
        price: What the offer costs, in minor units.
        discount: What is taken off.
        now: By offer, what is said of the last decision for it if it is looked at
            now: `ACTIVE`, `EXPIRED` or `WITHDRAWN`.
        earned: By offer, what the last decision for it has taught by now, as a reward.
            What is not settled yet has taught nothing, `none`.
        sold: By offer, what the table of revenue says of its last decision: its columns
            with their values, of the last row about it.
    """

    offer: str = ""
    offers: tuple[str, ...] = ()
    silence: str = ""
    why_not: dict[str, str] = {}
    again: str = ""
    placement: str = ""
    why_me: str = ""
    parameters: dict[str, FeatureValue] = {}
    price: int | None = None
    discount: int | None = None
    now: dict[str, str] = {}
    earned: dict[str, float | Literal["none"]] = {}
    sold: dict[str, dict[str, float | bool | str]] = {}

    @property
    def chosen(self) -> tuple[str, ...]:
        """The offers that are to be chosen."""
        return (self.offer,) if self.offer else self.offers


class Step(_Part, frozen=True):
    """A moment in a product's life, and what is to come of it.

    Attributes:
        title: What happens, for people.
        case: Which of the scenario's cases it shows.
        after: How long after the step before.
        at: When, in place of `after`.
        user: Who it is.
        account: Their account; empty for a user who stands alone.
        under: The variation of the catalogue that is in use; the catalogue itself if
            empty. Each has users and a server of its own.
        tell: What the product tells before it asks.
        ask: What it asks; nothing where only something is told or reported.
        expect: What is to come of it.
        report: What the user does about the offer, such as `shown`, `snoozed 7d` or
            `converted 36 USD`. By offer where it is a table: then about the last
            decision for it.
        crowd: How many further users of the account ask the same; each must get the
            same answer. They are named `USER-1`, `USER-2`, and so on.
        guards: Whether to ask once more for new users who are held back: by the caps,
            by a snooze, by a critical workflow, by an opt-out. All of them must get
            nothing.
    """

    title: str
    case: str
    after: Duration = Duration(0)
    at: dt.datetime | None = None
    user: str = "ada"
    account: str = ""
    under: str = ""
    tell: Tell | tuple[Tell, ...] = ()
    ask: Ask | None = None
    expect: Expect = Expect()
    report: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    crowd: int = 0
    guards: bool = False

    def __post_init__(self) -> None:
        """Refuse what would check nothing."""
        expect = self.expect
        if self.ask is not None and not (expect.chosen or expect.silence):
            raise ValueError("expect needs offer, offers or silence")
        if self.guards and not expect.chosen:
            raise ValueError("guards are for steps that expect an offer")

    @property
    def told(self) -> tuple[Tell, ...]:
        """What is told, in its order."""
        return told(self.tell)


class Refused(_Part, frozen=True):
    """A catalogue that must be refused.

    Attributes:
        title: What would be dishonest, or not make sense, for people.
        case: Which of the scenario's cases it shows.
        add: What stands in it beside the scenario's catalogue.
        wrong: The key that is named as wrong.
    """

    title: str
    case: str
    add: str
    wrong: str


class Variation(_Part, frozen=True):
    """The catalogue with other settings.

    Attributes:
        title: What is different, for people.
        add: What stands in it beside the scenario's catalogue.
        instead: What stands in it in place of other text, by that text.
    """

    title: str
    add: str = ""
    instead: dict[str, str] = {}


class Learned(_Part, frozen=True):
    """What is to have been learned of a group, by the last fifth of those who asked.

    Attributes:
        best: The offer that is the likeliest for them, or `no_offer`.
        above: What its probability is to be above, on average, from 0 to 1.
        below: By offer, what the probability of one is to be below.
    """

    best: str
    above: float
    below: dict[str, float] = {}


class Group(_Part, frozen=True):
    """Users who are alike in what they ask, and in what they take.

    Attributes:
        takes: By offer, the chance that somebody takes it who is shown it, from 0 to
            1; nobody takes what is not named.
        dismisses: The chance that somebody dismisses what they do not take.
    """

    ask: Ask
    learned: Learned
    tell: Tell | tuple[Tell, ...] = ()
    takes: dict[str, float] = {}
    dismisses: float = 0.0


class Learning(_Part, frozen=True):
    """What is to be learned of users, with the policy that is there by default.

    Attributes:
        title: What is to be learned, for people.
        case: Which of the scenario's cases it shows.
        asks: How many of each group ask, each of them a new user.
        under: The variation of the catalogue that is in use.
        explores: The share of decisions that try any offer, 0 to 1; a hundredth, as by
            default, if left out.
        groups: Those who ask, in turn, by name.
    """

    title: str
    case: str
    asks: int
    groups: dict[str, Group]
    under: str = ""
    explores: float = 0.01


class Year(_Part, frozen=True):
    """A year of a population, and how often an offer may interrupt them in it.

    Attributes:
        title: What is to be so, for people.
        case: Which of the scenario's cases it shows.
        users: How many users there are.
        every: How often each of them comes.
        asks: What they ask when they come, one of these by chance.
        tell: What the product tells of each of them in the beginning.
        interruptions: How often the median user is interrupted by an offer.
        offers: How often the median user is shown any, at least.
    """

    title: str
    case: str
    users: int
    every: Duration
    asks: tuple[Ask, ...]
    interruptions: float
    offers: float = 0.0
    tell: Tell | tuple[Tell, ...] = ()


class Later(_Part, frozen=True):
    """What is expected, and cannot be checked yet.

    Attributes:
        title: What is expected, for people.
        case: Which of the scenario's cases it is.
        needs: What it waits for.
        because: Why.
    """

    title: str
    case: str
    needs: Needs
    because: str


class End(_Part, frozen=True):
    """What is to be so at the end.

    Attributes:
        interruptions: How often the median user was interrupted by an offer.
    """

    title: str
    case: str
    interruptions: float


class Script(_Part, frozen=True):
    """The script of a scenario.

    Attributes:
        company: Whose pattern it is.
        pattern: What the pattern is, for people.
        start: When the first step is.
        rewards: What outcomes are worth, as in the settings of a server.
        under: Variations of the catalogue, by name.
        learning: What is to be learned.
        year: What is to be so for a population, after a year.
    """

    company: str
    pattern: str
    step: tuple[Step, ...]
    start: dt.datetime = dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)
    rewards: RewardSettings = RewardSettings()
    under: dict[str, Variation] = {}
    refused: tuple[Refused, ...] = ()
    learning: tuple[Learning, ...] = ()
    year: Year | None = None
    later: tuple[Later, ...] = ()
    end: End | None = None

    @property
    def checked(self) -> frozenset[str]:
        """The cases that it shows; what is to be shown later is not among them."""
        cases = [step.case for step in self.step]
        cases += [entry.case for entry in self.refused]
        cases += [learning.case for learning in self.learning]
        cases += [part.case for part in (self.end, self.year) if part is not None]
        return frozenset(cases)


class Scenario(_Part, frozen=True):
    """A scenario: a catalogue, and a script to play with it."""

    name: str
    catalogue: str
    script: Script

    def catalogue_under(self, variation: str) -> str:
        """Return the text of the catalogue, or of a variation."""
        if not variation:
            return self.catalogue
        different = self.script.under[variation]
        text = self.catalogue
        for old, new in different.instead.items():
            if old not in text:
                raise ValueError(f"under.{variation}: the catalogue has no {old!r}")
            text = text.replace(old, new)
        return f"{text}\n{different.add}"


def told(tell: Tell | tuple[Tell, ...]) -> tuple[Tell, ...]:
    """Return what is told, in its order."""
    return (tell,) if isinstance(tell, Tell) else tell


def names() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(path.parent.name for path in FOLDER.glob("*/script.toml"))


def read_scenario(name: str, folder: Path = FOLDER) -> Scenario:
    """Read a scenario.

    Raises:
        FileError: If there is none of that name, or its script is wrong.
    """
    path = folder / name / "script.toml"
    try:
        text = path.read_text(encoding="utf-8")
        catalogue = path.with_name("catalogue.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(str(path), [Problem("file", str(error))]) from None
    section = parse(text, str(path))
    script = section.convert(Script)
    if script is not None:
        for at, step in enumerate(script.step):
            if step.under and step.under not in script.under:
                section.problem(f"there is no [under.{step.under}]", "step", str(at))
        for at, learning in enumerate(script.learning):
            if learning.under and learning.under not in script.under:
                problem = f"there is no [under.{learning.under}]"
                section.problem(problem, "learning", str(at))
    if script is None or section.problems:
        raise FileError(str(path), section.problems)
    return Scenario(name, catalogue, script)
