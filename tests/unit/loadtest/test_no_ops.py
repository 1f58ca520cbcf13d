from loadtest.no_ops import per_task


def test_processor_time_is_shared_out_over_the_tasks():
    assert per_task({"node": 1.0, "agent": 2.0}, {"node": 3.0, "agent": 2.5}, 1_000) == {
        "node": 2_000.0,
        "agent": 500.0,
    }
