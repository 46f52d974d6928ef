"""Takes catalogues into use: read, checked, compared with the one before, recorded."""

from __future__ import annotations

import getpass
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.errors import CatalogueError, FileError, Problem, plainly
from policies.toml import join_texts, parse_all, split_text
from server.stores.base import AdminStore

__all__ = [
    "Loaded",
    "author_of",
    "changes",
    "compile_source",
    "compiled",
    "in_use",
    "load",
    "me",
    "read_source",
    "sources",
]

_CHANGES_MAX = 200


class Loaded(NamedTuple):
    """A catalogue that was taken into use, or already was.

    Attributes:
        changes: What is different from the one before, a line each.
        fresh: Whether it was not in use before.
    """

    catalogue: Catalogue
    changes: list[str]
    fresh: bool


def sources(path: Path) -> list[Path]:
    """Return the files of a catalogue: the file, or all `*.toml` of the folder."""
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def read_source(path: Path) -> str:
    """Return the text of a catalogue: of a file, or of all files of a folder.

    Raises:
        CatalogueError: If it cannot be read.
    """
    files = sources(path)
    if not files:
        raise CatalogueError(str(path), [Problem("folder", "holds no *.toml")])
    try:
        texts = [(file.name, file.read_text(encoding="utf-8")) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(str(path), [Problem("file", plainly(error))]) from None
    return join_texts(texts) if path.is_dir() else texts[0][1]


def compile_source(path: Path, previous: Catalogue | None = None) -> Catalogue:
    """Read and compile a catalogue.

    Args:
        path: The file, or the folder.
        previous: What is offered now, which it may not contradict.

    Raises:
        CatalogueError: If anything in it is wrong.
    """
    return catalogues.read(
        read_source(path),
        str(path),
        previous=None if previous is None else previous.spec,
    )


def load(
    path: Path,
    store: AdminStore,
    *,
    who: str,
    reason: str,
    at_ms: int,
    before_use: Callable[[], object] = lambda: None,
) -> Loaded:
    """Take a catalogue into use, or record why it was refused.

    Args:
        path: The file, or the folder.
        store: Where catalogues are recorded.
        who: Who changed it.
        reason: Why.
        at_ms: The time.
        before_use: Is called once nothing is wrong with it.

    Raises:
        CatalogueError: If anything in it is wrong; the one before stays in use.
    """
    before = in_use(store)
    text = read_source(path)
    if before is not None and text == before.text:
        return Loaded(before, [], fresh=False)
    spec = None if before is None else before.spec
    old = "" if before is None else before.text
    try:
        catalogue = catalogues.read(text, str(path), previous=spec)
    except CatalogueError as error:
        store.refuse(
            catalogues.version_of(text),
            at_ms=at_ms,
            who=who,
            reason=reason,
            diff="\n".join(_changes_if_toml(old, text)),
            problems=str(error),
        )
        raise
    before_use()
    different = changes(old, text)
    store.activate(
        catalogue.version,
        text,
        at_ms=at_ms,
        who=who,
        reason=reason,
        diff="\n".join(different),
    )
    return Loaded(catalogue, different, fresh=True)


def in_use(store: AdminStore) -> Catalogue | None:
    """Return the catalogue that is in use; none before the first."""
    text = store.catalogue(store.active_catalogue().version)
    return None if text is None else catalogues.read(text, linted=False)


def compiled(store: AdminStore) -> Callable[[str], Catalogue]:
    """Return what reads the catalogues of a store by version, and keeps the latest.

    It raises RuntimeError for one that the store does not have.
    """

    @lru_cache(maxsize=8)
    def read(version: str) -> Catalogue:
        text = store.catalogue(version)
        if text is None:
            raise RuntimeError(f"the store lost catalogue {version}")
        return catalogues.read(text, linted=False)

    return read


def _changes_if_toml(before: str, after: str) -> list[str]:
    try:
        return changes(before, after)
    except FileError:
        return []


def changes(before: str, after: str) -> list[str]:
    r"""Return what is different between two catalogues, by key, in words.

    Examples:
        >>> changes("[offers.tea]\nprice = 3", "[offers.tea]\nprice = 4")
        ['offers.tea.price: 3 -> 4']
    """
    old, new = _flat(before), _flat(after)
    lines = [
        f"{key}: {_shown(old, key)} -> {_shown(new, key)}"
        for key in [*old, *(key for key in new if key not in old)]
        if old.get(key, ...) != new.get(key, ...)
    ]
    if len(lines) > _CHANGES_MAX:
        more = len(lines) - _CHANGES_MAX
        return [*lines[:_CHANGES_MAX], f"and {more} more"]
    return lines


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "nothing"


def _flat(text: str) -> dict[str, Any]:
    if not text:
        return {}
    return dict(_leaves(parse_all(split_text(text), "catalogue").data, ""))


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def author_of(path: Path) -> str:
    """Return who owns the file of a catalogue that was changed last."""
    try:
        latest = max(sources(path), key=lambda file: file.stat().st_mtime_ns)
        return pwd.getpwuid(latest.stat().st_uid).pw_name
    except (KeyError, OSError, ValueError):
        return "unknown"


def me() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
