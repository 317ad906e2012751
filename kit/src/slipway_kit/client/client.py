"""One outbound HTTP client per worker: pooled connections, a concurrency limit and metrics.

Every call has a deadline over all its attempts, and is retried only where that is safe.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpcore  # noqa: F401 (imported once, in the master: httpx imports it at first use)
import httpx
import structlog

from slipway_kit.client.errors import UpstreamBusy, UpstreamTimeout, UpstreamUnavailable
from slipway_kit.client.retries import Call, TransientResponse, attempts
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.clock import now
from slipway_kit.errors import cause
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.overload.queue_limit import PoolState, QueueLimit
from slipway_kit.request_context import TIMEOUT_HEADER, deadline_within
from slipway_kit.tracing.provider import trace_client

log = structlog.get_logger()

CONNECTIONS = Gauge("http_client_connections", "Open outbound connections.", ["state"])
MAX_CONNECTIONS = Gauge("http_client_max_connections", "Maximum number of outbound connections.")
WAITING = Gauge("http_client_waiting", "Outbound calls that are waiting for a connection.")
SECONDS = Histogram(
    "http_client_request_seconds",
    "Duration of an outbound call over all attempts; of a stream until it is closed.",
    ["outcome"],
)
RETRIES = Counter("http_client_retries_total", "Retries of outbound calls.")


class HttpClient:
    """Calls other services; raises `UpstreamUnavailable` (503) or `UpstreamTimeout` (504).

    Options are those of `httpx.AsyncClient.build_request`, such as `params`, `json`, `headers`.
    Redirects are not followed, and a status of 4xx or 5xx is not an exception: check it.

    GET, HEAD, OPTIONS, PUT and DELETE are retried when the connection fails before a response and
    after 502, 503 or 504; other methods only when no connection was made. A call whose body is a
    stream or a file is never retried.
    """

    def __init__(self, client: httpx.AsyncClient, settings: HttpClientSettings) -> None:
        self._client, self._settings = client, settings
        # In front of httpx's own queue, which leaks a connection when a waiter is cancelled just as
        # it gets one.
        self._limiter = anyio.CapacityLimiter(settings.max_connections)
        self._queue_limit = QueueLimit("http_client", self._pool_state)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """Send a GET; see `request`."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """Send a POST; see `request`."""
        return await self.request("POST", url, **options)

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Return the complete response, whatever its status, within the total deadline.

        A response over `max_response_bytes` raises `UpstreamUnavailable`.
        """
        async with self._call(method, url, options) as call, AsyncExitStack() as stack:
            async with _deadline(call):
                response = await self._answer(call, stack)
                await self._read(response)
            return response

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """Yield a response whose body is read as it arrives; leaving the block closes it.

        The total deadline covers the time to the response head; after that each read has the read
        timeout. The size is not limited.
        """
        async with self._call(method, url, options) as call, AsyncExitStack() as stack:
            async with _deadline(call):
                response = await self._answer(call, stack)
            yield response

    def sample(self) -> None:
        """Set the gauges of connections."""
        found = [connection.is_idle() for pool in self._pools() for connection in pool.connections]
        CONNECTIONS.labels("idle").set(found.count(True))
        CONNECTIONS.labels("active").set(found.count(False))
        MAX_CONNECTIONS.set(self._settings.max_connections)
        WAITING.set(self._limiter.statistics().tasks_waiting)

    def _pool_state(self) -> PoolState:
        free = self._limiter.available_tokens > 0
        waiting = 0 if free else self._limiter.statistics().tasks_waiting
        return PoolState(free, self._settings.max_connections, waiting)

    def _pools(self) -> Iterator[Any]:
        """Yield httpx's connection pools, which are private: one, and one for each proxy."""
        transports = {self._client._transport, *self._client._mounts.values()}  # noqa: SLF001
        yield from (pool for each in transports if (pool := getattr(each, "_pool", None)))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        """Hold one of the connections, or raise an error when none is free in time."""
        limiter = self._limiter
        if self._queue_limit.refuses():
            raise UpstreamBusy
        # Not the task: a task that reads a stream may send another request meanwhile.
        borrower = object()
        try:
            async with asyncio.timeout(self._settings.pool_timeout_seconds):
                await limiter.acquire_on_behalf_of(borrower)
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"All {self._settings.max_connections} connections to other services are in use;"
                " try again soon."
            ) from error
        self._queue_limit.acquired(limiter.borrowed_tokens)
        try:
            yield
        finally:
            limiter.release_on_behalf_of(borrower)
            self._queue_limit.released(limiter.borrowed_tokens)

    @asynccontextmanager
    async def _call(self, method: str, url: str, options: Mapping[str, Any]) -> AsyncIterator[Call]:
        """Yield a call; translate its errors and record its duration by outcome."""
        started, outcome = now(), "error"
        deadline = deadline_within(self._settings.total_timeout_seconds)
        call = Call(method.upper(), url, options, deadline)
        try:
            try:
                yield call
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                raise UpstreamTimeout from error
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
                raise  # a bug of the caller
            except (httpx.TransportError, httpx.DecodingError) as error:
                raise UpstreamUnavailable from error
            outcome = f"{call.status // 100}xx"
        except UpstreamBusy:
            # Only counted: a log line would cost more than the refusal itself.
            outcome = "unavailable"
            raise
        except (UpstreamTimeout, UpstreamUnavailable) as error:
            outcome = "timeout" if isinstance(error, UpstreamTimeout) else "unavailable"
            # Only in the log: clients must not learn which upstreams there are.
            host = httpx.URL(url).host
            log.warning("upstream failed", method=call.method, host=host, cause=cause(error))
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            SECONDS.labels(outcome).observe(now() - started)

    async def _answer(self, call: Call, stack: AsyncExitStack) -> httpx.Response:
        """Send a request, with retries; `stack` closes the response and frees its connection.

        No connection is held between two attempts.
        """
        async for attempt in attempts(call, limit=1 + self._settings.retries):
            with attempt:
                if attempt.num > 1:
                    RETRIES.inc()
                async with AsyncExitStack() as attempt_stack:
                    await attempt_stack.enter_async_context(self._connection())
                    request = self._client.build_request(call.method, call.url, **call.options)
                    # The upstream gets the remaining time as its deadline.
                    remaining = max(call.remaining_seconds, 0.001)
                    request.headers.setdefault(TIMEOUT_HEADER, f"{remaining:.3f}")
                    response = await self._client.send(request, stream=True)
                    attempt_stack.push_async_callback(response.aclose)
                    if attempt.num <= self._settings.retries and call.should_retry(response):
                        raise TransientResponse(response)
                    stack.push_async_exit(attempt_stack.pop_all())
                    call.status = response.status_code
                    return response
        raise AssertionError("the last attempt returns or raises")

    async def _read(self, response: httpx.Response) -> None:
        size, parts = 0, []
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._settings.max_response_bytes:
                raise UpstreamUnavailable(
                    "A service that this one depends on answered with more than"
                    f" {self._settings.max_response_bytes} bytes."
                )
            parts.append(part)
        # Like httpx's aread(), which has no size limit.
        response._content = b"".join(parts)  # noqa: SLF001


@asynccontextmanager
async def _deadline(call: Call) -> AsyncIterator[None]:
    timeout = asyncio.timeout_at(call.deadline)
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise UpstreamTimeout from error


@asynccontextmanager
async def open_http_client(settings: HttpClientSettings) -> AsyncIterator[HttpClient]:
    """Open the client of this worker; its connections open on first use.

    Proxies and .netrc of the environment are ignored by default: a variable that a base image or a
    cluster sets must not redirect calls and passwords.
    """
    client = httpx.AsyncClient(
        timeout=httpx.Timeout(
            settings.read_timeout_seconds,
            connect=settings.connect_timeout_seconds,
            pool=settings.pool_timeout_seconds,
        ),
        limits=httpx.Limits(
            max_connections=settings.max_connections,
            keepalive_expiry=settings.keepalive_expiry_seconds,
        ),
        trust_env=settings.trust_env,
    )
    # httpx logs the whole URL of each call, which may contain secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trace_client(client)
    async with client:
        yield HttpClient(client, settings)
