"""What JetStream is asked in its own protocol: JSON in requests. Pure, but for the asking.

A message is kept by a stream, which has topics. One that an administrator has made for a topic is used as it is. Where there is none, one
is made for all topics that share the first token; it keeps, in files, the newest `KEEP_MESSAGES` of the last `KEEP_SECONDS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from actors.errors import NotDurable

__all__ = ["ACK_SECONDS", "JetStream", "Refused", "consumer_config", "is_stored", "stream_config", "stream_name"]

KEEP_MESSAGES = 1_000_000
KEEP_SECONDS = 7 * 24 * 3600
ACK_SECONDS = 30  # that a message may be at work before it is delivered again
UNACKNOWLEDGED = 1000  # messages of one name; the server delivers no more until some of them are acknowledged
DUPLICATE_SECONDS = 120  # that the server knows a message's id
NANO = 1_000_000_000

NOT_FOUND = 404
UNAVAILABLE = 503

OFF = "JetStream is off there, for this account at least: start it with `nats-server -js`, or in its configuration `jetstream {}`"


class Refused(Exception):
    """JetStream says no. `code` is like those of HTTP."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code


class JetStream:
    """Its API. `ask(topic, payload)` gives the reply, or None for no responders; it raises what it likes about time and connection."""

    def __init__(self, url: str, ask: Callable[[str, bytes], bytes | None]) -> None:
        self._url = url
        self._ask = ask

    def call(self, what: str, body: Any = None) -> dict[str, Any]:
        """Raises Refused, and NotDurable where there is no JetStream."""
        reply = self._ask(f"$JS.API.{what}", b"" if body is None else json.dumps(body).encode())
        if reply is None:
            raise NotDurable(self._url, OFF)
        try:
            answer = json.loads(reply)
        except (ValueError, RecursionError):
            answer = None
        match answer:
            case {"error": {"err_code": 10039}}:  # of its own list: not enabled for the account
                raise NotDurable(self._url, OFF)
            case {"error": {"code": int(code), **rest}}:
                raise Refused(code, str(rest.get("description", "")))
            case {"error": _}:
                pass
            case dict():
                return answer
        raise Refused(0, f"an answer that is none of JetStream's: {reply[:80]!r}")

    def stream_for(self, topic: str) -> str:
        """The name of the stream that keeps it, made if there is none. Raises NotDurable, Refused."""
        if topic[0] in "*>":
            raise NotDurable(self._url, f"the first token of {topic} is a wildcard, and each first token has a stream of its own")
        found = self.call("STREAM.NAMES", {"subject": topic}).get("streams") or []
        if len(found) > 1:
            raise NotDurable(self._url, f"several streams keep topics of {topic} ({', '.join(sorted(found)[:3])}), and one name reads one")
        if found:
            return str(found[0])
        config = stream_config(topic)
        try:
            self.call(f"STREAM.CREATE.{config['name']}", config)
        except Refused as exc:
            if exc.code == UNAVAILABLE:
                raise
            raise NotDurable(self._url, f"no stream keeps {topic}, and none can be made: {exc}") from exc
        return str(config["name"])

    def consumer(self, stream: str, topic: str, name: str, replay: str | float) -> None:
        """Have the server remember what is acknowledged under that name; nothing if it does. Raises NotDurable, Refused."""
        try:
            known = self.call(f"CONSUMER.INFO.{stream}.{name}")
        except Refused as exc:
            if exc.code != NOT_FOUND:
                raise
            self.call(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": consumer_config(topic, name, replay)})
            return
        if (other := known.get("config", {}).get("filter_subject")) != topic:
            raise NotDurable(self._url, f"the name {name} is for {other or 'all topics of its stream'} already, not for {topic}")


def stream_name(topic: str) -> str:
    """What a stream is called that is made for this topic.

    >>> stream_name("orders.new"), stream_name("für/alle.x")
    ('ACTORBUS-orders', 'ACTORBUS-f=C3=BCr=2Falle')
    """
    first = topic.partition(".")[0]
    return "ACTORBUS-" + re.sub(r"[^\w-]", lambda match: "".join(f"={byte:02X}" for byte in match[0].encode()), first, flags=re.ASCII)


def stream_config(topic: str) -> dict[str, Any]:
    first = topic.partition(".")[0]
    return {
        "name": stream_name(topic),
        "subjects": [first, f"{first}.>"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_bytes": -1,
        "max_msgs": KEEP_MESSAGES,
        "max_age": KEEP_SECONDS * NANO,
        "duplicate_window": DUPLICATE_SECONDS * NANO,
    }


def consumer_config(topic: str, name: str, replay: str | float) -> dict[str, Any]:
    """`replay`: "all", "new", or seconds since the epoch.

    >>> consumer_config("orders.>", "till", 0.5)["opt_start_time"]
    '1970-01-01T00:00:00.500000+00:00'
    """
    config: dict[str, Any] = {
        "durable_name": name,
        "filter_subject": topic,  # one: servers before 2.10 silently ignore several
        "ack_policy": "explicit",
        "ack_wait": round(ACK_SECONDS * NANO),
        "max_ack_pending": UNACKNOWLEDGED,
        "replay_policy": "instant",
    }
    if isinstance(replay, str):
        return config | {"deliver_policy": replay}
    since = datetime.fromtimestamp(replay, UTC).isoformat(timespec="microseconds")
    return config | {"deliver_policy": "by_start_time", "opt_start_time": since}


def is_stored(reply: bytes) -> bool:
    """Whether this is a stream's answer to a message, and not a responder's.

    >>> is_stored(b'{"stream":"ACTORBUS-orders","seq":1}'), is_stored(b"thanks")
    (True, False)
    """
    try:
        answer = json.loads(reply)
    except (ValueError, RecursionError):
        return False
    match answer:
        case {"stream": str(), "seq": int()} | {"error": {"code": int(), "description": str()}}:
            return True
    return False
