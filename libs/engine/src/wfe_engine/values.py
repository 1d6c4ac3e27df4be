"""What expressions can see, and how they are evaluated.

Evaluation of anything but plain paths is handed in (`Evaluate`), so the core stays free of libraries and of clocks.
An evaluator that cannot answer at once raises `Deferred`; the shell evaluates outside and asks for the same decision
again, with the answer at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from wfe_engine.plan import Cel, Expression, ListOf, Literal, MapOf, Path, Text
from wfe_engine.sizes import INPUT_TOO_LARGE, MOST_BYTES, TOO_LARGE

#: The one key of the placeholder that stands for a sealed value, or for text made with one.
SEALED = "$sealed"
#: Evaluates CEL over bindings by root name; raises ExpressionFault or Deferred.
Evaluate = Callable[[Cel, dict[str, Any]], Any]
#: Names that mean what the steps around an expression say.
LOCALS = frozenset({"item", "index", "error", "revision"})

#: Bytes of outputs an expression may refer to steps of.
MOST_REFERRED = 8 * MOST_BYTES

_decode = msgspec.json.decode
_encode = msgspec.json.encode


EXPRESSION_ERROR = "EXPRESSION_ERROR"


class ExpressionFault(Exception):
    """An expression could not be evaluated; says which, what broke it, and where in a value it stands."""

    def __init__(self, message: str, expression: str, code: str = EXPRESSION_ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.expression = expression
        self.code = code
        self.place: tuple[str | int, ...] = ()


class Deferred(Exception):
    """An expression must be evaluated outside first."""

    def __init__(self, expression: Cel, bindings: dict[str, Any]) -> None:
        super().__init__(expression.source)
        self.expression = expression
        self.bindings = bindings


class Record(msgspec.Struct, kw_only=True):
    """What expressions see of a finished step.

    Attributes:
        status: completed, skipped or failed; running for the loop an expression stands in.
        output: JSON bytes; None for null.
        attempts: Attempts it took.
        error: Why it failed, or what failed inside of it; JSON bytes of a `Fault`, None when nothing did.
    """

    status: str
    output: bytes | None = None
    attempts: int = 0
    error: bytes | None = None
    _value: Any = msgspec.UNSET

    @property
    def value(self) -> Any:
        """The output, decoded once."""
        if self._value is msgspec.UNSET:
            self._value = None if self.output is None else _decode(self.output)
        return self._value

    def seen(self) -> dict[str, Any]:
        """The step as expressions see it."""
        error = None if self.error is None else _decode(self.error)
        return {"status": self.status, "output": self.value, "attempts": self.attempts, "error": error}


class Values:
    """Everything the expressions of one run can see.

    Attributes:
        vars: Variables by name; sensitive ones as placeholders.
        run: Facts of the run: id, created_at, created_by, labels, epoch, template.
        records: Finished steps by `record_key`.
        inputs: Recorded inputs of steps that have rows but have not completed, by number.
        gates: The last gate of such steps, by number.
        signals: Payloads of the signals no step has taken yet, by id; JSON bytes.
        withdrawn: Of a run that has ended, the gates that were withdrawn.
        asked: The last gate of approval steps the run went back behind, by `asked_key`.
        then: Of a run that takes back what its steps did before it goes back to a snapshot: the records as of that
            snapshot. None for those of now.
    """

    __slots__ = ("_decoded", "asked", "gates", "inputs", "records", "run", "signals", "then", "vars", "withdrawn")

    def __init__(
        self,
        variables: dict[str, Any],
        run: dict[str, Any],
        records: dict[str, Record] | None = None,
        inputs: dict[int, bytes] | None = None,
        gates: dict[int, str] | None = None,
    ) -> None:
        self.vars = variables
        self.run = run
        self.records = {} if records is None else records
        self.inputs = {} if inputs is None else inputs
        self.gates = {} if gates is None else gates
        self.signals: dict[str, bytes] = {}
        self.withdrawn: frozenset[str] = frozenset()
        self.asked: dict[str, str] = {}
        self.then: dict[str, Record] | None = None
        self._decoded: dict[int, Any] = {}

    def params(self, no: int) -> Any:
        """Recorded input of a live step, decoded once; None without one."""
        if no not in self._decoded:
            given = self.inputs.get(no)
            if given is None:
                return None
            self._decoded[no] = _decode(given)
        return self._decoded[no]

    def record(self, no: int, given: bytes, decoded: Any) -> None:
        """Keep the input of a step that was just entered."""
        self.inputs[no] = given
        self._decoded[no] = decoded


def record_key(scope: str, step_id: str) -> str:
    """Key of a finished step's record."""
    return f"{scope}/{step_id}"


