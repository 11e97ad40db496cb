"""The routes of the API. Paths, and the shapes of lists and errors, are those of EMQX (``/api/v5``).

All handlers are coroutines, so that they run on the event loop, which owns the state that they read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from hmac import compare_digest
from reprlib import repr as repr_in_outline
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from broker.origin import Address
from engine.admin.metrics import render
from engine.admin.port import (
    AdminPort,
    ClientView,
    DeadLetterView,
    ProcessView,
    RuleView,
    SinkView,
    StatsView,
)
from engine.errors import HeadgateError, Problem
from engine.model import jsontext
from engine.service.log import redact

T = TypeVar("T")
View = TypeVar("View", RuleView, SinkView)

_CODES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}

_INTEGER_MAX = 2**63 - 1
"""The largest id that the database of dead letters can hold."""

Page = Annotated[int, Query(ge=1, le=1_000_000_000, description="Number of the page, from 1.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="Entries per page.")]
LetterId = Annotated[int, Field(ge=0, le=_INTEGER_MAX)]
Ids = Annotated[
    list[LetterId] | None, Query(alias="id", description="Ids of dead letters; all of the sink if not given.")
]


@dataclass(frozen=True, slots=True)
class Meta:
    """Position of a page in its list."""

    page: int
    limit: int
    hasnext: bool


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of a list."""

    data: list[T]
    meta: Meta


@dataclass(frozen=True, slots=True)
class Count:
    """Number of entries that an operation changed."""

    count: int


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Result of a reload. With errors among the problems the running project stays."""

    reloaded: bool
    problems: list[dict[str, Any]]


def create_api(app: AdminPort, token: str | None = None) -> FastAPI:
    """Return the API of `app`. Requests must carry the `token` if there is one, or else come from this machine."""
    api = FastAPI(title="Headgate", version=app.process().version, docs_url="/api-docs", openapi_url="/api-docs.json")
    api.middleware("http")(_guard(token))
    _answer_errors(api)
    _add_process_routes(api, app)
    _add_rule_routes(api, app)
    _add_sink_routes(api, app)
    _add_dead_letter_routes(api, app)
    _add_client_routes(api, app)
    return api


def _add_process_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/status", tags=["process"], summary="Version, listeners and health of the process")
    async def status() -> ProcessView:
        return app.process()

    @api.get("/api/v5/stats", tags=["process"], summary="Gauges, and counters since the start of the process")
    async def stats() -> StatsView:
        return app.stats()

    @api.post("/api/v5/reload", tags=["process"], summary="Reload the files of the project")
    async def reload() -> Reloaded:
        problems = await app.reload()
        failed = any(problem.severity == "error" for problem in problems)
        return Reloaded(not failed, [_problem(problem) for problem in problems])

    @api.get("/metrics", tags=["process"], summary="All counters, for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        content, content_type = render(app)
        return Response(content, media_type=content_type)


def _add_rule_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/rules", tags=["rules"], summary="The active rules")
    async def rules(page: Page = 1, limit: Limit = 100) -> Listing[RuleView]:
        return _page(app.rules(), page, limit)

    @api.get("/api/v5/rules/{rule_id}", tags=["rules"], summary="One rule with its counters")
    async def rule(rule_id: str) -> RuleView:
        return _one(app.rules(), "rule", rule_id)

    @api.get("/api/v5/rules/{rule_id}/metrics", tags=["rules"], summary="The counters of one rule")
    async def rule_metrics(rule_id: str) -> dict[str, int]:
        return _counters(_one(app.rules(), "rule", rule_id))


def _add_sink_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/sinks", tags=["sinks"], summary="The sinks with status, backlog and counters")
    async def sinks(page: Page = 1, limit: Limit = 100) -> Listing[SinkView]:
        return _page(app.sinks(), page, limit)

    @api.get("/api/v5/sinks/{sink_id}", tags=["sinks"], summary="One sink")
    async def sink(sink_id: str) -> SinkView:
        return _one(app.sinks(), "sink", sink_id)

    @api.get("/api/v5/sinks/{sink_id}/metrics", tags=["sinks"], summary="The counters of one sink")
    async def sink_metrics(sink_id: str) -> dict[str, int]:
        return _counters(_one(app.sinks(), "sink", sink_id))


def _add_dead_letter_routes(api: FastAPI, app: AdminPort) -> None:
    path = "/api/v5/sinks/{sink_id}/dead_letters"

    @api.get(path, tags=["dead letters"], summary="Dead letters of a sink, oldest first, without their rows")
    async def dead_letters(sink_id: str, page: Page = 1, limit: Limit = 100) -> Listing[DeadLetterView]:
        _one(app.sinks(), "sink", sink_id)
        found = await app.dead_letters(sink_id, limit + 1, (page - 1) * limit)
        return Listing(list(found[:limit]), Meta(page, limit, len(found) > limit))

    @api.get(path + "/{letter_id}", tags=["dead letters"], summary="One dead letter with its row")
    async def dead_letter(sink_id: str, letter_id: LetterId) -> DeadLetterView:
        _one(app.sinks(), "sink", sink_id)
        letter = await app.dead_letter(sink_id, letter_id)
        return replace(letter, row=_shown(letter.row))

    @api.post(path + "/retry", tags=["dead letters"], summary="Send dead letters to the sink again")
    async def retry(sink_id: str, ids: Ids = None) -> Count:
        _one(app.sinks(), "sink", sink_id)
        return Count(await app.retry_dead_letters(sink_id, ids))

    @api.delete(path, tags=["dead letters"], summary="Delete dead letters")
    async def drop(sink_id: str, ids: Ids = None) -> Count:
        _one(app.sinks(), "sink", sink_id)
        return Count(await app.drop_dead_letters(sink_id, ids))


def _add_client_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/clients", tags=["clients"], summary="Connected clients")
    async def clients(page: Page = 1, limit: Limit = 100) -> Listing[ClientView]:
        found = app.clients(limit + 1, (page - 1) * limit)
        return Listing(list(found[:limit]), Meta(page, limit, len(found) > limit))

    @api.delete(
        "/api/v5/clients/{client_id:path}",
        tags=["clients"],
        summary="Close the connection of a client",
        status_code=204,
    )
    async def kick(client_id: str) -> None:
        app.kick(client_id)


def _page(items: Sequence[T], page: int, limit: int) -> Listing[T]:
    start = (page - 1) * limit
    return Listing(list(items[start : start + limit]), Meta(page, limit, len(items) > start + limit))


def _one(items: Sequence[View], kind: str, wanted: str) -> View:
    for item in items:
        if item.id == wanted:
            return item
    near = get_close_matches(wanted, [item.id for item in items], n=1)
    raise KeyError(f"there is no {kind} {wanted!r}" + "".join(f"; did you mean {name!r}?" for name in near))


def _counters(view: RuleView | SinkView) -> dict[str, int]:
    return {name: value for name, value in asdict(view).items() if type(value) is int and name != "since"}


def _shown(row: dict[str, Any] | None) -> Any:
    """Return `row` in JSON's types, bytes included, or its outline if it is nested too deeply."""
    try:
        value = jsontext.decode(jsontext.encode(row))
        to_json(value)
    except ValueError:
        return {"_outline": repr_in_outline(row)}
    return value


