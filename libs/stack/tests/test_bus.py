"""The stack's NATS server lets every role do its work and no more."""

from __future__ import annotations

import asyncio
import stat

import pytest
from wfe_bus.connection import connect, settle
from wfe_bus.subjects import PERMISSIONS
from wfe_stack import bus
from wfe_stack.bus import new_passwords, program, reach, write_config
from wfe_stack.faults import StackFault
from wfe_stack.folder import Folder
from wfe_stack.guard import Guard
from wfe_stack.keeper import Keeper
from wfe_stack.parts import Part
from wfe_stack.ports import Ports


@pytest.fixture
async def server(tmp_path):
    folder, ports, passwords = Folder.take(tmp_path), Ports(), new_passwords()
    port = ports.reserve()
    config = tmp_path / "nats.conf"
    write_config(config, port, passwords)
    part = Part(
        name="nats",
        arguments=(program("nats-server"), "--config", str(config)),
        environment={},
        port=port,
        rank=0,
    )
    guard = Guard(folder.lock)
    keeper = Keeper(part, folder.logs, guard, print, print)
    keeper.start()
    await keeper.up()
    yield f"nats://127.0.0.1:{port}", passwords, config
    await keeper.stop()
    guard.close()
    ports.release()
    folder.release()


@pytest.fixture
async def clients(server):
    url, passwords, _ = server
    found, faults = {}, {role: asyncio.Queue() for role in PERMISSIONS}
    for role in PERMISSIONS:
        found[role] = await connect(
            url, role=role, name=role, user=role, password=passwords[role], on_error=faults[role].put
        )
    yield found, faults
    for client in found.values():
        await client.close()


async def test_an_executor_claims_from_a_scheduler(clients):
    found, _ = clients

    async def answer(message):
        await message.respond(b"leased")

    await found["scheduler"].subscribe("wfe.claim", cb=answer)
    await settle(found["scheduler"])
    reply = await found["executor"].request("wfe.claim", b"", timeout=5)
    assert reply.data == b"leased"


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("executor", "wfe.s.run"),
        ("executor", "wfe.x.other.leases"),
        ("approvals", "wfe.claim"),
        ("approvals", "wfe.report"),
    ],
)
async def test_a_role_cannot_publish_what_is_another_s(clients, role, subject):
    found, faults = clients
    await found[role].publish(subject, b"")
    assert "permissions violation" in str(await asyncio.wait_for(faults[role].get(), 5)).lower()


@pytest.mark.parametrize(("role", "subject"), [("executor", "wfe.claim"), ("approvals", "wfe.x.>"), ("executor", ">")])
async def test_a_role_cannot_listen_to_what_is_another_s(clients, role, subject):
    found, faults = clients
    await found[role].subscribe(subject)
    assert "permissions violation" in str(await asyncio.wait_for(faults[role].get(), 5)).lower()


async def test_without_its_password_nobody_gets_in(server):
    url, _, config = server
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b'CONNECT {"user":"scheduler","pass":"guess"}\r\nPING\r\n')
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    assert b"Authorization Violation" in answer
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


async def test_a_server_that_lets_us_in_is_reached(server):
    url, passwords, _ = server
    inside = url.replace("//", f"//scheduler:{passwords['scheduler']}@")
    await reach(inside)
    await reach(f"nats://127.0.0.1:1,{inside}")


async def test_a_server_that_does_not_is_said_in_one_line(server):
    url, _, _ = server
    for wrong in (url, url.replace("//", "//scheduler:guess@")):
        with pytest.raises(StackFault, match=r"^the bus cannot be reached: .*Authorization Violation.*; look at"):
            await reach(wrong)


async def test_what_is_no_nats_server_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(bus, "REACH_SECONDS", 0.2)
    callers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: callers.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(StackFault, match=r"^the bus cannot be reached: no answer; look at WFE_NATS_URL$"):
        await reach(f"nats://127.0.0.1:{port}")
    silent.close()
    for writer in callers:
        writer.close()
        await writer.wait_closed()


def test_a_program_that_is_not_installed_is_named():
    with pytest.raises(StackFault, match="no-such-program is not installed"):
        program("no-such-program")
