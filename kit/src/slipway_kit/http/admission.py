"""Admission as ASGI middleware."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_kit.http.drain import Drain
from slipway_kit.http.refusals import Refusals
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding


class AdmissionMiddleware:
    """Admits requests under any ASGI server; a refusal costs more than in the protocol."""

    def __init__(  # noqa: PLR0913 (each is used)
        self,
        app: ASGIApp,
        *,
        admission: Admission,
        refusals: Refusals,
        drain: Drain,
        shedding: RouteShedding,
        always: frozenset[str],
    ) -> None:
        self._app, self._admission, self._refusals = app, admission, refusals
        self._drain, self._shedding, self._always = drain, shedding, always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request at once or after its queueing delay, or refuse it."""
        admission = self._admission
        if scope["type"] != "http" or scope["path"] in self._always:
            await self._app(scope, receive, send)
            return
        if queue_limit := self._shedding.refusing_limit(scope):
            queue_limit.count_refusal()
            await self._refuse(scope, send)
            return
        if not admission.start_now():
            scope["arrived"] = admission.clock()
            started = asyncio.get_running_loop().create_future()
            if not admission.enqueue(lambda: None if started.done() else started.set_result(None)):
                await self._refuse(scope, send)
                return
            await started
        await self._app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        status, detail = self._refusals.OVERLOADED
        headers, body = self._refusals.answer(scope, status=status, detail=detail)
        if self._drain.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
