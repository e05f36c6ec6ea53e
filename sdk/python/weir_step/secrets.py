"""Secrets of the tenant. The graph must say `secrets: [NAME]`."""

import sys

if sys.platform == "wasi":
    from wit_world.imports.secrets import get as _get
else:
    from ._stubs import get_secret as _get


def get(name: str) -> str:
    """The secret's value. A name that the graph does not grant ends the call."""
    return _get(name)
