"""Reads as much of a rule in CEL as can be told without asking anybody.

A rule becomes a formula of comparisons: what is compared, how, and with which values.
What is more than that, such as arithmetic or a call, stays text that is true or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import ge, gt, le, lt
from typing import Any, Literal, NamedTuple

__all__ = ["Comparison", "Formula", "Junction", "Sign", "Value", "formula_of"]

Value = float | bool | str

Sign = Literal["in", "not in", "<", "<=", ">", ">="]


class Comparison(NamedTuple):
    """What a term must be: one of some values, none of them, or beyond the only one.

    Attributes:
        term: The text of what is compared, such as `features.seats`.
    """

    term: str
    sign: Sign
    values: frozenset[Value]


class Junction(NamedTuple):
    """Several formulas: true where every one is, or else where any is."""

    every: bool
    parts: tuple[Formula, ...]


Formula = Comparison | Junction

_Tokens = Sequence[str]

_SIGNS: Mapping[str, Sign] = {
    "in": "in",
    "==": "in",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE: Mapping[Sign, Sign] = {
    "in": "not in",
    "not in": "in",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}
_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}
_RELATIONS = frozenset([*_SIGNS, "!="])
_TOKEN = re.compile(
    r"\s*(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
    r"|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?u?(?!\w)"
    r"|[A-Za-z_]\w*"
    r"|&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])"
)
_NUMBER = re.compile(r"[\d.][\d.eE+-]*u?")
_ENTRY = re.compile(r"(?<=[\w)\]])\[(['\"])([A-Za-z_]\w*)\1\]")
_DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_TRUE = Junction(every=True, parts=())
_FALSE = Junction(every=False, parts=())


class _UnreadableError(Exception):
    """A text that is no rule; whoever compiles it says so."""


def formula_of(source: str) -> Formula:
    """Return what a rule says; what cannot be read could be true.

    Examples:
        >>> formula_of("features.seats > 5.0")
        Comparison(term='features.seats', sign='>', values=frozenset({5.0}))
        >>> formula_of("'a' != segment").sign
        'not in'
    """
    try:
        return _whole(_tokens(source.rstrip()))
    except _UnreadableError:
        return _TRUE


def _tokens(source: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(source):
        token = _TOKEN.match(source, at)
        if token is None:
            raise _UnreadableError
        tokens.append(token.group().lstrip())
        at = token.end()
    return tokens


def _whole(tokens: _Tokens) -> Formula:
    if len(_split(tokens, "?")) > 1:
        return _truth_of(tokens)
    for sign, every in (("||", False), ("&&", True)):
        parts = _split(tokens, sign)
        if len(parts) > 1:
            return Junction(every, tuple([_whole(part) for part in parts]))
    return _part(tokens)


def _split(tokens: _Tokens, *signs: str) -> list[_Tokens]:
    """Part tokens at some signs, where those stand outside of all brackets."""
    parts: list[_Tokens] = []
    depth = start = 0
    for at, token in enumerate(tokens):
        depth += _DEPTH.get(token, 0)
        if depth == 0 and token in signs:
            parts.append(tokens[start:at])
            start = at + 1
    if depth:
        raise _UnreadableError
    return [*parts, tokens[start:]]


def _part(tokens: _Tokens) -> Formula:
    """Read what holds no `&&`, no `||` and no `?` outside of brackets."""
    sides = _split(tokens, *_RELATIONS)
    if not all(sides):
        raise _UnreadableError
    if len(sides) == 2:
        return _comparison(sides[0], tokens[len(sides[0])], sides[1])
    if len(sides) == 1 and tokens[0] == "!":
        return _opposite(_part(tokens[1:]))
    if len(sides) == 1 and tokens[0] == "(" and _ends(tokens) == len(tokens):
        return _whole(tokens[1:-1])
    value = _literal(tokens)
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    return _truth_of(tokens)


def _ends(tokens: _Tokens) -> int:
    """Return where the bracket that balanced tokens begin with is closed."""
    depths = accumulate(_DEPTH.get(token, 0) for token in tokens)
    return list(depths).index(0) + 1


def _comparison(left: _Tokens, sign: str, right: _Tokens) -> Formula:
    if sign == "!=":
        return _opposite(_comparison(left, "==", right))
    if sign != "in" and _literal(left) is not None:
        left, sign, right = right, _TURNED.get(sign, sign), left
    one, other = _literal(left), _literal(right)
    if sign == "in":
        values = _list(right)
    else:
        values = None if other is None else frozenset([other])
    numbers = isinstance(other, float) and not isinstance(one, str | bool)
    if values is None or (sign in _TURNED and not numbers):
        return _truth_of([*left, sign, *right])
    if one is not None:
        held = _HOLDS[sign](one, other) if sign in _HOLDS else one in values
        return _TRUE if held else _FALSE
    return Comparison(_term(left), _SIGNS[sign], values)


def _literal(tokens: _Tokens) -> Value | None:
    """Return the value that tokens write out; none where they are more than that."""
    if len(tokens) == 2 and tokens[0] == "-" and _NUMBER.fullmatch(tokens[1]):
        return -float(tokens[1].rstrip("u"))
    if len(tokens) != 1:
        return None
    token = tokens[0]
    if _NUMBER.fullmatch(token):
        return float(token.rstrip("u"))
    if token[0] in "'\"" and "\\" not in token:
        return token[1:-1]
    return {"true": True, "false": False}.get(token)


def _list(tokens: _Tokens) -> frozenset[Value] | None:
    """Return the values of a list that is written out; none for any other list."""
    if tokens[0] != "[" or _ends(tokens) != len(tokens):
        return None
    values = [_literal(part) for part in _split(tokens[1:-1], ",") if part]
    known = [value for value in values if value is not None]
    return frozenset(known) if len(known) == len(values) else None


def _truth_of(tokens: _Tokens) -> Comparison:
    """Return that what the tokens say is so."""
    return Comparison(_term(tokens), "in", frozenset([True]))


def _term(tokens: _Tokens) -> str:
    return _ENTRY.sub(r".\2", "".join(tokens))


def _opposite(formula: Formula) -> Formula:
    if isinstance(formula, Comparison):
        return formula._replace(sign=_OPPOSITE[formula.sign])
    return Junction(not formula.every, tuple([_opposite(p) for p in formula.parts]))
