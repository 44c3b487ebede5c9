"""The files that a run has written, as parts that can be compared: times of writing left out."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from keepfit.job.drill.compare.output import mask
from keepfit.job.drill.folders import Stamp, stamp_of

Parts = Mapping[str, str]
"""A digest of each part of a file, by name, in the order of the file."""

_EVENTS = "tfevents"
_LARGEST_TEXT = 2**22


def written_files(
    folder: Path, copied: Mapping[str, Stamp], ignored: Iterable[str] = ()
) -> dict[str, Parts]:
    """Return the parts of each file that was created or changed since the folder was copied.

    Event files of one folder come together: their names contain times, and each attempt has one.

    Args:
        ignored: patterns of paths to leave out.
    """
    patterns = tuple(ignored)
    found: dict[str, Parts] = {}
    events: dict[Path, list[Path]] = {}
    for path in _changed(folder, copied):
        name = str(path.relative_to(folder))
        if any(fnmatch(name, pattern) for pattern in patterns):
            continue
        if _EVENTS in path.name:
            events.setdefault(path.parent, []).append(path)
        else:
            found[name] = parts_of(path)
    for place, paths in events.items():
        found[str((place / "events").relative_to(folder))] = parts_of_events(paths)
    return dict(sorted(found.items()))


def parts_of(path: Path) -> Parts:
    """Return the parts of one file."""
    reader = _reader_of(path)
    if reader:
        try:
            with path.open("rb") as file:
                return dict(reader(file))
        except (OSError, ValueError, zipfile.BadZipFile):
            pass  # it only has the name of such a file: its bytes are compared
    if path.stat().st_size <= _LARGEST_TEXT:
        try:
            lines = path.read_text("utf-8").splitlines()
            return {f"line {i}": _digest(mask(line)) for i, line in enumerate(lines, 1)}
        except UnicodeDecodeError:
            pass  # it is no text
    with path.open("rb") as file:
        return {"content": hashlib.file_digest(file, "sha256").hexdigest()}


def parts_of_events(paths: Iterable[Path]) -> Parts:
    """Return what TensorBoard shows of the event files of one folder."""
    from tensorboard.compat.proto.event_pb2 import Event

    parts: dict[str, str] = {}
    for path in sorted(paths, key=_numbers):
        for record in _records(path):
            event = Event.FromString(record)
            if event.graph_def:
                _add(parts, f"graph at {event.step}", "")
            for value in event.summary.value:
                # The drawing of the model contains names that Keras generates.
                content = b"" if value.tag == "keras" else value.SerializeToString()
                _add(parts, f"{value.tag} at {event.step}", _digest(content))
    return parts


def _changed(folder: Path, copied: Mapping[str, Stamp]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "__pycache__" in path.parts or path.is_symlink() or not path.is_file():
            continue
        if copied.get(name) != stamp_of(path):
            yield path


def _reader_of(path: Path) -> Callable[[IO[bytes]], Iterator[tuple[str, str]]] | None:
    if path.suffix in (".h5", ".hdf5"):
        return _arrays
    return _members if path.suffix in (".keras", ".zip", ".npz") else None


def _members(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield the members of a zip file, without the times at which they were written."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".h5"):
                for part, digest in _arrays(io.BytesIO(content)):
                    yield f"{name} {part}", digest
            elif name in ("metadata.json", "config.json"):
                yield name, _digest(_without_chance(content))
            else:
                yield name, _digest(content)


def _without_chance(document: bytes) -> str:
    """Return a document of a .keras file without times and addresses of objects."""
    numbers: dict[Any, int] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            name: numbers.setdefault(item, len(numbers)) if name == _ADDRESS else walk(item)
            for name, item in value.items()
            if name != "date_saved"
        }

    return json.dumps(walk(json.loads(document)), sort_keys=True)


_ADDRESS = "shared_object_id"
"""The field in which Keras stores the address of a layer, to find it again in the document."""


def _arrays(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield the arrays of an HDF5 file, which contains times and unused bytes beside them."""
    import h5py

    found: list[tuple[str, str]] = []

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            value = item[()]
            content = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
            found.append((name, _digest(content)))

    with h5py.File(file, "r") as arrays:
        arrays.visititems(add)
    yield from found


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file; a last one that is torn ends it."""
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            (size,) = struct.unpack("<Q", head[:8])
            record = file.read(size)
            if len(record) < size or len(file.read(4)) < 4:
                return
            yield record


def _numbers(path: Path) -> list[int]:
    """Return the numbers in a file's name: its time in seconds, and its number in the process."""
    return [int(part) for part in re.split(r"\D+", path.name) if part]


def _add(parts: dict[str, str], name: str, digest: str) -> None:
    """Add a part; one whose name comes again has a number."""
    number, unique = 1, name
    while unique in parts:
        number += 1
        unique = f"{name} ({number})"
    parts[unique] = digest


def _digest(content: bytes | str) -> str:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:20]
