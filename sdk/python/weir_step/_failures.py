"""How a step fails on purpose: raise one of these. Any other exception traps."""

from __future__ import annotations


class Failure(Exception):
    """What a step may raise on purpose."""

    def __init__(self, reason: object = "") -> None:
        super().__init__(reason)
        self.reason = str(reason)


class Reject(Failure):
    """This input can never work: it becomes a dead letter."""


class Retry(Failure):
    """Try again, as `retry:` in the graph allows; after `after` seconds if given."""

    def __init__(self, reason: object = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Fatal(Failure):
    """Nothing of this graph can work any more."""
