from __future__ import annotations

import socket

import pytest
from wfe_stack.faults import PortTaken, StackFault
from wfe_stack.ports import Ports


@pytest.fixture
def ports():
    held = Ports()
    yield held
    held.release()


def test_a_server_gets_a_reserved_port(ports):
    port = ports.reserve()
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
        server.accept()[0].close()


def test_nobody_else_is_given_a_reserved_port(ports):
    mine = {ports.reserve() for _ in range(50)}
    others = set()
    for _ in range(500):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            others.add(other.getsockname()[1])
    assert not mine & others


def test_a_port_is_free_for_its_server_again_after_that_ended(ports):
    port = ports.reserve()
    for _ in range(3):
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_taken_port_is_named_with_its_holder_and_the_option_to_change_it(ports):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            PortTaken, match=rf"^port {port} is taken by .+ \(process \d+\); choose another with --port$"
        ):
            ports.reserve(port, what="--port")


def test_a_listener_on_every_address_takes_the_loopback_port_too(ports):
    with socket.create_server(("0.0.0.0", 0)) as server, pytest.raises(PortTaken):
        ports.reserve(server.getsockname()[1])


def test_an_address_of_another_machine_is_one_clear_line(ports):
    with pytest.raises(StackFault, match=r"^cannot listen on 192\.0\.2\.1 port 0: "):
        ports.reserve(host="192.0.2.1")
