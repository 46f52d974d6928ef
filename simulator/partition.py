"""Where the parts of a log are looked at: here one after the other, or on a cluster.

What is made of parts is put together in their order, so that a cluster ends in the
same sums as one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from policies.errors import OpportuneError
from simulator.feedback import Feedback

__all__ = ["Cluster", "ClusterError", "Here", "Runner", "runner_of"]

_AHEAD = 4
"""How many parts are under way for each thread of a cluster: what bounds memory."""

T = TypeVar("T")


class ClusterError(OpportuneError):
    """A cluster cannot be used; the message says what to do."""


class Runner(Protocol):
    """Looks at the parts of a log, and puts together what it finds."""

    def fold(
        self, parts: Iterable[Feedback], step: Callable[[Feedback], T]
    ) -> T | None:
        """Return what a step makes of all parts, added up in their order.

        Args:
            parts: The parts, of which only a few are in memory at once.
            step: What is made of one; what it makes has `+`.

        Returns:
            Nothing where there are no parts.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Here:
    """One part after the other, in this process."""

    def fold(
        self, parts: Iterable[Feedback], step: Callable[[Feedback], T]
    ) -> T | None:
        """As for every runner."""
        total: T | None = None
        for part in parts:
            total = _plus(total, step(part))
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Cluster:
    """Parts are read here and looked at by the workers of a Dask cluster.

    Workers need no access to the log, but the same version of Opportune.

    Args:
        address: Where its scheduler listens, such as `tcp://10.0.0.5:8786`.

    Raises:
        ClusterError: If there is none, or Dask is not installed.
    """

    def __init__(self, address: str) -> None:
        if "://" not in address:
            raise ClusterError(
                "the address of a scheduler is like tcp://10.0.0.5:8786, not"
                f" {address!r}"
            )
        try:
            distributed = import_module("distributed")
        except ImportError:
            raise ClusterError(
                "a cluster needs dask.distributed: pip install 'opportune[dask]'"
            ) from None
        try:
            self._client = distributed.Client(
                address, set_as_default=False, timeout="10s"
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address}: {error}"
            ) from None

    def fold(
        self, parts: Iterable[Feedback], step: Callable[[Feedback], T]
    ) -> T | None:
        """As for every runner.

        Raises:
            OpportuneError: What a step raises.
        """
        threads = sum(self._client.nthreads().values())
        if not threads:
            raise ClusterError("the cluster has no workers")
        shared = self._client.scatter(step, broadcast=True, hash=False)
        waiting: deque[Any] = deque()
        total: T | None = None
        for part in parts:
            waiting.append(self._client.submit(_apply, shared, part, pure=False))
            if len(waiting) > _AHEAD * threads:
                total = _plus(total, waiting.popleft().result())
        while waiting:
            total = _plus(total, waiting.popleft().result())
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()


def runner_of(address: str | None) -> Runner:
    """Return where parts are looked at: a cluster, or here without an address."""
    return Here() if address is None else Cluster(address)


def _apply(step: Callable[[Feedback], T], part: Feedback) -> T:
    return step(part)


def _plus(total: T | None, found: T) -> T:
    if total is None:
        return found
    added: T = total + found  # type: ignore[operator]
    return added
