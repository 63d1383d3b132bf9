"""`krr reconcile` and `krr sweeps`."""

import json
import time
import uuid
from collections.abc import Iterator

import grpc
import pytest
from krr.v1 import sweep_pb2 as pb
from krr_cli import reconcile

from server.__main__ import Server
from tests.clients.command_line import Krr, command, krr_at
from tests.clients.scripted_register import refuses
from tests.clients.scripted_sweeps import ScriptedSweeps
from tests.conftest import Register


@pytest.fixture
def sweeps() -> Iterator[ScriptedSweeps]:
    running = ScriptedSweeps()
    running.start()
    yield running
    running.end()


@pytest.fixture
def krr(sweeps: ScriptedSweeps, monkeypatch: pytest.MonkeyPatch) -> Krr:
    monkeypatch.setattr(reconcile, "_POLL_SECONDS", 0.01)
    return krr_at(sweeps.port)


def sweep(state: "pb.SweepState.ValueType", compared: int = 100, **values: int | bool) -> pb.Sweep:
    found = pb.Sweep(sweep_id=7, adapter="eboks", state=state, person_count=100, compared_count=compared)
    for field, value in values.items():
        setattr(found, field, value)
    found.started_time.seconds = 1_800_000_000
    if state != pb.SWEEP_STATE_RUNNING:
        found.ended_time.seconds = 1_800_000_100
    return found


def difference(
    number: int,
    kind: "pb.DifferenceKind.ValueType" = pb.DIFFERENCE_KIND_ADDRESS,
    left: "pb.NotRepairedReason.ValueType | None" = None,
) -> pb.Difference:
    return pb.Difference(
        difference_id=number,
        kind=kind,
        change_number=1000 + number,
        repaired=left is None,
        not_repaired_reason=left or pb.NOT_REPAIRED_REASON_UNSPECIFIED,
    )


FINISHED = sweep(pb.SWEEP_STATE_FINISHED)


def test_the_command_waits_for_the_end_of_the_sweep(sweeps: ScriptedSweeps, krr: Krr) -> None:
    sweeps.told.extend([sweep(pb.SWEEP_STATE_RUNNING, done) for done in (0, 40, 99)] + [FINISHED])

    done = krr("reconcile", "eboks")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "100 compared with eboks, of 100 persons at its beginning; 0 differ, 0 repaired, 0 left; "
        "finished 2027-01-15 08:01:40 as sweep 7\n"
    )
    assert sweeps.questions == 4


def test_what_is_asked_for_is_what_the_register_is_sent(sweeps: ScriptedSweeps, krr: Krr) -> None:
    sweeps.told.append(FINISHED)
    request_id = str(uuid.uuid4())

    krr("reconcile", "eboks", "--dry-run", "--cap", "12", "--request-id", request_id)
    krr("reconcile", "digipost")

    first, second = sweeps.requests
    assert first == pb.StartSweepRequest(request_id=request_id, adapter="eboks", dry_run=True, max_repairs=12)
    assert (second.adapter, second.dry_run, second.max_repairs) == ("digipost", False, 0)
    assert uuid.UUID(second.request_id).int != uuid.UUID(request_id).int


