"""The whole way of one dataset, once and once more."""

from __future__ import annotations


def test_from_a_guideline_to_a_report_and_nothing_the_second_time(house):
    house.labelled()
    [waiting] = house.approve_run()
    assert (waiting["state"], waiting["created"]) == ("waiting", 3)
    assert house.approve()["state"] == "approved"
    assert house.release()["state"] == "released"
    report = house.report()
    assert (report["state"], report["changed"]) == ("published", True)
    before = house.snapshot()
    assert house.sync_guidelines() is None
    assert house.ingest() is None
    assert house.approve_run() == []
    assert house.release_run() == []
    again = house.report()
    assert (again["state"], again["created"], again["updated"]) == ("unchanged", 0, 0)
    assert house.snapshot() == before
