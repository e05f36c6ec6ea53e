"""Requests to the outside. The graph must say `http: { allow: [HOST] }`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


class Error(Exception):
    """No answer came: refused, timed out, not allowed … Most often worth a `Retry`."""


@dataclass(frozen=True)
class Request:
    method: str
    url: str
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""
    timeout: float | None = None


@dataclass(frozen=True)
class Response:
    status: int
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""

    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of this name, whatever its case."""
        wanted = name.lower()
        return next((value.decode("latin-1") for name, value in self.headers if name.lower() == wanted), None)


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, bytes | str] | Iterable[tuple[str, bytes | str]] = (),
    body: bytes | str = b"",
    timeout: float | None = None,
) -> Response:
    """Sends a request and waits for the whole answer, whatever its status. `timeout` is in seconds, to the answer's first byte."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    encoded = [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
    return _send(Request(method.upper(), url, encoded, body.encode() if isinstance(body, str) else body, timeout))


if sys.platform == "wasi":
    from componentize_py_types import Err, Ok
    from wit_world.imports import outgoing_handler, streams
    from wit_world.imports import weir_http as wasi

    # What one `blocking_write_and_flush` takes.
    _WRITE_MAX = 4096
    _READ_MAX = 64 << 10

    def _send(request: Request) -> Response:
        try:
            with _start(request) as future:
                with future.subscribe() as ready:
                    ready.block()
                answer = future.get().value  # nobody has taken it before
            if not isinstance(answer, Ok):
                raise answer
            with answer.value as response:
                with response.headers() as headers:
                    entries = headers.entries()
                return Response(response.status(), entries, _read(response))
        except Err as error:
            raise Error(f"{request.method} {request.url}: {_words(error.value)}") from error

    def _start(request: Request) -> wasi.FutureIncomingResponse:
        url = urlsplit(request.url)
        outgoing = wasi.OutgoingRequest(wasi.Fields.from_list(request.headers))
        outgoing.set_method(getattr(wasi, f"Method_{request.method.capitalize()}", lambda: wasi.Method_Other(request.method))())
        outgoing.set_scheme(wasi.Scheme_Http() if url.scheme == "http" else wasi.Scheme_Https())
        outgoing.set_authority(url.netloc)
        outgoing.set_path_with_query((url.path or "/") + (f"?{url.query}" if url.query else ""))
        options = None
        if request.timeout is not None:
            options = wasi.RequestOptions()
            options.set_connect_timeout(round(request.timeout * 1e9))
            options.set_first_byte_timeout(round(request.timeout * 1e9))
        body = outgoing.body()
        # First sent, then written: nobody would empty the stream before.
        future = outgoing_handler.handle(outgoing, options)
        if request.body:
            with body.write() as stream:
                for at in range(0, len(request.body), _WRITE_MAX):
                    stream.blocking_write_and_flush(request.body[at : at + _WRITE_MAX])
        wasi.OutgoingBody.finish(body, None)
        return future

    def _read(response: wasi.IncomingResponse) -> bytes:
        chunks = []
        with response.consume() as body, body.stream() as stream:
            while True:
                try:
                    chunks.append(stream.blocking_read(_READ_MAX))
                except Err as error:
                    if not isinstance(error.value, streams.StreamError_Closed):
                        raise
                    return b"".join(chunks)

    def _words(code: Any) -> str:
        name = type(code).__name__.rpartition("_")[2]
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
        detail = getattr(code, "value", None)
        return f"{words}: {detail}" if detail else words

else:
    from ._stubs import send as _send
