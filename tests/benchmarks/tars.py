"""The pictures as the tar files of a WebDataset."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

TARS = 16


def write_tars(files: Sequence[Path], folder: Path) -> Path:
    """Every 16th picture in the same file, beside its class number."""
    folder.mkdir(parents=True)
    for number in range(min(TARS, len(files))):
        with tarfile.open(folder / f"{number:04}.tar", "w") as tar:
            for path in files[number::TARS]:
                _add(tar, f"{path.stem}.jpg", path.read_bytes())
                _add(tar, f"{path.stem}.cls", path.parent.name.removeprefix("class-").encode())
    return folder


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    facts = tarfile.TarInfo(name)
    facts.size = len(content)
    tar.addfile(facts, io.BytesIO(content))
