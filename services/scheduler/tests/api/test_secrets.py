"""Secrets over the API: they go in and never come out."""

from __future__ import annotations

import secrets as chance
from collections.abc import AsyncIterator
from typing import Any

import pytest
from wfe.api.v1 import secret_service_pb2 as pb
from wfe.api.v1 import secret_service_pb2_grpc
from wfe_scheduler.api.secrets import SecretService
from wfe_scheduler.seal import Sealer
from wfe_servicekit.policy import POLICY
from wfe_servicekit.testing import refused, served
from wfe_store.identity import Identity
from wfe_store.pool import Database, fetch_all
from wfe_store.sealing import Keyring
from wfe_store.secrets import Secrets

CANARY = "canary-9d2e7c"


@pytest.fixture
async def secrets(database_url: str) -> AsyncIterator[Any]:
    """The service with its stub, call metadata of two owners' admins, and the store behind it."""
    database = Database(database_url, name="wfe-test", size=4)
    await database.open()
    owners = {name: (await Identity(database).seed_owner(name)).owner_id for name in ("acme", "rival")}
    service = SecretService(Secrets(database), Sealer(Keyring([chance.token_bytes(32)])))
    add = secret_service_pb2_grpc.add_SecretServiceServicer_to_server
    async with served([(add, service, "wfe.api.v1.SecretService")]) as server:

        class World:
            stub = secret_service_pb2_grpc.SecretServiceStub(server.channel)
            ann = server.bearer("admin", owner_id=owners["acme"])
            rival = server.bearer("admin", owner_id=owners["rival"], owner="rival")
            author = server.bearer("author", owner_id=owners["acme"])
            viewer = server.bearer("viewer", owner_id=owners["acme"])
            store = database

        World.store = database
        World.service = service
        yield World
    await database.close()


async def test_a_value_goes_in_and_never_comes_out(secrets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = await secrets.stub.PutSecret(pb.PutSecretRequest(name="TOKEN", value=CANARY), metadata=secrets.ann)
    second = await secrets.stub.PutSecret(pb.PutSecretRequest(name="TOKEN", value=CANARY + "2"), metadata=secrets.ann)
    listed = await secrets.stub.ListSecrets(pb.ListSecretsRequest(), metadata=secrets.author)
    assert (first.version, second.version, listed.total) == (1, 2, 1)
    assert [version.version for version in listed.secrets[0].versions] == [2, 1]
    async with secrets.store.connection() as connection:
        rows = await fetch_all(connection, "SELECT s::text, ciphertext FROM secrets s")
    gone = await secrets.stub.DeleteSecret(pb.DeleteSecretRequest(name="TOKEN"), metadata=secrets.ann)
    said = repr((first, second, listed, gone, rows)) + "".join(capsys.readouterr())
    assert CANARY not in said
    assert CANARY.encode().hex() not in said
    assert (await secrets.stub.ListSecrets(pb.ListSecretsRequest(), metadata=secrets.ann)).total == 0


async def test_owners_see_their_own_alone(secrets: Any) -> None:
    await secrets.stub.PutSecret(pb.PutSecretRequest(name="TOKEN", value=CANARY), metadata=secrets.ann)
    assert (await secrets.stub.ListSecrets(pb.ListSecretsRequest(), metadata=secrets.rival)).total == 0
    refusal = await refused(secrets.stub.DeleteSecret(pb.DeleteSecretRequest(name="TOKEN"), metadata=secrets.rival))
    assert refusal.code.name == "NOT_FOUND"


async def test_only_admins_write_and_viewers_do_not_even_list(secrets: Any) -> None:
    put = pb.PutSecretRequest(name="TOKEN", value=CANARY)
    for who in (secrets.author, secrets.viewer):
        assert (await refused(secrets.stub.PutSecret(put, metadata=who))).code.name == "PERMISSION_DENIED"
    listing = secrets.stub.ListSecrets(pb.ListSecretsRequest(), metadata=secrets.viewer)
    assert (await refused(listing)).code.name == "PERMISSION_DENIED"
    assert POLICY["/wfe.api.v1.SecretService/DeleteSecret"] == {"admin"}


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [("a b", CANARY, "name"), ("1A", CANARY, "name"), ("A" * 101, CANARY, "name"), ("A", "", "value"),
     ("A", "abc", "value"), ("A", "x" * 65_537, "value"), ("A", "é\0éé", "value")],
)  # fmt: skip
async def test_what_cannot_be_a_secret(secrets: Any, name: str, value: str, field: str) -> None:
    call = secrets.stub.PutSecret(pb.PutSecretRequest(name=name, value=value), metadata=secrets.ann)
    refusal = await refused(call)
    assert refusal.code.name == "INVALID_ARGUMENT"
    assert {found.field for found in refusal.details["BadRequest"].field_violations} == {field}
    assert not value or value not in refusal.message


async def test_an_expected_version_guards_the_one_that_is_there(secrets: Any) -> None:
    def put(expected: int) -> Any:
        request = pb.PutSecretRequest(name="TOKEN", value=CANARY, expected_version=expected)
        return secrets.stub.PutSecret(request, metadata=secrets.ann)

    assert (await put(0)).version == 1
    refusal = await refused(put(0))
    assert (refusal.code.name, refusal.details["ErrorInfo"].reason) == ("FAILED_PRECONDITION", "SECRET_VERSION")
    assert (await put(1)).version == 2
