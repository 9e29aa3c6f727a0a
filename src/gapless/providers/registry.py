"""Which providers there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gapless.errors import ProviderNotFound
from gapless.providers.base import Provider


class Registry:
    """Providers by the name they declare.

    `built_in` are the names of those it began with, and `reserved` ones: built-in providers that
    are turned off, whose data may be held all the same. `absent` tells of names that should be
    here and are not, such as a remembered plugin that cannot be loaded: what is wrong with each,
    in a sentence.
    `replaced` are told the name of each provider that another has taken the place of, or none.
    """

    def __init__(self, providers: Iterable[Provider] = (), reserved: Iterable[str] = ()) -> None:
        self._providers = {provider.info.name: provider for provider in providers}
        self.built_in = frozenset(self._providers) | frozenset(reserved)
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

    def remove(self, name: str, provider: Provider | None) -> None:
        """Take this provider out, and what is said of its absence; another of the name stays."""
        self.absent.pop(name, None)
        if provider is not None and self._providers.get(name) is provider:
            del self._providers[name]
            self._tell(name)

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
