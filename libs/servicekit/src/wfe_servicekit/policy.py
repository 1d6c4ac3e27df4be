"""Who may call what: the one table of the public API. A method without a row cannot be called.

viewer reads runs and templates, operator starts and controls runs, author writes templates, approver sees and
decides gates, admin does everything, identity included; only breakglass bypasses a gate. Rows say which role
suffices; ownership is checked by the services.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

__all__ = ["AUTHENTICATED", "POLICY", "PUBLIC", "ROLES", "Access", "Policy"]


class Access(Enum):
    """Rows that name no roles."""

    PUBLIC = "public"
    AUTHENTICATED = "authenticated"


PUBLIC: Final = Access.PUBLIC
"""Needs no credentials; none are looked at."""
AUTHENTICATED: Final = Access.AUTHENTICATED
"""Needs credentials, and no role."""

Policy = Mapping[str, frozenset[str] | Access]
"""Full method name, `/package.Service/Method`, to the roles of which one suffices."""

ROLES: Final = frozenset({"viewer", "operator", "author", "approver", "admin", "breakglass"})


def _rows(service: str, roles: frozenset[str] | Access, *methods: str) -> dict[str, frozenset[str] | Access]:
    return {f"/wfe.api.v1.{service}/{method}": roles for method in methods}


_READ = frozenset({"viewer", "operator", "author", "admin"})
_OPERATE = frozenset({"operator", "admin"})
_WRITE = frozenset({"author", "admin"})
_SEE_GATES = frozenset({"approver", "operator", "viewer", "admin", "breakglass"})
_DECIDE = frozenset({"approver", "admin"})
_ADMIN = frozenset({"admin"})
_BREAK_GLASS = frozenset({"breakglass"})

POLICY: Final[Policy] = {
    **_rows(
        "WorkflowService",
        _READ,
        "ListWorkflows",
        "GetWorkflow",
        "ListEvents",
        "WatchWorkflow",
        "ListSnapshots",
    ),
    **_rows(
        "WorkflowService",
        _OPERATE,
        "StartWorkflow",
        "PauseWorkflow",
        "ResumeWorkflow",
        "CancelWorkflow",
        "TerminateWorkflow",
        "RetryWorkflow",
        "RollbackWorkflow",
        "ForkWorkflow",
        "CreateSnapshot",
        "SignalWorkflow",
    ),
    **_rows("TemplateService", _READ, "ListTemplates", "GetTemplate", "ListTemplateVersions", "GetTemplateVersion"),
    **_rows("TemplateService", _READ, "CompareTemplateVersions"),
    **_rows("TemplateService", _WRITE, "CreateTemplate", "UpdateTemplate", "PublishTemplate", "DeprecateTemplate"),
    **_rows("TemplateService", ROLES, "ValidateTemplate"),
    **_rows("ApprovalService", _SEE_GATES, "ListApprovals", "GetApproval", "CountApprovals", "PreviewApproval"),
    **_rows(
        "ApprovalService",
        _DECIDE,
        "ApproveWorkflow",
        "RejectWorkflow",
        "DecideApproval",
        "DecideApprovals",
        "WithdrawVote",
        "ClaimApproval",
        "ReleaseApproval",
        "DelegateApproval",
        "IssueLink",
        "CreateDelegation",
        "ListDelegations",
        "RevokeDelegation",
    ),
    **_rows("ApprovalService", _OPERATE | _DECIDE, "ExtendApproval", "RemindApproval"),
    **_rows("ApprovalService", _BREAK_GLASS, "BypassApproval"),
    # The token is the credential.
    **_rows("LinkService", PUBLIC, "GetLink", "DecideByLink", "ShowLink", "AnswerLink"),
    **_rows("IdentityService", AUTHENTICATED, "GetSelf"),
    **_rows(
        "IdentityService",
        _ADMIN,
        "CreatePrincipal",
        "ListPrincipals",
        "CreateGroup",
        "ListGroups",
        "AddGroupMember",
        "RemoveGroupMember",
        "CreateKey",
        "ListKeys",
        "RotateKey",
        "RevokeKey",
    ),
    **_rows("MendingService", _ADMIN, "RetryStep", "CompleteStep", "SkipStep"),
    **_rows("MendingService", _OPERATE, "RerunWorkflow", "BulkWorkflows"),
    **_rows("CallbackService", PUBLIC, "AnswerCallback"),
    # Also who sees nothing of a run but its gates: their payloads may be large. Ids of blobs cannot be guessed.
    **_rows("BlobService", _READ | _SEE_GATES, "GetBlob"),
    **_rows("ScheduleService", _READ, "ListSchedules", "GetSchedule"),
    **_rows(
        "ScheduleService",
        _OPERATE,
        "CreateSchedule",
        "UpdateSchedule",
        "PauseSchedule",
        "ResumeSchedule",
        "DeleteSchedule",
        "TriggerSchedule",
    ),
    **_rows("SecretService", frozenset({"author", "operator", "admin"}), "ListSecrets"),
    **_rows("SecretService", _ADMIN, "PutSecret", "DeleteSecret"),
    **_rows("ExplainService", _READ, "ExplainWorkflow", "ExplainQueue", "ExplainSchedule"),
    **_rows("ExplainService", _OPERATE, "ExplainWebhook"),
    # Where an owner's events go is the administrator's to say; that they arrive, the operators' to see to.
    **_rows(
        "WebhookService",
        _ADMIN,
        "CreateWebhook",
        "DeleteWebhook",
        "EnableWebhook",
        "DisableWebhook",
        "RotateWebhookSecret",
    ),
    **_rows(
        "WebhookService",
        _OPERATE,
        "ListWebhooks",
        "GetWebhook",
        "PingWebhook",
        "ListDeliveries",
        "GetDelivery",
        "RedeliverWebhook",
    ),
    **_rows("HookService", _OPERATE, "CreateHook", "ListHooks", "GetHook", "DeleteHook"),
    # The signature of the call is its credentials; the use case checks it before anything else.
    **_rows("HookService", PUBLIC, "ReceiveHook"),
    **_rows("SystemService", PUBLIC, "GetReadiness"),
}
