"""What users import to write handlers.

```python
from wfe_sdk import RetryableError, StepContext, TerminalError, handler

@handler("summarise")
async def summarise(input: dict, ctx: StepContext) -> dict:
    return {"words": len(input["text"].split())}
```

The executor imports the modules named in WFE_HANDLERS; `wfe_sdk.testing` runs a handler without a server.
"""

from wfe_sdk.context import StepContext
from wfe_sdk.errors import HandlerError, RetryableError, TerminalError
from wfe_sdk.registry import Handler, Registry, handler, registry

__all__ = [
    "Handler",
    "HandlerError",
    "Registry",
    "RetryableError",
    "StepContext",
    "TerminalError",
    "handler",
    "registry",
]
