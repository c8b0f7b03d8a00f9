"""What can go wrong, as conditions.

==================  ==================================================================
`Closed`            you closed it, and used it afterwards
`PeerClosed`        they closed it, in order; every message they sent was delivered first
`Broken`            the link failed, and the reason says how
`NotSent`           the deadline passed first; nothing of that message was taken
`TooLarge`          the message is over a limit; nothing of it was taken
`BadAddress`        the address cannot mean what you asked for
`ConnectFailed`     there is no connection, and the reason says why
`ConnectTimeout`    there is none within the time you gave
`DeadlinePassed`    the time of a `with bus.deadline(…)` is over
`BadTopic`          the name cannot be a topic, or not one for this
`NoResponders`      nobody answers requests on this topic
`RequestTimeout`    somebody does, and did not within the time you gave
`ResponderFailed`   somebody tried, and it failed there
`NotDurable`        the engine behind the topics keeps no messages
`EngineInUse`       the engine cannot be changed while it is in use
==================  ==================================================================

`Closed`, `TooLarge`, `BadAddress`, `DeadlinePassed`, `BadTopic`, `NotDurable` and `EngineInUse` are the caller's doing; the others are the
world's. Each class carries its data
(`address`, `reason`), builds its sentence in `__str__`, and keeps the `OSError` behind it as `__cause__`, with the number also in `errno`.
"""

from __future__ import annotations

__all__ = [
    "BadAddress",
    "BadTopic",
    "Broken",
    "BusError",
    "Closed",
    "ConnectFailed",
    "ConnectTimeout",
    "DeadlinePassed",
    "EngineInUse",
    "NoResponders",
    "NotDurable",
    "NotSent",
    "PeerClosed",
    "RequestTimeout",
    "ResponderFailed",
    "TooLarge",
]


class BusError(Exception):
    """The base of every error that actorbus raises on its own account.

    `address` is the other end, or the address in question (a str, possibly empty); `reason` a phrase without a full stop.
    """

    sentence = "{address}: {reason}"
    errno: int | None  # of the OSError behind it, in the classes that are one

    def __init__(self, address: str = "", reason: str = "") -> None:
        # Not super().__init__: in the classes that are also an OSError it would take the two for errno and strerror.
        BaseException.__init__(self, address, reason)
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return self.sentence.format(address=self.address or "it", reason=self.reason)

    def because(self, cause: BaseException | None) -> BusError:
        """The same error with its cause, for `raise error.because(exc)`."""
        self.__cause__ = cause
        if isinstance(cause, OSError) and isinstance(self, OSError):
            self.errno = cause.errno
        return self

    def again(self) -> BusError:
        """A fresh copy to raise: one stored exception raised in two threads would share one traceback."""
        copy = type(self)(self.address, self.reason)
        copy.__dict__.update(self.__dict__)
        copy.because(self.__cause__)
        return copy


class Closed(BusError, ConnectionError):
    """You closed it. Raised by every call on a proxy after its own `close()`."""

    sentence = "{address} was closed by this program{reason}"


class PeerClosed(BusError, ConnectionError):
    """The peer closed the connection in order, after everything it sent was delivered."""

    sentence = "{address} closed the connection{reason}"


class Broken(BusError, ConnectionError):
    """The link failed. `reason` says how: reset, stalled, too large a frame, ended inside a message, a callback's exception."""

    sentence = "the connection with {address} broke: {reason}"


class NotSent(BusError, TimeoutError):
    """The deadline passed while the outgoing buffer was full. Nothing of the message was taken; it can be sent again.

    After `send_many`, `accepted` is the number of messages that were taken before the one that was not.
    """

    sentence = "not sent to {address}: {reason}"
    accepted: int = 0


class DeadlinePassed(BusError, TimeoutError):
    """The time of a `with bus.deadline(seconds)` is over, and the call would have waited longer. `reason` says how many seconds it was."""

    sentence = "the time of {address} is over: {reason}"


class TooLarge(BusError, ValueError):
    """The message is over the limit that `reason` names. Nothing of it was taken, and the connection lives on."""

    sentence = "message for {address} is too large: {reason}"


class BadAddress(BusError, ValueError):
    """The address can't be used for this: malformed, unknown scheme, a port out of range, or the wrong verb for its scheme."""

    sentence = "bad address {address!r}: {reason}"


class ConnectFailed(BusError, ConnectionError):
    """No connection to `address`: refused, unreachable, no such name."""

    sentence = "cannot connect to {address}: {reason}"


class ConnectTimeout(ConnectFailed, TimeoutError):
    """No connection to `address` within the timeout."""


class BadTopic(BusError, ValueError):
    """The name can't be a topic, or not one for this: empty tokens, blanks, a wildcard where one topic is needed, a reserved name."""

    def __str__(self) -> str:
        return f"bad topic {self.address!r}: {self.reason}"  # also an empty one


class NoResponders(BusError, ConnectionError):
    """Nobody is subscribed to the topic of a request. Known at once."""

    sentence = "nobody answers on topic {address}{reason}"


class RequestTimeout(BusError, TimeoutError):
    """No answer to a request within the timeout, although somebody is subscribed to its topic."""

    sentence = "no answer on topic {address}: {reason}"


class ResponderFailed(BusError, RuntimeError):
    """Who was to answer the request could not: its callback raised, or it was closed meanwhile. `reason` says what."""

    sentence = "the responder on topic {address} failed: {reason}"


class NotDurable(BusError, RuntimeError):
    """The engine behind the topics keeps no messages. `reason` says which one would."""

    sentence = "{address} keeps no messages: {reason}"


class EngineInUse(BusError, RuntimeError):
    """The engine behind the topics cannot be changed: there are subscriptions or responders, or another one is open."""

    sentence = "cannot open {address}: {reason}"
