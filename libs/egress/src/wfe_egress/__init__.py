"""The guard every outgoing HTTP call passes.

```python
guard = Guard(allow="10.1.0.0/16,hooks.internal", https_only=True)
async with guarded_session(guard) as session:
    answer = await session.request("POST", url, body=b"{}", headers={"content-type": "application/json"})
```
"""

from wfe_egress.guard import EgressDenied, Guard
from wfe_egress.session import Answer, AnswerTooLarge, GuardedResolver, GuardedSession, guarded_session

__all__ = [
    "Answer",
    "AnswerTooLarge",
    "EgressDenied",
    "Guard",
    "GuardedResolver",
    "GuardedSession",
    "guarded_session",
]
