"""Secrets that a sandbox makes for itself, for the adapter to read."""

import os
import secrets
from pathlib import Path


def secret_from(file: Path) -> str:
    """The secret in the file; on the first start a new one, readable by this user only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text("ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as new:
        secret = secrets.token_urlsafe(32)
        new.write(secret)
    return secret
