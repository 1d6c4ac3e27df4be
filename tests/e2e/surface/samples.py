"""One good request of every method of the public API. A method without a row here fails the tests."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A call that is accepted.

    Attributes:
        fields: The request; "$run" and the like stand for the id of such a thing.
        before: Calls that have to be made first.
        as_second: Whether the second person calls.
    """

    fields: Fields = field(default_factory=dict)
    before: tuple[str, ...] = ()
    as_second: bool = False


#: What belongs to an owner and has an id that cannot be guessed.
OWNED = (
    "$webhook",
    "$delivery",
    "$hook",
    "$run",
    "$mended",
    "$failed",
    "$template",
    "$approval",
    "$snapshot",
    "$principal",
    "$group",
    "$key",
    "$blob",
)
_RUN = {"id": "$run"}
_TEMPLATE = {"id": "$template"}
_WEBHOOK = {"id": "$webhook"}
_MEMBER = {"id": "$group", "principal_id": "$principal"}
SAMPLES: dict[str, Sample] = {
    "StartWorkflow": Sample(
        fields={
            "template_id": "$template",
            "input": {"text": "b", "data": {"n": 1}},
            "version": 1,
            "labels": {"team": "a"},
        }
    ),
    "ListWorkflows": Sample(
        fields={
            "status": "running",
            "template_id": "$template",
            "label": ["team=a"],
            "created_after": "2026-01-02T03:04:05Z",
            "created_before": "2999-01-02T03:04:05Z",
            "limit": 10,
            "offset": 0,
        }
    ),
    "GetWorkflow": Sample(fields={**_RUN, "wait_seconds": 0, "view": "full"}),
    "PauseWorkflow": Sample(fields={**_RUN, "reason": "why"}),
    "ResumeWorkflow": Sample(fields={**_RUN, "reason": "why"}, before=("PauseWorkflow",)),
    "CancelWorkflow": Sample(fields={**_RUN, "reason": "why"}),
    "TerminateWorkflow": Sample(fields={**_RUN, "reason": "why"}),
    "RetryWorkflow": Sample(fields={**_RUN, "reason": "why"}, before=("CancelWorkflow",)),
    "RollbackWorkflow": Sample(fields={**_RUN, "snapshot_id": "$snapshot", "reason": "why"}),
    "ForkWorkflow": Sample(fields={**_RUN, "snapshot_id": "$snapshot", "reason": "why", "labels": {"team": "a"}}),
    "ListEvents": Sample(fields={**_RUN, "after": 1, "limit": 10}),
    "WatchWorkflow": Sample(fields={**_RUN, "after": 1}, before=("CancelWorkflow",)),
    "ListSnapshots": Sample(fields=_RUN),
    "CreateSnapshot": Sample(fields={**_RUN, "name": "now"}),
    "ApproveWorkflow": Sample(
        fields={**_RUN, "approval_id": "$approval", "comment": "fine", "expected_digest": "$digest"}, as_second=True
    ),
    "RejectWorkflow": Sample(
        fields={**_RUN, "approval_id": "$approval", "comment": "no", "expected_digest": "$digest"}, as_second=True
    ),
    "ListApprovals": Sample(
        fields={"status": "open", "mine": True, "workflow_id": "$run", "limit": 10, "offset": 0}, as_second=True
    ),
    "GetApproval": Sample(fields={"approval_id": "$approval"}),
    "CreateTemplate": Sample(fields={"source": "$new_source"}),
    "UpdateTemplate": Sample(fields={**_TEMPLATE, "source": "$source"}),
    "ValidateTemplate": Sample(fields={"source": "$source"}),
    "PublishTemplate": Sample(fields=_TEMPLATE),
    "ListTemplates": Sample(fields={"name": "$template_name", "limit": 10, "offset": 0}),
    "GetTemplate": Sample(fields=_TEMPLATE),
    "ListTemplateVersions": Sample(fields={**_TEMPLATE, "limit": 10, "offset": 0}),
    "GetTemplateVersion": Sample(fields={**_TEMPLATE, "version": 1}),
    "DeprecateTemplate": Sample(fields=_TEMPLATE),
    "GetSelf": Sample(),
    "CreatePrincipal": Sample(
        fields={"name": "$new_name", "kind": "agent", "roles": ["viewer"], "subject": "$new_subject"}
    ),
    "ListPrincipals": Sample(fields={"limit": 10, "offset": 0}),
    "CreateGroup": Sample(fields={"name": "$new_name"}),
    "ListGroups": Sample(fields={"limit": 10, "offset": 0}),
    "AddGroupMember": Sample(fields=_MEMBER),
    "RemoveGroupMember": Sample(fields=_MEMBER),
    "CreateKey": Sample(
        fields={"principal_id": "$principal", "name": "k", "roles": ["viewer"], "expires_in_seconds": 60}
    ),
    "ListKeys": Sample(fields={"principal_id": "$principal", "limit": 10, "offset": 0}),
    "RotateKey": Sample(fields={"id": "$key", "overlap_seconds": 60}),
    "RevokeKey": Sample(fields={"id": "$key"}),
    "GetReadiness": Sample(),
    "SignalWorkflow": Sample(fields={"id": "$mended", "name": "go", "payload": {"n": 1}, "reason": "why"}),
    "AnswerCallback": Sample(
        fields={
            "token": "$token",
            "outcome": "succeed",
            "payload": {"n": 1},
            "code": "NO_LUCK",
            "message": "m",
            "progress": {"n": 1},
        }
    ),
    "RetryStep": Sample(
        fields={"id": "$failed", "no": 1, "input": {"handler": "flaky", "input": {"failures": 0}}, "reason": "why"}
    ),
    "CompleteStep": Sample(fields={"id": "$mended", "no": 2, "output": {"n": 1}, "reason": "why"}),
    "SkipStep": Sample(fields={"id": "$mended", "no": 2, "reason": "why"}),
    "RerunWorkflow": Sample(fields={**_RUN, "from_step": "review", "reason": "why", "labels": {"team": "a"}}),
    "BulkWorkflows": Sample(
        fields={
            "action": "pause",
            "status": "running",
            "template_id": "$template",
            "label": ["team=a"],
            "created_after": "2026-01-02T03:04:05Z",
            "created_before": "2999-01-02T03:04:05Z",
            "reason": "why",
            "limit": 10,
        }
    ),
    "PutSecret": Sample(fields={"name": "$secret", "value": "very secret", "expected_version": 1}),
    "ListSecrets": Sample(fields={"limit": 10, "offset": 0}),
    "DeleteSecret": Sample(fields={"name": "$secret"}),
    "CreateWebhook": Sample(
        fields={
            "url": "https://127.0.0.1:9/events",
            "event_types": ["run.*"],
            "name": "n",
            "filter": "event.data.seq > 1",
            "ordered": True,
            "signature": "v1a",
        }
    ),
    "ListWebhooks": Sample(fields={"limit": 10, "offset": 0}),
    "GetWebhook": Sample(fields=_WEBHOOK),
    "DeleteWebhook": Sample(fields=_WEBHOOK),
    "EnableWebhook": Sample(fields=_WEBHOOK),
    "DisableWebhook": Sample(fields=_WEBHOOK),
    "RotateWebhookSecret": Sample(fields={**_WEBHOOK, "overlap_seconds": 60}),
    "PingWebhook": Sample(fields=_WEBHOOK),
    "ListDeliveries": Sample(fields={**_WEBHOOK, "status": "failed", "limit": 10, "offset": 0}),
    "GetDelivery": Sample(fields={**_WEBHOOK, "delivery_id": "$delivery"}),
    "RedeliverWebhook": Sample(
        fields={**_WEBHOOK, "delivery_id": "", "since": "2026-01-02T03:04:05Z", "status": "all"}
    ),
    "CreateHook": Sample(
        fields={
            "template_id": "$template",
            "version": 1,
            "name": "n",
            "scheme": "standard",
            "filter": "body.n > 0",
            "input": {"text": "body.text"},
            "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "signal": "",
            "workflow": "",
        }
    ),
    "ListHooks": Sample(fields={"limit": 10, "offset": 0}),
    "GetHook": Sample(fields={"id": "$hook"}),
    "DeleteHook": Sample(fields={"id": "$hook"}),
    # Named apart: to a stranger a hook is no missing thing, but a signature that is not right.
    "ReceiveHook": Sample(
        fields={
            "id": "$door",
            "body": {
                "content_type": "application/json",
                "data": base64.b64encode(b'{"text": "b"}').decode(),
            },
        }
    ),
    "GetBlob": Sample(fields={"id": "$mended", "blob_id": "$blob", "offset": 1, "limit": 10}),
}
