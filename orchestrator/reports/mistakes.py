"""The worst mistakes of an evaluation with their pictures."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.record.folder import RunFolder
from orchestrator.reports.fields import encodable

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Mistake:
    """One image that was taken for something else."""

    path: str
    label: int
    """Index of the true class."""
    predicted: int
    """Index of the predicted class."""
    probability: float
    """What the model gave the predicted class."""
    png: bytes
    """Empty when what is stored is no PNG."""


def read_mistakes(folder: RunFolder) -> tuple[Mistake, ...]:
    """Worst first; none when the evaluation has not been done.

    Raises:
        ValueError: The file is damaged.
    """
    if not folder.mistakes.is_file():
        return ()
    try:
        rows = pq.read_table(folder.mistakes, columns=["path", "label", "predicted", "probability", "png"]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{folder.mistakes.name} could not be read ({type(error).__name__}); this report leaves it out") from error
    return tuple(_mistake(row) for row in rows)


def _mistake(row: dict[str, object]) -> Mistake:
    png = row["png"]
    return Mistake(
        path=encodable(str(row["path"])),
        label=int(str(row["label"])),
        predicted=int(str(row["predicted"])),
        probability=float(str(row["probability"])),
        png=png if isinstance(png, bytes) and png.startswith(PNG_SIGNATURE) else b"",
    )
