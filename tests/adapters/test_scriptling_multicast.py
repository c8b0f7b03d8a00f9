"""`scriptling.net.multicast`: groups on the loopback interface, what they hear and what they don't."""

from __future__ import annotations

import errno
import json
import logging
import math
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bus
from actors import multicast
from adapters.scriptling.net import multicast as mc
from adapters.scriptling.net import unicast as uc
from tests.bus.peers import WAIT, InThread

# Not the seeded one: the workers of a run would all throw the same.
dice = random.SystemRandom()

IP_RECVTTL = 12  # <linux/in.h>; the socket module has no name for it

IPV6_TABLE = Path("/proc/net/if_inet6")
IPV6_INTERFACES = sorted({line.split()[-1] for line in IPV6_TABLE.read_text().splitlines()}) if IPV6_TABLE.exists() else []
IPV6_INTERFACES = [name for name in IPV6_INTERFACES if Path(f"/sys/class/net/{name}/operstate").read_text().strip() != "down"]

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture(autouse=True)
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTORBUS_MULTICAST_INTERFACE", "lo")


@pytest.fixture
def port() -> int:
    """Below the range from which the system picks; what stands there belongs to this test alone, as does its group."""
    return dice.randint(20_000, 32_000)


@pytest.fixture
def group() -> str:
    """One of the addresses for use within an organization (RFC 2365)."""
    return ".".join(["239", *(str(dice.randint(1, 254)) for _ in range(3))])


@pytest.fixture
def members(group: str, port: int) -> Iterator[Callable[..., mc.Group]]:
    """Joins this test's group, or another on its port, and leaves it at the end."""
    joined: list[mc.Group] = []

    def join(group_addr: str = group, **options: Any) -> mc.Group:
        joined.append(mc.join(group_addr, port, **options))
        return joined[-1]

    yield join
    for member in joined:
        member.close()


Join = Callable[..., mc.Group]


def text_of(member: mc.Group) -> str:
    msg = member.receive(timeout=WAIT)
    assert msg is not None
    assert set(msg) == {"data", "source"}
    return msg["data"]


def plain_member(group: str, port: int) -> socket.socket:
    """A member as others make it: bound to the wildcard, so that it hears everybody's traffic on the port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", port))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton("127.0.0.1"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sock.settimeout(WAIT)
    return sock


class TestTheirs:
    """What Scriptling's own tests of the library ask for, by their names."""

    def test_registered(self) -> None:
        assert mc.__name__ == "adapters.scriptling.net.multicast"
        assert callable(mc.join)

    @pytest.mark.parametrize("address", ["192.168.1.1", "127.0.0.1", "240.0.0.1", "223.255.255.255", "::1"])
    def test_non_multicast(self, address: str) -> None:
        with pytest.raises(ValueError, match="multicast") as caught:
            mc.join(address, 9999)
        assert address in str(caught.value)

    @pytest.mark.parametrize("address", ["not-an-ip", "", "239.1.1", "239.1.1.1:9999", "localhost"])
    def test_invalid_address(self, address: str) -> None:
        with pytest.raises(ValueError) as caught:
            mc.join(address, 9999)
        assert address in str(caught.value)

    def test_missing_args(self) -> None:
        with pytest.raises(TypeError):
            mc.join()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            mc.join("239.1.1.1")  # type: ignore[call-arg]

    @pytest.mark.parametrize("number", [0, -1, 65_536])
    def test_invalid_port(self, number: int) -> None:
        with pytest.raises(ValueError, match=rf"^port must be between 1 and 65535, not {number}$"):
            mc.join("239.1.1.1", number)

    def test_group_has_methods(self, members: Join, group: str, port: int) -> None:
        member = members()
        for name in ("send", "receive", "close"):
            assert callable(getattr(member, name))
        assert (member.group_addr, member.port, member.local_addr) == (group, port, f"127.0.0.1:{port}")
        assert f"{group}:{port}" in repr(member)

    def test_cleanup_no_panic(self, group: str, port: int) -> None:
        joined = [mc.join(group, port) for _ in range(5)]
        waiting = [InThread(lambda member=member: member.receive(None)).until_blocked() for member in joined]  # type: ignore[misc]
        assert bus.shutdown()
        for one in waiting:
            with pytest.raises(bus.Closed):
                one.result()

    def test_close_idempotent(self, members: Join) -> None:
        member = members()
        member.close()
        member.close()
        with pytest.raises(bus.Closed):
            member.send("x")
        with pytest.raises(bus.Closed):
            member.receive(0)

    def test_send_receive_string(self, members: Join) -> None:
        one, other = members(), members()
        one.send("hello")
        assert other.receive(timeout=WAIT) == {"data": "hello", "source": one.local_addr}

    def test_send_receive_json(self, members: Join) -> None:
        one, other = members(), members()
        one.send({"type": "ping", "ts": 1234, "ä": None})
        text = text_of(other)
        assert text == '{"type":"ping","ts":1234,"ä":null}'
        assert json.loads(text)["ts"] == 1234

    def test_receive_timeout(self, members: Join) -> None:
        member = members()
        assert member.receive(timeout=0.02) is None
        assert member.receive(0) is None

    def test_script_send_receive(self, members: Join) -> None:
        member = members()
        member.send("script test")
        assert text_of(member) == "script test"  # a group hears itself


