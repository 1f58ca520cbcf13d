"""Small random mistakes in Python code: where they can be made, and what they are.

Decides the kinds: an operator becomes its neighbour, a number is off by one, a condition is
negated, a statement is dropped. Only inside functions, for numbers elsewhere are settings; and not
in annotations, texts, assertions and what only logs or checks types. Promises that a mistake is one
change of the text, and that the same seed makes the same ones. Does not know whether a mistake
changes what the code does.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_PAIRS: tuple[tuple[type[ast.AST], type[ast.AST]], ...] = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *((ast.In, ast.NotIn), (ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv)),
    *((ast.LShift, ast.RShift), (ast.BitAnd, ast.BitOr)),
)
NEIGHBOURS = dict(_PAIRS) | {second: first for first, second in _PAIRS}
SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}
DROPPED = ast.Expr | ast.AugAssign | ast.Delete | ast.Continue | ast.Break
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
NO_CODE = {"annotation", "returns", "decorator_list", "type_params"}


class Mistake(NamedTuple):
    """A change of one file, in a function: what its lines were, and how they read then."""

    path: str
    function: str
    kind: str
    line: int
    was: str
    reads: str
    diff: str


def mistakes(path: str, source: str) -> Iterator[Mistake]:
    """All that can be made in a file, in the order of its lines."""
    return _Finder(path, source).walk(ast.parse(source), "")


def chosen(files: dict[str, str], seed: int, count: int) -> list[Mistake]:
    """So many of all that can be made, by the seed. Each has its rank by its own text, so that a
    change elsewhere in the tree chooses no others.
    """
    every = [found for path, source in files.items() for found in mistakes(path, source)]

    def rank(found: Mistake) -> tuple[bytes, int]:
        name = "/".join((str(seed), found.path, found.function, found.was, found.reads))
        return hashlib.blake2b(name.encode(), digest_size=8).digest(), found.line

    return sorted(every, key=rank)[:count]


class _Finder:
    """The mistakes of one file. Positions of the parser are lines and bytes of UTF-8."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source.encode()
        self._function = ""
        self._begins = [0]
        for line in self._source.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))

    def walk(self, node: ast.AST, function: str) -> Iterator[Mistake]:
        """Of a node and all below it; `function`: what it is in, empty outside of all."""
        if _is_left_alone(node):
            return
        if function:
            self._function = function
            yield from self._of(node)
        function = node.name if isinstance(node, FUNCTIONS) else function
        for name, value in ast.iter_fields(node):
            children = value if isinstance(value, list) else [value]
            for child in children if name not in NO_CODE else []:
                if isinstance(child, ast.AST):
                    yield from self.walk(child, function)

    def _of(self, node: Any) -> Iterator[Mistake]:
        match node:
            case ast.Compare(left, [op], [right]):
                yield from self._swap(node, op, lambda to: ast.Compare(left, [to], [right]))
            case ast.BinOp(left, op, right) | ast.AugAssign(left, op, right):
                yield from self._swap(node, op, lambda to: type(node)(left, to, right))
            case ast.BoolOp(op, values):
                yield from self._swap(node, op, lambda to: ast.BoolOp(to, values))
            case ast.Constant(bool() as value):
                yield self._change(node, "constant", repr(not value))
            case ast.Constant(int() as value):
                yield self._change(node, "off by one", repr(value + 1))
            case ast.Call(ast.Name(name)) if name in SWAPPED:
                yield self._change(node.func, "call", SWAPPED[name])
            case ast.If(test) | ast.While(test) | ast.IfExp(test):
                yield self._change(test, "condition", f"(not ({self._text(test)}))")
            case ast.Assign([ast.Attribute() | ast.Subscript()]):
                yield self._change(node, "statement", "pass")
        if isinstance(node, DROPPED):
            yield self._change(node, "statement", "pass")

    def _swap(self, node: Any, op: ast.AST, made: Callable[[Any], Any]) -> Iterator[Mistake]:
        to = NEIGHBOURS.get(type(op))
        if to is not None:
            text = ast.unparse(made(to()))
            yield self._change(
                node, "operator", text if isinstance(node, ast.stmt) else f"({text})"
            )

    def _change(self, node: Any, kind: str, text: str) -> Mistake:
        start, end = self._span(node)
        changed = self._source[:start] + text.encode() + self._source[end:]
        before, after = self._source.decode(), changed.decode()
        hunk = difflib.unified_diff(
            *(before.splitlines(keepends=True), after.splitlines(keepends=True)),
            *(f"a/{self._path}", f"b/{self._path}"),
            n=2,
        )
        lines = list(hunk)
        was, reads = (_code(lines[3:], sign) for sign in "-+")
        place = (self._path, self._function, kind, node.lineno)
        return Mistake(*place, was, reads, "".join(lines))

    def _span(self, node: Any) -> tuple[int, int]:
        start = self._begins[node.lineno - 1] + node.col_offset
        return start, self._begins[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()


def _code(lines: list[str], sign: str) -> str:
    """The changed lines of a diff, whatever their indentation."""
    return " ".join(line[1:].strip() for line in lines if line.startswith(sign))


def _is_left_alone(node: ast.AST) -> bool:
    """Assertions, texts (the parser does not know where the parts of one are), types and logs."""
    match node:
        case ast.Assert() | ast.JoinedStr() | ast.Expr(ast.Constant()):
            return True
        case ast.If(ast.Name("TYPE_CHECKING")) | ast.AnnAssign(value=None):
            return True
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(name)))):
            return name in {"_log", "log_lines"}
    return False
