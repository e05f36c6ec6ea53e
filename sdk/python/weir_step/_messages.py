"""What comes in and what goes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Union

from ._failures import Reject

Bytes = Union[bytes, str]
Headers = Union[Mapping[str, Bytes], Iterable[tuple[str, Bytes]]]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class _Message:
    __slots__ = ()

    data: bytes
    headers: list[tuple[str, bytes]]

    def text(self) -> str:
        """The data as text. What is no UTF-8 is rejected: no later try will read it either."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise Reject(f"{self} is not UTF-8: {error}") from error

    def json(self) -> Any:
        """The data as JSON. What cannot be read is rejected."""
        text = self.text()
        try:
            return json.loads(text)
        except ValueError as error:
            raise Reject(f"{self} is not JSON: {error}") from error

    def header(self, name: str) -> str | None:
        """The first header of this name, whatever its case, as text."""
        value = self.header_bytes(name)
        return None if value is None else value.decode(errors="replace")

    def header_bytes(self, name: str) -> bytes | None:
        wanted = name.lower()
        return next((value for name, value in self.headers if name.lower() == wanted), None)


class Event(_Message):
    """One event that arrives over an edge: `trigger` or `step.port`."""

    __slots__ = ("edge", "key", "content_type", "headers", "data")

    def __init__(
        self,
        data: Any,
        *,
        edge: str = "trigger",
        key: Bytes | None = None,
        content_type: str = "application/json",
        headers: Headers = (),
    ) -> None:
        """For tests; Weir makes those that a step sees. `data` as in `Output`."""
        self.edge = edge
        self.key = None if key is None else _bytes(key)
        self.content_type = content_type
        self.headers = _pairs(headers)
        self.data = _bytes(data) if isinstance(data, (bytes, str)) else _encode(data).encode()

    @classmethod
    def _of(cls, event: Any) -> Event:
        self = cls.__new__(cls)
        self.edge = event.edge
        self.key = event.key
        self.content_type = event.content_type
        self.headers = event.headers
        self.data = event.data
        return self

    def __str__(self) -> str:
        return f'the event on "{self.edge}"'


class Output(_Message):
    """One event that the step emits. Bytes and text go out as they are, anything else as JSON.

    Without `key` it has that of the input; without `content_type` it has `application/json` where it is written as JSON, else that
    of the input.
    """

    __slots__ = ("port", "key", "content_type", "headers", "data")

    def __init__(
        self,
        data: Any,
        *,
        port: str = "out",
        key: Bytes | None = None,
        content_type: str | None = None,
        headers: Headers = (),
    ) -> None:
        self.port = port
        self.key = None if key is None else _bytes(key)
        self.headers = _pairs(headers) if headers else []
        if isinstance(data, (bytes, str)):
            self.content_type = content_type
            self.data = _bytes(data)
        else:
            self.content_type = "application/json" if content_type is None else content_type
            self.data = _encode(data).encode()

    def __str__(self) -> str:
        return f'the output on "{self.port}"'


class Context:
    """Where this call stands. Never changes between two runs of the same execution, but for `attempt`."""

    __slots__ = ("tenant", "graph", "version", "execution", "step", "attempt", "time_us")

    def __init__(
        self,
        *,
        tenant: str = "default",
        graph: str = "test",
        version: str = "0" * 64,
        execution: str = "00000000-0000-4000-8000-000000000000",
        step: str = "step",
        attempt: int = 1,
        time_us: int = 1_767_225_600_000_000,
    ) -> None:
        """For tests; Weir makes the one that a step sees."""
        self.tenant = tenant
        self.graph = graph
        self.version = version
        self.execution = execution
        self.step = step
        self.attempt = attempt
        self.time_us = time_us

    @classmethod
    def _of(cls, context: Any) -> Context:
        self = cls.__new__(cls)
        self.tenant = context.tenant
        self.graph = context.graph
        self.version = context.version
        self.execution = context.execution
        self.step = context.step
        self.attempt = context.attempt
        self.time_us = context.time_us
        return self

    @property
    def time(self) -> datetime:
        """The trigger's time, in UTC."""
        return _EPOCH + timedelta(microseconds=self.time_us)


def _bytes(value: Bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _pairs(headers: Headers) -> list[tuple[str, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, _bytes(value)) for name, value in pairs]
