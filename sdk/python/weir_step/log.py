"""Lines in the execution's log. The graph must say `log: true`."""

import sys
from typing import Any

if sys.platform == "wasi":
    from wit_world.imports.log import Level as _Level
    from wit_world.imports.log import write as _write

    _DEBUG, _INFO, _WARN, _ERROR = _Level.DEBUG, _Level.INFO, _Level.WARN, _Level.ERROR
else:
    from ._stubs import write as _write

    _DEBUG, _INFO, _WARN, _ERROR = "debug", "info", "warn", "error"


def debug(message: Any) -> None:
    _write(_DEBUG, str(message))


def info(message: Any) -> None:
    _write(_INFO, str(message))


def warn(message: Any) -> None:
    _write(_WARN, str(message))


def error(message: Any) -> None:
    _write(_ERROR, str(message))
