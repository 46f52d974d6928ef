"""Models as files: written whole or not at all, and read as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.policy import LinUCBSettings, PolicySettings
from server import warming

POLICY = PolicySettings(LinUCBSettings(dim=8))
LARGE = bytes(range(256)) * 8_000 + b"!"
"""A model of 2 MB, whose length is no multiple of 3."""


@pytest.mark.parametrize("body", [b"", b"a", LARGE], ids=["empty", "small", "large"])
def test_what_was_written_is_read_again(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "model.json"

    warming.export(path, POLICY, model="2.34", body=body)

    assert warming.body(str(path), POLICY) == body
    written = json.loads(path.read_text())
    assert [written["model"], written["learned"]] == ["2.34", 34]
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


def test_who_waits_for_a_large_model_is_told_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    warming.export(
        tmp_path / "model.json",
        POLICY,
        model="1.1",
        body=LARGE,
        watcher=lambda done, of: told.append((done, of)),
    )

    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (len(LARGE), len(LARGE))


def test_what_could_not_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    warming.export(path, POLICY, model="1.1", body=b"first")

    def full(done: int, of: int) -> None:
        raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left"):
        warming.export(path, POLICY, model="1.2", body=LARGE, watcher=full)

    assert warming.body(str(path), POLICY) == b"first"
