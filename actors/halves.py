"""The two halves of a stream connection: each side may end its own, and the other half goes on.

Our own end is `end_output`: what was accepted is still written, then comes the FIN (over TLS, close_notify before it), and reading goes on.
The peer's end, once the script knows of it, ends the connection as a rule: who has read everything has said everything. With `half_open`
it leaves our half as it is, until that ends, too, or the script closes.

`asked` is set by the thread that ends the output; everything else belongs to the reader thread.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from actors.errors import Closed
from actors.reader import READ_ON
from actors.states import State

if TYPE_CHECKING:
    from actors.stream import StreamActor

__all__ = ["Halves"]


class Halves:
    """What has ended of a stream, of which nobody has asked for the close of the whole. `sent`: our FIN is on its way."""

    __slots__ = ("_stream", "asked", "half_open", "sent")

    def __init__(self, stream: StreamActor, half_open: bool) -> None:
        self._stream = stream
        self.half_open = half_open
        self.asked = False
        self.sent = False

    @property
    def output_stays(self) -> bool:
        """Whether our half is to outlive the peer's."""
        return self.half_open and not self.sent

    def end_output(self) -> None:
        """Take nothing more to send, and tell the peer behind what was taken. From any thread."""
        stream = self._stream
        stream.outbox.refuse(Closed(stream.remote_address, " for sending: send_eof() came before"))
        self.asked = True
        stream.outbox.hurry()
        stream.loop.call_soon(self.look)

    def look(self) -> None:
        """End our half, if that was asked for and everything is written."""
        stream = self._stream
        if stream.state is not State.OPEN or not self.asked or self.sent or len(stream.outbox):
            return
        stream.reader.output_over = True
        try:
            if stream.encrypted:
                stream.reader.sock.end_output()  # type: ignore[attr-defined]
            else:
                stream.reader.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:  # TLS's own end comes first, and has to wait
            stream.loop.call_later(READ_ON, self.look)
            return
        except OSError:
            pass  # not connected any more: the read side says so, or has said
        self.sent = True
        ended = stream.mailbox.ended
        if ended is not None:
            stream.expel(ended)
