"""Group: everybody who joined hears what any of them sends, and nothing else."""

from __future__ import annotations

import itertools
import os
import random
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread

LOOPBACK = "127.0.0.1"
_numbers = itertools.count(1)


def fresh_group() -> str:
    """A group of our own, so that tests that run at the same time do not hear each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"239.255.{os.getpid() % 254 + 1}.{(next(_numbers) + random.randrange(100)) % 254 + 1}:{port}"


@pytest.fixture
def address() -> str:
    return fresh_group()


def join(address: str, **options: Any) -> bus.Group:
    options.setdefault("interface", LOOPBACK)
    return bus.join(f"udp://{address}", **options)


def text(group: bus.Group) -> str:
    message = group.receive(timeout=WAIT)
    assert message is not None
    return message.text


def test_every_member_hears_including_the_sender(address: str) -> None:
    with join(address) as a, join(address) as b, join(address) as c:
        a.send("hello all")
        messages = [group.receive(timeout=WAIT) for group in (a, b, c)]
        assert [message and message.text for message in messages] == ["hello all"] * 3
        assert messages[1] is not None
        host, _, port = messages[1].source.rpartition(":")
        assert host == LOOPBACK
        assert int(port) > 0


def test_address_is_the_groups_and_local_address_our_own(address: str) -> None:
    with join(address) as group:
        assert group.address == address
        assert group.local_address.startswith(LOOPBACK)
        assert repr(group) == f"<Group {address} from {group.local_address} open, 0 waiting>"
    assert "closed" in repr(group)


def test_without_loopback_this_machine_does_not_hear_it(address: str) -> None:
    # Not on the loopback interface, which gives back whatever is sent there; and with a ttl of 0, so that nothing leaves the machine.
    with join(address, interface=None, ttl=0, loopback=False) as quiet, join(address, interface=None, ttl=0) as loud:
        if loud.local_address.startswith("127."):
            pytest.skip("this machine has no route for multicast but loopback")
        quiet.send("to the others")
        loud.send("to all")
        # Both took the same way, so the first would have come by now.
        assert text(loud) == "to all"
        assert text(quiet) == "to all"
        assert loud.receive(timeout=0) is None


def test_other_groups_and_unicast_on_the_same_port_stay_out(address: str) -> None:
    port = address.rpartition(":")[2]
    other = fresh_group().rpartition(":")[0] + ":" + port
    with join(address) as group, join(other) as elsewhere, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        elsewhere.send("not for you")
        plain.sendto(b"nor this", (LOOPBACK, int(port)))
        group.send("for you")
        assert text(group) == "for you"
        assert group.receive(timeout=0) is None
        assert text(elsewhere) == "not for you"


def test_a_plain_sender_and_a_plain_member(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind((host, int(port)))
        membership = struct.pack("4s4s", socket.inet_aton(host), socket.inet_aton(LOOPBACK))
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        plain.settimeout(WAIT)
        with join(address) as group:
            plain.sendto(b"from outside", (host, int(port)))
            assert text(group) == "from outside"
            assert plain.recv(100) == b"from outside"
            group.send({"from": "us"})
            assert plain.recv(100) == b'{"from":"us"}'


def test_who_has_left_hears_no_more_and_the_others_go_on(address: str) -> None:
    with join(address) as stays:
        leaves = join(address)
        assert leaves.close()
        stays.send("still here")
        assert text(stays) == "still here"
        calls: list[Callable[[], object]] = [leaves.receive, lambda: leaves.receive(timeout=0), lambda: leaves.send("x")]
        for call in calls:
            with pytest.raises(bus.Closed):
                call()
        assert leaves.close()


def test_the_interface_by_name(address: str) -> None:
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is None:
        pytest.skip("this machine has no loopback interface")
    with join(address, interface=loopback) as group, join(address) as other:
        group.send("by name")
        assert text(other) == "by name"


def test_the_interface_from_the_environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTORBUS_MULTICAST_INTERFACE", LOOPBACK)
    with join(address, interface=None) as group:
        assert group.local_address.startswith(LOOPBACK)
        group.send("x")
        assert text(group) == "x"


def test_an_interface_that_is_not_there_is_named_with_those_that_are(address: str) -> None:
    with pytest.raises(bus.BadAddress, match="nonesuch0.*there are .*lo"):
        join(address, interface="nonesuch0")
    with pytest.raises(bus.BadAddress, match=r"192\.0\.2\.99"):
        join(address, interface="192.0.2.99")


@pytest.mark.parametrize("host", ["127.0.0.1", "example.org", "10.0.0.1", "[::1]"])
def test_what_is_no_group_is_refused(host: str) -> None:
    with pytest.raises(bus.BadAddress, match="multicast|name"):
        bus.join(f"udp://{host}:9999")


def test_a_group_needs_a_port() -> None:
    with pytest.raises(bus.BadAddress, match="1 to 65535"):
        bus.join("udp://239.1.1.1:0")


@pytest.mark.parametrize(("ttl", "error"), [(-1, ValueError), (256, ValueError), (True, TypeError), ("1", TypeError), (1.0, TypeError)])
def test_a_ttl_is_a_number_from_0_to_255(ttl: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ttl"):
        bus.join("udp://239.1.1.1:9999", ttl=ttl)


@pytest.mark.parametrize("ttl", [0, 1, 255])
def test_the_ttl_is_on_the_socket(address: str, ttl: int) -> None:
    with join(address, ttl=ttl) as group:
        assert group._actor.reader.sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == ttl


def test_a_message_over_a_datagram_is_too_large(address: str) -> None:
    with join(address) as group:
        with pytest.raises(bus.TooLarge):
            group.send(b"x" * 65_508)
        with pytest.raises(TypeError, match="int"):
            group.send(1)  # type: ignore[arg-type]


def test_fileno_works_with_select(address: str) -> None:
    with join(address) as group:
        assert not select.select([group], [], [], 0)[0]
        group.send("x")
        assert select.select([group], [], [], WAIT)[0] == [group]
        assert text(group) == "x"
        assert not select.select([group], [], [], 0)[0]


def test_iteration_goes_on_until_it_is_closed(address: str) -> None:
    group = join(address)
    group.send("1")
    group.send("2")
    seen = []
    with pytest.raises(bus.Closed):
        for message in group:
            seen.append(message.text)
            if len(seen) == 2:
                group.close()
    assert seen == ["1", "2"]


def test_stats_count(address: str) -> None:
    with join(address) as group:
        group.send("12345")
        text(group)
        assert group.stats() == bus.Stats(messages_in=1, bytes_in=5, messages_out=1, bytes_out=5)


def test_members_in_threads_of_their_own(address: str) -> None:
    with join(address) as sender, join(address, threads="own") as a, join(address) as b:
        listening = [InThread(lambda group=group: [text(group) for _ in range(100)]) for group in (a, b)]  # type: ignore[misc]
        for number in range(100):
            sender.send(str(number))
        for each in listening:
            assert each.result() == [str(number) for number in range(100)]


def test_an_ipv6_group() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    refused = []
    for _, interface in socket.if_nameindex():
        try:
            with bus.join(f"udp://[ff02::{os.getpid() % 0xFFFF + 1:x}]:{port}", interface=interface, ttl=0) as group:
                group.send("six")
                assert text(group) == "six"
                return
        except (OSError, bus.BadAddress) as exc:
            refused.append(f"{interface}: {exc}")
    pytest.skip(f"no interface here takes IPv6 multicast: {'; '.join(refused)}")
