"""The routes of the admin API over a double of the application."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from broker.origin import Address
from engine.admin.api import create_api
from engine.admin.server import ApiServer
from engine.config.settings import ApiSettings
from engine.errors import ConfigError
from engine.service.log import hide
from support.admin_port import FakeApp

LETTERS = "/api/v5/sinks/readings/dead_letters"


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


@pytest.fixture
async def client(app: FakeApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_api(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:18083") as client:
        yield client


async def test_status_shows_the_process_and_its_problems(client: httpx.AsyncClient) -> None:
    """It is what `headgate status` and every health probe read."""
    answer = (await client.get("/api/v5/status")).json()

    assert answer["pid"] == 42
    assert answer["listeners"] == [{"type": "tcp", "host": "127.0.0.1", "port": 1883, "connections": 12}]
    assert (answer["healthy"], answer["problems"]) == (False, ["a sink is held"])


async def test_lists_are_paged_as_in_emqx(client: httpx.AsyncClient) -> None:
    """Tools written for EMQX's lists work on ours."""
    first = (await client.get("/api/v5/rules", params={"limit": 1})).json()
    second = (await client.get("/api/v5/rules", params={"limit": 1, "page": 2})).json()

    assert [rule["id"] for rule in first["data"] + second["data"]] == ["climate", "off"]
    assert first["meta"] == {"page": 1, "limit": 1, "hasnext": True}
    assert second["meta"]["hasnext"] is False


async def test_one_rule_and_its_counters(client: httpx.AsyncClient) -> None:
    """Counters are numbers alone, so that they can be summed without knowing their names."""
    rule = (await client.get("/api/v5/rules/climate")).json()
    metrics = (await client.get("/api/v5/rules/climate/metrics")).json()

    assert rule["last_error"] == "temp is missing"
    assert metrics == {"received": 10, "filtered": 3, "failed": 1, "emitted": 6, "refused": 0, "records": 6}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v5/rules/none"),
        ("GET", "/api/v5/sinks/none"),
        ("GET", "/api/v5/sinks/none/dead_letters"),
        ("GET", f"{LETTERS}/99"),
        ("DELETE", "/api/v5/clients/nobody"),
        ("GET", "/api/v5/nothing"),
    ],
)
async def test_an_unknown_resource_is_a_404_with_a_code(client: httpx.AsyncClient, method: str, path: str) -> None:
    """A program distinguishes a wrong name from a failure by the code."""
    answer = await client.request(method, path)

    assert answer.status_code == 404
    assert answer.json()["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "path", [f"{LETTERS}/{2**63}", f"{LETTERS}/-1", f"{LETTERS}?page={10**20}", f"{LETTERS}?limit=0"]
)
async def test_an_id_beyond_64_bits_is_a_400(client: httpx.AsyncClient, path: str) -> None:
    """Ids in the database end at 64 bits; a larger one must not look like a failure of the process."""
    assert (await client.get(path)).json()["code"] == "BAD_REQUEST"


async def test_a_wrong_parameter_is_a_400_that_names_it(client: httpx.AsyncClient) -> None:
    """A user who calls the API by hand must see the mistake."""
    answer = await client.get("/api/v5/rules", params={"limit": "many"})

    assert answer.status_code == 400
    assert answer.json()["message"].startswith("limit: ")


async def test_dead_letters_are_listed_without_rows_and_shown_with_them(client: httpx.AsyncClient) -> None:
    """A list of ten thousand large rows is unusable."""
    listed = (await client.get(LETTERS, params={"limit": 2})).json()
    shown = (await client.get(f"{LETTERS}/2")).json()

    assert [(letter["id"], letter["row"]) for letter in listed["data"]] == [(1, None), (2, None)]
    assert listed["meta"]["hasnext"] is True
    assert shown["row"] == {"temp": "warm", "at": 2}


async def test_a_row_with_any_value_is_shown(client: httpx.AsyncClient, app: FakeApp) -> None:
    """Dead letters hold values that no sink could store: bytes that are not text, numbers without a JSON form."""
    nested: Any = "bottom"
    for _ in range(600):
        nested = [nested]
    rows: list[dict[str, Any]] = [{"a": b"\xff", "b": math.nan, "c": 1 << 70}, {"a": nested}]
    for letter_id, row in enumerate(rows, 1):
        app.letters[letter_id] = replace(app.letters[letter_id], row=row)
    odd, deep = [(await client.get(f"{LETTERS}/{letter_id}")).json() for letter_id in (1, 2)]
    assert odd["row"] == {"a": {"$base64": "/w=="}, "b": None, "c": 1 << 70}
    assert deep["row"]["_outline"].startswith("{'a': [[[")


