"""Which providers there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gapless.errors import ProviderNotFound
from gapless.providers.base import Provider


class Registry:
    """Providers by the name they declare.

    `built_in` are those it began with. `absent` tells of names that should be here and are not,
    such as a remembered plugin that cannot be loaded: what is wrong with each, in a sentence.
    `replaced` are told the name of each provider that another has taken the place of, or none.
    """

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        self._providers = {provider.info.name: provider for provider in providers}
        self.built_in = frozenset(self._providers)
        self.absent: dict[str, str] = {}
        self.replaced: list[Callable[[str], None]] = []

    def put(self, provider: Provider) -> Provider | None:
        """Add a provider; return the one of the same name that it takes the place of."""
        name = provider.info.name
        before = self._providers.get(name)
        self._providers[name] = provider
        self.absent.pop(name, None)
        if before is not None:
            self._tell(name)
        return before

    def remove(self, name: str) -> Provider | None:
        """Take a provider out, and what is said of its absence; return it, if it was there."""
        self.absent.pop(name, None)
        before = self._providers.pop(name, None)
        if before is not None:
            self._tell(name)
        return before

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._providers)

    def get(self, name: str) -> Provider:
        """Return a provider, or raise `ProviderNotFound` naming those there are."""
        provider = self._providers.get(name)
        if provider is None:
            if name in self.absent:
                raise ProviderNotFound(f"provider {name!r} is not there: {self.absent[name]}")
            raise ProviderNotFound(
                f"there is no provider {name[:60]!r}; "
                f"there are: {', '.join(self.names()) or 'none'}"
            )
        return provider

    def all(self) -> list[Provider]:
        """Return the providers by name."""
        return [self._providers[name] for name in self.names()]

    def _tell(self, name: str) -> None:
        for listener in self.replaced:
            listener(name)
