"""The settings: one strict TOML file, read once, when the process starts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from policies.drift import PSI_MAX
from policies.errors import FileError, Problem, SettingsError, plainly
from policies.policy import (
    UCB,
    PolicySettings,
    PrioritySettings,
    Thompson,
    VowpalWabbitSettings,
)
from policies.promotion import CHAMPION, Lineup, PromotionSettings
from policies.rewards import CLAWBACKS, Amount, RewardSettings
from policies.splits import SplitSettings
from policies.toml import Duration, parse

__all__ = [
    "CatalogueSettings",
    "ChallengerSettings",
    "DriftSettings",
    "GuardSettings",
    "LearningSettings",
    "MetricsSettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "names_learner",
    "read_settings",
]

_ADDRESS = re.compile(r"(.+):(\d{1,5})")


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests are served.

    Attributes:
        address: Where to listen, as host:port; port 0 takes a free one.
        workers: How many processes serve, 1 to 64.
        tenant: Whose users these are; part of every decision's id.
        drain: How long requests in flight may take to end when the server stops.
        in_flight_max: How many requests a worker holds at once, 1 or more; those
            above it are answered RESOURCE_EXHAUSTED.
    """

    address: str = "127.0.0.1:50051"
    workers: int = 1
    tenant: str = "default"
    drain: Duration = Duration(10_000)
    in_flight_max: int = 1_000

    def __post_init__(self) -> None:
        """Refuse what cannot be served."""
        match = _ADDRESS.fullmatch(self.address)
        if match is None or int(match.group(2)) > 65_535:
            raise ValueError(f"address must be host:port, not {self.address!r}")
        if not 1 <= self.workers <= 64:
            raise ValueError(f"workers must be 1 to 64, not {self.workers}")
        if self.in_flight_max < 1:
            raise ValueError(
                f"in_flight_max must be 1 or more, not {self.in_flight_max}"
            )

    @property
    def host_port(self) -> tuple[str, int]:
        """The address in its two parts."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where everything is kept.

    Attributes:
        url: `sqlite:///PATH`; a relative path starts at the settings file.
    """

    url: str = "sqlite:///opportune.db"

    def __post_init__(self) -> None:
        """Refuse what names no store."""
        if not re.fullmatch(r"sqlite:///.+", self.url):
            raise ValueError(f"url must be sqlite:///PATH, not {self.url!r}")


class CatalogueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which catalogue is served.

    Attributes:
        file: The path of the catalogue, or of a folder, all of whose `*.toml` together
            are one; a relative one starts at the settings file.
    """

    file: str = "catalogue.toml"


class LearningSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast what is learned is used.

    Attributes:
        poll: How often the learner looks for outcomes, and workers for snapshots.
        publish: The least time between two snapshots.
        snapshots: How many snapshots are kept, 1 or more. What serves, what served
            before it and what the learner began with are kept beside them.
        auto_publish: Whether a snapshot serves as soon as it is published. If not, it
            is staged, and serves when it is promoted.
        canary: The share of users whom a snapshot serves first, 0 to 1; 0 for all at
            once. The others follow after `canary_for`, and learn no sooner.
        canary_for: For how long it serves them before it serves all.
        warm_start: What a learner begins with that has learned nothing here yet: a file
            that `models export` wrote, or another server's store as `sqlite:///PATH`,
            whose training stream is learned first. Empty for nothing; a relative path
            starts at the settings file.
    """

    poll: Duration = Duration(100)
    publish: Duration = Duration(1_000)
    snapshots: int = 20
    auto_publish: bool = True
    canary: float = 0.0
    canary_for: Duration = Duration(600_000)
    warm_start: str = ""

    def __post_init__(self) -> None:
        """Refuse what would stand still."""
        if self.poll <= 0 or self.publish <= 0:
            raise ValueError("poll and publish must be above 0")
        if self.snapshots < 1:
            raise ValueError(f"snapshots must be 1 or more, not {self.snapshots}")
        if not 0.0 <= self.canary <= 1.0:
            raise ValueError(f"canary must be 0 to 1, not {self.canary}")
        if self.canary_for <= 0:
            raise ValueError("canary_for must be above 0")


class ChallengerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A policy that is compared with the one that decides; `[[challengers]]` for each.

    Attributes:
        name: What it is called: lower-case letters, digits and underscores.
        mode: `shadow` decides nothing, `traffic` decides for a share of users, and
            `apprentice` decides nothing and must also agree with what is decided, as
            `agreement` in `[promotion]` says.
        share: For `traffic`, the share of users, above 0 to 0.9: all shares together
            less than 1. A share that was recorded since goes before it.
        policy: The policy; all that is in `[policy]` can be here.
    """

    name: str
    mode: Literal["shadow", "traffic", "apprentice"] = "shadow"
    share: float = 0.1
    policy: PolicySettings = PolicySettings()

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", self.name):
            raise ValueError(
                f"name must be lower-case letters, digits and _, not {self.name!r}"
            )
        if self.name == CHAMPION:
            raise ValueError(f"name must not be {CHAMPION!r}: that is [policy]")
        if not 0.0 < self.share <= 0.9:
            raise ValueError(f"share must be above 0, to 0.9, not {self.share}")


class DriftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the learner warns that the world or the policy is not what it was.

    Attributes:
        every: How often it looks.
        window: How many of the latest decisions it looks at, 100 or more.
        entropy_min: The entropy of what is chosen, as a share of what it could be,
            below which hardly anything is tried, 0 to 1; 0 never warns. It warns where
            none of the actions is certainly better, and keeps later models out.
        reference: How long ago the decisions were made that features are compared with.
        psi_max: The stability index above which a feature has drifted, above 0.
    """

    every: Duration = Duration(60_000)
    window: int = 1_000
    entropy_min: float = 0.2
    reference: Duration = Duration(86_400_000)
    psi_max: float = PSI_MAX

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.every <= 0 or self.reference <= 0:
            raise ValueError("every and reference must be above 0")
        if self.window < 100:
            raise ValueError(f"window must be 100 or more, not {self.window}")
        if not 0.0 <= self.entropy_min <= 1.0:
            raise ValueError(f"entropy_min must be 0 to 1, not {self.entropy_min}")
        if not self.psi_max > 0.0:
            raise ValueError(f"psi_max must be above 0, not {self.psi_max}")


class GuardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is let in of what requests say of users.

    Attributes:
        pii: What becomes of a text that looks like an e-mail address or a telephone
            number, as a feature, a segment or a role: `refuse` the request, `drop` the
            value, or `keep` it. The log keeps what is let in, for good.
        categories_max: How many categories of one feature are no matter for a warning,
            1 or more.
        beyond: What becomes of further categories: `keep` them, `hash` them, so that
            they share 100 names, or `drop` them.
    """

    pii: Literal["refuse", "drop", "keep"] = "refuse"
    categories_max: int = 1_000
    beyond: Literal["keep", "hash", "drop"] = "keep"

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.categories_max < 1:
            raise ValueError(
                f"categories_max must be 1 or more, not {self.categories_max}"
            )


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Prometheus finds the metrics.

    Attributes:
        port: The port on the loopback address where the first worker answers
            `/metrics`; each further worker takes the next one, the learner the one
            after the last worker. 0 for none.
    """

    port: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no port."""
        if not 0 <= self.port <= 65_000:
            raise ValueError(f"port must be 0 to 65000, not {self.port}")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; each section may be left out.

    Which users teach is the same whoever decides for them: `split` in `[policy]` is
    that of the baseline and of all challengers.

    Attributes:
        baseline: What decides before a model serves. Without it `policy` does, which
            has learned nothing then.
    """

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    policy: PolicySettings = PolicySettings()
    baseline: PolicySettings | None = None
    rewards: RewardSettings = RewardSettings()
    learning: LearningSettings = LearningSettings()
    challengers: tuple[ChallengerSettings, ...] = ()
    promotion: PromotionSettings = PromotionSettings()
    drift: DriftSettings = DriftSettings()
    guard: GuardSettings = GuardSettings()
    metrics: MetricsSettings = MetricsSettings()

    def __post_init__(self) -> None:
        """Refuse challengers that cannot take turns; split users alike for all."""
        self._split_alike()
        names = [challenger.name for challenger in self.challengers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"challengers must differ in name: two are {name!r}")
        versions = {self.policy.version: CHAMPION}
        for challenger in self.challengers:
            other = versions.setdefault(challenger.policy.version, challenger.name)
            if other != challenger.name:
                raise ValueError(
                    f"challengers must differ: {challenger.name!r} is {other!r} again,"
                    " with the same settings"
                )
        shares = [c.share for c in self.challengers if c.mode == "traffic"]
        if sum(shares) >= 1.0:
            raise ValueError(
                f"challengers must have shares below 1 together, not {sum(shares)}"
            )

    def _split_alike(self) -> None:
        if self.baseline is not None:
            baseline = self._split_as_champion(self.baseline, "baseline", "")
            msgspec.structs.force_setattr(self, "baseline", baseline)
        challengers = tuple(
            msgspec.structs.replace(
                one,
                policy=self._split_as_champion(
                    one.policy, "challengers", f" of {one.name!r}"
                ),
            )
            for one in self.challengers
        )
        msgspec.structs.force_setattr(self, "challengers", challengers)

    def _split_as_champion(
        self, policy: PolicySettings, key: str, of: str
    ) -> PolicySettings:
        split = self.policy.split
        if policy.split not in (split, SplitSettings()):
            raise ValueError(
                f"{key} must split users as [policy.split] does, {_shares(split)}:"
                f" leave out the split{of}, {_shares(policy.split)}"
            )
        return msgspec.structs.replace(policy, split=split)

    @property
    def warnings(self) -> list[str]:
        """What is allowed, and seldom meant."""
        rewards = self.rewards
        money = [
            kind
            for kind, worth in rewards.outcomes.items()
            if isinstance(worth, Amount)
        ]
        found = []
        if money and rewards.clip_max is None and rewards.clip_quantile is None:
            found.append(
                f"rewards.outcomes.{money[0]} is an amount of money, and nothing limits"
                " it: one mistyped price is learned like any other; set clip_max or"
                " clip_quantile in [rewards]"
            )
        if money and self.policy.objective.value != "none":
            found.append(
                f"rewards.outcomes.{money[0]} is an amount of money, and value in"
                f" [policy.objective] is {self.policy.objective.value!r}: money counts"
                " twice"
            )
        return [*found, *self._other_money(), *self._blind()]

    def _blind(self) -> list[str]:
        """Say which policies ask a learner how sure it is that does not know."""
        named = {"policy": self.policy}
        if self.baseline is not None:
            named["baseline"] = self.baseline
        named |= {f"challenger {one.name}": one.policy for one in self.challengers}
        return [
            f"{name}: {policy.learner.__struct_config__.tag} does not say how sure it"
            f" is, and {policy.exploration.__struct_config__.tag} is greedy with it,"
            " but for the floor"
            for name, policy in named.items()
            if isinstance(policy.exploration, Thompson | UCB)
            and isinstance(policy.learner, VowpalWabbitSettings | PrioritySettings)
        ]

    def _other_money(self) -> list[str]:
        """Say which outcomes take back other money than what was earned."""
        earned = self.rewards.of("accepted")
        of = earned.money if isinstance(earned, Amount) else f"the number {earned:g}"
        return [
            f"rewards.outcomes.{kind} takes off {worth.money}, and what is accepted"
            f" earns {of}: take off what was earned"
            for kind, worth in self.rewards.outcomes.items()
            if kind in CLAWBACKS and isinstance(worth, Amount) and worth.money != of
        ]

    @property
    def policies(self) -> dict[str, PolicySettings]:
        """Every policy that may decide, by name."""
        return {CHAMPION: self.policy} | {c.name: c.policy for c in self.challengers}

    @property
    def deciding(self) -> list[PolicySettings]:
        """Every policy that decisions may name: those, and the baseline."""
        beside = [] if self.baseline is None else [self.baseline]
        return [*self.policies.values(), *beside]

    def lineup(self, recorded: Lineup | None) -> Lineup:
        """Return which policy decides: what was recorded, as far as it still is.

        Args:
            recorded: What was recorded last; none for nothing.
        """
        recorded = recorded or Lineup()
        known = self.policies
        champion = recorded.champion if recorded.champion in known else CHAMPION
        shares = {c.name: c.share for c in self.challengers if c.mode == "traffic"}
        shares |= {n: s for n, s in recorded.shares.items() if n in known}
        shares.pop(champion, None)
        total = sum(shares.values())
        if total >= 1.0:  # What was recorded, with what was added since.
            shares = {name: 0.9 * share / total for name, share in shares.items()}
        return Lineup(champion, shares, recorded.since)


