"""Settings: all faults at once, by name, without values, before anything else happens."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr
from wfe_servicekit.settings import ProcessSettings, ServiceSettings, load

GOOD = {"WFE_DATABASE_URL": "postgresql://u:hunter2@h/wfe", "WFE_NATS_URL": "nats://h:4222"}


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in (GOOD | values).items():
        monkeypatch.setenv(name, value)


def refusal(capsys: pytest.CaptureFixture[str], cls: type[ProcessSettings] = ServiceSettings) -> list[str]:
    with pytest.raises(SystemExit) as caught:
        load(cls)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_what_is_given_is_read_and_the_rest_has_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, WFE_GRPC_PORT="5050", WFE_GRPC_PORT_FILE="/run/p", WFE_NATS_PASSWORD="x", WFE_OIDC_FILE="")
    settings = load(ServiceSettings)
    assert settings.database_url.get_secret_value() == GOOD["WFE_DATABASE_URL"]
    assert (settings.grpc_host, settings.grpc_port, settings.grpc_port_file) == ("127.0.0.1", 5050, Path("/run/p"))
    assert (settings.max_request_bytes, settings.reflection, settings.oidc_file) == (4 << 20, True, None)
    assert (settings.log_level, settings.log_format, settings.drain_seconds) == ("info", "auto", 0)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, WFE_NATS_PASSWORD="s3cret")
    shown = repr(load(ServiceSettings)) + str(load(ServiceSettings))
    assert "hunter2" not in shown
    assert "s3cret" not in shown


def test_every_fault_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment(
        monkeypatch,
        WFE_DATABASE_URL="mysql://u:hunter2@h/x",
        WFE_NATS_URL="",
        WFE_GRPC_PORT="x1",
        WFE_LOG_LEVEL="loud",
        WFE_MAX_REQUEST_BYTES="0",
        WFE_REFLECTION="perhaps",
    )
    lines = refusal(capsys)
    assert sorted(lines) == [
        "configuration: WFE_DATABASE_URL: must begin with postgresql:// or postgres://",
        "configuration: WFE_GRPC_PORT: input should be a valid integer, unable to parse string as an integer",
        "configuration: WFE_LOG_LEVEL: input should be 'debug', 'info', 'warning' or 'error'",
        "configuration: WFE_MAX_REQUEST_BYTES: input should be greater than or equal to 1024",
        "configuration: WFE_NATS_URL: is not set, and there is no default",
        "configuration: WFE_REFLECTION: input should be a valid boolean, unable to interpret input",
    ]


def test_values_are_never_repeated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment(monkeypatch, WFE_DATABASE_URL="hunter2", WFE_NATS_URL="nats://[hunter3", WFE_GRPC_PORT="hunter4")
    assert "hunter" not in "".join(refusal(capsys))


def test_a_service_adds_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Mine(ProcessSettings):
        master_key: SecretStr
        mode: Literal["a", "b"] = "a"
        hosts: tuple[int, ...] = ()

    environment(monkeypatch, WFE_MODE="c", WFE_HOSTS='["x"]')
    assert sorted(refusal(capsys, Mine)) == [
        "configuration: WFE_HOSTS (0): input should be a valid integer, unable to parse string as an integer",
        "configuration: WFE_MASTER_KEY: is not set, and there is no default",
        "configuration: WFE_MODE: input should be 'a' or 'b'",
    ]
    environment(monkeypatch, WFE_MODE="b", WFE_HOSTS="[1]", WFE_MASTER_KEY="k")
    assert load(Mine).hosts == (1,)


def test_a_structured_value_that_is_no_json_is_a_fault_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mine(ProcessSettings):
        hosts: tuple[int, ...] = ()

    environment(monkeypatch, WFE_HOSTS="1,2")
    monkeypatch.delenv("WFE_NATS_URL")
    assert sorted(refusal(capsys, Mine)) == [
        "configuration: WFE_HOSTS: input should be a valid tuple",
        "configuration: WFE_NATS_URL: is not set, and there is no default",
    ]
