"""Stored entities: listed, looked at, imported."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import unquote

from litestar import Request, Response, get, put
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from gapless.clock import Clock
from gapless.errors import InvalidQuery
from gapless.hub.administration import Administration
from gapless.hub.answers import Answer
from gapless.protocol.messages import Entity
from gapless.servers.http.importing import imported
from gapless.servers.http.routes.responses import problems, shaped
from gapless.servers.http.shapes import EntityImport, EntityPage
from gapless.servers.wire import entity_of as entity_shape
from gapless.store.base import EntityFilter, StoredEntity

_MOST: Final = 1_000
_MOST_TAGS: Final = 20
# So much text is escaped in the time that a row of anything else takes to be shown.
_ROW_BYTES: Final = 400
_PATH: Final = "/v1/entities/"
_Source = Annotated[str, QueryParameter(description="only of this provider", max_length=100)]
_State = Annotated[
    str, QueryParameter(name="state", description="only in this one: ready, partial, stale")
]
_Tags = Annotated[str, QueryParameter(description="only with all of these, commas between them")]
_Limit = Annotated[int, QueryParameter(description="the most of one page", ge=1, le=_MOST)]
_Offset = Annotated[
    int, QueryParameter(description="`next_offset` of the page before", ge=0, le=2**63 - 1)
]


def entity_routes(administration: Administration, clock: Clock) -> Sequence[BaseRouteHandler]:
    """Return the routes."""

    @get("/v1/entities", tags=["entities"], responses=problems())
    async def entities(
        provider: _Source = "",
        entity_state: _State = "",
        tags: _Tags = "",
        limit: _Limit = 100,
        offset: _Offset = 0,
    ) -> Response[EntityPage]:
        """List what is stored as entities: the blocks of series, and what is kept as it came.

        A page stops early where its entities are large.
        """
        chosen = tuple(filter(None, tags.split(",")))
        if len(chosen) > _MOST_TAGS or len(tags) > _MOST_TAGS * 100:
            raise InvalidQuery(f"tags: {_MOST_TAGS} tags of 100 characters are the most")
        wanted = EntityFilter(
            source=provider or None,
            state=entity_state or None,
            tags=chosen,
        )
        found = await administration.entities(wanted, limit, offset)
        return await shaped(
            sum(map(_rows, found.entities)),
            lambda: EntityPage([entity_shape(one) for one in found.entities], found.next_offset),
        )

    @get("/v1/entities/{entity_id:path}", tags=["entities"], responses=problems(404, 422))
    async def entity(request: Request[Any, Any, Any], entity_id: FromPath[str]) -> Response[Entity]:
        """Get an entity by its id: a stored one, or a range that is wholly held."""
        found = await administration.entity(_id_of(request))
        return await shaped(_rows(found), lambda: entity_shape(found))

    @put(
        "/v1/entities/{entity_id:path}",
        tags=["entities"],
        status_code=200,
        responses={
            201: ResponseSpec(Entity, description="It is new.", generate_examples=False),
            **problems(413, 415, 507),
        },
    )
    async def put_entity(
        request: Request[Any, Any, Any], entity_id: FromPath[str], data: JSONBody[EntityImport]
    ) -> Response[Entity]:
        """Store an entity as it is; one of the same id and source is replaced."""
        stored = await to_thread(imported, _id_of(request), data, clock.now_ms())
        created = await administration.save_entity(stored)
        return Response(entity_shape(stored), status_code=201 if created else 200)

    return [entities, entity, put_entity]


def _rows(one: StoredEntity | Answer) -> int:
    """Return of about how many rows an entity is, for what it takes to show it."""
    return 1 + (one.size if isinstance(one, Answer) else len(one.data)) // _ROW_BYTES


def _id_of(request: Request[Any, Any, Any]) -> str:
    """Return the id in the path, its slashes included."""
    raw: bytes = request.scope["raw_path"]
    text = raw.decode("ascii", "replace")
    if not text.startswith(_PATH):
        raise InvalidQuery(f"write the path plainly, as {_PATH}ID")
    try:
        id = unquote(text.removeprefix(_PATH), errors="strict")
    except UnicodeDecodeError:
        raise InvalidQuery("the id in the path is no UTF-8") from None
    if not id.isprintable():
        raise InvalidQuery("the id in the path has characters that cannot be printed")
    return id
