"""A guideline release: an immutable, numbered, digest-named folder, and one pointer to it written last.

Prodigy is started on a folder and reads it once, so a release in use never changes under it. A run that dies half-way
leaves a folder without ``release.json``; the next run finishes that folder and only then moves the pointer.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from include.base.canonical import SHORT, canonical_json, digest_of, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.base.store import Store, StorePath, atomic_write, local_path, read_json
from include.guidelines.html import STYLE
from include.guidelines.sync import Collected, CollectedPage
from include.projects.model import Project
from include.systems.confluence.storage import escape

__all__ = ["MAX_DOCUMENT_BYTES", "TEMPLATE", "Current", "Publication", "current", "publish", "release_digest", "verify"]

TEMPLATE = 2
"""Raised whenever the same pages make another document."""

MAX_DOCUMENT_BYTES = 256 * 1024 * 1024
"""The document holds an image as often as pages show it, and is made in memory and opened in a browser."""

FOLDER = re.compile(r"(\d{4,})-([0-9a-f]{12})\Z")
COLOURS = (
    "#9ecbff",
    "#ffd28a",
    "#a6e3b4",
    "#f5b5c8",
    "#d3c0f7",
    "#f2e38b",
    "#9fe0dc",
    "#e0c3a8",
    "#c7d0da",
    "#f4b59b",
)
"""Backgrounds for labels under Prodigy's black text: at least 9:1 contrast, and told apart by lightness too."""

_MEDIA = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
_SOURCE = re.compile(r'<img src="(images/[0-9a-f]{16}\.(?:png|jpg|gif|webp))"')
_PAGE_LINK = re.compile(r'<a href="#page-([^"]*)"')


@dataclass(frozen=True)
class Publication:
    """What publishing did.

    :param number: the release's number within its project.
    :param created: whether this release became the current one by this call.
    :param changed_pages: ids of the pages that differ from the release before, removed ones included.
    :param previous: digest of the release that was current before, or None.
    """

    number: int
    digest: str
    path: StorePath
    created: bool
    changed_pages: list[str]
    previous: str | None


@dataclass(frozen=True)
class Current:
    """The release that a process starting now would serve from."""

    release: str
    number: int
    digest: str
    path: StorePath


def release_digest(project: Project, collected: Collected) -> str:
    """Return the SHA-256 that names the release: over all that its document and label list are made of."""
    return digest_of(_substance(project, collected))


def publish(store: Store, project: Project, collected: Collected) -> Publication:
    """Publish the collected guideline unless exactly that is current already.

    Two runs at once write the same bytes into the same folder; the caller's claim keeps their numbers apart.

    :raises Refused: when no page is approved.
    :raises InvalidInput: when the store lost or altered an object, when the pointer is malformed, or when the images,
        as often as they are shown, make the document larger than :data:`MAX_DOCUMENT_BYTES`.
    """
    if not collected.pages:
        raise Refused(
            f"project {project.name}: no page below {project.confluence.guideline.root!r} was ever approved "
            f"({len(collected.left_out)} left out): nothing to publish"
        )
    digest = release_digest(project, collected)
    before = current(store, project.name)
    if before is not None and before.digest == digest:
        return Publication(before.number, digest, before.path, False, [], digest)
    home = _home(store, project.name)
    number = _number(home, digest)
    name = f"{number:04d}-{digest[:SHORT]}"
    folder = home / name
    if not (folder / "release.json").exists():
        _write(store, project, collected, folder, number, digest, before)
    changed = _changed_pages(before, collected)
    store.move_pointer(pointer_path(store, project.name), {"digest": digest, "number": number, "release": name})
    return Publication(number, digest, folder, True, changed, before.digest if before else None)


def pointer_path(store: Store, project_name: str) -> StorePath:
    """Return the pointer to a project's guideline release in force."""
    return _home(store, project_name) / "current.json"


def current(store: Store, project_name: str) -> Current | None:
    """Return the release the pointer names, or None before the first.

    :raises InvalidInput: when the pointer is malformed.
    """
    home = _home(store, project_name)
    pointer = store.pointer(home / "current.json")
    if pointer is None:
        return None
    name, number, digest = pointer.get("release"), pointer.get("number"), pointer.get("digest")
    found = FOLDER.match(name) if isinstance(name, str) else None
    if found is None or not isinstance(name, str) or not isinstance(number, int) or not isinstance(digest, str):
        raise InvalidInput(f"{home / 'current.json'}: expected release, number and digest, found {pointer!r}")
    if int(found.group(1)) != number or not digest.startswith(found.group(2)):
        raise InvalidInput(
            f"{home / 'current.json'}: release {name} does not belong to number {number}, {digest[:SHORT]}"
        )
    return Current(name, number, digest, home / name)


