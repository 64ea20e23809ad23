"""Ctrl-C during a query, heard at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def on_interrupt(stop: Callable[[], None]) -> Generator[None, None, None]:
    """Call `stop` from another thread as soon as Ctrl-C is pressed within the block.

    Polars raises KeyboardInterrupt itself, but only once its threads have ended what they are at,
    which may take seconds. A query in another thread than the main one cannot be interrupted, and
    where Ctrl-C means something else than KeyboardInterrupt, nothing is stopped.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    told, hears = socket.socketpair()
    told.setblocking(False)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(hears, stop, before), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        told.close()
        listener.join()
        hears.close()


def _listen(hears: socket.socket, stop: Callable[[], None], before: int) -> None:
    """Read the numbers of signals until the other end is closed, and hand them on."""
    while numbers := hears.recv(64):
        if signal.SIGINT in numbers:
            stop()
        if before >= 0:
            _hand_on(before, numbers)


def _hand_on(descriptor: int, numbers: bytes) -> None:
    """Give the numbers to whom they went before, such as the event loop of a notebook."""
    with suppress(OSError):
        os.write(descriptor, numbers)