def asked_key(path: str, iteration: str) -> str:
    """Names an approval step over rollbacks, which give its numbers anew."""
    return f"{path}@{iteration}"


def callback_key(name: str, iteration: str) -> str:
    """Names one callback of a run: rounds of a loop have callbacks of their own."""
    return f"{name}@{iteration}" if iteration else name


class Surroundings(Protocol):
    """What the steps around a scope say."""

    def local(self, root: str, scope: str) -> Any:
        """Value of item, index, error or revision in a scope; raises KeyError where it has none."""

    def iteration(self, scope: str) -> str:
        """The rounds a scope is in."""

    def loop(self, step_id: str, scope: str) -> Record | None:
        """The loop of that id a scope is inside of, with the output of its last round; None without one."""


class View:
    """Values as seen from one scope, with what the present decision adds on top.

    Args:
        code: What an expression fails with whose value is too large.
    """

    __slots__ = ("_around", "_code", "_evaluate", "_scope", "_values", "_weight", "added")

    def __init__(
        self,
        values: Values,
        evaluate: Evaluate,
        added: Mapping[str, Record],
        around: Surroundings,
        scope: str = "",
        code: str = INPUT_TOO_LARGE,
    ) -> None:
        self._values = values
        self._code = code
        #: Bytes of what was put in place, at most.
        self._weight = 0
        self._evaluate = evaluate
        self._around = around
        self._scope = scope
        self.added = added

    def record(self, step_id: str) -> Record | None:
        """The finished step of that id in this scope or the nearest one around it."""
        scope = self._scope
        while True:
            key = record_key(scope, step_id)
            found = self.added.get(key) or self._values.records.get(key)
            if found is not None:
                return found
            if not scope:
                return self._around.loop(step_id, self._scope)
            scope = scope.rpartition(".")[0]

    def _local(self, root: str, source: str) -> Any:
        try:
            return self._around.local(root, self._scope)
        except KeyError:
            raise ExpressionFault(f"{root} is not known here", source) from None

    def value(self, expression: Expression) -> Any:
        """The JSON value an expression gives here; one that was put together has MOST_BYTES at most.

        Raises:
            ExpressionFault, Deferred: See `render`.
        """
        value = self.render(expression)
        if self._weight > MOST_BYTES:
            self._measure(expression, value, MOST_BYTES)
        return value

    def _measure(self, expression: Expression, value: Any, left: int) -> int:
        """What is left of so many bytes. Part by part: all of them written at once might not fit the memory."""
        if isinstance(expression, MapOf):
            for name, item in expression.items:
                left = self._measured(name, item, value[name], left)
        elif isinstance(expression, ListOf):
            for at, item in enumerate(expression.items):
                left = self._measured(at, item, value[at], left)
        else:
            left -= len(_encode(value))
        if left < 0:
            raise self._too_large(getattr(expression, "source", ""))
        return left

    def _measured(self, key: str | int, expression: Expression, value: Any, left: int) -> int:
        try:
            return self._measure(expression, value, left)
        except ExpressionFault as fault:
            fault.place = (key, *fault.place)
            raise

    def _too_large(self, source: str) -> ExpressionFault:
        return ExpressionFault(TOO_LARGE, source, self._code)

    def render(self, expression: Expression) -> Any:
        """The JSON value an expression gives here.

        Raises:
            ExpressionFault: It cannot be evaluated.
            Deferred: It must be evaluated outside first.
        """
        kind = type(expression)
        if kind is Literal:
            return expression.value  # type: ignore[union-attr]
        if kind is Path:
            return self._path(expression)  # type: ignore[arg-type]
        if kind is MapOf:
            return {name: self._part(name, item) for name, item in expression.items}  # type: ignore
        if kind is ListOf:
            return [self._part(at, item) for at, item in enumerate(expression.items)]  # type: ignore
        if kind is Text:
            return self._text(expression)  # type: ignore[arg-type]
        assert isinstance(expression, Cel)
        return self._weighed(self._evaluate(expression, self._bindings(expression)))

    def _weighed(self, value: Any, most: int = MOST_BYTES) -> Any:
        """A value that is put in place; one with items is taken for `most` bytes."""
        kind = type(value)
        if kind is str:
            self._weight += len(value) if value.isascii() else 4 * len(value)
        elif kind is dict or kind is list:
            self._weight += most
        return value

    def _part(self, key: str | int, expression: Expression) -> Any:
        if type(expression) is Literal:
            return expression.value
        try:
            return self.render(expression)
        except ExpressionFault as fault:
            fault.place = (key, *fault.place)
            raise

    def _path(self, path: Path) -> Any:
        parts = path.parts
        most = MOST_BYTES
        if path.root == "vars":
            value: Any = self._values.vars
        elif path.root == "run":
            if parts and parts[0] == "callbacks":
                return {SEALED: [{"callback": callback_key(str(parts[1]), self._around.iteration(self._scope))}]}
            value = self._values.run
        elif path.root == "steps":
            record = self.record(str(parts[0]))
            if record is None:
                raise ExpressionFault(f"step {parts[0]} has not run", path.source)
            if len(parts) > 1 and parts[1] == "output":
                value, parts = record.value, parts[2:]
                most = len(record.output or b"")
            else:
                value, parts = record.seen(), parts[1:]
        else:
            value = self._local(path.root, path.source)
        for part in parts:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                raise ExpressionFault(f"there is no {part!r} in {_short(value)}", path.source) from None
        return self._weighed(value, most)

    def _text(self, text: Text) -> Any:
        parts: list[Any] = []
        sealed = False
        left = MOST_BYTES
        for part in text.parts:
            value = part if isinstance(part, str) else self.render(part)
            if isinstance(value, dict) and SEALED in value:
                sealed = True
                parts.extend(value[SEALED])
            else:
                parts.append(shown := _as_text(value))
                left -= len(shown) if shown.isascii() else len(shown.encode())
                if left < 0:
                    raise self._too_large(getattr(part, "source", ""))
        return {SEALED: parts} if sealed else "".join(parts)

    def _bindings(self, expression: Cel) -> dict[str, Any]:
        bindings: dict[str, Any] = {"vars": {}, "steps": {}, "run": self._values.run}
        left = MOST_REFERRED
        for root, first in expression.roots:
            if root == "vars":
                if first:
                    if first in self._values.vars:
                        bindings["vars"][first] = self._values.vars[first]
                else:
                    bindings["vars"] = self._values.vars
            elif root == "steps" and first:
                record = self.record(first)
                if record is not None:
                    left -= len(record.output or b"")
                    if left < 0:
                        why = f"it refers to steps that gave more than {MOST_REFERRED} bytes together"
                        raise ExpressionFault(why, expression.source)
                    bindings["steps"][first] = record.seen()
            elif root in LOCALS:
                bindings[root] = self._local(root, expression.source)
        return bindings


def truth(value: Any, expression: Expression) -> bool:
    """What a condition gave.

    Raises:
        ExpressionFault: It is neither true nor false.
    """
    if isinstance(value, bool):
        return value
    raise ExpressionFault(f"it must give true or false, not {_short(value)}", getattr(expression, "source", ""))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return _encode(value).decode()


def _short(value: Any) -> str:
    text = _encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