class TestMessages:
    def test_every_byte_survives_a_round_trip(self, members: Join) -> None:
        one, other = members(), members()
        every = bytes(range(256))
        one.send(every)
        text = text_of(other)
        assert text.encode("utf-8", "surrogateescape") == every
        other.send(text)
        assert [text_of(one), text_of(one)] == [text, text]

    @pytest.mark.parametrize("message", [42, None, [1], (1,), True])
    def test_what_is_no_message_is_refused_by_its_type(self, members: Join, message: Any) -> None:
        with pytest.raises(TypeError) as caught:
            members().send(message)
        assert str(caught.value) == f"message must be a string, bytes or dict, not {type(message).__name__}"

    @pytest.mark.parametrize("message", [{"n": math.nan}, "\ud800", "x" * 65_508])
    def test_what_no_datagram_can_hold_is_a_value_error(self, members: Join, message: Any) -> None:
        with pytest.raises(ValueError):
            members().send(message)

    def test_a_datagram_holds_65507_bytes(self, members: Join) -> None:
        member = members()
        member.send("x" * 65_507)
        assert len(text_of(member)) == 65_507

    @pytest.mark.parametrize("timeout, error", [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("5", TypeError)])
    def test_what_is_no_timeout_is_said(self, members: Join, timeout: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            members().receive(timeout)

    def test_a_close_from_another_thread_ends_the_wait(self, members: Join) -> None:
        member = members()
        waiting = InThread(lambda: member.receive(None)).until_blocked()
        member.close()
        with pytest.raises(bus.Closed):
            waiting.result()


class TestTheWire:
    def test_it_lives_beside_members_bound_to_the_wildcard(self, members: Join, group: str, port: int) -> None:
        with plain_member(group, port) as plain:
            member = members()
            member.send({"n": 1})
            assert plain.recvfrom(100) == (b'{"n":1}', ("127.0.0.1", port))
            assert text_of(member) == '{"n":1}'
            plain.sendto(b"from outside", (group, port))
            assert member.receive(timeout=WAIT) == {"data": "from outside", "source": f"127.0.0.1:{port}"}

    def test_other_groups_on_the_port_are_not_heard(self, members: Join, group: str, port: int) -> None:
        other_group = ".".join(["238", *group.split(".")[1:]])
        member, other = members(), members(other_group)
        with plain_member(other_group, port) as plain:
            plain.sendto(b"for the others", (other_group, port))
            assert text_of(other) == "for the others"
            plain.sendto(b"for us", (group, port))
            assert text_of(member) == "for us"
            assert member.receive(0) is None
            assert other.receive(0) is None

    def test_unicast_to_the_port_is_not_heard(self, members: Join, group: str, port: int) -> None:
        member = members()
        with plain_member(group, port) as plain:
            plain.sendto(b"unicast", ("127.0.0.1", port))
            assert plain.recv(100) == b"unicast"
            plain.sendto(b"multicast", (group, port))
            assert text_of(member) == "multicast"
            assert member.receive(0) is None

    def test_a_unicast_listener_can_have_the_port_as_well(self, members: Join, port: int) -> None:
        member = members()
        with closing(uc.listen("127.0.0.1", port, protocol="udp")) as listener:
            listener.send_to(f"127.0.0.1:{port}", "unicast")
            member.send("multicast")
            assert text_of(member) == "multicast"
            assert listener.receive(timeout=WAIT) == {"data": "unicast", "source": f"127.0.0.1:{port}"}
            assert listener.receive(0) is None

    @pytest.mark.parametrize("ttl", [0, 1, 7, 255])
    def test_ttl_is_what_the_datagrams_carry(self, members: Join, group: str, port: int, ttl: int) -> None:
        with plain_member(group, port) as plain:
            plain.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            members(ttl=ttl).send("x")
            ((_, _, carried),) = plain.recvmsg(100, 100)[1]
        assert struct.unpack("i", carried) == (ttl,)

    def test_without_saying_a_message_crosses_no_router(self, members: Join, group: str, port: int) -> None:
        with plain_member(group, port) as plain:
            plain.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            members().send("x")
            ((_, _, carried),) = plain.recvmsg(100, 100)[1]
        assert struct.unpack("i", carried) == (1,)

    @pytest.mark.parametrize("ttl, error", [(-1, ValueError), (256, ValueError), ("x", TypeError), (True, TypeError), (1.0, TypeError)])
    def test_a_ttl_that_is_none_is_named(self, group: str, port: int, ttl: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="ttl"):
            mc.join(group, port, ttl=ttl)

    def test_without_loopback_this_machine_hears_nothing(self, members: Join, monkeypatch: pytest.MonkeyPatch) -> None:
        # The loopback interface itself returns everything, so this needs another. ttl=0 keeps the messages on the machine.
        monkeypatch.delenv("ACTORBUS_MULTICAST_INTERFACE")
        mute, hearing = members(ttl=0, loopback=False), members(ttl=0)
        if hearing.local_addr.startswith("127."):
            pytest.skip("no interface but loopback has a route for multicast")
        mute.send("unheard")
        hearing.send("heard")
        assert text_of(hearing) == "heard"
        assert text_of(mute) == "heard"
        assert hearing.receive(0) is None

    def test_a_group_that_was_left_can_be_joined_again(self, group: str, port: int) -> None:
        for round_number in range(3):
            with closing(mc.join(group, port)) as member:
                member.send(str(round_number))
                assert text_of(member) == str(round_number)


class TestInterfaces:
    @pytest.mark.parametrize("interface", ["lo", "127.0.0.1"])
    def test_by_name_and_by_address(self, members: Join, monkeypatch: pytest.MonkeyPatch, interface: str) -> None:
        monkeypatch.setenv("ACTORBUS_MULTICAST_INTERFACE", "nonsense0")  # what is said counts more
        member = members(interface=interface)
        assert member.local_addr.startswith("127.0.0.1:")
        member.send("x")
        assert text_of(member) == "x"

    def test_by_position(self, group: str, port: int) -> None:
        with closing(mc.join(group, port, "lo")) as member:
            assert member.local_addr == f"127.0.0.1:{port}"

    @pytest.mark.parametrize("interface", ["", None])
    def test_nothing_said_is_what_the_environment_says(
        self, group: str, port: int, monkeypatch: pytest.MonkeyPatch, interface: str | None
    ) -> None:
        with closing(mc.join(group, port, interface)) as member:
            assert member.local_addr == f"127.0.0.1:{port}"
        monkeypatch.setenv("ACTORBUS_MULTICAST_INTERFACE", "nonsense0")
        with pytest.raises(ValueError, match="nonsense0"):
            mc.join(group, port, interface)

    def test_without_a_route_loopback_serves_and_a_warning_says_so(
        self, members: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delenv("ACTORBUS_MULTICAST_INTERFACE")
        monkeypatch.setattr(multicast, "_source_for", lambda version, target, port: None)
        with caplog.at_level(logging.WARNING, "actorbus.multicast"):
            member = members()
        (record,) = caplog.records
        assert member.group_addr in record.getMessage()
        assert member.local_addr.startswith("127.0.0.1:")
        member.send("x")
        assert text_of(member) == "x"

    @pytest.mark.parametrize("interface", ["nonsense0", "198.51.100.7"])
    def test_an_interface_that_is_not_there_is_named(self, group: str, port: int, interface: str) -> None:
        with pytest.raises(ValueError, match=interface):
            mc.join(group, port, interface=interface)

    @pytest.mark.parametrize("interface", [1, b"lo", True])
    def test_an_interface_of_another_type_is_named(self, group: str, port: int, interface: Any) -> None:
        with pytest.raises(TypeError) as caught:
            mc.join(group, port, interface)
        assert repr(interface) in str(caught.value)

    @pytest.mark.parametrize("address, error", [(None, TypeError), (239, TypeError), (b"239.1.1.1", TypeError)])
    def test_a_group_of_another_type_is_named(self, address: Any, error: type[Exception]) -> None:
        with pytest.raises(error) as caught:
            mc.join(address, 9999)
        assert str(caught.value) == f"group_addr must be a string, not {address!r}"

    @pytest.mark.parametrize("number", ["9999", None, 9999.0, True])
    def test_a_port_of_another_type_is_named(self, number: Any) -> None:
        with pytest.raises(TypeError) as caught:
            mc.join("239.1.1.1", number)
        assert str(caught.value) == f"port must be an integer, not {number!r}"

    @pytest.mark.parametrize("address", ["224.0.0.0", "239.255.255.255"])
    def test_both_ends_of_the_range_are_groups(self, members: Join, address: str) -> None:
        member = members(address)
        member.send("x")
        assert text_of(member) == "x"

    @pytest.mark.skipif(not IPV6_INTERFACES, reason="no interface has IPv6")
    @pytest.mark.parametrize("brackets", ["{}", "[{}]"])
    @pytest.mark.parametrize("interface", IPV6_INTERFACES)
    def test_ipv6_groups_need_an_interface_with_a_route(self, port: int, interface: str, brackets: str) -> None:
        address = f"ff02::{dice.randint(1, 0xFFFF):x}:{dice.randint(1, 0xFFFF):x}"
        with closing(mc.join(brackets.format(address), port, interface, ttl=0)) as member:
            assert (member.group_addr, member.port) == (address, port)
            if interface != "lo":
                member.send("six")
                assert text_of(member) == "six"
                return
            with pytest.raises(OSError, match=address) as caught:  # it has an address, and no route for multicast
                member.send("six")
            assert caught.value.errno == errno.ENETUNREACH
