"""How long it takes until a changed catalogue and a stop decide on every worker."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from rich.progress import Progress
from rich.table import Table

from benchmarks.serving import run_opportune
from opportune.v1 import Decision, DecisionServiceStub, GetOfferRequest, Reason
from server.stores.opening import open_admin

__all__ = ["measure", "tables"]

_OFFERS = (10, 1_000, 10_000)
_WORKERS = 2
_CONNECTIONS = 8  # The kernel spreads connections over the workers.
_GIVE_UP_S = 60.0
_PROMISED_S = {"catalogue": 5.0, "stop": 1.0, "resume": 1.0}
_SETTINGS = f"""
[server]
address = "127.0.0.1:0"
workers = {_WORKERS}
[policy.learner]
kind = "priority"
"""


def measure(progress: Progress, *, rounds: int) -> dict[str, Any]:
    """Change, stop and resume, several times over.

    Returns:
        Seconds until every connection is answered accordingly: median and longest, by
        the number of offers and by what was changed; and how many requests failed.
    """
    result: dict[str, Any] = {"promised_s": _PROMISED_S, "workers": _WORKERS}
    task = progress.add_task("changes", total=len(_OFFERS) * rounds)
    for count in _OFFERS:
        spans: dict[str, list[float]] = {name: [] for name in _PROMISED_S}
        with TemporaryDirectory() as folder:
            settings = Path(folder, "settings.toml")
            settings.write_text(_SETTINGS, encoding="utf-8")
            _write(folder, count, price=1)
            with run_opportune(settings) as server:
                clients = _connect(server.address)
                for round_ in range(rounds):
                    _round(folder, count, round_, clients, spans)
                    progress.advance(task)
        result[f"offers_{count}"] = {
            name: {"median_s": statistics.median(found), "max_s": max(found)}
            for name, found in spans.items()
        }
    return result


def tables(result: dict[str, Any]) -> list[Table]:
    """Show what was measured."""
    table = Table("offers", "change", "median", "longest", "promised")
    for count in _OFFERS:
        for name, span in result[f"offers_{count}"].items():
            table.add_row(
                f"{count:,}",
                name,
                f"{span['median_s']:.2f} s",
                f"{span['max_s']:.2f} s",
                f"{result['promised_s'][name]:.0f} s",
            )
    table.caption = f"{result['workers']} workers; no request failed"
    return [table]


def _round(
    folder: str,
    count: int,
    round_: int,
    clients: list[DecisionServiceStub],
    spans: dict[str, list[float]],
) -> None:
    before = _ask(clients[0]).catalogue_version
    _write(folder, count, price=round_ + 2)
    spans["catalogue"].append(_until(clients, lambda d: d.catalogue_version != before))
    store = open_admin(f"sqlite:///{Path(folder, 'opportune.db')}")
    stopped = Reason.Value("REASON_STOPPED")
    change = {"who": "benchmark", "reason": "", "at_ms": time.time_ns() // 1_000_000}
    store.stop("all", **change)  # type: ignore[arg-type] # A str, a str and an int.
    spans["stop"].append(_until(clients, lambda d: d.reason == stopped))
    store.resume("all", **change)  # type: ignore[arg-type] # As above.
    spans["resume"].append(_until(clients, lambda d: d.reason != stopped))
    store.close()


def _until(
    clients: list[DecisionServiceStub], holds: Callable[[Decision], bool]
) -> float:
    """Return the seconds until all connections are answered so; a failure raises."""
    started = time.monotonic()
    while not all(holds(_ask(client)) for client in clients):
        if time.monotonic() - started > _GIVE_UP_S:
            raise TimeoutError("a worker never heard of it")
    return time.monotonic() - started


def _ask(client: DecisionServiceStub) -> Decision:
    request = GetOfferRequest(
        user_id=f"user-{time.monotonic_ns()}", placement_ids=["home"]
    )
    return client.GetOffer(request, timeout=10.0).decisions[0]


def _connect(address: str) -> list[DecisionServiceStub]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    return [
        DecisionServiceStub(grpc.insecure_channel(address, options))
        for _ in range(_CONNECTIONS)
    ]


def _write(folder: str, count: int, *, price: int) -> None:
    """Write a catalogue, all at once, in which an offer has a new price."""
    offers = "".join(
        f'[offers.o{number}]\nplacements = ["home"]\nprice = {price + number}\n'
        for number in range(count)
    )
    text = f"[placements.home]\n{offers}"
    new = Path(folder, "catalogue.new")
    new.write_text(text, encoding="utf-8")
    new.replace(Path(folder, "catalogue.toml"))
