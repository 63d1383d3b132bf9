"""e-Boks, by a contract of our own (openapi.json): e-Boks publishes none for this."""

from adapters.eboks.adapter import EBoksAdapter
from adapters.eboks.settings import EBoksSettings

__all__ = ["EBoksAdapter", "EBoksSettings"]
