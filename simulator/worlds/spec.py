"""What the file of a world may say: its tables and keys, with their defaults."""

from __future__ import annotations

import datetime as dt
import math

import msgspec

from policies.rewards import RewardSettings
from policies.toml import Duration

__all__ = [
    "AnnoyanceSpec",
    "AnswerSpec",
    "AskSpec",
    "ChurnSpec",
    "DelaySpec",
    "FatigueSpec",
    "FeatureDraw",
    "MomentSpec",
    "RefundSpec",
    "SegmentSpec",
    "TasteSpec",
    "UsageSpec",
    "WorldSpec",
]

_DAY_MS = 86_400_000
_ODDS_MAX = 30.0


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; what it does not know is refused."""

    def _within(self, low: float, high: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not low <= value <= high:
                limit = (
                    f"{low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
                )
                raise ValueError(f"{name} must be {limit}, not {value:g}")

    def _odds(self, *names: str) -> None:
        self._within(-_ODDS_MAX, _ODDS_MAX, *names)

    def _above(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, not {value:g}")

    def _range(self, *names: str) -> None:
        for name in names:
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise ValueError(
                    f"{name} must be [low, high] with 0 <= low <= high, not"
                    f" [{low:g}, {high:g}]"
                )


class FeatureDraw(_Spec, frozen=True):
    """How a feature is spread among users: one of `between`, `among` and `chance`.

    Attributes:
        between: For a number, the two values between which each is as likely.
        among: For a category, how many have each of its names, in any unit.
        chance: For a flag, the share of users for whom it is true, 0 to 1.
        per_day: By how much a number changes each day of the world, within the range
            that the catalogue gives it; only with `between`.
    """

    between: tuple[float, float] | None = None
    among: dict[str, float] = {}
    chance: float | None = None
    per_day: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is none of the three, or several."""
        if self.per_day and self.between is None:
            raise ValueError("per_day must be of a number, which has between")
        given = [self.between is not None, bool(self.among), self.chance is not None]
        if sum(given) != 1:
            raise ValueError("between, among or chance must be given, and one only")
        if self.between is not None and not self.between[0] <= self.between[1]:
            raise ValueError(f"between must be [low, high], not {list(self.between)}")
        if self.among and not min(self.among.values()) > 0.0:
            raise ValueError("among must have shares above 0")
        if self.chance is not None:
            self._within(0.0, 1.0, "chance")


class UsageSpec(_Spec, frozen=True):
    """How much of something users use, and how it grows toward a limit.

    Each user has a start and a pace of their own, drawn evenly from these ranges. Use
    stops at the limit, which is that of the largest product that the user has, on a
    ladder for this usage, or else `limit`; unless it goes on.

    Attributes:
        limit: What is allowed to whom has no product of a ladder, above 0.
        start: How much is used at the beginning, as shares of `limit`, 0 or more.
        per_day: How much it grows a day, as shares of `limit`, 0 or more.
        cycle: After which span the count starts anew; 0s for never.
        stops: Whether use stops at the limit; else it goes on beyond it.
    """

    limit: float = 100.0
    start: tuple[float, float] = (0.0, 0.8)
    per_day: tuple[float, float] = (0.0, 0.03)
    cycle: Duration = Duration(0)
    stops: bool = True

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._above("limit")
        self._range("start", "per_day")


class SegmentSpec(_Spec, frozen=True):
    """A part of the users.

    Attributes:
        share: How many of them there are beside the others, in any unit, above 0.
        visits_per_day: How often each comes, on average, above 0, to 100.
        worth_per_day: What a user who is still there pays a day, whatever is offered,
            in minor units of the catalogue's currency, 0 or more.
        features: What is known of them, by the names that the catalogue declares.
        usage: What they use.
        needs: By offer, the share of these users who need it, 0 to 1; tastes with
            `needed` are theirs, or those of the others.
        owns: The products that they have from the beginning.
        role: What they may do in their account, as the `buyers` of a catalogue.
        states: By life-state, the share of these users for whom it holds from the
            beginning on, 0 to 1.
    """

    share: float = 1.0
    visits_per_day: float = 1.0
    worth_per_day: float = 0.0
    features: dict[str, FeatureDraw] = {}
    usage: dict[str, UsageSpec] = {}
    needs: dict[str, float] = {}
    owns: tuple[str, ...] = ()
    role: str = ""
    states: dict[str, float] = {}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._above("share", "visits_per_day")
        self._within(0.0, 100.0, "visits_per_day")
        self._within(0.0, math.inf, "worth_per_day")
        for what, shares in (("needs", self.needs), ("states", self.states)):
            for name, share in shares.items():
                if not 0.0 <= share <= 1.0:
                    raise ValueError(f"{what}.{name} must be 0 to 1, not {share:g}")


