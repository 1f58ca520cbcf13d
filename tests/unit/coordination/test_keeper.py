"""The keeper's decisions on a clock that only the test moves."""

import asyncio

import pytest

from controlplane.coordination.errors import EtcdUnavailable
from controlplane.coordination.keeper import LeaseKeeper
from controlplane.coordination.records import Grant, LeaseEnd, LeaseGranted, LeaseLost
from controlplane.coordination.settings import CoordinationSettings

SETTINGS = CoordinationSettings(
    "keeper", ("127.0.0.1:2379",), lease_ttl_ms=5_000, renew_ms=1_500, max_stall_ms=2_000
)


class Service:
    """etcd's lease service and the time, as a story tells them.

    The story is asked at every pause and gets this service, which knows the number of the pause; it
    says how the main loop and etcd fare from then on, and False to stop the keeper.
    """

    def __init__(self, story):
        self.story = story
        self.now = 100.0
        self.granted = 0
        self.ends_at = 0.0
        self.answers = True
        self.ticks = True
        self.pauses = 0
        self.told = []
        self.revoked = []
        self.keeper = LeaseKeeper(SETTINGS, now=lambda: self.now, tell=self.told.append)

    async def grant(self, ttl_s):
        self.granted += 1
        self.ends_at = self.now + ttl_s
        return Grant(self.granted, ttl_s)

    async def renew(self, lease):
        if not self.answers:
            raise EtcdUnavailable("UNAVAILABLE", "no answer")
        if self.now >= self.ends_at:
            return 0
        self.ends_at = self.now + SETTINGS.lease_ttl_ms / 1_000
        return SETTINGS.lease_ttl_ms // 1_000

    async def revoke(self, lease):
        self.revoked.append(lease)

    async def pause(self, seconds):
        self.pauses += 1
        if self.story(self) is False:
            return True
        self.now += seconds
        if self.ticks:
            self.keeper.tick()
        return False


def told(story):
    service = Service(story)
    asyncio.run(service.keeper.run(service))
    return service.told, service


def test_a_lease_that_etcd_forgot_is_gone():
    def story(service):
        if service.pauses == 3:
            service.ends_at = 0.0
        return service.granted < 2

    changes, service = told(story)
    assert changes == [LeaseGranted(1), LeaseLost(1, LeaseEnd.GONE), LeaseGranted(2)]
    assert service.revoked == [1, 2]


def test_a_lease_that_nobody_renews_for_a_stalled_loop_ends_as_stalled():
    def story(service):
        service.ticks = service.now > 106.0
        return service.granted < 2

    changes, _ = told(story)
    assert changes == [LeaseGranted(1), LeaseLost(1, LeaseEnd.STALLED), LeaseGranted(2)]


@pytest.mark.parametrize(("turns_at", "gone_at", "reason"), [(6, 6, "STALLED"), (4, 8, "GONE")])
def test_a_stall_is_why_a_lease_is_gone_unless_it_was_renewed_since(turns_at, gone_at, reason):
    """The main loop turns again; the keeper asks, and learns that etcd ended the lease."""

    def story(service):
        service.ticks = not 1 < service.pauses < turns_at
        if service.pauses == gone_at:
            service.ends_at = 0.0
        return service.granted < 2

    changes, _ = told(story)
    assert changes == [LeaseGranted(1), LeaseLost(1, LeaseEnd[reason]), LeaseGranted(2)]


def test_without_answers_the_lease_expires():
    def story(service):
        service.answers = False
        return service.granted < 2

    changes, _ = told(story)
    assert changes == [LeaseGranted(1), LeaseLost(1, LeaseEnd.EXPIRED), LeaseGranted(2)]
