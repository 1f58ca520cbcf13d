"""What makes tasks a DAG: every problem at once, each with its place and the way out."""

from __future__ import annotations

import time

import pytest

from controlplane.core.graph.edges import (
    MAX_CYCLES_SHOWN,
    MAX_EDGES,
    MAX_TASKS,
    Problem,
    TaskEdges,
    compile_edges,
)


def compiled(**parents):
    """Edges and problems of `{task: "parent parent …"}`."""
    return compile_edges([TaskEdges(task, text.split()) for task, text in parents.items()])


def problems(**parents):
    return compiled(**parents)[1]


def cycle(first, path):
    return Problem(
        f"tasks[{first}].depends_on",
        f"tasks form a cycle: {path}; remove one of these dependencies",
    )


def test_a_diamond_compiles_to_rows_of_children():
    edges, found = compiled(a="", b="a", c="a", d="b c")
    assert found == []
    assert list(edges.starts) == [0, 2, 3, 4, 4]
    assert list(edges.children) == [1, 2, 3, 3]
    assert list(edges.parent_counts) == [0, 1, 1, 2]
    assert list(edges.order) == [0, 1, 2, 3]


def test_the_order_is_topological_whatever_the_author_wrote():
    edges, _ = compiled(last="middle", middle="first", first="")
    assert list(edges.order) == [2, 1, 0]


def test_a_dag_has_a_task():
    assert problems() == [Problem("tasks", "is empty; a DAG has at least one task")]


def test_a_cycle_is_shown_in_the_direction_of_the_work():
    assert problems(a="c", b="a", c="b") == [cycle(0, "a → b → c → a")]


def test_tasks_behind_a_cycle_are_no_part_of_it():
    found = problems(start="", a="start b", b="a", behind="b", further="behind")
    assert found == [cycle(1, "a → b → a")]


def test_disjoint_cycles_are_all_shown():
    found = problems(a="b", b="a", c="d", d="c", ok="", e="ok f", f="e d")
    assert found == [cycle(0, "a → b → a"), cycle(2, "c → d → c"), cycle(5, "e → f → e")]


def test_cycles_that_share_a_task_are_shown_one_at_a_time():
    assert problems(hub="a b", a="hub", b="hub") == [cycle(0, "hub → a → hub")]


def test_a_second_cycle_may_hang_on_the_first():
    found = problems(a="b", b="a", join="a d", c="join", d="c", leaf="d")
    assert found == [cycle(0, "a → b → a"), cycle(2, "join → c → d → join")]


def test_a_task_behind_two_cycles_belongs_to_neither():
    found = problems(a="b", b="a", c="d", d="c", behind="b", both="behind d")
    assert found == [cycle(0, "a → b → a"), cycle(2, "c → d → c")]


def test_a_long_cycle_is_cut_in_the_middle():
    names = [f"t{n}" for n in range(1_000)]
    found = problems(**{name: names[n - 1] for n, name in enumerate(names)})
    path = " → ".join([*names[:10], "… 989 more …", "t999", "t0"])
    assert found == [cycle(0, path)]


def test_no_more_cycles_are_shown_than_a_person_reads():
    pairs = {f"a{n}": f"b{n}" for n in range(50)} | {f"b{n}": f"a{n}" for n in range(50)}
    assert len(problems(**pairs)) == MAX_CYCLES_SHOWN


def test_a_cycle_of_ids_that_are_too_long_has_a_short_message():
    long = "x" * 1_000_000
    _, found = compile_edges([TaskEdges(long, ["a"]), TaskEdges("a", [long])])
    shown = f"{'x' * 60}… (1,000,000 characters)"
    assert found[-1] == cycle(0, f"{shown} → a → {shown}")
    assert all(len(problem.message) < 400 for problem in found)


def test_a_task_does_not_wait_for_itself():
    assert problems(a="", b="a b") == [
        Problem("tasks[1].depends_on[1]", "'b' depends on itself; remove the entry")
    ]


def test_everything_wrong_is_told_at_once():
    rows = [
        TaskEdges("a", ["ghost", "b", "b"]),
        TaskEdges("b", ["c"]),
        TaskEdges("c", ["b", "c"]),
        TaskEdges("a", []),
        TaskEdges("no id", []),
        TaskEdges("x" * 1_000_000, []),
        TaskEdges("", []),
    ]
    edges, found = compile_edges(rows)
    assert edges is None
    assert [problem.field for problem in found] == [
        "tasks[3].task",
        "tasks[4].task",
        "tasks[5].task",
        "tasks[6].task",
        "tasks[0].depends_on[0]",
        "tasks[0].depends_on[2]",
        "tasks[2].depends_on[1]",
        "tasks[1].depends_on",
    ]
    assert found[0].message == "'a' is the id of tasks[0] already; give each task its own"
    assert found[4].message == "'ghost' is no task of this DAG; correct the id or add the task"
    assert found[5].message == "'b' is listed twice; remove one entry"
    assert found[7] == cycle(1, "b → c → b")
    assert all(len(problem.message) < 200 for problem in found)


def test_a_chain_of_the_most_tasks_is_an_ordinary_input():
    names = [f"t{n}" for n in range(MAX_TASKS)]
    before = time.process_time()
    edges, found = compile_edges(
        [TaskEdges(name, names[n - 1 : n]) for n, name in enumerate(names)]
    )
    assert found == []
    assert list(edges.order[-2:]) == [MAX_TASKS - 2, MAX_TASKS - 1]
    assert time.process_time() - before < 5


def test_a_cycle_through_the_most_tasks_is_found():
    names = [f"t{n}" for n in range(MAX_TASKS)]
    _, found = compile_edges([TaskEdges(name, [names[n - 1]]) for n, name in enumerate(names)])
    assert found == [cycle(0, " → ".join([*names[:10], "… 99,989 more …", "t99999", "t0"]))]


def test_one_task_too_many_is_refused():
    rows = [TaskEdges(f"t{n}", []) for n in range(MAX_TASKS + 1)]
    assert compile_edges(rows) == (
        None,
        [
            Problem(
                "tasks",
                "has 100,001 tasks; a DAG has at most 100,000, split it into several",
            )
        ],
    )


@pytest.mark.parametrize(("extra", "refused"), [(0, False), (1, True)])
def test_edges_have_a_limit(extra, refused):
    wide = MAX_EDGES // 1_000
    roots = [f"r{n}" for n in range(wide)]
    rows = [TaskEdges(root, ()) for root in roots]
    rows += [TaskEdges(f"t{n}", roots) for n in range(1_000)]
    rows += [TaskEdges("last", roots[:extra])]
    edges, found = compile_edges(rows)
    assert (edges is None) is refused
    if refused:
        assert found == [
            Problem(
                "tasks",
                "has 1,000,001 dependencies; a DAG has at most 1,000,000, "
                "join groups of tasks through one task between them",
            )
        ]
