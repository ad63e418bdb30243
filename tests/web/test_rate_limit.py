"""A client that sends too many requests waits; others do not; a reverse proxy is believed only where it is named."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from simsearch.errors import UsageError
from simsearch.web.rate_limit import RateLimiter
from simsearch.web.settings import ServerSettings
from tests.web.conftest import TOKEN, serving


def test_a_client_may_send_ten_seconds_of_requests_at_once_and_then_the_rate():
    now = [0.0]
    rates = RateLimiter(2.0, lambda: now[0])
    assert [rates.count_request("192.0.2.1") for _ in range(20)] == [0.0] * 20
    assert rates.count_request("192.0.2.1") == pytest.approx(0.5)
    assert rates.count_request("192.0.2.2") == 0
    now[0] += 0.5
    assert rates.count_request("192.0.2.1") == 0
    assert rates.count_request("192.0.2.1") == pytest.approx(0.5)
    now[0] += 1000
    assert [rates.count_request("192.0.2.1") > 0 for _ in range(21)] == [False] * 20 + [True]


def test_the_addresses_of_one_ipv6_network_are_one_client():
    rates = RateLimiter(0.1, lambda: 0.0)
    assert rates.count_request("2001:db8::1") == 0
    assert rates.count_request("2001:db8::2") > 0
    assert rates.count_request("2001:db8:1::1") == 0


def test_too_many_requests_are_answered_with_the_time_to_wait(collection: Path):
    with serving(ServerSettings(collection=str(collection), port=0, rate_limit=0.5)) as address:
        answers = [httpx.get(f"{address}/api/v1/models") for _ in range(7)]
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        refused = answers[-1]
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        assert refused.json()["detail"] == "too many requests were sent from this address"
        assert httpx.get(f"{address}/api/v1/health").status_code == 200


@pytest.mark.parametrize("proxies", [(), ("127.0.0.0/8",)])
def test_the_address_of_a_visitor_is_believed_of_a_trusted_proxy_only(collection: Path, proxies: tuple[str, ...]):
    settings = ServerSettings(collection=str(collection), port=0, rate_limit=0.1, trusted_proxies=proxies)
    with serving(settings) as address:

        def ask(forwarded: str) -> int:
            return httpx.get(f"{address}/api/v1/models", headers={"X-Forwarded-For": forwarded}).status_code

        statuses = [ask("192.0.2.1"), ask("192.0.2.2"), ask("192.0.2.2"), ask("198.51.100.7, 192.0.2.1")]
    # The last address is the one that the proxy has seen; those before it are what the visitor says.
    assert statuses == ([200, 200, 429, 429] if proxies else [200, 429, 429, 429])


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",)])
def test_wrong_tokens_are_counted_by_visitor_behind_a_trusted_proxy(collection: Path, proxies: tuple[str, ...]):
    settings = ServerSettings(collection=str(collection), port=0, token=TOKEN, trusted_proxies=proxies)
    with serving(settings) as address, httpx.Client(base_url=address) as client:
        for number in range(22):
            headers = {"Authorization": f"Bearer wrong-token-{number:06}", "X-Forwarded-For": "192.0.2.9"}
            client.get("/api/v1/models", headers=headers)
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/v1/models", headers=right | {"X-Forwarded-For": "192.0.2.9"}).status_code == 429
        other = client.get("/api/v1/models", headers=right | {"X-Forwarded-For": "192.0.2.10"})
        assert other.status_code == (200 if proxies else 429)


@pytest.mark.parametrize(
    "options", [{"rate_limit": 0.0}, {"rate_limit": float("nan")}, {"trusted_proxies": ("proxy",)}]
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object]):
    with pytest.raises(UsageError):
        ServerSettings(collection="x", **options)  # type: ignore[arg-type]
