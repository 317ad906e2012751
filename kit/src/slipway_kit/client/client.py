"""One outbound HTTP client per worker: its connections are kept, bounded and measured.

Every call has a deadline over all its tries, and is tried again only where that is safe.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpcore  # noqa: F401 (httpx does at first use, which is in each worker anew)
import httpx
import structlog

from slipway_kit.client.errors import UpstreamBusy, UpstreamTimeout, UpstreamUnavailable, translated
from slipway_kit.client.retries import Call, Passing, tries
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.clock import now
from slipway_kit.errors import cause
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.overload.queue_limit import PoolState, QueueLimit
from slipway_kit.request_context import TIMEOUT_HEADER, deadline_within
from slipway_kit.tracing.provider import trace_client

log = structlog.get_logger()

CONNECTIONS = Gauge("http_client_connections", "Open outbound connections.", ["state"])
MAX_CONNECTIONS = Gauge("http_client_max_connections", "Outbound connections that may be open.")
WAITING = Gauge("http_client_waiting", "Outbound calls that wait for a connection.")
SECONDS = Histogram(
    "http_client_request_seconds",
    "Time of an outbound call with all its tries, of a stream until it is closed.",
    ["outcome"],
)
RETRIES = Counter("http_client_retries_total", "Tries of outbound calls after the first one.")


class HttpClient:
    """Calls other services; raises `UpstreamUnavailable` (503) or `UpstreamTimeout` (504).

    Options are those of `httpx.AsyncClient.build_request`, such as `params`, `json`, `headers`.
    Redirects are answers, never followed; so are errors: look at the status.

    GET, HEAD, OPTIONS, PUT and DELETE are tried again after a connection that failed before an
    answer and after 502, 503 or 504; other methods only when no connection was made; a body that is
    a stream or a file, never.
    """

    def __init__(self, client: httpx.AsyncClient, settings: HttpClientSettings) -> None:
        self._client, self._settings = client, settings
        # In front of httpx's own queue, which loses a connection when a waiter is cancelled in the
        # moment of its turn.
        self._limiter = anyio.CapacityLimiter(settings.max_connections)
        self._queue_limit = QueueLimit("http_client", self._places)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """Send a GET; see `request`."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """Send a POST; see `request`."""
        return await self.request("POST", url, **options)

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Return the whole answer, whatever its status, within the total deadline.

        One of more than `max_response_bytes` is `UpstreamUnavailable`.
        """
        call = Call(method.upper(), url, options)
        async with (
            self._measured(call),
            self._deadline() as left,
            AsyncExitStack() as held,
        ):
            response = await self._answer(call, left, held)
            await self._read(response)
            return response

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """Give an answer whose body is read as it comes; leaving the block closes the connection.

        The total deadline ends when the answer begins; then each piece has the read timeout. The
        size is not bounded.
        """
        call = Call(method.upper(), url, options)
        async with self._measured(call), AsyncExitStack() as held:
            async with self._deadline() as left:
                response = await self._answer(call, left, held)
            yield response

    def sample(self) -> None:
        """Set the gauges of connections to what they are now."""
        found = [connection.is_idle() for pool in self._pools() for connection in pool.connections]
        CONNECTIONS.labels("idle").set(found.count(True))
        CONNECTIONS.labels("active").set(found.count(False))
        MAX_CONNECTIONS.set(self._settings.max_connections)
        WAITING.set(self._limiter.statistics().tasks_waiting)

    def _places(self) -> PoolState:
        limiter = self._limiter
        free = limiter.available_tokens > 0
        waiting = 0 if free else limiter.statistics().tasks_waiting
        return PoolState(free, self._settings.max_connections, waiting)

    def _pools(self) -> Iterator[Any]:
        """Yield the pools below httpx, which shows them to nobody: one, and one a proxy."""
        transports = {self._client._transport, *self._client._mounts.values()}  # noqa: SLF001
        yield from (pool for each in transports if (pool := getattr(each, "_pool", None)))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        """Take one of the connections, or say that none is free."""
        limiter = self._limiter
        if self._queue_limit.refuses():
            raise UpstreamBusy
        # Not the task: one that reads a stream may send a request meanwhile.
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
    async def _deadline(self) -> AsyncIterator[Callable[[], float]]:
        """Hold a call to the total deadline and that of the request, whichever is first.

        Give a function that says how much of it is left.
        """
        until = deadline_within(self._settings.total_timeout_seconds)
        deadline = asyncio.timeout_at(until)
        try:
            async with deadline:
                yield lambda: until - now()
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise UpstreamTimeout from error

    @asynccontextmanager
    async def _measured(self, call: Call) -> AsyncIterator[None]:
        """Measure a call by its outcome, and turn what httpx raises into an outcome of ours."""
        started, outcome = now(), "error"
        try:
            with translated():
                yield
            outcome = f"{call.status // 100}xx"
        except (UpstreamTimeout, UpstreamUnavailable) as error:
            outcome = "timeout" if isinstance(error, UpstreamTimeout) else "unavailable"
            # One that is refused is counted: a line for each would cost more than the refusal.
            if not isinstance(error, UpstreamBusy):
                # In the log alone: which upstreams there are is no business of a client.
                host = httpx.URL(call.url).host
                log.warning("upstream failed", method=call.method, host=host, cause=cause(error))
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            SECONDS.labels(outcome).observe(now() - started)

    async def _answer(
        self, call: Call, left: Callable[[], float], held: AsyncExitStack
    ) -> httpx.Response:
        """Send a request until it is answered; `held` closes the answer and frees its connection.

        None is held between two tries.
        """
        async for attempt in tries(call, attempts=1 + self._settings.retries):
            with attempt:
                if attempt.num > 1:
                    RETRIES.inc()
                async with AsyncExitStack() as this_try:
                    await this_try.enter_async_context(self._connection())
                    request = self._client.build_request(call.method, call.url, **call.options)
                    # What is left of our time is what an answer is worth waiting for.
                    request.headers.setdefault(TIMEOUT_HEADER, f"{max(left(), 0.001):.3f}")
                    response = await self._client.send(request, stream=True)
                    this_try.push_async_callback(response.aclose)
                    if attempt.num <= self._settings.retries and call.passing(response, left()):
                        raise Passing(response)
                    held.push_async_exit(this_try.pop_all())
                    call.status = response.status_code
                    return response
        raise AssertionError("the last try is an answer or an error")

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
        # As httpx's aread() does, which has no bound.
        response._content = b"".join(parts)  # noqa: SLF001


@asynccontextmanager
async def open_http_client(settings: HttpClientSettings) -> AsyncIterator[HttpClient]:
    """Open the client of this worker; its connections open on first use.

    Proxies and .netrc are taken from the environment only on purpose: a variable that a base image
    or a cluster sets must not send calls, and passwords, elsewhere.
    """
    client = httpx.AsyncClient(
        timeout=httpx.Timeout(
            connect=settings.connect_timeout_seconds,
            read=settings.read_timeout_seconds,
            write=settings.write_timeout_seconds,
            pool=settings.pool_timeout_seconds,
        ),
        limits=httpx.Limits(
            max_connections=settings.max_connections,
            max_keepalive_connections=settings.max_keepalive_connections,
            keepalive_expiry=settings.keepalive_expiry_seconds,
        ),
        trust_env=settings.trust_env,
        follow_redirects=False,
    )
    # Its line for each call holds the whole URL, and that may hold secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trace_client(client)
    async with client:
        yield HttpClient(client, settings)