async def test_chosen_dead_letters_are_retried_and_the_rest_dropped(client: httpx.AsyncClient, app: FakeApp) -> None:
    """Ids choose; without any it is all of the sink."""
    retried = (await client.post(f"{LETTERS}/retry", params={"id": [1, 3]})).json()
    left = list(app.letters)
    dropped = (await client.delete(LETTERS)).json()

    assert (retried, left, dropped, app.letters) == ({"count": 2}, [2], {"count": 1}, {})


async def test_a_failed_operation_is_a_500_with_its_reason(client: httpx.AsyncClient) -> None:
    """Not a traceback, and not an empty page."""
    answer = await client.post(f"{LETTERS}/retry", params={"id": 99})

    assert (answer.status_code, answer.json()["message"]) == (500, "nothing to take")


async def test_a_client_is_kicked_by_its_id_slashes_included(client: httpx.AsyncClient, app: FakeApp) -> None:
    """Client ids may hold any character."""
    app.client_views.append(app.client_views[0].__class__("a/b c", None, None, None, 4, 0, True, 0))

    answer = await client.delete("/api/v5/clients/a/b%20c")

    assert (answer.status_code, app.kicked) == (204, ["a/b c"])


async def test_a_refused_reload_returns_its_problems(client: httpx.AsyncClient, app: FakeApp) -> None:
    """A user who edits by the API has no terminal to look at."""
    good = (await client.post("/api/v5/reload")).json()
    app.fail_to_reload()
    bad = (await client.post("/api/v5/reload")).json()

    assert good == {"reloaded": True, "problems": []}
    assert bad["reloaded"] is False
    assert bad["problems"][0]["position"] == {"line": 2, "column": 13, "length": 1}


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    """Names, labels and values as a scrape reads them."""
    text = (await client.get("/metrics")).text

    assert 'headgate_rule_received_total{rule="climate"} 10.0' in text
    assert 'headgate_sink_delivered_total{sink="readings",type="sqlite"} 2.0' in text
    assert 'headgate_sink_oldest_age_seconds{sink="readings",type="sqlite"} 75.0' in text
    assert 'headgate_sink_status{sink="readings",status="held"} 1.0' in text
    assert 'headgate_sink_status{sink="readings",status="connected"} 0.0' in text
    assert "headgate_publishes_received_total 10.0" in text
    assert "headgate_connections 12.0" in text


@pytest.mark.parametrize(
    ("header", "status"), [(None, 401), ("Bearer wrong", 401), ("Basic t0k3n", 401), ("Bearer t0k3n", 200)]
)
async def test_with_a_token_every_request_needs_it(app: FakeApp, header: str | None, status: int) -> None:
    """Off loopback only the token protects the dead letters."""
    headers = {} if header is None else {"Authorization": header}
    transport = httpx.ASGITransport(create_api(app, "t0k3n"))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.7") as client:
        answers = [await client.get(path, headers=headers) for path in ("/api/v5/status", "/metrics", "/api-docs")]

    assert [answer.status_code for answer in answers] == [status] * 3


@pytest.mark.parametrize(("header", "value"), [("Host", "evil.example"), ("Origin", "http://evil.example")])
async def test_without_a_token_requests_of_other_sites_are_refused(
    client: httpx.AsyncClient, app: FakeApp, header: str, value: str
) -> None:
    """A page in a browser on this machine could otherwise drop dead letters."""
    answer = await client.delete("/api/v5/clients/kitchen", headers={header: value})

    assert (answer.status_code, app.kicked) == (403, [])


async def test_an_error_holds_no_secret(client: httpx.AsyncClient) -> None:
    """Errors come from drivers, which quote their options."""
    hide(["sw0rdfish"])

    assert "sw0rdfish" not in (await client.get("/api/v5/rules/sw0rdfish")).text


async def test_the_server_reports_its_port_and_stops(app: FakeApp) -> None:
    """Port 0 is how tests and second instances avoid each other."""
    server = ApiServer(app, ApiSettings(bind=Address("127.0.0.1", 0)))
    await server.stop()
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
        answer = await client.get("/api/v5/status")
    await server.stop()
    await server.stop()

    assert answer.json()["version"] == "0.1.0"
    assert server.address.port != 0


async def test_an_unknown_host_name_is_one_clear_error(app: FakeApp) -> None:
    """A name is easily misspelt."""
    server = ApiServer(app, ApiSettings(bind=Address("nowhere.invalid", 0)))

    with pytest.raises(ConfigError, match=r"the API can't listen on nowhere.invalid:0: [a-z ]*name[a-z ]*"):
        await server.start()


async def test_an_address_in_use_is_one_clear_error(app: FakeApp) -> None:
    """It is the most common failure of a start."""
    first = ApiServer(app, ApiSettings(bind=Address("127.0.0.1", 0)))
    await first.start()
    second = ApiServer(app, ApiSettings(bind=first.address))
    try:
        with pytest.raises(ConfigError, match=f"the API can't listen on {first.address}: address already in use"):
            await second.start()
    finally:
        await first.stop()
