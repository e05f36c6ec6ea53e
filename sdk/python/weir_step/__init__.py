"""Write a step of a Weir graph in Python. See README.md.

What a component may have to be granted stands in modules of its own (`log`, `secrets`, `http`; `settings` too), which
`weir_step.build` looks for in a step's source: import them by name, `from weir_step import log`.
"""

from ._failures import Failure, Fatal, Reject, Retry
from ._messages import Context, Event, Output
from ._step import Handle, step

__all__ = ["Context", "Event", "Failure", "Fatal", "Handle", "Output", "Reject", "Retry", "step"]
