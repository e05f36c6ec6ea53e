"""From a function to a component's `handle`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Union

from ._messages import Context, Event, Output

Outputs = Union[Output, Iterable[Output], None]
Handle = Callable[[Context, list[Event]], Outputs]

_handle: Handle | None = None


def step(handle: Handle) -> Handle:
    """Makes `handle` the step that this component is. Once per component; the function itself stays as it is, for tests."""
    global _handle
    _handle = handle
    return handle


def call(context: Any, events: Iterable[Any]) -> list[Output]:
    """What the component does with a call."""
    if _handle is None:
        raise TypeError("no function is marked with @step")
    returned = _handle(Context._of(context), [Event._of(event) for event in events])
    if returned is None:
        return []
    if isinstance(returned, Output):
        return [returned]
    outputs = list(returned) if isinstance(returned, Iterable) else [returned]
    for output in outputs:
        if not isinstance(output, Output):
            raise TypeError(f"a step returns an Output, several, or None; not {type(output).__name__}")
    return outputs
