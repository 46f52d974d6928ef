"""What a project that uses the packages sees of them: names and types."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest

import simulator
from simulator import compare, evaluate, opportunities, walk
from simulator.logs import AnyLog

ROOT = Path(simulator.__file__).parent.parent


def test_names_that_are_loaded_when_used_can_be_completed() -> None:
    assert set(simulator.__all__) <= set(dir(simulator))
    assert all(hasattr(simulator, name) for name in dir(simulator))


@pytest.mark.parametrize("package", ["policies", "server", "simulator"])
def test_types_are_for_those_who_import_a_package_too(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("function", [evaluate, compare, opportunities, walk])
def test_what_can_be_asked_about_has_a_type(function: object) -> None:
    hints = typing.get_type_hints(inspect.unwrap(function))  # type: ignore[arg-type]

    assert hints["log"] == AnyLog
