"""What the graph says under the step's `settings`."""

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

if sys.platform == "wasi":
    from wit_world.imports.settings import get as _get
else:
    from ._stubs import get_settings as _get

_text = ""
_value: Mapping[str, Any] = MappingProxyType({})


def get() -> Mapping[str, Any]:
    """One mapping, read-only since it outlives a call."""
    global _text, _value
    text = _get()
    if text != _text:
        _value = _frozen(json.loads(text))
        _text = text
    return _value


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return value
