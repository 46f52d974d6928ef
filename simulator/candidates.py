"""From what people call a policy to something that can be asked."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from policies.errors import FileError, plainly
from policies.learners.linucb import LinUCBSettings
from policies.model import Split
from policies.policy import EpsilonGreedy, LearnerSettings, Policy, PolicySettings
from policies.toml import parse
from simulator.batches import Batch
from simulator.feedback import Feedback
from simulator.folding import Folding
from simulator.logs import Key, Log, Source, Watcher
from simulator.targets import (
    Column,
    Fixed,
    Frozen,
    Learned,
    Logged,
    Own,
    Shares,
    Target,
    TargetError,
    Uniform,
    learn,
)
from simulator.workspaces import Workspaces

__all__ = [
    "CHOICES",
    "Candidate",
    "Policies",
    "Training",
    "candidates",
    "policy_of",
    "targets",
]

CHOICES = (
    "logged, uniform, latest, greedy, no_levers, fixed:OFFER_ID, fixed:no_offer,"
    " model:EPOCH.N,"
    " column:NAME, vw:MODEL, or the path of a settings file with [policy] or of an"
    " exported model"
)

_FIXED, _MODEL, _COLUMN, _VW = "fixed:", "model:", "column:", "vw:"
_NO_OFFER = "no_offer"
_OF_SERVERS = ("latest", "greedy", "no_levers")
_EXPORTED = "opportune.model.v1"


class Candidate(NamedTuple):
    """A policy that somebody asked about, before the log is read.

    Attributes:
        name: What it is called.
        what: What it is: a word of `CHOICES` or a path.
        settings: Of a settings file, its policy.
        exported: Of an exported model, that.
        shares: Of a function, that.
    """

    name: str
    what: str
    settings: PolicySettings | None = None
    exported: Exported | None = None
    shares: Shares | None = None

    @property
    def column(self) -> str:
        """The column of the log that it is; empty for anything else."""
        is_column = self.what.startswith(_COLUMN)
        return self.what.removeprefix(_COLUMN) if is_column else ""


class Exported(msgspec.Struct, frozen=True):
    """A model as `opportune-server models export` writes it.

    Attributes:
        format: The version of these fields.
        settings: The learner's settings.
        model: Which model it was.
        learned: How many rows of its training stream it had learned.
        body: The learner, as bytes in base 64.
    """

    format: str
    settings: LearnerSettings
    model: str
    learned: int
    body: str


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How policies learn from the log that they are judged by.

    Attributes:
        folds: Into how many parts the users fall; a policy is judged by a part with
            what it learned from the others. 0: it is judged by all that it learned.
        until_ms: It learns from what was decided before, and is judged by the rest.
        split: Which users are judged by; none for all.
    """

    folds: int
    until_ms: float | None = None
    split: Split | None = None

    @property
    def frozen(self) -> bool:
        """Whether nothing that was learned is judged by itself, even in one model."""
        return self.split not in (None, "train")

    @property
    def apart(self) -> bool:
        """Whether whoever asks has set decisions aside to judge by.

        Nothing says what a model that comes as a file has learned from.
        """
        return self.frozen or self.until_ms is not None


Policies: TypeAlias = Sequence[str] | Mapping[str, str | Shares]
"""Policies to ask: what each is, or by the name of each what it is or a function."""


def candidates(names: Policies) -> list[Candidate]:
    """Read what people call policies, before any work.

    Args:
        names: Each one of `CHOICES`, or `NAME=` and that; or by its name each one of
            `CHOICES`, or a function that says the probability of each eligible action
            of a part.

    Raises:
        TargetError: If there is no such policy, or one name for two.
    """
    if not names:
        raise TargetError(f"name a policy: {CHOICES}")
    if isinstance(names, Mapping):
        found = [_named(name, what) for name, what in names.items()]
    else:
        found = [_candidate(name) for name in dict.fromkeys(names)]
    called = [each.name for each in found]
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        raise TargetError(f"two policies are called {twice[0]!r}")
    return found


