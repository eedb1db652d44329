"""Single files out of packages, in memory: .deb, .tgz and wheels. Nothing is unpacked to disk or run."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile

from orchestrator.errors import StorageError

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


def ar_members(content: bytes) -> dict[str, bytes]:
    """All members of an ar archive, by name.

    Raises:
        StorageError: It is not an ar archive, or it is cut off.
    """
    if not content.startswith(AR_MAGIC):
        raise StorageError("not an ar archive")
    members = {}
    position = len(AR_MAGIC)
    while position < len(content):
        header = content[position : position + AR_HEADER_BYTES]
        size_field = header[48:58].strip()
        start = position + AR_HEADER_BYTES
        if header[58:60] != b"`\n" or not size_field.isdigit() or start + int(size_field) > len(content):
            raise StorageError(f"an ar archive is damaged at byte {position}")
        members[header[:16].decode("ascii", "replace").strip().removesuffix("/")] = content[start : start + int(size_field)]
        position = start + int(size_field) + int(size_field) % 2
    return members


def deb_files(content: bytes, paths: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a Debian package at `paths` (``usr/share/...``).

    Raises:
        StorageError: It is not a Debian package, or it lacks one of them.
    """
    data = [member for name, member in ar_members(content).items() if name.startswith("data.tar")]
    if not data:
        raise StorageError("not a Debian package: it holds no data.tar")
    return tar_files(data[0], paths)


def tar_files(content: bytes, paths: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a tar archive, compressed or not, at `paths`; a leading ``./`` inside it does not count.

    Raises:
        StorageError: It is not a tar archive, or it lacks one of them.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                file = archive.extractfile(member) if name in paths else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise StorageError(f"a tar archive cannot be read: {error}") from error
    _refuse_missing(found, paths)
    return found


def zip_files(content: bytes, paths: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a zip archive (a wheel is one) at `paths`.

    Raises:
        StorageError: It is not a zip archive, or it lacks one of them.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {path: archive.read(path) for path in paths if path in archive.NameToInfo}
    except zipfile.BadZipFile as error:
        raise StorageError(f"a zip archive cannot be read: {error}") from error
    _refuse_missing(found, paths)
    return found


def _refuse_missing(found: dict[str, bytes], paths: tuple[str, ...]) -> None:
    missing = [path for path in paths if path not in found]
    if missing:
        raise StorageError(f"the archive lacks {', '.join(missing)}")
