"""Stands in for Weir outside of WebAssembly, so that a step can be tested with plain Python. See `weir_step.testing`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .http import Request, Response


@dataclass
class Host:
    """What a step under test sees of Weir, and what it logged."""

    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    http: Callable[[Request], Response] | None = None
    logs: list[tuple[str, str]] = field(default_factory=list)


host = Host()


def write(level: str, message: str) -> None:
    host.logs.append((level, message))


def get_settings() -> str:
    return json.dumps(host.settings)


def get_secret(name: str) -> str:
    if name not in host.secrets:
        raise LookupError(f'the secret "{name}" is not granted')
    return host.secrets[name]


def send(request: Request) -> Response:
    if host.http is None:
        raise LookupError("no HTTP in tests: set `host.http` to a function of the request")
    return host.http(request)
