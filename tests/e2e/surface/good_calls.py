"""One good call of every method of the public API; "$run" and the like stand for the id of such a thing."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from schedule_calls import SCHEDULES

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
    "$run", "$mended", "$failed", "$template", "$approval", "$snapshot", "$principal", "$group", "$key", "$blob",
    "$review", "$delegation", "$webhook", "$delivery", "$hook", "$schedule",
)  # fmt: skip
_RUN = {"id": "$run"}
_WEBHOOK = {"id": "$webhook"}
_REVIEW = {"approval_id": "$review"}
_TEMPLATE = {"id": "$template"}
_MEMBER = {"id": "$group", "principal_id": "$principal"}
SAMPLES: dict[str, Sample] = {
    "StartWorkflow": Sample(
        fields={
            "template_id": "$template",
            "input": {"text": "b", "data": {"n": 1}},
            "version": 1,
            "labels": {"team": "a"},
            "start_at": "2026-01-02T03:04:05Z",
            "delay_seconds": 0,
            "signal": {"name": "go", "payload": {"n": 1}},
            "wait_seconds": 0,
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
        fields={
            "status": "open",
            "mine": True,
            "workflow_id": "$run",
            "limit": 10,
            "offset": 0,
            "risk": "medium",
            "template": "$template_name",
            "due_before": "2999-01-02T03:04:05Z",
            "claimed": False,
        },
        as_second=True,
    ),
    "GetApproval": Sample(fields={"approval_id": "$approval"}),
    "CountApprovals": Sample(),
    "PreviewApproval": Sample(fields=_REVIEW),
    "DecideApproval": Sample(
        fields={
            **_REVIEW,
            "decision": "approve",
            "comment": "fine",
            "expected_digest": "$review_digest",
            "outcome": "",
            "reason_code": "",
            "form": {"note": "as agreed"},
            "edits": [{"op": "replace", "path": "/n", "value": 2}],
            "on_behalf_of": "",
        },
        as_second=True,
    ),
    "DecideApprovals": Sample(
        fields={
            "items": [{"approval_id": "$approval", "digest": "$digest"}],
            "decision": "approve",
            "comment": "fine",
            "reason_code": "",
        },
        as_second=True,
    ),
    "WithdrawVote": Sample(fields={**_REVIEW, "reason": "why"}, before=("DecideApproval",), as_second=True),
    "ClaimApproval": Sample(fields=_REVIEW, as_second=True),
    "ReleaseApproval": Sample(fields=_REVIEW, before=("ClaimApproval",), as_second=True),
    "DelegateApproval": Sample(fields={**_REVIEW, "to": "$colleague", "reason": "why"}, as_second=True),
    "ExtendApproval": Sample(fields={**_REVIEW, "until": "$later", "reason": "why"}),
    "RemindApproval": Sample(fields={**_REVIEW, "reason": "why"}),
    "BypassApproval": Sample(fields={**_REVIEW, "reason": "why", "expected_digest": "$review_digest"}, as_second=True),
    "IssueLink": Sample(fields={**_REVIEW, "to": "$colleague", "expires_in_seconds": 60}),
    "CreateDelegation": Sample(
        fields={
            "delegate": "$colleague",
            "delegator": "",
            "starts_at": "$soon",
            "ends_at": "$later",
            "reason": "why",
        }
    ),
    "ListDelegations": Sample(fields={"all": True, "limit": 10, "offset": 0}),
    "RevokeDelegation": Sample(fields={"id": "$delegation"}),
    "GetLink": Sample(fields={"token": "$link"}),
    "DecideByLink": Sample(
        fields={"token": "$link", "decision": "approve", "comment": "fine", "outcome": "", "reason_code": ""}
    ),
    "ShowLink": Sample(fields={"token": "$link"}),
    "AnswerLink": Sample(
        fields={
            "token": "$link",
            "body": {
                "content_type": "application/x-www-form-urlencoded",
                "data": base64.b64encode(b"decision=approve&comment=fine").decode(),
            },
        }
    ),
    "CreateTemplate": Sample(fields={"source": "$new_source"}),
    "UpdateTemplate": Sample(fields={**_TEMPLATE, "source": "$source"}),
    "ValidateTemplate": Sample(fields={"source": "$source"}),
    "PublishTemplate": Sample(fields=_TEMPLATE),
    "ListTemplates": Sample(fields={"name": "$template_name", "limit": 10, "offset": 0}),
    "GetTemplate": Sample(fields=_TEMPLATE),
    "ListTemplateVersions": Sample(fields={**_TEMPLATE, "limit": 10, "offset": 0}),
    "GetTemplateVersion": Sample(fields={**_TEMPLATE, "version": 1}),
    "CompareTemplateVersions": Sample(fields={**_TEMPLATE, "version": 1, "since": 1}),
    "DeprecateTemplate": Sample(fields=_TEMPLATE),
    "GetSelf": Sample(),
    "CreatePrincipal": Sample(
        fields={
            "name": "$new_name",
            "kind": "agent",
            "roles": ["viewer"],
            "subject": "$new_subject",
            "acts_for": "$principal",
        }
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
    **{name: Sample(fields=fields) for name, fields in SCHEDULES.items()},
    "PutSecret": Sample(fields={"name": "$secret", "value": "very secret", "expected_version": 1}),
    "ListSecrets": Sample(fields={"limit": 10, "offset": 0}),
    "DeleteSecret": Sample(fields={"name": "$secret"}),
    "ExplainWorkflow": Sample(fields=_RUN),
    "ExplainQueue": Sample(fields={"queue": "default"}),
    "ExplainSchedule": Sample(fields=SCHEDULES["GetSchedule"]),
    "ExplainWebhook": Sample(fields=_WEBHOOK),
    "GetBlob": Sample(fields={"id": "$mended", "blob_id": "$blob", "offset": 1, "limit": 10}),
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
}
