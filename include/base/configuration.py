"""Configuration files: YAML read into a checked value, with errors that name file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from include.base.errors import InvalidInput

__all__ = ["load_model"]

Model = TypeVar("Model", bound=BaseModel)


def load_model(path: Path, model: type[Model]) -> Model:
    """Return one YAML file as a checked value.

    :raises InvalidInput: naming file, line, field, what was found and what is allowed.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({error})") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not YAML ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}:1: expected fields, found {type(value).__name__}")
    _refuse_repeated_keys(path, tree)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [
            f"{path}:{_line_of(tree, problem['loc'])}: {'.'.join(map(str, problem['loc'])) or 'file'}: "
            f"{problem['msg']}" + (f" (found {problem['input']!r})" if _is_short(problem["input"]) else "")
            for problem in error.errors(include_url=False, include_context=False)
        ]
        raise InvalidInput("\n".join(problems)) from error


def _line_of(tree: yaml.Node | None, location: tuple[Any, ...]) -> int:
    node = tree
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, inner
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, inner in node.value:
            if key.value in seen:
                raise InvalidInput(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
            seen.add(key.value)
            _refuse_repeated_keys(path, inner)
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            _refuse_repeated_keys(path, inner)


def _is_short(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, type(None))) and len(str(value)) <= 80
