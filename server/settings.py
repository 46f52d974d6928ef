"""The settings: one strict TOML file, read once, when the process starts."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from policies.errors import FileError, Problem, SettingsError
from policies.policy import PolicySettings
from policies.rewards import RewardSettings
from policies.toml import Duration, parse

__all__ = [
    "CatalogueSettings",
    "LearningSettings",
    "MetricsSettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
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
        snapshots: How many snapshots are kept, 1 or more.
    """

    poll: Duration = Duration(100)
    publish: Duration = Duration(1_000)
    snapshots: int = 20

    def __post_init__(self) -> None:
        """Refuse what would stand still."""
        if self.poll <= 0 or self.publish <= 0:
            raise ValueError("poll and publish must be above 0")
        if self.snapshots < 1:
            raise ValueError(f"snapshots must be 1 or more, not {self.snapshots}")


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
    """All settings; each section may be left out."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    policy: PolicySettings = PolicySettings()
    rewards: RewardSettings = RewardSettings()
    learning: LearningSettings = LearningSettings()
    metrics: MetricsSettings = MetricsSettings()


def read_settings(path: Path) -> Settings:
    """Read a settings file; relative paths in it become absolute.

    Raises:
        SettingsError: If it cannot be read, or anything in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [Problem("file", str(error))]) from None
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
    file = str((path.parent / settings.catalogue.file).resolve())
    return msgspec.structs.replace(settings, catalogue=CatalogueSettings(file))
