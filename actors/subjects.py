"""Which names topics may have, and which patterns a subscriber may ask for. The rules are NATS's, for every engine; pure.

A topic is one or more tokens divided by dots. In a pattern the token `*` stands for any one token, and `>`, at the end only, for one or
more. No token is empty, none has white space or control characters, and `*` and `>` stand alone.

Topics that begin with `$` or `_INBOX` are the engines' own: scripts cannot publish to them, and a wildcard as first token passes them over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from actors.errors import BadTopic

__all__ = ["MAX_LENGTH", "check_headers", "check_pattern", "check_queue", "check_topic", "has_wildcard", "is_reserved", "known", "matches"]

MAX_LENGTH = 1024  # bytes; a line of NATS's protocol, with two names and two numbers in it, has 4096
KNOWN = 4096  # names that are not looked at again

# White space and control characters, of Latin-1 too; and lone surrogates, which UTF-8 does not have.
BARRED = r"\s\x00-\x1f\x7f-\x9f\ud800-\udfff"
TOKEN = rf"[^{BARRED}.*>]+"
TOPIC = re.compile(rf"{TOKEN}(?:\.{TOKEN})*")
PATTERN = re.compile(rf"(?:(?:{TOKEN}|\*)(?:\.(?:{TOKEN}|\*))*(?:\.>)?|>)")
QUEUE = re.compile(TOKEN)
HEADER_NAME = re.compile(r"[!-9;-~]+")
HEADER_VALUE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")

known: dict[str, None] = {}  # topics that were checked


def check_topic(topic: str) -> None:
    """Raises BadTopic unless a script may publish to it, TypeError for what is no str.

    >>> check_topic("robots.arm.moved")
    >>> check_topic("robots.*.moved")
    Traceback (most recent call last):
    actors.errors.BadTopic: bad topic 'robots.*.moved': '*' and '>' are for subscribing, and stand alone between dots
    """
    if topic in known:
        return
    _check(topic, TOPIC)
    if is_reserved(topic):
        raise BadTopic(topic, "names that begin with '$' or '_INBOX' are the engine's own")
    if len(known) >= KNOWN:
        known.clear()
    known[topic] = None


def check_pattern(pattern: str) -> None:
    """Raises BadTopic unless a script may subscribe to it, TypeError for what is no str.

    >>> check_pattern("robots.*.moved"), check_pattern("robots.>"), check_pattern(">")
    (None, None, None)
    """
    _check(pattern, PATTERN)


def check_queue(queue: str, what: str = "queue") -> None:
    """Raises ValueError for what cannot name a group, TypeError for what is no str. It is one token. `what` it is called in the error."""
    if not isinstance(queue, str):
        raise TypeError(f"{what} must be a str, not {type(queue).__name__}")
    if not QUEUE.fullmatch(queue) or len(queue.encode()) > MAX_LENGTH:
        raise ValueError(f"{what} must be a name without dots, blanks, '*' and '>', not {queue[:80]!r}")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, values without blanks at their ends. Raises TypeError and ValueError for those that a line of text cannot carry."""
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must map str to str, not be a {type(headers).__name__}")
    checked = {}
    for name, value in headers.items():
        for one in (name, value):
            if not isinstance(one, str):
                raise TypeError(f"headers must map str to str, not {type(name).__name__} to {type(value).__name__}")
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"the name of a header has printable ASCII characters only, no blank and no colon: {name[:80]!r}")
        if not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name!r} has line ends, control characters or lone surrogates")
        checked[name] = value.strip()
    return checked


def is_reserved(topic: str) -> bool:
    """Whether it is the engines' own."""
    return topic[0] == "$" or topic.startswith("_INBOX")


def has_wildcard(pattern: str) -> bool:
    return pattern.endswith(">") or "*" in pattern


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to this pattern hears of this topic. Both have been checked.

    >>> matches("robots.*.moved", "robots.arm.moved"), matches("robots.>", "robots")
    (True, False)
    """
    if pattern[0] in "*>" and is_reserved(topic):
        return False
    wanted, tokens = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and _each(wanted[:-1], tokens)
    return len(tokens) == len(wanted) and _each(wanted, tokens)


def _each(wanted: list[str], tokens: list[str]) -> bool:
    return all(one in ("*", token) for one, token in zip(wanted, tokens, strict=False))


def _check(name: str, form: re.Pattern[str]) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a topic must be a str like 'robots.arm.moved', not {type(name).__name__}")
    if not form.fullmatch(name) or len(name.encode()) > MAX_LENGTH:
        raise BadTopic(name[:80], _why_not(name, form))


def _why_not(name: str, form: re.Pattern[str]) -> str:
    if not name:
        return "it is empty"
    if re.search(f"[{BARRED}]", name):
        return "it has a blank, a control character or a lone surrogate"
    if "" in name.split("."):
        return "it has an empty token: a dot at an end, or two in a row"
    if len(name.encode()) > MAX_LENGTH:
        return f"it has more than {MAX_LENGTH} bytes"
    if form is TOPIC:
        return "'*' and '>' are for subscribing, and stand alone between dots"
    return "'*' and '>' stand alone between dots, and '>' at the end only"