def test_every_kind_of_difference_is_said_in_words_and_every_reason_to_leave_it(
    sweeps: ScriptedSweeps, krr: Krr
) -> None:
    kinds, reasons = pb.DifferenceKind.values()[1:], pb.NotRepairedReason.values()[1:]
    found = [difference(number, kind) for number, kind in enumerate(kinds, 1)]
    found += [difference(50 + reason, left=reason) for reason in reasons]
    sweeps.differences = found
    sweeps.told.append(sweep(pb.SWEEP_STATE_FINISHED, difference_count=len(found), repaired_count=len(kinds)))

    shown = krr("reconcile", "eboks")

    assert shown.exit_code == 1
    for words in [*(word for row in reconcile._WORDS.values() for word in row)]:
        assert words in shown.stdout
    for reason in reasons:
        assert reconcile._NOT_REPAIRED[reason] in shown.stdout
    assert all(str(each.change_number) in shown.stdout for each in found)
    assert f"{len(found)} differ, {len(kinds)} repaired, {len(reasons)} left" in shown.stdout


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        (sweep(pb.SWEEP_STATE_FINISHED, difference_count=2, repaired_count=2), 0, "2 repaired, 0 left"),
        (sweep(pb.SWEEP_STATE_FINISHED, difference_count=2, repaired_count=1), 1, "1 repaired, 1 left"),
        (sweep(pb.SWEEP_STATE_FINISHED, 99, unread_count=1), 1, "at its beginning, 1 could not"),
        (sweep(pb.SWEEP_STATE_FINISHED, difference_count=2, dry_run=True), 1, "0 repaired, 2 left"),
        (sweep(pb.SWEEP_STATE_ENDED, 3), 1, "ended"),
        (
            sweep(pb.SWEEP_STATE_STOPPED_AT_CAP, 60, difference_count=11, repaired_count=10),
            5,
            "stopped at cap",
        ),
    ],
)
def test_the_exit_code_tells_whether_anything_is_left(
    sweeps: ScriptedSweeps, krr: Krr, ended: pb.Sweep, code: int, said: str
) -> None:
    sweeps.told.append(ended)
    sweeps.differences = [difference(number) for number in range(ended.difference_count)]

    done = krr("reconcile", "eboks")

    assert done.exit_code == code
    assert said in done.stdout


def test_for_machines_the_sweep_is_followed_by_each_of_its_differences(
    sweeps: ScriptedSweeps, krr: Krr
) -> None:
    sweeps.differences = [difference(number) for number in range(1, 8)]
    sweeps.told.append(sweep(pb.SWEEP_STATE_FINISHED, difference_count=7, repaired_count=7))

    lines = [json.loads(line) for line in krr("reconcile", "eboks", "--json").stdout.splitlines()]

    assert (lines[0]["sweep_id"], lines[0]["state"]) == ("7", "SWEEP_STATE_FINISHED")
    assert [line["difference_id"] for line in lines[1:]] == [str(number) for number in range(1, 8)]


