"""The component's side: from Weir's call to the step and back. Imported only where it is built."""

from __future__ import annotations

from componentize_py_types import Err
from wit_world.imports import weir_types

from . import _random
from ._failures import Fatal, Reject, Retry
from ._messages import Output
from ._step import call


class WitWorld:
    def handle(self, ctx: weir_types.Context, input: list[weir_types.Event]) -> list[Output]:
        _random.begin(ctx.execution, ctx.attempt, ctx.step)
        try:
            return call(ctx, input)
        except Reject as failure:
            reason = weir_types.Failure_Reject(failure.reason)
        except Retry as failure:
            after_ms = None if failure.after is None else max(0, round(failure.after * 1000))
            reason = weir_types.Failure_Retry((after_ms, failure.reason))
        except Fatal as failure:
            reason = weir_types.Failure_Fatal(failure.reason)
        raise Err(reason)
