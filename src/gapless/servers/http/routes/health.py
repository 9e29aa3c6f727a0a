"""Is it alive, is it ready, and its figures for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Response, get
from litestar.handlers import BaseRouteHandler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from gapless import __version__
from gapless.errors import GaplessError, Overloaded
from gapless.hub.holdings import Holdings
from gapless.servers.descriptors import Descriptors
from gapless.servers.http.routes.responses import open_problems, problems
from gapless.servers.http.shapes import Health, HealthWarning
from gapless.store.base import EntityFilter

# Finds nothing, but asks the database.
_NOTHING = EntityFilter(ids=())


def health_routes(
    holdings: Holdings, descriptors: Descriptors, registry: CollectorRegistry
) -> Sequence[BaseRouteHandler]:
    """Return the routes; `registry` has what `/metrics` shows."""

    @get("/healthz", tags=["health"], responses=open_problems())
    async def healthz() -> Health:
        """Tell that the process answers."""
        return Health(True, __version__)

    @get("/readyz", tags=["health"], responses=open_problems(503))
    async def readyz() -> Health:
        """Tell whether requests can be answered: the database is read for it.

        What an operator should see to although they are answered is among `warnings`.
        """
        try:
            await holdings.entities(_NOTHING, 1)
        except GaplessError as error:
            raise Overloaded(f"the database does not answer: {error.message}") from error
        told = descriptors.trouble
        warnings = [] if told is None else [HealthWarning("out_of_descriptors", told)]
        return Health(True, __version__, warnings)

    @get("/metrics", tags=["health"], media_type="text/plain", responses=problems())
    async def metrics() -> Response[bytes]:
        """Get the figures in the text format of Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return [healthz, readyz, metrics]
