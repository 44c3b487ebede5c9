"""The figures that scripts/bench computes, and the batches at which it measures."""

from concurrent.futures import Future

import pytest

from compare.figures import answers, slope, windows
from compare.watch import Enough, Plan, Watch, now

MIB = 2**20


def saved(way="", **figures):
    usual = {"stall": 0.1, "durable": 1.0, "cpu": 1.0, "sent": MIB, "server": None, "peak": 3 * MIB}
    return {"way": way, "busy": 0.2, **usual, **figures}


def run(method, busy=(), calm=(0.1, 0.1), state="1 MiB"):
    batches = [{"batch": seconds, "peak": 2 * MIB} for seconds in calm]
    return {
        "method": method,
        "state": state,
        "bytes": MIB,
        "cores": 2,
        "quiet": {"window": None, "saved": [saved()], "calm": batches},
        "busy": {"window": 10, "saved": list(busy), "calm": batches},
    }


def figure(measured, name):
    (answer,) = (one for one in answers(measured) if one.question.name == name)
    return answer


def results(*runs):
    return {"saving": runs, "recovery": []}


def test_a_peer_counts_with_its_better_way_to_s3():
    """Two ways of one peer are not averaged: a user would choose the better one."""
    peer = run("peer", busy=[saved("slow", durable=4.0), saved("fast", durable=2.0)])
    measured = results(run("keepfit", busy=[saved()]), peer)
    answer = figure(measured, "3 Time to durable in S3, while training")
    assert answer.values == {"keepfit": 1.0, "peer": 2.0}
    assert answer.best == ("peer", 2.0)
    assert answer.met


@pytest.mark.parametrize(("ours", "met"), [(1.0, True), (1.01, False)])
def test_a_goal_that_is_half_of_the_best_peer(ours, met):
    """The goal is relative to the best of all peers."""
    peers = [run(f"peer{i}", busy=[saved(durable=seconds)]) for i, seconds in enumerate((9, 2, 5))]
    mine = run("keepfit", busy=[saved(durable=ours)])
    assert figure(results(mine, *peers), "3 Time to durable in S3, while training").met is met


def test_the_median_of_all_rounds():
    """The figure is the median, so one disturbed round does not decide."""
    rounds = [run("keepfit", busy=[saved(stall=s)]) for s in (0.001, 0.002, 5.0)]
    assert figure(results(*rounds), "1 Training stall of a save").ours == 0.002


def test_a_window_is_compared_with_calm_batches_before_and_after_it():
    """A machine that becomes slower does not change the ratio; the server's share is subtracted."""
    mine = run("keepfit", busy=[saved(busy=0.3, server=1.0)], calm=(0.1, 0.2))
    (window,) = windows([mine])
    assert window["ratio"] == pytest.approx(0.3 / 0.15)
    assert window["net"] == pytest.approx((0.3 - 1.0 / 2 / 10) / 0.15)


def test_memory_is_relative_to_training_alone():
    """The figure is a method's peak minus the peak before its first save, in state sizes."""
    measured = results(run("keepfit", busy=[saved()]))
    assert figure(measured, "5 Additional peak memory, relative to the state").ours == 1


def test_no_answer_without_measurements():
    """A quick run has no windows, and so no answer about them."""
    mine = run("keepfit")
    del mine["busy"]
    assert "2 Training with a save every 10 s, relative to none" not in {
        one.question.name for one in answers(results(mine))
    }


def test_slope():
    """The fit returns the base cost and the cost per unit."""
    line = slope((x, 2.0 + 0.5 * x) for x in (10, 100, 1000, 5000))
    assert (line.base, line.each) == (pytest.approx(2.0), pytest.approx(0.5))


def watched(plan):
    """Run batches until the watch has enough. Return it and the batches with and without a save."""

    def durable(_):
        done = Future()
        done.set_result(now())
        return done

    saves, others = [], []
    watch = Watch(plan, durable, str)
    for batch in range(1000):
        try:
            watch.batch_ends(lambda b=batch: saves.append(b), lambda b=batch: others.append(b))
        except Enough:
            return watch, saves, others
    pytest.fail("the watch has never enough")


def test_saves_are_between_calm_batches():
    """The first batch is not measured; calm batches, a save, its window, and calm ones follow."""
    watch, saves, others = watched(Plan(saves=2, calm=3, window=5))
    assert saves == [3, 11]
    assert sorted(saves + others) == list(range(19))
    assert len(watch.calm) == 3
    assert [one.way for one in watch.saved] == ["0", "1"]
    assert all(one.busy > 0 for one in watch.saved)


def test_quiet_saves_have_no_window():
    """Training stops until the checkpoint is durable, so there is no window."""
    watch, saves, _ = watched(Plan(saves=3, calm=2))
    assert saves == [2, 4, 6]
    assert all(one.durable >= 0 and one.busy == 0 for one in watch.saved)
