"""``labelops check-model``: whether a process model fits a mapping.

Exit codes: 0 the model fits, 1 it does not (each line says what to change), 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from include.base.errors import InvalidInput
from include.bpmn.check import check_model
from include.bpmn.mapping import ProcessMapping, read_mapping, start_variables
from include.bpmn.read import process_keys

__all__ = ["add_check_model"]


def add_check_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check-model``."""
    parser.add_argument("model", type=Path, help="BPMN 2.0 file")
    parser.add_argument("mapping", type=Path, help="mapping file (YAML)")
    called = "BPMN file of a process that the model calls; may be repeated"
    parser.add_argument("--called", type=Path, action="append", default=[], metavar="FILE", help=called)
    group = "as in the connection's extra"
    parser.add_argument("--group", action="append", default=[], metavar="ROLE=GROUP", help=group)
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.set_defaults(command=_check_model)


def _check_model(options: argparse.Namespace) -> int:
    mappings = read_mapping(options.mapping)
    xml = options.model.read_bytes()
    called = {key: path.read_bytes() for path in options.called for key in process_keys(path.read_bytes())}
    groups = dict(_pair(text) for text in options.group)
    keys = process_keys(xml)
    chosen = [one for one in (mappings.labeling_approval, mappings.dataset_release) if one.process_key in keys]
    if not chosen:
        raise InvalidInput(
            f"{options.model}: has the process keys {', '.join(map(repr, keys)) or 'none'}; the mapping is for "
            f"{mappings.labeling_approval.process_key!r} and {mappings.dataset_release.process_key!r}"
        )
    reports = [check_model(mapping, xml, called.get) for mapping in chosen]
    for report in reports:
        sys.stdout.write((report.markdown() if options.markdown else report.text()) + "\n")
    routed = [_routed(mapping, groups) for mapping in chosen]
    return 0 if all(report.fits for report in reports) and all(routed) else 1


def _routed(mapping: ProcessMapping, groups: dict[str, str]) -> bool:
    """Tell whether every task that is given its group at the start would get one, and say so if not."""
    try:
        start_variables(mapping, (), groups)
    except InvalidInput as error:
        sys.stdout.write(f"- {error}\n")
        return False
    return True


def _pair(text: str) -> tuple[str, str]:
    role, sign, group = text.partition("=")
    if not (role and sign and group):
        raise InvalidInput(f"--group: found {text!r}; allowed: role=group")
    return role, group