def _problem(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "message": redact(problem.message)}


def _guard(token: str | None) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Return the middleware that checks the token or, without one, refuses requests of other sites' pages."""

    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not compare_digest(given.strip().encode(), token.encode()):
                headers = {"WWW-Authenticate": "Bearer"}
                return _error(401, "the API requires its token: Authorization: Bearer …", headers)
        elif not all(_is_local(request.headers.get(name)) for name in ("host", "origin")):
            return _error(403, "without a token the API answers only requests whose Host and Origin name this machine")
        return await answer(request)

    return guard


def _is_local(name: str | None) -> bool:
    """Whether a Host or Origin header is missing or names this machine."""
    if name is None:
        return True
    host = urlsplit(name if "://" in name else f"//{name}").hostname
    return host is not None and Address(host, 0).is_loopback


def _answer_errors(api: FastAPI) -> None:
    async def not_found(request: Request, error: Exception) -> Response:
        return _error(404, str(error.args[0]))

    async def not_allowed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _error(error.status_code, str(error.detail))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _error(400, "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()))

    async def failed(request: Request, error: Exception) -> Response:
        return _error(500, str(error))

    api.exception_handler(KeyError)(not_found)
    api.exception_handler(HTTPException)(not_allowed)
    api.exception_handler(RequestValidationError)(invalid)
    api.exception_handler(HeadgateError)(failed)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    content = {"code": _CODES.get(status, "INTERNAL_ERROR"), "message": redact(message)}
    return JSONResponse(content, status, headers=headers)