def verify(store: Store, project_name: str, directory: str) -> list[str]:
    """Check a release folder against its ``release.json``; return the problems, an empty list when it is whole.

    :param directory: the folder's name, such as ``0001-1a2b3c4d5e6f``.
    :raises InvalidInput: when there is no such release, or its ``release.json`` is not one.
    """
    folder = _home(store, project_name) / store.at(directory).name
    record = folder / "release.json"
    if not record.exists():
        raise InvalidInput(f"{folder}: no release.json: the release was never finished, or is not one")
    value = read_json(record)
    if not isinstance(value, dict) or not isinstance(value.get("files"), dict) or "substance" not in value:
        raise InvalidInput(f"{record}: expected files and substance")
    problems = []
    named = FOLDER.match(directory)
    recomputed = digest_of(value["substance"])
    if recomputed != value.get("digest"):
        problems.append(f"release.json: its content has digest {recomputed[:SHORT]}, it says {value.get('digest')!r}")
    if (
        named is None
        or int(named.group(1)) != value.get("number")
        or named.group(2) != str(value.get("digest"))[:SHORT]
    ):
        problems.append(f"the folder's name does not fit number {value.get('number')!r}, {value.get('digest')!r}")
    for name, expected in sorted(value["files"].items()):
        path = folder.joinpath(*name.split("/"))
        if not path.exists():
            problems.append(f"{name}: missing")
            continue
        found = sha256_hex(bytes(path.read_bytes()))
        if found != expected["sha256"]:
            problems.append(f"{name}: has digest {found[:SHORT]}, expected {expected['sha256'][:SHORT]}")
    known = {*value["files"], "release.json"}
    problems += [f"{name}: not part of the release" for name in sorted(_files_in(folder) - known)]
    return problems


def _home(store: Store, project_name: str) -> StorePath:
    return store.at("publications", project_name, "guidelines")


def _files_in(folder: StorePath) -> set[str]:
    names: set[str] = set()
    for path in folder.iterdir():
        if path.is_dir():
            names.update(f"{path.name}/{inner.name}" for inner in path.iterdir())
        else:
            names.add(path.name)
    return names


def _number(home: StorePath, digest: str) -> int:
    highest = 0
    if home.exists():
        for path in home.iterdir():
            found = FOLDER.match(path.name)
            if found is None:
                continue
            if found.group(2) == digest[:SHORT]:
                return int(found.group(1))
            highest = max(highest, int(found.group(1)))
    return highest + 1


def _substance(project: Project, collected: Collected) -> dict[str, Any]:
    return {
        "colours": _colours(project),
        "images": sorted({(image.name, image.sha256) for page in collected.pages for image in page.images}),
        "labels": list(project.annotation.labels),
        "language": project.release.language,
        "pages": [
            [page.page_id, page.version, page.canonical_digest, page.html_object, page.title, page.depth, page.mark]
            for page in collected.pages
        ],
        "sections": [section for page in collected.pages for section in page.sections],
        "template": TEMPLATE,
        "title": project.title,
    }


def _colours(project: Project) -> dict[str, str]:
    return {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(project.annotation.labels)}


def _write(
    store: Store,
    project: Project,
    collected: Collected,
    folder: StorePath,
    number: int,
    digest: str,
    before: Current | None,
) -> None:
    files = {
        f"images/{image.name}": store.get_object(image.sha256) for page in collected.pages for image in page.images
    }
    files["guidelines.html"] = _document(store, project, collected, digest, files)
    files["labels.txt"] = "".join(f"{label}\n" for label in project.annotation.labels).encode("utf-8")
    files["prodigy.json"] = _prodigy(project, folder, number, digest)
    for name, content in sorted(files.items()):
        atomic_write(folder.joinpath(*name.split("/")), content)
    record = {
        "digest": digest,
        "files": {
            name: {"bytes": len(content), "sha256": sha256_hex(content)} for name, content in sorted(files.items())
        },
        "number": number,
        "pages": [_page_record(page) for page in collected.pages],
        "previous": before.digest if before else None,
        "project": project.name,
        "substance": _substance(project, collected),
    }
    atomic_write(folder / "release.json", canonical_json(record) + b"\n")


