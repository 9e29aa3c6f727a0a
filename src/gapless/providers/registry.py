"""Which providers there are, by name."""

from __future__ import annotations

from collections.abc import Iterable

from gapless.errors import ProviderNotFound
from gapless.providers.base import Provider


class Registry:
    """Providers by the name they declare."""

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        self._providers = {provider.info.name: provider for provider in providers}

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._providers)

    def get(self, name: str) -> Provider:
        """Return a provider, or raise `ProviderNotFound` naming those there are."""
        provider = self._providers.get(name)
        if provider is None:
            raise ProviderNotFound(
                f"there is no provider {name[:60]!r}; "
                f"there are: {', '.join(self.names()) or 'none'}"
            )
        return provider

    def all(self) -> list[Provider]:
        """Return the providers by name."""
        return [self._providers[name] for name in self.names()]
