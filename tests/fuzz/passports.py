"""Release folders changed at random, the checksums made to fit them: each gets a verdict, or an error of ours."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from include.base.reading import parse_json
from include.passport.verify import verify
from tests.fuzz import Target
from tests.fuzz.configuration import SNIPPETS, changed
from tests.passport.make import SIGNER, released, reseal

__all__ = ["TARGETS"]

NOISE = (b"\x00", b"\xff", b'"', b"{", b"}", b"[" * 600, b'{"a":' * 600, b",", b":", b"9" * 5000, b"1e999", b"NaN")
NOISE += (b'"\\ud800"', b"null", b"\n", b"---\n", b'"digest":', b"\xef\xbb\xbf", b"-", b"true")


@cache
def _sound(signed: bool) -> Path:
    """Return a sound release that all seeds begin with."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-passports-"))
    atexit.register(shutil.rmtree, home, True)
    return released(home, SIGNER if signed else None)


def _bytes(content: bytes, random: Random) -> bytes:
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(content) + 1)
        content = content[:place] + random.choice(NOISE) + content[place + random.choice([0, 1, 10, 1000]) :]
    return content


def _json(content: bytes, random: Random) -> bytes:
    value: Any = json.loads(content)
    for _ in range(random.randrange(1, 3)):
        value = changed(value, random)
    return json.dumps(value).encode("utf-8")


def _lines(content: bytes, random: Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place = random.randrange(len(lines))
    return b"".join([*lines[:place], _json(lines[place], random) + b"\n", *lines[place + 1 :]])


def _card(content: bytes, random: Random) -> bytes:
    start, front, body = content.decode("utf-8").split("---\n", 2)
    if random.random() < 0.5:
        front = yaml.safe_dump(changed(yaml.safe_load(front), random))
    else:
        place = random.randrange(len(front) + 1)
        front = front[:place] + random.choice(SNIPPETS) + front[place:]
    return "---\n".join([start, front, body]).encode("utf-8", "surrogatepass")


def _change(place: Path, random: Random) -> None:
    if random.random() < 0.05:
        place.unlink()
        random.choice([os.mkfifo, os.mkdir, lambda path: os.symlink("README.md", path)])(place)
        return
    content, chance = place.read_bytes(), random.random()
    if chance < 0.3:
        content = _bytes(content, random)
    elif place.suffix == ".json":
        content = _json(content, random)
    elif place.suffix == ".jsonl":
        content = _lines(content, random)
    elif place.suffix == ".md":
        content = _card(content, random)
    else:
        content = _bytes(content, random)
    place.write_bytes(content)


def _release(random: Random) -> object:
    sound = _sound(random.random() < 0.5)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / sound.name
        shutil.copytree(sound, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        chosen = random.sample(files, random.choice([1, 1, 2]))
        sums = folder / "checksums.json"
        for place in chosen:
            if place != sums:
                _change(place, random)
        if random.random() < 0.8:
            reseal(folder)
        if sums in chosen:
            _change(sums, random)
        found = verify(folder, random.choice([SIGNER.public, None]))
        assert not found.ok or found.problems == ()
        return json.dumps(found.__dict__)


def _any_json(random: Random) -> object:
    pieces = [b'"a"', b":", b",", b"1", b"[", b"]", b"{", b"}", b" ", *NOISE]
    return parse_json(b"".join(random.choices(pieces, k=random.randrange(1, 40))), "any.json")


TARGETS: dict[str, Target] = {"release folder": _release, "any JSON": _any_json}