def _page_record(page: CollectedPage) -> dict[str, Any]:
    return {
        "approved_at": page.approved_at,
        "approver": page.approver,
        "canonical_digest": page.canonical_digest,
        "html_digest": page.html_object,
        "id": page.page_id,
        "mark": page.mark,
        "title": page.title,
        "version": page.version,
    }


def _changed_pages(before: Current | None, collected: Collected) -> list[str]:
    now = {
        page.page_id: [page.version, page.canonical_digest, page.html_object, page.title] for page in collected.pages
    }
    if before is None:
        return sorted(now)
    then = {
        page["id"]: [page["version"], page["canonical_digest"], page["html_digest"], page["title"]]
        for page in read_json(before.path / "release.json")["pages"]
    }
    return sorted(page_id for page_id in now.keys() | then.keys() if now.get(page_id) != then.get(page_id))


def _prodigy(project: Project, folder: StorePath, number: int, digest: str) -> bytes:
    place = local_path(folder)
    note = "instructions is relative to this file: copy the folder to the disk of the Prodigy server"
    value: dict[str, Any] = {
        "custom_theme": {"labels": _colours(project)},
        "instructions": str((place / "guidelines.html").absolute()) if place is not None else "guidelines.html",
        "labelops": {"guideline": digest, "guideline_number": number, "project": project.name, "title": project.title},
        "labels": list(project.annotation.labels),
        "project_info": ["dataset", "session", "recipe_name", "view_id", "label"],
    }
    if place is None:
        value["labelops"]["note"] = note
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def _document(store: Store, project: Project, collected: Collected, digest: str, files: dict[str, bytes]) -> bytes:
    inside = {page.page_id for page in collected.pages}
    contents = "".join(
        f'<li class="toc-{min(page.depth, 3) + 1}"><a href="#page-{escape(page.page_id)}">{escape(page.title)}</a></li>'
        for page in collected.pages
    )
    articles = "".join(
        f'<section id="page-{escape(page.page_id)}"><h2>{escape(page.title)}</h2>\n'
        f"{store.get_object(page.html_object).decode('utf-8')}\n</section>\n"
        for page in collected.pages
    )
    versions = "".join(
        f"<tr><td>{escape(page.title)}</td><td>{page.version}</td><td>{escape(page.mark)}</td>"
        f"<td><code>{page.canonical_digest[:SHORT]}</code></td></tr>"
        for page in collected.pages
    )
    labels = ", ".join(escape(label) for label in project.annotation.labels)
    title = escape(f"{project.title}: guideline")
    document = f"""<!doctype html>
<html lang="{escape(project.release.language)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<div class="labelops-guideline">
<h1>{title}</h1>
<p class="meta">Labels: {labels}. Release <code>{digest[:SHORT]}</code>.</p>
<nav class="toc"><h2>Contents</h2><ul>{contents}</ul></nav>
{articles}<footer>
<h2>Approved versions</h2>
<table><thead><tr><th>Page</th><th>Version</th><th>Approved by</th><th>Digest</th></tr></thead>
<tbody>{versions}</tbody></table>
<p>Release digest <code>{digest}</code></p>
</footer>
</div>
</body>
</html>
"""
    # a page may have left the guideline since the link to it was rendered
    document = _PAGE_LINK.sub(lambda found: found.group(0) if found.group(1) in inside else "<a", document)
    return _with_images(project, document, files).encode("utf-8")


def _with_images(project: Project, document: str, files: dict[str, bytes]) -> str:
    """Return the document with its images inside: Prodigy shows it in a page where a relative address leads nowhere."""
    shown = Counter(found.group(1) for found in _SOURCE.finditer(document))
    inline = {name: _inline(name, files[name]) for name in shown}
    size = len(document) + sum(len(inline[name]) * times for name, times in shown.items())
    if size > MAX_DOCUMENT_BYTES:
        raise InvalidInput(
            f"project {project.name}: guideline: its {len(shown)} images, shown {shown.total()} times, make it "
            f"{size:,} bytes, allowed are {MAX_DOCUMENT_BYTES:,}: show large images less often, or attach smaller ones"
        )
    return _SOURCE.sub(lambda found: f'<img src="{inline[found.group(1)]}"', document)


def _inline(name: str, content: bytes) -> str:
    media = _MEDIA[name.rsplit(".", 1)[1]]
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
