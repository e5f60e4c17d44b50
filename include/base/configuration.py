"""YAML read into checked values: bounded in size, depth and time, with errors that name file, line and field.

Whoever may write one file must not be able to stop the others: whatever a file holds, it is read within a moment or
refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from include.base.errors import InvalidInput
from include.base.reading import read_at_most

if TYPE_CHECKING:
    _Loader = yaml.SafeLoader
else:
    # Ten times as fast, where PyYAML was built with it; what is accepted is the same.
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

__all__ = ["DEEPEST", "YAML_BYTES", "Document", "load_model", "parse_yaml", "read_yaml"]

YAML_BYTES = 512 * 1024
"""Bytes of a file that people write by hand, and values that it may hold with what its aliases repeat."""

DEEPEST = 50
"""How deep values may be nested."""

_LONGEST_NUMBER = 100
"""Characters of a number: in base 60, which YAML has, the time to read one grows with the square of its length."""

_PROBLEMS = 20
"""Problems of one file that are told; the rest is counted."""

_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises for a value that is not what its tag or its look says, such as the date 2023-13-45."""

Model = TypeVar("Model", bound=BaseModel)


class _Values(_Loader):
    """Builds the values; a value that cannot be built is an error at its line, as every other mistake is."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind, mark = node.tag.rpartition(":")[2], node.start_mark
        if kind in ("int", "float") and len(node.value) > _LONGEST_NUMBER:
            told = f"a number of {len(node.value)} characters; allowed: {_LONGEST_NUMBER}"
            raise yaml.constructor.ConstructorError(None, None, told, mark)
        try:
            return super().construct_object(node, deep)
        except _UNREADABLE as error:
            told = f"cannot be read as {kind}; text needs quotes"
            raise yaml.constructor.ConstructorError(None, None, told, mark) from error


@dataclass(frozen=True)
class Document:
    """One YAML document that was read.

    :param source: the file, as messages name it.
    :param value: what it says.
    :param tree: where it says it.
    """

    source: str
    value: Any
    tree: yaml.Node | None

    def line_of(self, location: tuple[Any, ...]) -> int:
        """Return the line of a field, or of the innermost part of its location that is there."""
        node, line = self.tree, 1
        for part in location:
            found = next((one for one in _parts(node) if one[0] == str(part)), None)
            if found is None:
                break
            _, line, node = found
        return line

    def checked(self, model: type[Model]) -> Model:
        """Return the document as a checked value.

        :raises InvalidInput: naming file, line, field, what was found and what is allowed.
        """
        if not isinstance(self.value, dict):
            raise InvalidInput(f"{self.source}:1: expected fields, found {type(self.value).__name__}")
        try:
            return model.model_validate(self.value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
        problems = [
            f"{self.source}:{self.line_of(problem['loc'])}: {'.'.join(map(str, problem['loc'])) or 'file'}: "
            f"{problem['msg']}" + (f" (found {problem['input']!r})" if _is_short(problem["input"]) else "")
            for problem in found[:_PROBLEMS]
        ]
        if len(found) > _PROBLEMS:
            problems.append(f"{self.source}: and {len(found) - _PROBLEMS} more")
        raise InvalidInput("\n".join(problems))


def load_model(path: Path, model: type[Model], limit: int = YAML_BYTES) -> Model:
    """Return one YAML file as a checked value.

    :param limit: as of :func:`read_yaml`.
    :raises InvalidInput: naming file, line, field, what was found and what is allowed.
    """
    return read_yaml(path, limit).checked(model)


def read_yaml(path: Path, limit: int = YAML_BYTES) -> Document:
    """Return what a YAML file says.

    :param limit: bytes that it may have, and values that it may hold.
    :raises InvalidInput: naming file and line; see :func:`parse_yaml`.
    """
    try:
        text = read_at_most(path, limit).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({error})") from error
    return parse_yaml(text, str(path), limit)


def parse_yaml(text: str, source: str, limit: int = YAML_BYTES) -> Document:
    """Return what a text in YAML says.

    :param source: the file, for messages.
    :param limit: characters that it may have, and values that it may hold with what its aliases repeat.
    :raises InvalidInput: naming file and line, when it is larger or nested more than :data:`DEEPEST` deep, is not YAML,
        holds itself, gives a key twice, or has a value that is not what its tag or its look says.
    """
    if len(text) > limit:
        raise InvalidInput(f"{source}: has more than the {limit} characters that are allowed")
    try:
        _refuse_deep(text, source)
        return _build(text, source, limit)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidInput(f"{source}:{mark.line + 1 if mark else 1}: not YAML ({error.problem})") from error
    except yaml.reader.ReaderError as error:
        raise InvalidInput(f"{source}: not YAML (character {error.position + 1}: {error.reason})") from error
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise InvalidInput(f"{source}: not YAML ({type(error).__name__})") from error


def _build(text: str, source: str, limit: int) -> Document:
    loader = _Values(text)
    try:
        tree = loader.get_single_node()
        if tree is None:
            return Document(source, None, None)
        _Walk(source, limit).measure(tree, 1)
        return Document(source, loader.construct_document(tree), tree)
    finally:
        loader.dispose()


def _refuse_deep(text: str, source: str) -> None:
    """Look at the events alone, which takes no stack, before a tree is built of them, which does."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InvalidInput(f"{source}:{_line(event)}: is nested more than {DEEPEST} deep")


class _Walk:
    """One walk over a tree, to each node once however often aliases repeat it."""

    def __init__(self, source: str, limit: int) -> None:
        self._source, self._limit = source, limit
        self._measured: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def measure(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """Return how many values a node holds, with what aliases repeat, and how deep it goes below itself.

        :raises InvalidInput: when they are too many or too deep, when it holds itself, or for a key given twice.
        """
        line = _line(node)
        if id(node) in self._open:
            raise InvalidInput(f"{self._source}:{line}: a value holds itself, by its alias")
        if id(node) not in self._measured:
            self._open.add(id(node))
            if isinstance(node, yaml.MappingNode):
                self._refuse_repeated_keys(node)
            inner = [self.measure(one, depth + 1) for one in _inner(node)]
            self._open.discard(id(node))
            self._measured[id(node)] = 1 + sum(size for size, _ in inner), max((one + 1 for _, one in inner), default=0)
        size, height = self._measured[id(node)]
        if size > self._limit:
            raise InvalidInput(f"{self._source}:{line}: its aliases make more than {self._limit} values of it")
        if depth + height > DEEPEST + 1:
            raise InvalidInput(f"{self._source}:{line}: is nested more than {DEEPEST} deep, by its aliases")
        return size, height

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            line = _line(key)
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidInput(f"{self._source}:{line}: found a {key.id} for a key; allowed: a word")
            if key.value in seen:
                raise InvalidInput(f"{self._source}:{line}: {key.value}: given twice")
            seen.add(key.value)


def _line(node: yaml.Node | yaml.Event) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _parts(node: yaml.Node | None) -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield the name or number of each part of a node, its line and its own node."""
    if isinstance(node, yaml.MappingNode):
        # What `<<` merged in stands before the keys of its own, which count.
        for key, value in reversed(node.value):
            yield key.value, _line(key), value
    elif isinstance(node, yaml.SequenceNode):
        for number, one in enumerate(node.value):
            yield str(number), _line(one), one


def _is_short(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, type(None))) and len(str(value)) <= 80
