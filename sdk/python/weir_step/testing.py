"""For tests: `host` is what a step sees of Weir; `reset()` makes it as new."""

from ._stubs import Host, host

__all__ = ["host", "reset"]


def reset() -> None:
    vars(host).update(vars(Host()))
