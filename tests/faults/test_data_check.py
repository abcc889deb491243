"""`course data check`: what it says of addresses that answer, that have changed, and that are gone."""

import dataclasses

import pytest
from typer.testing import CliRunner

from course_lib.cli import app
from course_lib.data import store


@pytest.fixture
def check(server, monkeypatch):
    """Runs the command on one data set of 1,000 bytes at two addresses."""
    monkeypatch.delenv("COURSE_OFFLINE")
    urls = (server.url("first.zip"), server.url("second.zip"))
    known = dataclasses.replace(store.SOURCES["nuclei"], urls=urls, size=1000)
    monkeypatch.setattr(store, "SOURCES", {"nuclei": known})
    return lambda: CliRunner().invoke(app, ["data", "check"])


def test_right_sizes(server, check):
    server.files |= {"first.zip": bytes(1000), "second.zip": bytes(1010)}
    done = check()
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"nuclei {server.url('first.zip')}: 1,000 bytes",
        f"nuclei {server.url('second.zip')}: 1,010 bytes",
    ]


def test_each_fault_is_named_and_the_others_are_asked_all_the_same(server, check):
    server.files |= {"second.zip": bytes(500)}
    done = check()
    assert done.exit_code == 1
    assert "first.zip: 404" in done.stderr
    assert "second.zip has 500 bytes; the table says 1,000" in done.stderr
    assert "mend course_lib/data/sources.toml" in done.stderr


def test_an_address_may_keep_its_size_to_itself(server, check):
    server.files |= {"first.zip": bytes(1000), "second.zip": bytes(1000)}
    server.plan += ["no-length", "ok"]
    done = check()
    assert done.exit_code == 0
    assert "answers, and does not say its size" in done.stdout


def test_offline(check, monkeypatch):
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    assert "COURSE_OFFLINE forbids" in str(check().exception)
