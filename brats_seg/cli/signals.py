"""Ctrl-C, a request to end and a closed terminal end a command alike, so that half-written outputs are removed.

Nothing but the standard library is imported here: this must stand before anything else is loaded.
"""

from __future__ import annotations

import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_GRACE_S = 5.0
"""For so long after a signal the next ones are passed over: they would stop the removal of what is half-written."""


class Interruptible:
    """Turns the signals of :data:`ENDING` into :class:`KeyboardInterrupt`, but for those that were ignored (nohup)."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._last = -_GRACE_S

    def install(self) -> None:
        """Set the handlers; outside the main thread, where none may be set, this does nothing."""
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._interrupt)
            except ValueError:
                return

    def restore(self, *, ends: bool) -> None:
        """Put the handlers back; where the process ends now, a further signal just ends it."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if ends or handler is None else handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _GRACE_S:
            return
        self._last = now
        raise KeyboardInterrupt
