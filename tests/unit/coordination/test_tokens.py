from controlplane.coordination.dial import METADATA
from controlplane.coordination.errors import AccessDenied, TokenRefused
from controlplane.coordination.tokens import Tokens
from controlplane.settings.etcd import EtcdAccess

ENDED = TokenRefused("UNAUTHENTICATED", "invalid auth token")
DENIED = AccessDenied("PERMISSION_DENIED", "permission denied")
USER = EtcdAccess(user="mainspring", password="hush")


def test_nobody_asks_for_a_token_without_a_user():
    tokens = Tokens(EtcdAccess(), 100.0)
    assert not tokens.due(0.0)
    assert tokens.metadata == METADATA
    assert not tokens.refused(ENDED, METADATA)


def test_a_token_is_asked_for_before_the_first_call_and_from_time_to_time():
    tokens = Tokens(USER, 100.0)
    assert tokens.due(7.0)
    tokens.got("t1", 7.0)
    assert tokens.metadata == (*METADATA, ("token", "t1"))
    assert not tokens.due(106.9)
    assert tokens.due(107.0)


def test_a_token_that_could_not_be_renewed_is_kept_and_asked_for_again_soon():
    tokens = Tokens(USER, 100.0)
    tokens.got("t1", 0.0)
    tokens.missed(100.0)
    assert tokens.usable
    assert not tokens.due(104.9)
    assert tokens.due(105.0)


def test_a_refused_token_is_given_up_at_once():
    tokens = Tokens(USER, 100.0)
    tokens.got("t1", 0.0)
    assert tokens.refused(ENDED, tokens.metadata)
    assert tokens.due(0.0)
    assert not tokens.usable


def test_the_refusal_of_an_older_token_leaves_the_present_one():
    tokens = Tokens(USER, 100.0)
    tokens.got("t1", 0.0)
    older = tokens.metadata
    tokens.got("t2", 1.0)
    assert tokens.refused(ENDED, older)
    assert tokens.usable
    assert not tokens.due(1.0)


def test_a_server_that_asks_for_no_user_is_asked_again_later():
    tokens = Tokens(USER, 100.0)
    tokens.got("", 0.0)
    assert tokens.metadata == METADATA
    assert not tokens.due(99.0)
    assert tokens.refused(ENDED, METADATA)
    assert tokens.due(99.0)


def test_what_a_user_may_not_do_is_not_tried_with_another_token():
    tokens = Tokens(USER, 100.0)
    tokens.got("t1", 0.0)
    assert not tokens.refused(DENIED, tokens.metadata)
    assert tokens.usable


def test_a_call_without_a_token_may_have_been_taken_for_one_of_somebody_else():
    tokens = Tokens(USER, 100.0)
    tokens.got("", 0.0)
    assert tokens.refused(DENIED, tokens.metadata)
    assert tokens.due(0.0)
