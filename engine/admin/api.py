"""The routes: HTTP to `AdminPort` and back. Paths and shapes of lists and errors are EMQX's (``/api/v5``).

Handlers are coroutines, all of them, so that they run on the event loop that owns what they read.
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
"""Past this the journal can't have counted."""

Page = Annotated[int, Query(ge=1, le=1_000_000_000, description="Which page, from 1.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="Entries of a page.")]
LetterId = Annotated[int, Field(ge=0, le=_INTEGER_MAX)]
Ids = Annotated[
    list[LetterId] | None, Query(alias="id", description="Dead letters by id; all of the sink unless given.")
]


@dataclass(frozen=True, slots=True)
class Meta:
    """Where a page stands in its list."""

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
    """How many something was done to."""

    count: int


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload: with errors among the problems the running set stayed."""

    reloaded: bool
    problems: list[dict[str, Any]]


def create_api(app: AdminPort, token: str | None = None) -> FastAPI:
    """The API of `app`. With a `token` every request must bear it; without, only this machine's own are answered."""
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
    @api.get("/api/v5/status", tags=["process"], summary="The process: version, listeners, health")
    async def status() -> ProcessView:
        return app.process()

    @api.get("/api/v5/stats", tags=["process"], summary="Figures of the moment and of the process's life")
    async def stats() -> StatsView:
        return app.stats()

    @api.post("/api/v5/reload", tags=["process"], summary="Read the project's files again")
    async def reload() -> Reloaded:
        problems = await app.reload()
        failed = any(problem.severity == "error" for problem in problems)
        return Reloaded(not failed, [_problem(problem) for problem in problems])

    @api.get("/metrics", tags=["process"], summary="All counters, for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        content, content_type = render(app)
        return Response(content, media_type=content_type)


def _add_rule_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/rules", tags=["rules"], summary="The rules in service")
    async def rules(page: Page = 1, limit: Limit = 100) -> Listing[RuleView]:
        return _page(app.rules(), page, limit)

    @api.get("/api/v5/rules/{rule_id}", tags=["rules"], summary="One rule with its counters")
    async def rule(rule_id: str) -> RuleView:
        return _one(app.rules(), "rule", rule_id)

    @api.get("/api/v5/rules/{rule_id}/metrics", tags=["rules"], summary="The counters of one rule")
    async def rule_metrics(rule_id: str) -> dict[str, int]:
        return _counters(_one(app.rules(), "rule", rule_id))


def _add_sink_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/sinks", tags=["sinks"], summary="The sinks: status, backlog, counters")
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

    @api.get(path, tags=["dead letters"], summary="What could not be stored, oldest first, without the rows")
    async def dead_letters(sink_id: str, page: Page = 1, limit: Limit = 100) -> Listing[DeadLetterView]:
        _one(app.sinks(), "sink", sink_id)
        found = await app.dead_letters(sink_id, limit + 1, (page - 1) * limit)
        return Listing(list(found[:limit]), Meta(page, limit, len(found) > limit))

    @api.get(path + "/{letter_id}", tags=["dead letters"], summary="One of them with its row")
    async def dead_letter(sink_id: str, letter_id: LetterId) -> DeadLetterView:
        _one(app.sinks(), "sink", sink_id)
        letter = await app.dead_letter(sink_id, letter_id)
        return replace(letter, row=_shown(letter.row))

    @api.post(path + "/retry", tags=["dead letters"], summary="Hand them to the sink again")
    async def retry(sink_id: str, ids: Ids = None) -> Count:
        _one(app.sinks(), "sink", sink_id)
        return Count(await app.retry_dead_letters(sink_id, ids))

    @api.delete(path, tags=["dead letters"], summary="Forget them for good")
    async def drop(sink_id: str, ids: Ids = None) -> Count:
        _one(app.sinks(), "sink", sink_id)
        return Count(await app.drop_dead_letters(sink_id, ids))


def _add_client_routes(api: FastAPI, app: AdminPort) -> None:
    @api.get("/api/v5/clients", tags=["clients"], summary="Connected clients")
    async def clients(page: Page = 1, limit: Limit = 100) -> Listing[ClientView]:
        found = app.clients(limit + 1, (page - 1) * limit)
        return Listing(list(found[:limit]), Meta(page, limit, len(found) > limit))

    @api.delete("/api/v5/clients/{client_id:path}", tags=["clients"], summary="Close its connection", status_code=204)
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
    """`row` as an answer can carry it, bytes included; in outline where it is nested too deeply."""
    try:
        value = jsontext.decode(jsontext.encode(row))
        to_json(value)
    except ValueError:
        return {"_outline": repr_in_outline(row)}
    return value


def _problem(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "message": redact(problem.message)}


def _guard(token: str | None) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Lets in who bears the token. Without one, keeps out pages of other sites that a browser here may have open."""

    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not compare_digest(given.strip().encode(), token.encode()):
                headers = {"WWW-Authenticate": "Bearer"}
                return _error(401, "the API wants its token: Authorization: Bearer …", headers)
        elif not all(_is_local(request.headers.get(name)) for name in ("host", "origin")):
            return _error(403, "without a token the API answers only what comes from this machine by its own name")
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

    async def not_understood(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _error(400, "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()))

    async def failed(request: Request, error: Exception) -> Response:
        return _error(500, str(error))

    api.exception_handler(KeyError)(not_found)
    api.exception_handler(HTTPException)(not_allowed)
    api.exception_handler(RequestValidationError)(not_understood)
    api.exception_handler(HeadgateError)(failed)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    content = {"code": _CODES.get(status, "INTERNAL_ERROR"), "message": redact(message)}
    return JSONResponse(content, status, headers=headers)
