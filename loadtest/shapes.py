"""DAGs of the measurements."""

from __future__ import annotations

from mainspring.v1 import dag_pb2 as pb


def no_op(name: str, parents: list[str], argv: tuple[str, ...] = ("true",)) -> pb.TaskSpec:
    """A task that does nothing and needs a hundredth of a core."""
    return pb.TaskSpec(
        task=name,
        depends_on=parents,
        process=pb.ProcessSpec(argv=argv),
        resources=pb.ResourceRequest(cpu=0.01),
    )


def chain(dag: str, length: int, argv: tuple[str, ...] = ("true",)) -> pb.DagSpec:
    """`length` tasks, one after the other."""
    tasks = [no_op(f"t{n:03d}", [f"t{n - 1:03d}"] if n else [], argv) for n in range(length)]
    return pb.DagSpec(dag=dag, tasks=tasks)


def layers(dag: str, depth: int, width: int, argv: tuple[str, ...] = ("true",)) -> pb.DagSpec:
    """`depth` layers of `width` tasks; each task waits for two of the layer before."""
    tasks = []
    for level in range(depth):
        for place in range(width):
            near = [place, (place + 1) % width] if level else []
            parents = [f"l{level - 1}-{parent}" for parent in near]
            tasks.append(no_op(f"l{level}-{place}", parents, argv))
    return pb.DagSpec(dag=dag, tasks=tasks)


def fan(dag: str, width: int, argv: tuple[str, ...] = ("true",)) -> pb.DagSpec:
    """`width` parallel tasks and a join."""
    tasks = [no_op(f"t{n:03d}", [], argv) for n in range(width)]
    return pb.DagSpec(dag=dag, tasks=[*tasks, no_op("join", [task.task for task in tasks])])