def test_the_table_is_cut_where_it_says_so(
    sweeps: ScriptedSweeps, krr: Krr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_SHOWN", 4)
    sweeps.differences = [difference(number) for number in range(1, 8)]
    sweeps.told.append(sweep(pb.SWEEP_STATE_FINISHED, difference_count=7, repaired_count=7))

    shown = krr("sweeps", "show", "7")

    assert "1004" in shown.stdout and "1005" not in shown.stdout
    assert shown.stderr == "and 3 more: krr sweeps show 7 --json\n"


def test_a_register_that_comes_back_is_asked_again(sweeps: ScriptedSweeps, krr: Krr) -> None:
    running = sweep(pb.SWEEP_STATE_RUNNING, 10)
    away = refuses(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    # One question is asked four times by the channel itself.
    sweeps.told.extend([running, *[away] * 6, running, FINISHED])

    done = krr("reconcile", "eboks")

    assert (done.exit_code, done.stderr) == (0, "")


def test_a_register_that_stays_away_is_given_up_and_the_sweep_named(
    sweeps: ScriptedSweeps, krr: Krr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_AWAY_SECONDS", 0.0)
    sweeps.told.extend(
        [sweep(pb.SWEEP_STATE_RUNNING, 10), refuses(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")]
    )

    done = krr("reconcile", "eboks")

    assert done.exit_code == 3
    assert "sweep 7 goes on at the register: `krr sweeps show 7`" in done.stderr
    assert "DATABASE_UNAVAILABLE" in done.stderr


def test_what_the_register_refuses_is_not_asked_again(sweeps: ScriptedSweeps, krr: Krr) -> None:
    sweeps.told.extend(
        [sweep(pb.SWEEP_STATE_RUNNING, 10), refuses(grpc.StatusCode.NOT_FOUND, "UNKNOWN_SWEEP"), FINISHED]
    )

    done = krr("reconcile", "eboks")

    assert (done.exit_code, sweeps.questions) == (1, 2)
    assert "UNKNOWN_SWEEP" in done.stderr


def test_a_sweep_that_stands_still_is_said_once(
    sweeps: ScriptedSweeps, krr: Krr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_STILL_SECONDS", 0.0)
    sweeps.told.extend([*[sweep(pb.SWEEP_STATE_RUNNING, 10)] * 5, FINISHED])

    done = krr("reconcile", "eboks")

    assert done.exit_code == 0
    assert done.stderr.count("is the adapter eboks running") == 1


def test_ctrl_c_leaves_the_sweep_and_says_how_to_look_and_end_it(sweeps: ScriptedSweeps) -> None:
    sweeps.told.append(sweep(pb.SWEEP_STATE_RUNNING, 10))

    with command(sweeps.port, "reconcile", "eboks") as running:
        while sweeps.questions < 2:
            assert running.process.poll() is None
            time.sleep(0.05)
        running.interrupt()
        code, said = running.end()

    assert code == 130
    assert "sweep 7 goes on at the register" in said
    assert "`krr sweeps end 7` ends it" in said
    assert [type(request) for request in sweeps.requests] == [pb.StartSweepRequest]


def test_all_sweeps_are_listed_over_all_pages(sweeps: ScriptedSweeps, krr: Krr) -> None:
    sweeps.told.extend(
        [
            sweep(pb.SWEEP_STATE_RUNNING, 12, rolling=True),
            sweep(pb.SWEEP_STATE_STOPPED_AT_CAP, 34, difference_count=11, repaired_count=10),
            sweep(pb.SWEEP_STATE_FINISHED, dry_run=True),
        ]
    )

    table = krr("sweeps", "list", "--adapter", "eboks").stdout.splitlines()
    limited = json.loads(krr("sweeps", "list", "--limit", "2", "--json").stdout)

    rows = [line for line in table if " eboks " in line]
    for row, words in zip(
        rows,
        (["rolling", "RUNNING", " 12 "], ["full", "STOPPED_AT_CAP", " 34 "], ["dry run"]),
        strict=True,
    ):
        assert all(word in row for word in words)
    assert len(limited["sweeps"]) == 2
    assert [request.adapter for request in sweeps.requests] == ["eboks"] * 3 + [""] * 2


def test_a_sweep_is_ended(sweeps: ScriptedSweeps, krr: Krr) -> None:
    sweeps.told.append(sweep(pb.SWEEP_STATE_ENDED, 12))

    ended = krr("sweeps", "end", "7")

    assert (ended.exit_code, sweeps.requests) == (0, [pb.EndSweepRequest(sweep_id=7)])
    assert "12 compared with eboks, " in ended.stdout
    assert json.loads(krr("sweeps", "end", "7", "--json").stdout)["state"] == "SWEEP_STATE_ENDED"


def test_the_register_refuses_what_it_does_not_know(server: Server) -> None:
    krr = krr_at(server.port)

    for arguments, reason in (
        (("reconcile", "nobody"), "UNKNOWN_OPERATOR"),
        (("reconcile", "eboks", "--cap", "1000001"), "INVALID_FIELD"),
        (("sweeps", "show", "4711"), "UNKNOWN_SWEEP"),
        (("sweeps", "end", "4711"), "UNKNOWN_SWEEP"),
    ):
        refused = krr(*arguments)
        assert (refused.exit_code, reason in refused.stderr) == (1, True), refused.stderr


def test_a_sweep_of_the_register_is_listed_shown_and_ended(server: Server, register: Register) -> None:
    krr = krr_at(server.port)
    register.as_administrator().StartSweep(
        pb.StartSweepRequest(request_id=str(uuid.uuid4()), adapter="eboks", max_repairs=12)
    )

    [row] = [line for line in krr("sweeps", "list").stdout.splitlines() if " eboks " in line]
    assert all(word in row for word in ("full", "RUNNING", "12"))
    assert "; running as sweep 1" in krr("sweeps", "show", "1").stdout
    assert "; ended " in krr("sweeps", "end", "1").stdout
    assert json.loads(krr("sweeps", "list", "--adapter", "digipost", "--json").stdout)["sweeps"] == []


@pytest.mark.parametrize(
    "arguments",
    [("reconcile",), ("reconcile", "eboks", "--cap", "-1"), ("sweeps", "show", "seven"), ("sweeps", "end")],
)
def test_wrong_usage_is_said_before_anything_is_sent(
    sweeps: ScriptedSweeps, krr: Krr, arguments: tuple[str, ...]
) -> None:
    assert krr(*arguments).exit_code == 2
    assert not sweeps.requests and not sweeps.questions
