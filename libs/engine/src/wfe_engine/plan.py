"""What a published template compiles to: a tree of blocks of nodes. Plain frozen values; nothing here runs.

A *node* is one step as the template has it; a *block* is a list of nodes with the order between them. The template
itself is the root block; steps with a structure of their own hold further blocks. `wfe_language.compile` makes plans.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Literal(msgspec.Struct, frozen=True, tag="literal"):
    """A JSON value as it stands."""

    value: Any


class Path(msgspec.Struct, frozen=True, tag="path"):
    """An expression that is a plain path: `vars.x`, `steps.a.output.items[0].name`. Nine tenths of all are.

    Attributes:
        root: vars, steps, run, item, index or error.
        parts: Keys (str) and positions (int) from the root down. For steps the first part is the step's id.
        source: The expression as written, for error texts.
    """

    root: str
    parts: tuple[str | int, ...]
    source: str


class Cel(msgspec.Struct, frozen=True, tag="cel"):
    """Any other expression.

    Attributes:
        source: CEL, as written between the braces.
        roots: Names it refers to, as (root, first part or ""): only these are handed to the evaluator.
    """

    source: str
    roots: tuple[tuple[str, str], ...]


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Text with expressions in it; gives a string."""

    parts: tuple[str | Path | Cel, ...]


class ListOf(msgspec.Struct, frozen=True, tag="list"):
    """A list with expressions somewhere in it."""

    items: tuple[Expression, ...]


class MapOf(msgspec.Struct, frozen=True, tag="map"):
    """An object with expressions somewhere in it."""

    items: tuple[tuple[str, Expression], ...]


Expression = Literal | Path | Cel | Text | ListOf | MapOf


class Retry(msgspec.Struct, frozen=True):
    """When a step is attempted again. Spans are seconds.

    Attributes:
        max_attempts: Attempts in all; 1 means no retry.
        backoff: fixed, linear or exponential.
        initial: Span before the second attempt.
        max: Longest span.
        jitter: full (anything from 0 to the span), equal (half of it fixed) or none.
        on: Failure codes to retry; None for every retryable failure.
        never: Failure codes never to retry.
    """

    max_attempts: int = 3
    backoff: str = "exponential"
    initial: float = 1.0
    max: float = 60.0
    jitter: str = "full"
    on: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()


class Clocks(msgspec.Struct, frozen=True, omit_defaults=True):
    """The four clocks of a step, in seconds; None for no limit.

    Attributes:
        queue: From ready to leased: QUEUE_TIMEOUT.
        attempt: Of one attempt: ATTEMPT_TIMEOUT.
        heartbeat: Between two signs of life of the handler: HEARTBEAT_TIMEOUT.
        total: From entered to ended over all attempts: TOTAL_TIMEOUT.
    """

    queue: float | None = None
    attempt: float | None = None
    heartbeat: float | None = None
    total: float | None = None


class Node(msgspec.Struct, frozen=True):
    """One step of a template.

    Attributes:
        id: As written; unique in its block.
        index: Position in its block.
        path: Ids from the root block down, joined by "/".
        kind: See `KINDS`.
        params: What the kind works with; evaluated once when the step is entered.
        needs: Indexes of the nodes of the block that must have finished before.
        dependents: Indexes of the nodes that need this one.
        condition: Skipped unless it gives true; None for always.
        retry, clocks: See there.
        queue: Executors that may run it; for kinds an executor runs.
        sealed: Whether params refer to sensitive variables.
        blocks: Blocks inside, for kinds with a structure; in the order of the template.
        compensate: What takes the step's effects back; of a kind an executor runs.
        approved_by: Index of the gate of its block that approves just what it will do; -1 without one.
    """

    id: str
    index: int
    path: str
    kind: str
    params: Expression
    needs: tuple[int, ...] = ()
    dependents: tuple[int, ...] = ()
    condition: Expression | None = None
    retry: Retry = Retry()
    clocks: Clocks = Clocks()
    queue: str = "default"
    sealed: bool = False
    blocks: tuple[Block, ...] = ()
    compensate: Node | None = None
    approved_by: int = -1


class Block(msgspec.Struct, frozen=True):
    """Nodes with the order between them.

    Attributes:
        nodes: In the order of the template; never empty in a block inside a step.
        roots: Indexes of the nodes that need none.
        name: Of a block inside a step, where it has several: the branch, the case, catch, finally.
        result: Index of the node whose output is the block's.
        role: What its step does with it: body, case, else, catch, finally, while, until.
        condition: Of a case, a while or an until.
        codes: Of a catch: failure codes it takes, `*` at the end for any that begin so; None for every one.
    """

    nodes: tuple[Node, ...]
    roots: tuple[int, ...]
    name: str = ""
    result: int = -1
    role: str = "body"
    condition: Expression | None = None
    codes: tuple[str, ...] | None = None


class Variable(msgspec.Struct, frozen=True):
    """A declared variable.

    Attributes:
        name: As written.
        schema: JSON Schema of its values.
        required: Must be given at the start.
        default: Its value when not given; UNSET without one.
        sensitive: Sealed; shown nowhere.
    """

    name: str
    schema: dict[str, Any]
    required: bool = False
    default: Any = msgspec.UNSET
    sensitive: bool = False


class Plan(msgspec.Struct, frozen=True):
    """A compiled template.

    Attributes:
        name: The template's.
        variables: Declared ones.
        root: The template's steps.
        output: What a completed run gives; None for null.
        total: Seconds a run may take in all; None without limit.
        priority: Of its steps among all that are ready; higher first, -100 to 100.
        snapshot_every: Events between two periodic snapshots; 0 for none.
        compensate_on: When what its steps did is taken back: failure, cancel, rollback.
    """

    name: str
    variables: tuple[Variable, ...]
    root: Block
    output: Expression | None = None
    total: float | None = None
    priority: int = 0
    snapshot_every: int = 0
    compensate_on: frozenset[str] = frozenset()


#: Kinds an executor runs. What their params evaluate to is the request of the lease.
WORK = frozenset({"http", "call", "mcp", "model"})
#: Kinds the core decides by itself, or that wait for something else than an executor.
#: approval: {title, body, payload, policy (see wfe_store.gate_policy), expires_after (seconds or null), on_expiry,
#: branch (of that), opens_after, agenda: [[seconds after opening, what, which]], risk}.
#: wait: {for: seconds} or {until: RFC 3339}. set: any value, becomes the output. checkpoint: {name}.
#: fail: {code, message}. emit: {name, data}. wait_for: {signals, callback, after (seconds or null), then, output,
#: heartbeat (seconds or null)}. workflow: {template, version, input, labels}.
CORE = frozenset({"approval", "wait", "set", "checkpoint", "fail", "emit", "wait_for", "workflow"})
#: Kinds that run blocks of steps.
#: parallel: {on_failure}, a block a branch. switch: a block a case. foreach: {items, concurrency, on_failure}, one
#: block. loop: {max, on_max}, one block. try: the body, then catches, then finally. agent: what its model is asked
#: with and limits, one block with a model step and a foreach over what the model calls.
CONTAINERS = frozenset({"parallel", "switch", "foreach", "loop", "try", "agent"})
#: Those whose blocks are run again and again; the number of the round is part of a step's key.
ITERATING = frozenset({"foreach", "loop", "agent"})
KINDS = WORK | CORE | CONTAINERS