def _named(name: str, what: str | Shares) -> Candidate:
    if isinstance(what, str):
        return _candidate(what)._replace(name=name)
    if not callable(what):
        raise TargetError(
            f"policy {name} must be a name or a function of a part of a log, not"
            f" {type(what).__name__}"
        )
    return Candidate(name, "", shares=what)


def _candidate(text: str) -> Candidate:
    if not isinstance(text, str):
        raise TargetError(
            "a policy of one's own needs a name: give a mapping of names, as in"
            f" {{'mine': ...}}, not {type(text).__name__}"
        )
    name, _, what = text.partition("=")
    if not what or not name.replace("-", "_").isidentifier():
        name = what = text
    if what in ("logged", "uniform", *_OF_SERVERS):
        return Candidate(name, what)
    if what.startswith((_FIXED, _MODEL, _COLUMN)):
        return Candidate(name, what)
    if what.startswith(_VW):
        model = what.removeprefix(_VW).partition(" ")[0]
        if not Path(model).is_file():
            raise TargetError(f"{model}: there is no such model of Vowpal Wabbit")
        return Candidate(name, what)
    path = Path(what)
    if not path.is_file():
        raise TargetError(
            f"there is no policy and no settings file {what!r}: {CHOICES}"
        )
    if path.suffix == ".json":
        return Candidate(name, what, exported=_exported(path))
    return Candidate(name, what, settings=policy_of(path))


def targets(
    wanted: Sequence[Candidate],
    source: Source,
    parts: Callable[[], Iterator[Feedback]],
    *,
    training: Training,
    watcher: Watcher,
    offers: frozenset[str],
) -> list[Target]:
    """Make of candidates what can be asked, and train those that learn.

    Args:
        wanted: The candidates.
        source: The log.
        parts: Reads its decisions with a reward, from whoever teaches.
        training: How policies learn from it.
        watcher: Is told how far it is.
        offers: The offers that somebody could have been shown.

    Raises:
        LogError: If the log lacks what a policy is made from.
        TargetError: If there is no such policy.
    """
    making = _Making(source, training, watcher, offers)
    made = [making.made(candidate) for candidate in wanted]
    pupils = [pupil for pupil in made if isinstance(pupil, _Pupil)]
    # What has the same learner learns the same, and once.
    firsts: dict[str, _Pupil] = {}
    for pupil in pupils:
        firsts.setdefault(pupil.learner, pupil)
    if pupils:
        for part in parts():
            batch = Batch(part)
            for pupil in firsts.values():
                learn(pupil.policies, batch)
    for pupil in pupils:
        pupil.follow(firsts[pupil.learner])
    return [
        each.taught(training) if isinstance(each, _Pupil) else each for each in made
    ]


class _Pupil(NamedTuple):
    """A policy that is still to learn, in one model or in one for each fold."""

    name: str
    about: str
    policies: list[Policy]

    @property
    def learner(self) -> str:
        """The version of what learns."""
        return self.policies[0].settings.learner_version

    def follow(self, first: _Pupil) -> None:
        """Know what another one with the same learner has learned."""
        for mine, taught in zip(self.policies, first.policies, strict=True):
            mine.learner, mine.outcomes = taught.learner, taught.outcomes
            mine.learned = taught.learned

    def taught(self, training: Training) -> Target:
        if len(self.policies) > 1:
            return Learned(self.name, self.about, self.policies)
        trained = training.until_ms is None and not training.frozen
        return Frozen(self.name, self.about, self.policies[0], trained=trained)


