"""What every server of many clients does with a message: the same callback for all."""

import time

from .load import SLOW

NAP = 0.05


def work(message: bytes) -> bytes:
    """The echo, at once, unless the message asks for the nap: a callback that queries something and blocks meanwhile."""
    if message[0] == SLOW:
        time.sleep(NAP)
    return message
