"""The verb `open`: another engine behind the topics of this process, found by the scheme of its URL."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from actors import crew, hosting, scope, topics
from actors.embedded import EmbeddedEngine
from actors.engine import Engine
from actors.errors import BadAddress, BusError, Closed, EngineInUse
from actors.subscription import TopicActor, in_use
from actors.telling import LinkState, OnState, Teller
from actors.waiting import check_timeout, deadline_after, remaining
from bus._siblings import HOME
from bus.arguments import check_callable

if TYPE_CHECKING:
    import ssl
    from importlib.metadata import EntryPoint

    from actors.certificates import Path

__all__ = ["Topics", "open"]

log = logging.getLogger("actorbus.topics")

GROUP = "actorbus.engines"
VARIABLE = "ACTORBUS_URL"
CLOSE_TIMEOUT = 5.0


class Topics:
    """The engine that `open` put behind the topics. Closing it switches back to the embedded one.

    >>> import bus
    >>> with bus.open("embedded:") as topics:
    ...     bus.publish("robots.arm", "here")
    ...     print(topics.url, topics.connected())
    embedded: True
    """

    keeps_alive = False

    def __init__(self, opened: _Opened, teller: Teller) -> None:
        self._opened = opened
        self._engine = opened.engine
        self._teller = teller
        self._scope = scope.current()
        self._closed = False
        if self._scope is not None:
            self._scope.add(self)

    @property
    def url(self) -> str:
        """What was opened, without credentials."""
        return self._engine.url

    @property
    def max_payload(self) -> int:
        """Bytes a message may have, headers included."""
        return self._engine.max_payload

    def connected(self) -> bool:
        """Whether messages go through this moment."""
        return not self._closed and self._engine.up

    def close(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """End the subscriptions and responders on it, get out what was published, and switch back. Whether all got out within `timeout`
        seconds. Where several have opened the same URL, the last one's close does it. Closing twice is nothing.
        """
        seconds = check_timeout(timeout)
        with _lock:
            if self._closed:
                return True
            self._closed = True
            last = _leave(self._opened, self._teller)
        if self._scope is not None:
            self._scope.discard(self)
        try:
            return _end(self._engine, CLOSE_TIMEOUT if seconds is None else seconds) if last else True
        finally:
            self._teller.tell("closed", Closed(self.url))  # if the engine has not

    def close_soon(self) -> None:
        """Ask for the close and return at once."""
        crew.run(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._engine.up else "not connected"
        return f"<Topics {self.url} {state}>"


def open(
    url: str,
    *,
    timeout: float | None = topics.OPEN_TIMEOUT,
    on_state: OnState | None = None,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    nkey: Path | None = None,
    creds: Path | None = None,
    tls: ssl.SSLContext | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
) -> Topics:
    """Put another engine behind the topics of this process: `nats://host:4222` (needs `pip install actorbus[nats]`), or `embedded:`.

    From then on `publish`, `subscribe`, `request` and `respond` go there, until it is closed. Open it before the first subscription.
    Scripts that open the same URL with the same credentials share it. Instead, the environment variable ACTORBUS_URL says what to open when
    topics are first used, and `actorbus run --bus URL` opens it for the scripts.

    `timeout`: seconds until it has to be connected. `on_state(state, reason)` is called with "connected", with
    "reconnecting" and why when the server is lost, and in the end with "closed", for each that opened it on its own account.
    `user` and `password`, `token`, `nkey` (a file with the seed) or `creds` (a .creds file: JWT and seed) say who we are; `tls` (an
    `ssl.SSLContext`), or the files `ca`, `cert` and `key`, as for `connect`.

    Raises BadAddress (also for a scheme of which no engine is installed), EngineInUse, ConnectFailed, ConnectTimeout, OSError, TypeError,
    ValueError.

    >>> import bus
    >>> bus.open("embedded:").close()
    True
    """
    if check_timeout(timeout) == 0:
        raise ValueError("timeout must be over 0, or None for none")
    check_callable(on_state, "on_state")
    given = {
        "user": user, "password": password, "token": token, "nkey": nkey, "creds": creds,
        "tls": tls, "cert": cert, "key": key, "ca": ca,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    factory = _factory(url)
    deadline = deadline_after(timeout)
    teller = Teller(on_state, scope.current(), lambda: _shown(url), log)
    with topics.opening(_shown(url), deadline):
        how = _how(url, options)
        if (shared := _share(url, how, teller)) is not None:
            return shared
        if topics.engine is not None and (reason := in_use(topics.engine)):
            raise EngineInUse(_shown(url), reason)
        opened = _Opened(how, teller)
        engine = factory(url, timeout=remaining(deadline), on_state=opened.tell, **options)
        try:
            return _put_in_place(engine, opened, teller)
        except BaseException:
            engine.close(0.0)
            raise


class _Opened:
    """The engine that was opened, how, and what tells its holders how it stands. `by_default`: the environment named it, and holds it."""

    engine: Engine

    def __init__(self, how: dict[str, Any], first: Teller, *, by_default: bool = False) -> None:
        self.how = how
        self.by_default = by_default
        self.tellers = [first]
        self._last: tuple[LinkState, BusError | None] | None = None

    def join(self, teller: Teller) -> None:
        with _lock:
            self.tellers.append(teller)
            if self._last is not None:
                teller.tell(*self._last)

    def tell(self, state: LinkState, reason: BusError | None) -> None:
        """For the engine, on a thread of its own."""
        with _lock:
            self._last = state, reason
            tellers = list(self.tellers)
        for teller in tellers:
            teller.tell(state, reason)


_lock = RLock()  # owns `_opened` and what is in it
_opened: _Opened | None = None


def _how(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """What makes it the same when it is opened again: the URL, and who comes, wherever that was said."""
    who, at, _ = url.partition("://")[2].rpartition("@")
    user, colon, password = who.partition(":")
    inside = {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}
    named = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    return {"url": _shown(url), **(inside if at else {}), **named}


def _share(url: str, how: dict[str, Any], teller: Teller) -> Topics | None:
    """What is open already; None if nothing is, or if it may be replaced."""
    with _lock:
        if _opened is None or (_opened.by_default and _opened.how != how):
            return None
        if _opened.how != how:
            raise EngineInUse(_shown(url), f"{_opened.engine.url} is open already; close that first")
        _opened.join(teller)
        return Topics(_opened, teller)


def _put_in_place(engine: Engine, opened: _Opened, teller: Teller) -> Topics:
    global _opened
    before = topics.use(engine, in_use)
    opened.engine = engine
    with _lock:
        _opened = opened
    if before is not None:
        before.close(CLOSE_TIMEOUT)
    return Topics(opened, teller)


def _leave(opened: _Opened, teller: Teller) -> bool:
    """One holder less; whether it was the last. That one still hears from the engine how it ends."""
    global _opened
    if _opened is not opened:
        return False  # the library was shut down meanwhile
    if len(opened.tellers) > 1:
        opened.tellers.remove(teller)
        return False
    _opened = None
    return True


def _end(engine: Engine, timeout: float) -> bool:
    topics.drop(engine)
    deadline = deadline_after(timeout)
    reason = Closed(engine.url)
    actors = [actor for actor in hosting.live_actors() if isinstance(actor, TopicActor) and actor.engine is engine]
    for wait in [actor.close_from_outside(timeout, reason) for actor in actors]:
        wait(deadline)
    return engine.close(timeout)


def _shutdown(timeout: float) -> bool:
    global _opened
    _opened = None
    return topics.end(timeout)


def _factory(url: str) -> Callable[..., Engine]:
    if not isinstance(url, str):
        raise TypeError(f"url must be a str like 'nats://host:4222', not {type(url).__name__}")
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise BadAddress(url, "it needs a scheme, like nats://host:4222")
    if scheme == "embedded":
        return _embedded
    engines = _engines()
    if scheme not in engines:
        raise BadAddress(_shown(url), f"no engine for topics is installed for {scheme}:, only for {', '.join(['embedded', *engines])}")
    factory: Callable[..., Engine] = engines[scheme].load()
    return factory


def _engines() -> dict[str, EntryPoint]:
    """By scheme: those of a checkout that is not installed, and all that are installed."""
    from importlib.metadata import EntryPoint, entry_points
    from pathlib import Path

    found: dict[str, EntryPoint] = {}
    project = Path(HOME, "pyproject.toml")
    if project.is_file():
        import tomllib

        ours = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("entry-points", {}).get(GROUP, {})
        found |= {name: EntryPoint(name, target, GROUP) for name, target in ours.items()}
    return found | {point.name: point for point in entry_points(group=GROUP)}


def _embedded(url: str, *, timeout: float | None, on_state: OnState | None = None, **options: Any) -> Engine:
    if url != "embedded:":
        raise BadAddress(url, "the embedded engine has no address: it is embedded: and no more")
    if options:
        raise ValueError(f"{min(options)} is for engines with a server, not for embedded:")
    if on_state is not None:
        on_state("connected", None)
    return EmbeddedEngine()


def _shown(url: str) -> str:
    """Without a password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _default(deadline: float | None) -> Engine:
    global _opened
    url = os.environ.get(VARIABLE)
    if not url:
        return EmbeddedEngine()
    opened = _Opened(_how(url, {}), Teller(None, None, lambda: "", log), by_default=True)
    opened.engine = _factory(url)(url, timeout=remaining(deadline), on_state=opened.tell)
    with _lock:
        _opened = opened
    return opened.engine


def _after_fork() -> None:
    global _lock, _opened
    _lock = RLock()
    _opened = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
topics.default(_default)
hosting.end_last(_shutdown)
