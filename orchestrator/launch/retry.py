"""Rejected images tried again: what kept them from being read may be gone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from orchestrator.dataset.manifest import is_prepared, read_manifest
from orchestrator.dataset.reuse import supersede
from orchestrator.launch.images import find_images
from orchestrator.record.folder import Root
from orchestrator.spec.job import DataSpec
from orchestrator.stages.prepare import try_rejects_again
from orchestrator.units import format_count


def retry_rejects(data: DataSpec, root: Root, announce: Callable[[str], None]) -> None:
    """Read the rejected images of a job once more; when some can be read now, the next prepare makes data that has them.

    Files that have changed need no retry: they are another listing, and prepare reads them anyway.

    Raises:
        JobError: The source cannot be used.
        DataError: The storage of the source fails.
        StorageError: The prepared data is damaged, or the storage is full.
    """
    found = find_images(data, root.data)
    folder = root.data / found.fingerprint
    if not is_prepared(folder):
        announce("these images were never prepared to the end: there is nothing to try again yet")
        return
    if not read_manifest(folder).rejects:
        announce(f"no image of {found.fingerprint} was rejected")
        return
    rejected, taken = try_rejects_again(data, found.listing.base, folder)
    announce(f"{format_count(rejected, 'rejected image')} tried again, {len(taken):,} can be read now")
    if taken:
        later = hashlib.sha256("".join([found.fingerprint, *sorted(taken)]).encode()).hexdigest()[:16]
        supersede(root.data, found.fingerprint, later, taken)
