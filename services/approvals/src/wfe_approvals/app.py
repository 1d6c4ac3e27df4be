"""The approvals service: built by hand, in order, and closed in reverse."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from wfe.api.v1 import approval_service_pb2_grpc, identity_service_pb2_grpc, webhook_service_pb2_grpc
from wfe_servicekit.auth import Authenticator, load_issuers
from wfe_servicekit.health import Readiness
from wfe_servicekit.lifecycle import Stack
from wfe_servicekit.loops import PeriodicLoop
from wfe_servicekit.policy import POLICY
from wfe_servicekit.server import RunningServer, build_server
from wfe_servicekit.settings import ConfigFault
from wfe_servicekit.telemetry.start import observe
from wfe_store.gates import Gates
from wfe_store.hooks import Hooks
from wfe_store.identity import Identity
from wfe_store.keys import Keys
from wfe_store.pool import Database
from wfe_store.sealing import Cipher, KeyFile

from wfe_approvals.approval_servicer import ApprovalServicer, LinkServicer
from wfe_approvals.bus import Bus
from wfe_approvals.config import ApprovalsSettings
from wfe_approvals.hook_servicer import HookServicer
from wfe_approvals.identity_servicer import IdentityServicer
from wfe_approvals.survey import Survey
from wfe_approvals.usecases.do_agenda import do_agenda
from wfe_approvals.usecases.expire_gates import expire_gates
from wfe_approvals.usecases.tell_untold import tell_untold
from wfe_approvals.webhook_servicer import WebhookServicer
from wfe_approvals.webhooks.inbound import Inbound
from wfe_approvals.webhooks.outbound import PRUNE_SECONDS, SWEPT, start_outbound
from wfe_approvals.webhooks.pool import Pool


async def serve(stack: Stack, settings: ApprovalsSettings) -> RunningServer:
    """Build everything and open the port; the stack closes it.

    Raises:
        ConfigFault: The port, the key file or the issuers' file cannot be used.
        Unavailable: The store did not answer in time.
    """
    stack.push(await observe("approvals", settings), "telemetry")
    database = Database(
        settings.database_url.get_secret_value(), name="wfe-approvals", size=settings.database_connections, generic=True
    )
    stack.push(database.close, "store")
    await database.open()
    bus = Bus(settings)
    # The bus only carries: without it decisions are taken and kept, and told once it is back.
    stack.spawn(bus.run(), "bus")

    gates, identity, keys = Gates(database), Identity(database), Keys(database)
    stack.loop(PeriodicLoop(partial(expire_gates, gates, bus), settings.expiry_seconds, "gates.expiry"))
    stack.loop(PeriodicLoop(partial(do_agenda, gates, bus), settings.agenda_seconds, "gates.agenda"))
    stack.loop(PeriodicLoop(partial(tell_untold, gates, bus), settings.untold_seconds, "gates.untold"))

    if settings.metrics_port is not None or settings.otlp_endpoint is not None:
        stack.loop(PeriodicLoop(Survey(database).run_once, settings.survey_seconds, "survey"))

    sealer = _sealer(settings)
    pool = Pool()
    stack.push(pool.close, "expressions")
    outbound = await start_outbound(stack, settings, database, sealer, pool)
    hooks = Hooks(database)
    prune = partial(hooks.prune, timedelta(days=settings.webhook_retention_days), limit=SWEPT)
    stack.loop(PeriodicLoop(prune, PRUNE_SECONDS, "hooks.prune"))

    readiness = Readiness()
    readiness.add("store", database.ping)
    readiness.add("bus", bus.reached)
    server = build_server(
        settings,
        [
            (
                approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server,
                ApprovalServicer(database, gates, bus),
                "wfe.api.v1.ApprovalService",
            ),
            (
                approval_service_pb2_grpc.add_LinkServiceServicer_to_server,
                LinkServicer(database, gates, bus),
                "wfe.api.v1.LinkService",
            ),
            (
                identity_service_pb2_grpc.add_IdentityServiceServicer_to_server,
                IdentityServicer(identity, keys),
                "wfe.api.v1.IdentityService",
            ),
            (
                webhook_service_pb2_grpc.add_WebhookServiceServicer_to_server,
                WebhookServicer(outbound),
                "wfe.api.v1.WebhookService",
            ),
            (
                webhook_service_pb2_grpc.add_HookServiceServicer_to_server,
                HookServicer(Inbound(hooks, bus, pool, sealer)),
                "wfe.api.v1.HookService",
            ),
        ],
        Authenticator(keys, load_issuers(settings.oidc_file), owners=keys),
        POLICY,
        readiness=readiness,
    )
    await server.start()
    stack.serve(server, drain=settings.drain_seconds, grace=settings.shutdown_grace_seconds)
    return server


def _sealer(settings: ApprovalsSettings) -> Cipher | None:
    if settings.seal_key_file is None:
        return None
    try:
        return KeyFile(settings.seal_key_file)
    except ValueError as fault:
        raise ConfigFault(f"WFE_SEAL_KEY_FILE: {fault}") from fault
