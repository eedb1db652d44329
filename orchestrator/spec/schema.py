"""The job file as a JSON schema, for editors and for other programs."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.spec.job import AugmentStep, JobSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, with a description on every key. It accepts the short form of an augmentation, as the loader does."""
    schema = _without_titles(JobSpec.model_json_schema())
    step = schema["$defs"]["AugmentStep"]
    names = {"enum": list(AugmentStep.model_fields), "description": "The augmentation with its defaults."}
    one = {key: value for key, value in step.items() if key != "description"} | {"minProperties": 1, "maxProperties": 1}
    schema["$defs"]["AugmentStep"] = {"description": step["description"], "anyOf": [names, one]}
    return {"$schema": DIALECT, "title": "Job file", **schema}


def schema_text() -> str:
    """The schema as it is printed and kept in `jobs/job.schema.json`."""
    return json.dumps(job_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(value: Any) -> Any:
    """Pydantic titles every key with its own name, which tells nothing."""
    if isinstance(value, dict):
        return {key: _without_titles(inner) for key, inner in value.items() if not (key == "title" and isinstance(inner, str))}
    return [_without_titles(inner) for inner in value] if isinstance(value, list) else value