class _Making:
    """Makes targets of candidates."""

    def __init__(
        self,
        source: Source,
        training: Training,
        watcher: Watcher,
        offers: frozenset[str],
    ) -> None:
        self._source = source
        self._training = training
        self._watcher = watcher
        self._offers = offers

    def made(self, candidate: Candidate) -> Target | _Pupil:
        name, what, settings, exported, shares = candidate
        if shares is not None:
            called = getattr(shares, "__name__", type(shares).__name__)
            return Own(name, f"as the function {called} says", shares)
        if settings is not None:
            return self._pupil(name, f"[policy] of {what}", settings)
        if exported is not None:
            return self._of_export(name, what, exported)
        match what:
            case "logged":
                return Logged(name, "what was decided, observed")
            case "uniform":
                return Uniform(name, "every eligible action alike")
            case "latest" | "greedy" | "no_levers":
                return self._of_server(name, what)
        kind, _, rest = what.partition(":")
        match kind:
            case "fixed":
                return self._fixed(name, rest)
            case "model":
                return self._at(name, rest)
            case "column":
                return self._column(name, rest)
            case _:
                path, _, options = rest.partition(" ")
                about = f"the model {path} of Vowpal Wabbit"
                return Workspaces(
                    name,
                    about,
                    Path(path),
                    options,
                    trained=not self._training.apart,
                    literal=getattr(self._source, "literal", frozenset()),
                )

    def _fixed(self, name: str, offer_id: str) -> Target:
        if offer_id == _NO_OFFER:
            return Fixed(name, "never any offer", "")
        if offer_id not in self._offers:
            there = ", ".join(sorted(self._offers)) or "none"
            raise TargetError(
                f"no rewarded decision could have chosen offer {offer_id!r};"
                f" there were: {there}"
            )
        about = f"{offer_id} wherever it is eligible, no offer elsewhere"
        return Fixed(name, about, offer_id)

    def _column(self, name: str, column: str) -> Target:
        if column not in self._source.targets:
            there = ", ".join(sorted(self._source.targets)) or "none"
            raise TargetError(
                f"the log has no column target:{column}; of such columns there are:"
                f" {there}"
            )
        return Column(name, f"as the log's column target:{column} says", column)

    # --- Policies that learn from the log -----------------------------------------

    def _pupil(self, name: str, what: str, settings: PolicySettings) -> _Pupil | Target:
        training = self._training
        if training.until_ms is not None:
            at = dt.datetime.fromtimestamp(training.until_ms / 1000, dt.UTC)
            about = (
                f"{what}, trained on what was decided before {at:%Y-%m-%d %H:%M} UTC"
            )
            return _Pupil(name, about, [Policy(settings)])
        if training.frozen:
            return _Pupil(name, f"{what}, trained on this log", [Policy(settings)])
        if training.folds:
            about = (
                f"{what}, trained on this log; each of {training.folds} parts of the"
                " users is judged by what was learned from the others"
            )
            return _Pupil(
                name, about, [Policy(settings) for _ in range(training.folds)]
            )
        return self._folded(name, what, settings)

    def _of_server(self, name: str, what: str) -> _Pupil | Target:
        """Return what the server would do now."""
        log = self._log(name)
        version = last_policy(log)
        settings = log.policy(version)
        learner = settings
        said = f"policy {version}"
        if what == "greedy":
            settings = _greedy(settings)
            said += " without exploration"
        if what == "no_levers":
            settings = _without_levers(settings, version)
            said += " without levers"
        training = self._training
        judged_apart = training.until_ms is not None or (
            training.folds > 0 and not training.frozen
        )
        if judged_apart and log.begun(learner.learner_version, log.epoch) is None:
            return self._pupil(name, said, settings)
        return self._folded(name, said, settings, learner)

    def _folded(
        self,
        name: str,
        what: str,
        settings: PolicySettings,
        learner: PolicySettings | None = None,
    ) -> _Pupil | Target:
        """Return a policy that has learned the whole stream, and stays as it is."""
        if self._source.format != "server":
            return _Pupil(name, f"{what}, trained on this log", [Policy(settings)])
        log = self._log(name)
        version = (learner or settings).learner_version
        folding = Folding(log, settings, log.epoch, log.snapshot(version, log.epoch))
        start = folding.position
        step = max((log.resolved - start) // 100, 1)
        for position in range(start, log.resolved, step):
            self._watcher("learning", position - start, log.resolved - start)
            folding.advance(position)
        folding.advance(log.resolved)
        policy = folding.policy(settings)
        about = f"{what}, trained on this log to {policy.model} and frozen"
        return Frozen(name, about, policy, trained=not self._training.frozen)

    # --- Models as they were ------------------------------------------------------

    def _at(self, name: str, model: str) -> Target:
        """Return the last policy with the model as it was at a position."""
        log = self._log(name)
        epoch, _, position = model.partition(".")
        if not (epoch.isdecimal() and position.isdecimal()):
            raise TargetError(f"a model is model:EPOCH.N, not model:{model}")
        version = last_policy(log)
        settings = log.policy(version)
        folding = Folding(log, settings, int(epoch))
        folding.advance(int(position))
        about = f"policy {version} with model {model}, frozen"
        policy = folding.policy(settings)
        return Frozen(name, about, policy, trained=not self._training.frozen)

    def _of_export(self, name: str, what: str, exported: Exported) -> Target:
        settings = PolicySettings(exported.settings, EpsilonGreedy(epsilon=0.0))
        if self._source.format == "server":
            log = self._log(name)
            last = log.policy(last_policy(log))
            if last.learner_version == settings.learner_version:
                settings = last
        try:
            policy = Policy(
                settings,
                base64.b64decode(exported.body),
                model=exported.model,
                learned=exported.learned,
            )
        except ValueError as error:
            raise TargetError(f"{what}: {error}") from None
        about = f"the exported model {exported.model} of {what}, frozen"
        fresh = self._training.apart
        if self._source.format == "server":
            fresh = self._training.frozen
        return Frozen(name, about, policy, trained=not fresh)

    def _log(self, name: str) -> Log:
        log = getattr(self._source, "log", None)
        if not isinstance(log, Log):
            raise TargetError(
                f"{name} is a policy of a server's own log, and {self._source.path} is"
                f" none; it is {self._source.format}"
            )
        return log


def last_policy(log: Log) -> str:
    """Return the version of the policy that decided last."""
    decode = msgspec.json.Decoder(Key).decode
    last = ""
    for record in log.records(log.last):
        last = decode(record.record).policy
    return last


def _greedy(settings: PolicySettings) -> PolicySettings:
    """Return the settings without anything that is there to explore."""
    learner = settings.learner
    if isinstance(learner, LinUCBSettings):
        learner = msgspec.structs.replace(learner, alpha=0.0)
    return PolicySettings(learner, EpsilonGreedy(epsilon=0.0), settings.salt)


def _without_levers(settings: PolicySettings, version: str) -> PolicySettings:
    """Return the settings by which nobody favours an offer."""
    if not settings.objective.levers:
        raise TargetError(f"no_levers: levers do not count in policy {version}")
    objective = msgspec.structs.replace(settings.objective, levers=False)
    return msgspec.structs.replace(settings, objective=objective)


class _File(msgspec.Struct, frozen=True):
    """The part of a settings file that is of use here."""

    policy: PolicySettings


def policy_of(path: Path) -> PolicySettings:
    """Return the policy of a settings file.

    Raises:
        TargetError: If it cannot be read, or has none.
    """
    try:
        section = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{path} {plainly(error)}") from None
    except FileError as error:
        raise TargetError(str(error)) from None
    if "policy" not in section.data:
        raise TargetError(f"{path}: there is no [policy] section to evaluate")
    file = section.convert(_File)
    if file is None or section.problems:
        raise TargetError("\n".join(f"{path}: {p}" for p in section.problems))
    return file.policy


def _exported(path: Path) -> Exported:
    try:
        exported = msgspec.json.decode(path.read_bytes(), type=Exported)
    except OSError as error:
        raise TargetError(f"{path} {plainly(error)}") from None
    except msgspec.DecodeError as error:
        raise TargetError(f"{path} is no exported model: {error}") from None
    if exported.format != _EXPORTED:
        raise TargetError(f"{path} has the format {exported.format!r}, not {_EXPORTED}")
    return exported
