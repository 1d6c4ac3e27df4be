"""WebhookService: one use case per method."""

from __future__ import annotations

from wfe.api.v1 import webhook_pb2, webhook_service_pb2_grpc
from wfe.api.v1 import webhook_service_pb2 as pb
from wfe_servicekit.calls import current_caller

from wfe_approvals.usecases.create_webhook import create_webhook
from wfe_approvals.usecases.delete_webhook import delete_webhook
from wfe_approvals.usecases.get_delivery import get_delivery
from wfe_approvals.usecases.get_webhook import get_webhook
from wfe_approvals.usecases.list_deliveries import list_deliveries
from wfe_approvals.usecases.list_webhooks import list_webhooks
from wfe_approvals.usecases.ping_webhook import ping_webhook
from wfe_approvals.usecases.redeliver_webhook import redeliver_webhook
from wfe_approvals.usecases.rotate_webhook_secret import rotate_webhook_secret
from wfe_approvals.usecases.switch_webhook import disable_webhook, enable_webhook
from wfe_approvals.webhooks.outbound import Outbound

# Methods are named by the proto.
# ruff: noqa: N802


class WebhookServicer(webhook_service_pb2_grpc.WebhookServiceServicer):  # type: ignore[misc]
    """Subscriptions of the caller's owner, and their deliveries."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    async def CreateWebhook(self, request: pb.CreateWebhookRequest, _context: object) -> webhook_pb2.Webhook:
        """Subscribe a URL."""
        return await create_webhook(self._outbound, current_caller(), request)

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, _context: object) -> pb.ListWebhooksResponse:
        """The owner's webhooks."""
        return await list_webhooks(self._outbound, current_caller(), request)

    async def GetWebhook(self, request: pb.GetWebhookRequest, _context: object) -> webhook_pb2.Webhook:
        """One webhook."""
        return await get_webhook(self._outbound, current_caller(), request)

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, _context: object) -> webhook_pb2.Webhook:
        """Remove a webhook."""
        return await delete_webhook(self._outbound, current_caller(), request)

    async def EnableWebhook(self, request: pb.EnableWebhookRequest, _context: object) -> webhook_pb2.Webhook:
        """Tell a webhook again."""
        return await enable_webhook(self._outbound, current_caller(), request)

    async def DisableWebhook(self, request: pb.DisableWebhookRequest, _context: object) -> webhook_pb2.Webhook:
        """Tell a webhook nothing any more."""
        return await disable_webhook(self._outbound, current_caller(), request)

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, _context: object
    ) -> webhook_pb2.Webhook:
        """Make a new key."""
        return await rotate_webhook_secret(self._outbound, current_caller(), request)

    async def PingWebhook(self, request: pb.PingWebhookRequest, _context: object) -> webhook_pb2.Delivery:
        """Send a test message."""
        return await ping_webhook(self._outbound, current_caller(), request)

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, _context: object) -> pb.ListDeliveriesResponse:
        """Deliveries of a webhook."""
        return await list_deliveries(self._outbound, current_caller(), request)

    async def GetDelivery(self, request: pb.GetDeliveryRequest, _context: object) -> webhook_pb2.Delivery:
        """One delivery."""
        return await get_delivery(self._outbound, current_caller(), request)

    async def RedeliverWebhook(
        self, request: pb.RedeliverWebhookRequest, _context: object
    ) -> pb.RedeliverWebhookResponse:
        """Send deliveries again."""
        return await redeliver_webhook(self._outbound, current_caller(), request)
