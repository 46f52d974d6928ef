"""What a file may say where it says something else, by the types that it is read as."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import inspect

__all__ = ["keys_at", "listed", "meant", "texts_at"]

_Types = list[inspect.Type]


def texts_at(kind: type[Any], data: Any, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the texts that may stand under some keys, or be the last of them.

    Args:
        kind: What all of it is read as.
        data: What was read, in which the tag of a struct says which one it is.
        keys: The keys, the outermost first; at least one.

    Returns:
        The texts, sorted but for tags; none where it is not one of a few texts.

    Examples:
        >>> from policies.policy import PolicySettings
        >>> texts_at(PolicySettings, {"objective": {}}, ["objective", "value"])
        ('margin', 'none', 'price')
    """
    *above, last = keys
    types, table = _at(kind, data, above)
    found: list[str] = []
    for each in types:
        if isinstance(each, inspect.DictType):
            names = _texts(each.key_type)
            if names and last not in names:
                return names
    for each in _below(types, table, last):
        found += _texts(each)
    return tuple(dict.fromkeys(found))


def keys_at(kind: type[Any], data: Any, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the keys that the table under some keys may have.

    Args:
        kind: What all of it is read as.
        data: What was read, in which the tag of a struct says which one it is.
        keys: The keys, the outermost first; none for all of it.

    Examples:
        >>> from policies.policy import PolicySettings
        >>> keys_at(PolicySettings, {"split": {}}, ["split"])
        ('control', 'eval', 'salt')
    """
    types, table = _at(kind, data, keys)
    found: list[str] = []
    for struct in _structs(types, table):
        tag = [struct.tag_field] if struct.tag_field else []
        found += [*tag, *(field.encode_name for field in struct.fields)]
    return tuple(sorted(set(found)))


def meant(name: str, known: Sequence[str]) -> str | None:
    """Return what a name that is not known is likely to be a slip of; none for nothing.

    Examples:
        >>> meant("epsillon", ["epsilon", "kind"])
        'epsilon'
    """
    return next(iter(get_close_matches(name, known, n=1)), None)


def listed(names: Sequence[str], last: str = "and") -> str:
    """Return names as words.

    Examples:
        >>> listed(["at_once", "after_wait"], "or")
        'at_once or after_wait'
    """
    *others, final = names
    return f"{', '.join(others)} {last} {final}" if others else final


_known: dict[type[Any], inspect.Type] = {}


def _type(kind: type[Any]) -> inspect.Type:
    if kind not in _known:
        _known[kind] = inspect.type_info(kind)
    return _known[kind]


def _at(kind: type[Any], data: Any, keys: Sequence[str]) -> tuple[_Types, Any]:
    """Return what may be under the keys, and what is; none where nothing is."""
    types = _alternatives(_type(kind))
    for key in keys:
        types = list(_below(types, data, key))
        if isinstance(data, list):
            data = data[int(key)] if key.isdecimal() and int(key) < len(data) else None
        else:
            data = data.get(key) if isinstance(data, dict) else None
    return types, data


def _below(types: _Types, table: Any, key: str) -> Iterator[inspect.Type]:
    """Yield what may be under a key of a table."""
    for each in types:
        if isinstance(each, inspect.StructType) and each.tag_field == key:
            yield inspect.LiteralType((each.tag,))
        elif isinstance(each, inspect.DictType):
            yield from _alternatives(each.value_type)
        elif isinstance(each, inspect.ListType | inspect.VarTupleType):
            yield from _alternatives(each.item_type)
    for struct in _structs(types, table):
        for field in struct.fields:
            if field.encode_name == key:
                yield from _alternatives(field.type)


def _structs(types: _Types, table: Any) -> Iterator[inspect.StructType]:
    """Yield the structs that a table may be, by its tag."""
    for each in types:
        if isinstance(each, inspect.StructType):
            tag = table.get(each.tag_field) if isinstance(table, dict) else None
            if each.tag_field is None or each.tag == tag:
                yield each


def _alternatives(type_: inspect.Type) -> _Types:
    return list(type_.types) if isinstance(type_, inspect.UnionType) else [type_]


def _texts(type_: inspect.Type) -> tuple[str, ...]:
    if not isinstance(type_, inspect.LiteralType):
        return ()
    return tuple(value for value in type_.values if isinstance(value, str))
