"""Handlers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that runs `call` steps.

    Attributes:
        name: What templates call it by.
        function: Takes (input) or (input, ctx) and returns a JSON value.
        is_async: Runs in the executor's loop; otherwise in a process that can be killed.
        wants_context: Takes the StepContext as its second argument.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    wants_context: bool


class Registry:
    """Handlers by name. Programs use the one behind `handler`; tests may make their own."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def handler(self, name: str) -> Callable[[F], F]:
        """Register the decorated function, see `wfe_sdk.handler`."""
        if not isinstance(name, str) or not name or len(name) > 200:
            raise TypeError('handler needs a name of 1 to 200 characters: @handler("summarise")')

        def register(function: F) -> F:
            new = Handler(name, function, inspect.iscoroutinefunction(function), _wants_context(function))
            old = self._handlers.get(name)
            if old is not None and _origin(old.function) != _origin(function):
                raise ValueError(f"handler {name!r} is both {_origin(old.function)} and {_origin(function)}")
            self._handlers[name] = new
            return function

        return register

    def get(self, name: str) -> Handler | None:
        """The handler of that name; None when there is none."""
        return self._handlers.get(name)

    def names(self) -> tuple[str, ...]:
        """Every name, sorted."""
        return tuple(sorted(self._handlers))


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _wants_context(function: Callable[..., Any]) -> bool:
    """Whether the function takes (input, ctx).

    Raises:
        TypeError: It takes neither one nor two positional arguments.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    places = [p for p in parameters if p.kind in kinds]
    needed = [p for p in places if p.default is p.empty]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not places or len(needed) > 2 or named:
        raise TypeError(f"{_origin(function)} must take (input) or (input, ctx)")
    return len(needed) == 2 or (len(places) > 1 and places[1].name == "ctx")


#: The registry of the program.
registry = Registry()


def handler(name: str) -> Callable[[F], F]:
    """Register a function that runs `call` steps.

    ```python
    @handler("summarise")
    async def summarise(input: dict, ctx: StepContext) -> dict: ...
    ```

    `async def` runs in the executor's loop and must not block it; `def` runs in a process of its own, which
    is killed when the step is cancelled or times out. Both take (input) or (input, ctx), where input is the
    JSON value of the step's `input`, and return a JSON value of at most 16 MB.

    An attempt may run more than once (a process died before its report): use `ctx.idempotency_key`.

    Args:
        name: What templates call it by.

    Raises:
        TypeError: No name, or the function takes other arguments.
        ValueError: Another function already has the name.
    """
    return registry.handler(name)
