"""Who hears of a topic: a trie over tokens. Pure: patterns in, routes out; not thread-safe by itself.

Finding a route costs what matches, not what does not: at each token one look for the token, one for `*`, one for `>`. A route that was
found is kept until the table changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import random
from typing import Generic, NamedTuple, TypeVar

from actors.subjects import is_reserved

__all__ = ["Route", "Router"]

KEPT = 100_000  # targets in all the routes that are kept

T = TypeVar("T")


class Route(NamedTuple, Generic[T]):
    """`each` of these gets a message, and one of each group."""

    each: tuple[T, ...]
    groups: tuple[tuple[T, ...], ...]


class _Node(Generic[T]):
    __slots__ = ("children", "groups", "targets")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.targets: dict[T, None] = {}  # in the order they came
        self.groups: dict[str, dict[T, None]] = {}


class Router(Generic[T]):
    """The table of patterns. Targets are hashable; one may be there with several patterns, and gets a message once for each that matches.

    >>> router = Router[str]()
    >>> router.add("robots.*", None, "ann"); router.add("robots.>", "workers", "bob"); router.add("robots.>", "workers", "eve")
    >>> router.route("robots.arm")
    Route(each=('ann',), groups=(('bob', 'eve'),))
    >>> router.remove("robots.>", "workers", "bob"); router.remove("robots.*", None, "ann")
    >>> router.route("robots.arm")
    Route(each=(), groups=(('eve',),))
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._room = KEPT
        self.known: dict[str, Route[T]] = {}  # replaced, not changed, when the table changes: what was got from the old one stays whole

    def add(self, pattern: str, queue: str | None, target: T) -> None:
        node = self._root
        for token in pattern.split("."):
            node = node.children.setdefault(token, _Node())
        if queue is None:
            node.targets[target] = None
        else:
            node.groups.setdefault(queue, {})[target] = None
        self._forget()

    def remove(self, pattern: str, queue: str | None, target: T) -> None:
        """Nothing happens if it is not there."""
        path = [self._root]
        tokens = pattern.split(".")
        for token in tokens:
            if token not in path[-1].children:
                return
            path.append(path[-1].children[token])
        node = path[-1]
        if queue is None:
            node.targets.pop(target, None)
        elif queue in node.groups:
            node.groups[queue].pop(target, None)
            if not node.groups[queue]:
                del node.groups[queue]
        self._prune(path, tokens)
        self._forget()

    def _prune(self, path: list[_Node[T]], tokens: list[str]) -> None:
        for parent, token, node in zip(path[-2::-1], tokens[::-1], path[:0:-1], strict=True):
            if node.children or node.targets or node.groups:
                return
            del parent.children[token]

    def _forget(self) -> None:
        self.known = {}
        self._room = KEPT

    def route(self, topic: str) -> Route[T]:
        """Whom a message on this topic goes to."""
        found = self.known.get(topic)
        if found is None:
            found = self._find(topic)
            self._room -= 1 + len(found.each) + sum(map(len, found.groups))
            if self._room < 0:
                self._forget()
            self.known[topic] = found
        return found

    def _find(self, topic: str) -> Route[T]:
        each: list[T] = []
        groups: dict[str, dict[T, None]] = {}  # a queue counts once, whatever the patterns its members came by
        for node in self._matching(topic):
            each += node.targets
            for queue, members in node.groups.items():
                groups.setdefault(queue, {}).update(members)
        return Route(tuple(each), tuple(map(tuple, groups.values())))

    def _matching(self, topic: str) -> Iterator[_Node[T]]:
        reserved = is_reserved(topic)
        nodes = [self._root]
        for token in topic.split("."):
            names = (token,) if reserved and nodes[0] is self._root else (token, "*")
            if len(names) == 2:
                yield from (node.children[">"] for node in nodes if ">" in node.children)
            nodes = [node.children[name] for node in nodes for name in names if name in node.children]
            if not nodes:
                return
        yield from nodes

    def __len__(self) -> int:
        """Subscriptions in the table."""
        return sum(len(node.targets) + sum(map(len, node.groups.values())) for node in self._nodes())

    def _nodes(self) -> Iterator[_Node[T]]:
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.children.values()


def one_of(group: tuple[T, ...]) -> T:
    """By chance, as NATS does it: a turn for each would go round with topics that take turns, too, and favour some."""
    return group[int(random() * len(group))]
