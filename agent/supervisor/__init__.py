"""The process that owns the tasks of one agent, and outlives it.

Standard library only, one thread, no asyncio, and none of the modules that cost memory
(dataclasses, typing, pathlib, subprocess): it stays below 15 MB. Files in its folder
(WORK/supervisor):

`socket`    where the agent talks to it: frames of `protocol`.
`attempts/` one claim file per attempt: `claims`.
`lock`      held (flock) for as long as anything of the supervisor lives.
`log`       what it and its start had to say.
`pid`       one line, `PID START_TICKS BOOT_ID`, written by the agent at each connection: the
            supervisor as the machine sees it, its start in clock ticks since the boot, and
            /proc/sys/kernel/random/boot_id. `python -P -m agent.supervisor --end WORK/supervisor`
            ends whatever it names, and returns when that is gone.
"""
