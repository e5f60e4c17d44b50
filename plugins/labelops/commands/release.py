"""``labelops verify-release``: checks a release folder alone, for whoever received it.

Needs neither Airflow nor a database nor a setting: the folder and, from elsewhere, the public key.

Exit codes: 0 the release is what was released, 1 it is not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.base.signing import PublicKey, read_public_key
from include.base.text import printable
from include.passport.verify import Verdict, verify

__all__ = ["add_verify_release"]

_SIGNED = {
    "pinned": "signed by the key given ({key})",
    "own": "signed by the key beside it ({key}), which nobody vouched for",
    "bad": "not signed by {key}",
    "none": "unsigned",
}


def add_verify_release(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``verify-release``."""
    parser.add_argument("folder", type=Path, help="the folder v<number>-<digest>")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="PEM file of the key that must have signed it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_verify_release)


def _verify_release(options: argparse.Namespace) -> int:
    found = verify(options.folder, _public_key(options.public_key))
    try:
        if options.json:
            sys.stdout.write(json.dumps({"ok": found.ok, **asdict(found)}) + "\n")
        else:
            sys.stdout.writelines(printable(line) + "\n" for line in _sentences(found))
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has seen enough
    return 0 if found.ok else 1


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
