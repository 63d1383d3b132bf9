"""e-Boks, by a contract of our own (openapi.json): e-Boks publishes none for this."""

from adapters.eboks.adapter import EBoksAdapter, ListingEBoksAdapter
from adapters.eboks.settings import EBoksSettings

__all__ = ["EBoksAdapter", "EBoksSettings", "ListingEBoksAdapter", "adapter_for"]


def adapter_for(settings: EBoksSettings) -> EBoksAdapter:
    """The adapter that lists accounts where the operator does. Raises as EBoksAdapter does."""
    return ListingEBoksAdapter(settings) if settings.lists_accounts else EBoksAdapter(settings)
