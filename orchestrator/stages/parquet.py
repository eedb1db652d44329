"""Small result tables, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.durable import write_atomically


def write_table(path: Path, table: pa.Table) -> None:
    """Raises:
    StorageError: The storage is full or does not take the file.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    write_atomically(path, sink.getvalue().to_pybytes())