def names_learner(path: Path) -> bool:
    """Say whether a settings file names the learner of `[policy]`.

    Args:
        path: A file that `read_settings` has read.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return "learner" in table.get("policy", {})


def read_settings(path: Path) -> Settings:
    """Read a settings file; relative paths in it become absolute.

    Raises:
        SettingsError: If it cannot be read, or anything in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [Problem("file", plainly(error))]) from None
    try:
        section = parse(text, str(path))
    except FileError as error:
        raise SettingsError(str(path), error.problems) from None
    settings = section.convert(Settings)
    if settings is None or section.problems:
        raise SettingsError(str(path), section.problems)
    scheme, separator, place = settings.store.url.partition(":///")
    if separator:
        url = f"{scheme}:///{(path.parent / place).resolve()}"
        settings = msgspec.structs.replace(settings, store=StoreSettings(url))
    settings = _with_warm_start(settings, path)
    file = str((path.parent / settings.catalogue.file).resolve())
    return msgspec.structs.replace(settings, catalogue=CatalogueSettings(file))


def _shares(split: SplitSettings) -> str:
    return f"eval {split.eval:g} and control {split.control:g} by {split.salt!r}"


def _with_warm_start(settings: Settings, path: Path) -> Settings:
    """Make the path of what learners begin with absolute."""
    named = settings.learning.warm_start
    if not named:
        return settings
    place = named.removeprefix("sqlite:///")
    scheme = "sqlite:///" if place != named else ""
    learning = msgspec.structs.replace(
        settings.learning, warm_start=f"{scheme}{(path.parent / place).resolve()}"
    )
    return msgspec.structs.replace(settings, learning=learning)
