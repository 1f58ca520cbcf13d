from controlplane.coordination.dial import Rotation


def test_only_the_current_member_is_left():
    rotation = Rotation(3)
    rotation.leave(0)
    rotation.leave(0)
    assert rotation.current == 1


def test_after_the_last_member_comes_the_first():
    rotation = Rotation(2, current=1)
    rotation.leave(1)
    assert rotation.current == 0
