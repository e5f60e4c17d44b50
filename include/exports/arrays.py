"""Memory-mapped arrays, ready for PyTorch's ``DataLoader`` (or anything that reads ``.npy``).

A folder for each part (``train``, …, or ``data``) with ``dataset.json`` (rows, columns, labels) and for each column of
:mod:`include.exports.features`

* text: ``<name>.bin``, all texts in UTF-8 without a gap, and ``<name>.offsets.npy``, int64, where each begins (n + 1);
* one number: ``<name>.npy``, int64, shape (n,);
* a number for each label: ``<name>.npy``, int64, shape (n, labels);
* any number of them: ``<name>.npy``, int64 or float64, all in one row, and ``<name>.offsets.npy`` as above.

:class:`include.exports.dataset.ArrayDataset` reads such a folder.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from contextlib import ExitStack
from typing import IO, Any

from include.exports.features import Column, Encoder, encoder
from include.exports.output import Job

__all__ = ["LAYOUT", "write"]

LAYOUT = "labelops-arrays/1"
"""What ``dataset.json`` says of itself."""


def write(job: Job) -> None:
    """Write a folder for each part."""
    made = encoder(job)
    with ExitStack() as stack:
        parts = {part: _Part(job, part or "data", made, stack) for part in job.parts}
        for part, row in job.items():
            values = job.made(made.encode, row)
            if values is not None:
                parts[part].add(values)
        for name, part_ in parts.items():
            part_.close()
            job.took(name, part_.rows)


class _Part:
    """One folder in the making: what each column holds is spooled, for a header says how much it is."""

    def __init__(self, job: Job, name: str, made: Encoder, stack: ExitStack) -> None:
        self._out = job.out
        self._name = name
        self._made = made
        self._values = {one.name: stack.enter_context(_spool()) for one in made.columns}
        self._sizes = dict.fromkeys(self._values, 0)
        self._offsets = {
            one.name: stack.enter_context(_spool()) for one in made.columns if one.kind in ("text", "ints", "floats")
        }
        for offsets in self._offsets.values():
            offsets.write(_INT.pack(0))
        self.rows = 0

    def add(self, values: dict[str, Any]) -> None:
        """Take one row in."""
        for column in self._made.columns:
            name, value = column.name, values[column.name]
            content, size = _packed(column, value)
            self._values[name].write(content)
            self._sizes[name] += size
            if name in self._offsets:
                self._offsets[name].write(_INT.pack(self._sizes[name]))
        self.rows += 1

    def close(self) -> None:
        """Write the files of the folder."""
        for column in self._made.columns:
            spool = self._values[column.name]
            if column.kind == "text":
                self._copy(spool, f"{column.name}.bin", b"")
            else:
                shape = (self.rows, len(self._made.labels)) if column.kind == "vector" else (self._sizes[column.name],)
                header = _npy_header("<f8" if column.kind == "floats" else "<i8", shape)
                self._copy(spool, f"{column.name}.npy", header)
        for name, spool in self._offsets.items():
            self._copy(spool, f"{name}.offsets.npy", _npy_header("<i8", (self.rows + 1,)))
        described = {
            "layout": LAYOUT,
            "rows": self.rows,
            "columns": {one.name: {"kind": one.kind, "about": one.about} for one in self._made.columns},
            **self._made.names(),
        }
        self._out.write_json(f"{self._name}/dataset.json", described)
        self._out.set_rows(f"{self._name}/dataset.json", self.rows)

    def _copy(self, spool: IO[bytes], name: str, header: bytes) -> None:
        spool.seek(0)
        with self._out.path(f"{self._name}/{name}").open("wb") as out:
            out.write(header)
            shutil.copyfileobj(spool, out, 1024 * 1024)


_INT = struct.Struct("<q")


def _spool() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="labelops-export-")


def _packed(column: Column, value: Any) -> tuple[bytes, int]:
    """Return a value's bytes, and how much it adds to the column: bytes of text, or numbers."""
    if column.kind == "text":
        content = value.encode("utf-8")
        return content, len(content)
    if column.kind == "int":
        return _INT.pack(value), 1
    return struct.pack(f"<{len(value)}{'d' if column.kind == 'floats' else 'q'}", *value), len(value)


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header of NumPy's own format, version 1.0 (numpy.lib.format)."""
    import io

    from numpy.lib import format as npy

    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()
