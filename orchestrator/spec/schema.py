"""The job file as a JSON schema, for editors and for other programs."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.spec.augment import SECTIONS
from orchestrator.spec.job import JobSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, with a description on every key. It accepts the short form of an augmentation, as the loader does."""
    schema = _without_titles(JobSpec.model_json_schema())
    step = schema["$defs"]["AugmentStep"]
    keys = step["properties"]
    names = {"enum": list(SECTIONS), "description": "The augmentation with its defaults."}
    one = {"type": "object", "properties": {name: keys[name] for name in SECTIONS}, "minProperties": 1, "maxProperties": 1}
    own = {"type": "object", "properties": {name: keys[name] for name in ("entry", "kwargs")}, "required": ["entry"]}
    forms = [names, one | {"additionalProperties": False}, own | {"additionalProperties": False}]
    schema["$defs"]["AugmentStep"] = {"description": step["description"], "anyOf": forms}
    return {"$schema": DIALECT, "title": "Job file", **schema}


def schema_text() -> str:
    """The schema as it is printed and kept in `jobs/job.schema.json`."""
    return json.dumps(job_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(value: Any) -> Any:
    """Pydantic titles every key with its own name, which tells nothing."""
    if isinstance(value, dict):
        return {key: _without_titles(inner) for key, inner in value.items() if not (key == "title" and isinstance(inner, str))}
    return [_without_titles(inner) for inner in value] if isinstance(value, list) else value
