import threading

import pytest

from adapt.errors import InputError
from adapt.studio import jobs as module
from adapt.studio.jobs import Jobs


class Log:
    def __init__(self):
        self.seen = []
        self.condition = threading.Condition()

    def __call__(self, job):
        with self.condition:
            self.seen.append((job.number, job.state))
            self.condition.notify_all()

    def wait(self, number, state):
        with self.condition:
            assert self.condition.wait_for(lambda: (number, state) in self.seen, 10), self.seen


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def jobs(log):
    found = Jobs(log)
    yield found
    found.close()


def test_jobs_run_in_order_and_in_one_thread(jobs, log):
    threads, order = set(), []

    def run(job):
        threads.add(threading.get_ident())
        order.append(job.number)
        return {"n": job.number}

    for _ in range(20):
        last = jobs.add("count", run)
    log.wait(last.number, "done")
    assert order == list(range(1, 21)) and len(threads) == 1 and threading.get_ident() not in threads
    assert jobs.get(7).as_dict()["result"] == {"n": 7} and jobs.unfinished() == []


def test_failures_are_told_and_the_thread_goes_on(jobs, log, caplog):
    def refuse(job):
        raise InputError("Give a text.")

    jobs.add("refuse", refuse)
    jobs.add("divide", lambda job: 1 / 0)
    last = jobs.add("work", lambda job: 1)
    log.wait(last.number, "done")
    assert jobs.get(1).problem == "Give a text." and jobs.get(1).state == "failed"
    assert "ZeroDivisionError" in jobs.get(2).problem and "divide" in caplog.text


def test_cancelling_stops_a_running_job_at_its_next_step_and_a_waiting_one_at_once(jobs, log):
    begun, go_on, ran = threading.Event(), threading.Event(), []

    def long(job):
        begun.set()
        go_on.wait(10)
        job.tell(0.5)
        ran.append("after")

    first = jobs.add("long", long)
    second = jobs.add("short", lambda job: ran.append("second"))
    assert begun.wait(10)
    assert jobs.cancel(second.number).state == "cancelled"
    jobs.cancel(first.number)
    go_on.set()
    log.wait(first.number, "cancelled")
    assert ran == []


def test_a_job_that_goes_first_overtakes_those_that_wait(jobs, log):
    begun, go_on, order = threading.Event(), threading.Event(), []
    jobs.add("block", lambda job: begun.set() or go_on.wait(10))
    assert begun.wait(10)
    jobs.add("later", lambda job: order.append("later"))
    last = jobs.add("now", lambda job: order.append("now"), first=True)
    go_on.set()
    log.wait(last.number - 1, "done")
    assert order == ["now", "later"]


def test_the_queue_and_what_is_kept_are_bounded(jobs, log, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    monkeypatch.setattr(module, "KEPT", 5)
    begun, go_on = threading.Event(), threading.Event()
    jobs.add("block", lambda job: begun.set() or go_on.wait(10))
    assert begun.wait(10)
    for _ in range(3):
        jobs.add("wait", lambda job: 1)
    with pytest.raises(InputError, match="3 acts are waiting"):
        jobs.add("too many", lambda job: 1)
    go_on.set()
    log.wait(4, "done")
    for number in range(5, 20):
        jobs.add("work", lambda job: 1)
        log.wait(number, "done")
    jobs.get(19)
    with pytest.raises(InputError, match="no job 2"):
        jobs.get(2)


def test_closing_ends_the_thread_while_a_job_runs(log):
    jobs = Jobs(log)
    begun = threading.Event()

    def endless(job):
        begun.set()
        while True:
            job.tell()
            threading.Event().wait(0.01)

    jobs.add("endless", endless)
    assert begun.wait(10)
    jobs.close()
    assert not jobs._thread.is_alive()