class AskSpec(_Spec, frozen=True):
    """Where a visit asks for an offer; `[[asks]]` for each.

    Attributes:
        placements: The placements that can render then, at least one.
        share: How many visits ask so, beside the other asks, in any unit, above 0.
    """

    placements: tuple[str, ...]
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what asks for nothing."""
        if not self.placements:
            raise ValueError("placements must be at least one")
        self._above("share")


class MomentSpec(_Spec, frozen=True):
    """When a moment comes: of those that could, the first of the file does.

    Attributes:
        chance: In what share of the visits in which it could, 0 to 1.
        usage: Only where so much of this usage is used; any visit if empty.
        from_share: From which share of its limit on, 0 or more.
        to_share: Up to which share, that one not included unless it is 1 or more.
    """

    chance: float = 1.0
    usage: str = ""
    from_share: float = 0.8
    to_share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._within(0.0, 1.0, "chance")
        self._within(0.0, math.inf, "from_share")
        if not self.to_share >= self.from_share:
            raise ValueError(
                f"to_share must not be below from_share, {self.from_share:g}, as"
                f" {self.to_share:g} is"
            )


class TasteSpec(_Spec, frozen=True):
    """What makes an accept more or less likely; `[[tastes]]` for each, and all add up.

    Attributes:
        log_odds: What it adds to the log-odds of an accept, -30 to 30.
        offer: Of which offer; of any if empty.
        creative: In which wording; in any if empty.
        placement: In which placement; in any if empty.
        when: Features as learners see them, such as `segment=free`,
            `moment=limit_near`, `usage.storage` or `seats`: it counts as much as the
            product of their values, and not at all where one is missing.
        needed: Whether it is of users who need the offer, or, if false, of those who do
            not; of both if left out.
        from_day: From which day of the world on, 0 or more.
        until_day: Until the beginning of which day; none for always.
    """

    log_odds: float
    offer: str = ""
    creative: str = ""
    placement: str = ""
    when: tuple[str, ...] = ()
    needed: bool | None = None
    from_day: float = 0.0
    until_day: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._odds("log_odds")
        self._within(0.0, math.inf, "from_day")
        if self.until_day is not None and not self.until_day > self.from_day:
            raise ValueError(f"until_day must be after from_day, {self.from_day:g}")


class AnswerSpec(_Spec, frozen=True):
    """How users answer an offer that they see, where no taste says otherwise.

    They accept, or else opt out of its categories, or else dismiss it, or else ignore
    it: each with log-odds of its own.

    Attributes:
        accept: The log-odds of an accept, -30 to 30; -3 is 4.7 %.
        opt_out: Those of an opt-out, of who does not accept, -30 to 30.
        dismiss: Those of a dismissal, of who does neither, -30 to 30.
        snooze: Which share of the dismissals is a snooze instead, 0 to 1.
        snooze_for: For how long it is snoozed, above 0.
        within: How long after it was shown the answer comes, at most 50s.
    """

    accept: float = -3.0
    opt_out: float = -6.0
    dismiss: float = -1.5
    snooze: float = 0.0
    snooze_for: Duration = Duration(7 * _DAY_MS)
    within: Duration = Duration(10_000)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._odds("accept", "opt_out", "dismiss")
        self._within(0.0, 1.0, "snooze")
        self._above("snooze_for")
        self._within(0, 50_000, "within")


class FatigueSpec(_Spec, frozen=True):
    """What seeing offers does to whoever sees them.

    Each offer adds the `interruptiveness` of its placement to the user's fatigue, which
    decays. Each unit of it moves log-odds.

    Attributes:
        half_life: After which span half of it is gone, above 0.
        accept: What a unit takes off those of an accept, 0 to 30.
        dismiss: What it adds to those of a dismissal, 0 to 30.
        opt_out: What it adds to those of an opt-out, 0 to 30.
    """

    half_life: Duration = Duration(2 * _DAY_MS)
    accept: float = 0.0
    dismiss: float = 0.0
    opt_out: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._above("half_life")
        self._within(0.0, _ODDS_MAX, "accept", "dismiss", "opt_out")


class AnnoyanceSpec(_Spec, frozen=True):
    """What stays of offers that were not wanted; it moves people to leave.

    Attributes:
        half_life: After which span half of it is gone, above 0.
        dismissed: What a dismissal adds, 0 to 30.
        opted_out: What an opt-out adds, 0 to 30.
        ignored: What an offer adds that is ignored, 0 to 30.
    """

    half_life: Duration = Duration(30 * _DAY_MS)
    dismissed: float = 1.0
    opted_out: float = 3.0
    ignored: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._above("half_life")
        self._within(0.0, _ODDS_MAX, "dismissed", "opted_out", "ignored")


class ChurnSpec(_Spec, frozen=True):
    """How users leave for good: with a hazard of per_day × exp(annoyance + fatigue).

    Attributes:
        per_day: The hazard a day of who was never bothered, 0 to 1.
        annoyance: By how much a unit of annoyance raises its logarithm, 0 to 30.
        fatigue: By how much a unit of fatigue does, 0 to 30.
    """

    per_day: float = 0.001
    annoyance: float = 0.0
    fatigue: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._within(0.0, 1.0, "per_day")
        self._within(0.0, _ODDS_MAX, "annoyance", "fatigue")


class DelaySpec(_Spec, frozen=True):
    """Accepts that come later.

    Attributes:
        share: Which share of the accepts, 0 to 1.
        mean: How much later on average, if nothing cut it off, above 0.
        longest: What comes later than this comes then; at most `wait` + `late` of the
            rewards, so that every accept counts.
    """

    share: float = 0.0
    mean: Duration = Duration(_DAY_MS)
    longest: Duration = Duration(14 * _DAY_MS)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._within(0.0, 1.0, "share")
        self._above("mean", "longest")


class RefundSpec(_Spec, frozen=True):
    """Accepts that are taken back.

    Attributes:
        share: Which share of the accepts, 0 to 1.
        after: How long after the accept, above 0.
    """

    share: float = 0.0
    after: Duration = Duration(3 * _DAY_MS)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        self._within(0.0, 1.0, "share")
        self._above("after")


class WorldSpec(_Spec, frozen=True):
    """What holds of a world as a whole.

    Attributes:
        catalogue: The path of the catalogue; a relative one starts at this file.
        asks: Where visits ask for offers, at least one.
        segments: The parts of the users, at least one.
        description: What this world is there to show, for people.
        start: When it begins; a TOML date-time with its zone.
        users: How many there are where nobody says otherwise, 1 to 10,000,000.
        days: For how many days it lasts likewise, above 0, to 3,660.
        publish: How often what was learned begins to decide, above 0.
        renewal: After which span what renews is paid again, above 0.
        rewards: What outcomes are worth: as `[rewards]` in a server's settings, with
            `silence_confirms_itself` true unless it says otherwise.
        moments: When moments come.
        tastes: What users like.
        answers: How they answer.
        fatigue: What seeing offers does to them.
        annoyance: What stays of offers that were not wanted.
        churn: How they leave.
        delays: Accepts that come later.
        refunds: Accepts that are taken back.
    """

    catalogue: str
    asks: tuple[AskSpec, ...]
    segments: dict[str, SegmentSpec] = {}
    description: str = ""
    start: dt.datetime = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
    users: int = 500
    days: float = 30.0
    publish: Duration = Duration(3_600_000)
    renewal: Duration = Duration(30 * _DAY_MS)
    rewards: RewardSettings = RewardSettings(silence_confirms_itself=True)
    moments: dict[str, MomentSpec] = {}
    tastes: tuple[TasteSpec, ...] = ()
    answers: AnswerSpec = AnswerSpec()
    fatigue: FatigueSpec = FatigueSpec()
    annoyance: AnnoyanceSpec = AnnoyanceSpec()
    churn: ChurnSpec = ChurnSpec()
    delays: DelaySpec = DelaySpec()
    refunds: RefundSpec = RefundSpec()

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not self.asks:
            raise ValueError("asks must be at least one")
        if self.start.tzinfo is None:
            raise ValueError("start must have a zone, as 2026-01-05T00:00:00Z")
        self._within(1, 10_000_000, "users")
        self._above("days", "publish", "renewal")
        self._within(0.0, 3_660.0, "days")
