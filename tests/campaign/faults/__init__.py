"""What can be broken, one small class each.

A fault is drawn before it happens (`draw`), so that a seed decides all of it. Then it begins,
lasts, and is healed. Promises that `heal` leaves what it touched as if nothing had been, whatever
else was broken meanwhile: faults that touch the same part are never in force together.
"""

from tests.campaign.faults.clocks import CLOCKS
from tests.campaign.faults.fault import Fault
from tests.campaign.faults.links import LINKS
from tests.campaign.faults.processes import PROCESSES, SupervisorStandstill
from tests.campaign.faults.servers import SERVERS

ALL: tuple[type[Fault], ...] = (*PROCESSES, *SERVERS, *LINKS, *CLOCKS)
KINDS: dict[str, type[Fault]] = {fault.kind: fault for fault in ALL}
# They break what the promises take for granted: a campaign with one must find something.
FORBIDDEN: dict[str, type[Fault]] = {SupervisorStandstill.kind: SupervisorStandstill}

__all__ = ["ALL", "FORBIDDEN", "KINDS", "Fault"]
