"""The small part of the Unified Expression Language that gateway conditions need.

``${quality_decision == "approved" && not (round gt 3)}``: literals, process variables, ``== != < > <= >= && || !`` and
their words ``eq ne lt gt le ge and or not``, ``empty``, and parentheses. Method calls, property access and arithmetic
are refused when a model is deployed: the text is parsed by this file and never handed to Python. Precedence, comparison
and ``empty`` follow Jakarta Expression Language 5.0, sections 1.5 and 1.9 to 1.11: a boolean or a number on one side of
a comparison turns the other side into its kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Expression", "ExpressionError", "compile_expression"]

Expression = Callable[[Mapping[str, Any]], Any]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<string>"(?:[^"\\]|\\["'\\])*"|'(?:[^'\\]|\\["'\\])*')"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<sign>==|!=|<=|>=|&&|\|\||[!<>()-]))"""
)
_WORDS = {"true": True, "false": False, "null": None}
_LOGIC = {"and": "&&", "or": "||", "not": "!", "empty": "empty"}
_SIGNS = {**_LOGIC, "eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">="}
_RESERVED = frozenset({"div", "mod", "instanceof"})
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
}


class ExpressionError(Exception):
    """The expression cannot be read, or names a variable that the process does not have."""


def compile_expression(text: str) -> Expression:
    """Return a function from process variables to the expression's value.

    :raises ExpressionError: anything outside the subset.
    """
    found = re.fullmatch(r"\s*[$#]\{(.*)\}\s*", text, re.DOTALL)
    if not found:
        raise ExpressionError(f"expected ${{…}}, found {text!r}")
    reader = _Reader(found.group(1), text)
    value = reader.alternative()
    reader.end()
    return value


class _Reader:
    def __init__(self, inner: str, whole: str) -> None:
        self.whole = whole
        self.tokens: list[tuple[str, str]] = []
        place = 0
        inner = inner.rstrip()
        while place < len(inner):
            found = _TOKEN.match(inner, place)
            if not found or found.lastgroup is None:
                raise ExpressionError(f"cannot read {inner[place:].strip()[:20]!r} in {whole!r}")
            kind, word = found.lastgroup, found.group(found.lastgroup)
            self.tokens.append(("sign", _SIGNS[word]) if kind == "name" and word in _SIGNS else (kind, word))
            place = found.end()
        self.place = 0

    def _take(self, *signs: str) -> str | None:
        if self.place < len(self.tokens) and self.tokens[self.place][0] == "sign":
            sign = self.tokens[self.place][1]
            if sign in signs:
                self.place += 1
                return sign
        return None

    def end(self) -> None:
        """Refuse what is left over."""
        if self.place != len(self.tokens):
            raise ExpressionError(f"cannot read {self.tokens[self.place][1]!r} in {self.whole!r}")

    def alternative(self) -> Expression:
        """Read ``a || b``."""
        left = self._conjunction()
        while self._take("||"):
            left = _either(left, self._conjunction())
        return left

    def _conjunction(self) -> Expression:
        left = self._equality()
        while self._take("&&"):
            left = _both(left, self._equality())
        return left

    def _equality(self) -> Expression:
        left = self._relation()
        while sign := self._take("==", "!="):
            left = _comparison(sign, left, self._relation())
        return left

    def _relation(self) -> Expression:
        left = self._unary()
        while sign := self._take("<", ">", "<=", ">="):
            left = _comparison(sign, left, self._unary())
        return left

    def _unary(self) -> Expression:
        if self._take("!"):
            inner = self._unary()
            return lambda variables: not _truth(inner(variables))
        if self._take("empty"):
            inner = self._unary()
            return lambda variables: inner(variables) in (None, "", [], {})
        if self._take("("):
            inner = self.alternative()
            if not self._take(")"):
                raise ExpressionError(f"a parenthesis is not closed in {self.whole!r}")
            return inner
        negative = bool(self._take("-"))
        if self.place >= len(self.tokens):
            raise ExpressionError(f"something is missing at the end of {self.whole!r}")
        kind, text = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            number = float(text) if "." in text else int(text)
            return _constant(-number if negative else number)
        if negative or kind == "sign":
            raise ExpressionError(f"cannot read {text!r} in {self.whole!r}")
        if kind == "string":
            return _constant(re.sub(r"\\(.)", r"\1", text[1:-1]))
        if text in _WORDS:
            return _constant(_WORDS[text])
        if text in _RESERVED:
            raise ExpressionError(f"{text!r} is not supported in {self.whole!r}")
        return _variable(text)


def _constant(value: Any) -> Expression:
    return lambda variables: value


def _variable(name: str) -> Expression:
    def read(variables: Mapping[str, Any]) -> Any:
        if name not in variables:
            raise ExpressionError(f"Unknown property used in expression: {name}")
        return variables[name]

    return read


def _either(left: Expression, right: Expression) -> Expression:
    return lambda variables: _truth(left(variables)) or _truth(right(variables))


def _both(left: Expression, right: Expression) -> Expression:
    return lambda variables: _truth(left(variables)) and _truth(right(variables))


def _comparison(sign: str, left: Expression, right: Expression) -> Expression:
    return lambda variables: _compare(sign, left(variables), right(variables))


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value is None:
        return False
    if isinstance(value, str):
        return value.lower() == "true"
    raise ExpressionError(f"a {type(value).__name__} is neither true nor false")


def _compare(sign: str, left: Any, right: Any) -> bool:
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    if left is None or right is None:
        return False
    if isinstance(left, str) and isinstance(right, str):
        return _ORDER[sign](left, right)
    return _ORDER[sign](_number(left), _number(right))


def _equal(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) or isinstance(right, bool):
        return _truth(left) == _truth(right)
    if isinstance(left, (int, float)) or isinstance(right, (int, float)):
        return _number(left) == _number(right)
    return left == right


def _number(value: Any) -> float | int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return float(value) if "." in value else int(value)
        except ValueError as error:
            raise ExpressionError("a text is compared with a number") from error
    raise ExpressionError(f"a {type(value).__name__} is compared with a number")
