"""Requests checked against the OpenAPI document that a sandbox serves."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator


def request_body(openapi: Path, path: str, method: str) -> Validator:
    """The validator of what the document says the operation's JSON body is."""
    document = json.loads(openapi.read_text("utf-8"))
    content = document["paths"][path][method]["requestBody"]["content"]
    schema: dict[str, Any] = {
        **content["application/json"]["schema"],
        # The document's references are resolved from the root.
        "components": document["components"],
    }
    return Draft202012Validator(schema, format_checker=FormatChecker())
