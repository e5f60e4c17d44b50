"""The passport on the command line: checks a release folder alone.

Exit codes: 0 the release is what was released, 1 it is not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from include.base.canonical import SHORT
from include.base.errors import InvalidInput, LabelopsError
from include.base.signing import PublicKey, read_public_key
from include.base.text import printable
from include.passport.verify import Verdict, verify

__all__ = ["main"]

_SIGNED = {
    "pinned": "signed by the key given ({key})",
    "own": "signed by the key beside it ({key}), which nobody vouched for",
    "bad": "not signed by {key}",
    "none": "unsigned",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        found = verify(options.folder, _public_key(options.public_key))
    except (LabelopsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        if options.json:
            sys.stdout.write(json.dumps({"ok": found.ok, **asdict(found)}, ensure_ascii=False) + "\n")
        else:
            sys.stdout.writelines(printable(line) + "\n" for line in _sentences(found))
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has seen enough
    return 0 if found.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.passport", description="The passport of a release.")
    commands = parser.add_subparsers(required=True, metavar="command")
    words = "check a release folder alone: every file, the approvals, the counts, the signature"
    check = commands.add_parser("verify", help=words, description=words)
    check.add_argument("folder", type=Path, help="the folder v<number>-<digest>")
    check.add_argument("--public-key", type=Path, metavar="FILE", help="PEM file of the key that must have signed it")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _public_key(place: Path | None) -> PublicKey | None:
    if place is None:
        return None
    try:
        return read_public_key(place.read_bytes(), str(place))
    except OSError as error:
        raise InvalidInput(f"{place}: the public key cannot be read ({error.strerror})") from error


def _sentences(found: Verdict) -> list[str]:
    lines = [*found.problems, *(f"Remark: {one}" for one in found.remarks)]
    verdict = "is what was released" if found.ok else "is NOT what was released"
    signed = _SIGNED[found.signature].format(key=found.key_id[:SHORT] or "any key that is known")
    lines.append(
        f"Release {found.number} of {found.project or 'an unknown project'} ({found.digest[:SHORT]}) {verdict}: "
        f"{found.files} files and {found.rows} rows checked, decided by "
        f"{', '.join(found.persons) or 'nobody'}; {signed}."
    )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
