"""Letters from the lease to the print house's folder, and the population register on the way."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pdfplumber
import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from adapters.adapter import Misconfigured, Refused, Sent, TryLater
from adapters.letter import PrintFolder, batches_in
from adapters.letter.batches import Batches, Letter
from adapters.runner import Runner
from adapters.work import message_work
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving
from tests.adapters.letter_sandbox import (
    AT_HOME,
    DEAD,
    PROTECTED,
    STRICTLY_PROTECTED,
    WITHOUT_ADDRESS,
    Persons,
    letter_message,
)

SENT_FIRST = Sent("PRINT_FOLDER", "000001/0001", 1, pb.COST_CLASS_LETTER)


@contextmanager
def gateway(persons: Persons, folder: Path, **other: Any) -> Iterator[PrintFolder]:
    settings = persons.settings(folder, **other)
    with batches_in(settings.folder, settings.batch_seconds) as batches:
        yield PrintFolder(settings, batches)


def letters(folder: Path) -> list[Path]:
    return sorted(folder.glob("batch-*/*.pdf"))


def in_window(letter: Path) -> list[str]:
    with pdfplumber.open(letter) as document:
        page = document.pages[0]
        text: str = page.crop((0, page.height * 0.13, page.width, page.height * 0.27)).extract_text()
        return text.splitlines()


def test_a_letter_lies_in_the_folder_with_the_address_of_the_population_register(
    persons: Persons, tmp_path: Path
) -> None:
    persons.tell(identifier="11887197199", name="Åse Ål", lines=["c/o Čáhppesloddi", "Huldreøyra 3 H0101"])
    message = letter_message(identifier="11887197199")
    with gateway(persons, tmp_path) as sender:
        assert sender.send(message) == SENT_FIRST
    assert [letter.stem for letter in letters(tmp_path)] == [message.message_id]
    assert in_window(letters(tmp_path)[0]) == [
        "Åse Ål",
        "c/o Čáhppesloddi",
        "Huldreøyra 3 H0101",
        "9999 EVENTYRØYA",
    ]


@pytest.mark.parametrize(
    ("identifier", "code"),
    [
        (STRICTLY_PROTECTED, "ADDRESS_PROTECTED"),
        (PROTECTED, "ADDRESS_PROTECTED"),
        (DEAD, "NO_ADDRESS"),
        (WITHOUT_ADDRESS, "NO_ADDRESS"),
    ],
)
def test_nothing_is_printed_for_whom_no_letter_may_or_can_reach(
    persons: Persons, tmp_path: Path, identifier: str, code: str
) -> None:
    with gateway(persons, tmp_path) as sender:
        assert sender.send(letter_message(identifier=identifier)) == Refused(code)
    assert not letters(tmp_path)


def test_a_letter_whose_time_is_over_is_not_printed_but_one_that_was_is_still_sent(
    persons: Persons, tmp_path: Path
) -> None:
    expired = letter_message()
    expired.expires_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    with gateway(persons, tmp_path) as sender:
        assert sender.send(expired) == Refused("EXPIRED")
        assert sender.send(letter_message(deadline_date="2016-12-01")) == Refused("EXPIRED")
        printed = letter_message()
        assert sender.send(printed) == SENT_FIRST
        printed.expires_time.CopyFrom(expired.expires_time)
        assert sender.send(printed) == SENT_FIRST
    assert [letter.stem for letter in letters(tmp_path)] == [printed.message_id]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "DISK_FULL"), (errno.EDQUOT, "DISK_FULL"), (errno.EIO, "FOLDER_FAULT")],
)
def test_a_folder_that_takes_no_letter_has_it_tried_again_later(
    persons: Persons, tmp_path: Path, number: int, code: str
) -> None:
    class FaultyDisk(Batches):
        def add(self, message_id: str, letter: Letter) -> str:
            raise OSError(number, "")

    settings = persons.settings(tmp_path)
    sender = PrintFolder(settings, FaultyDisk(tmp_path, settings.batch_seconds))
    assert sender.send(letter_message()) == TryLater(code)


def test_a_kind_that_only_newer_programs_know_waits_for_one(persons: Persons, tmp_path: Path) -> None:
    with gateway(persons, tmp_path) as sender:
        assert sender.send(letter_message(kind=99)) == TryLater("UNKNOWN_TEXT")


def test_while_the_population_register_is_away_or_refuses_us_nothing_is_printed(
    persons: Persons, tmp_path: Path
) -> None:
    message = letter_message()
    with gateway(persons, tmp_path, deadline_seconds=1) as sender:
        persons.behave("down")
        assert sender.send(message) == TryLater("ANSWER_LOST")
        persons.behave("refuse")
        assert sender.send(message) == Misconfigured("HTTP_403")
        persons.behave("slow", 30)
        assert sender.send(message) == TryLater("TIMEOUT")
    persons.behave("normal")
    with gateway(persons, tmp_path, population_register_token_file=tmp_path / "none") as sender:
        assert sender.send(message) == Misconfigured("NO_TOKEN")
    (tmp_path / "wrong").write_text("wrong")
    with gateway(persons, tmp_path, population_register_token_file=tmp_path / "wrong") as sender:
        assert sender.send(message) == Misconfigured("HTTP_401")
    assert not letters(tmp_path)


def test_letters_are_leased_made_and_finished_and_no_one_is_named_in_what_is_written_down(
    persons: Persons,
    tmp_path: Path,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    register = FakeRegister()
    register.message_channel = pb.CHANNEL_LETTER
    register.messages = [letter_message() for _ in range(5)] + [letter_message(identifier=PROTECTED)]
    with (
        gateway(persons, tmp_path, batch_seconds=2) as sender,
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/letter") as channel,
        capture_logs() as logs,
    ):
        work = message_work("letter", sender, channel, 30, channel=pb.CHANNEL_LETTER, gateway_is_sandbox=True)
        with in_thread(Runner(work, concurrency=50).run):
            eventually(lambda: len(register.finished_messages) == 6, 20)
    sent = [each.sent for each in register.finished_messages if each.HasField("sent")]
    assert sorted(each.gateway_message_id for each in sent) == [f"000001/000{n}" for n in range(1, 6)]
    assert {(each.gateway, each.parts, each.cost_class) for each in sent} == {
        ("PRINT_FOLDER", 1, pb.COST_CLASS_LETTER)
    }
    assert [each.failed.error_code for each in register.finished_messages if each.HasField("failed")] == [
        "ADDRESS_PROTECTED"
    ]
    ended = spans.get_finished_spans()
    assert {span.name for span in ended} == {"population register", "deliver letter"}
    written = caplog.text + repr(logs) + "".join(capfd.readouterr()) + "".join(s.to_json() for s in ended)
    kept = "".join(
        file.read_text() for file in tmp_path.rglob("*") if file.name in ("manifest.csv", "SHA256SUMS")
    )
    for value in (AT_HOME, PROTECTED, in_window(letters(tmp_path)[0])[0]):
        assert value not in written + kept


def test_no_letter_to_a_synthetic_person_is_made_for_a_real_print_house(
    persons: Persons, tmp_path: Path
) -> None:
    register = FakeRegister()
    register.message_channel = pb.CHANNEL_LETTER
    register.messages = [letter_message()]
    with (
        gateway(persons, tmp_path) as sender,
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/letter") as channel,
    ):
        work = message_work(
            "letter", sender, channel, 30, channel=pb.CHANNEL_LETTER, gateway_is_sandbox=False
        )
        with in_thread(Runner(work).run):
            eventually(lambda: register.finished_messages, 20)
    assert register.finished_messages[0].failed.error_code == "SYNTHETIC_PERSON"
    assert not letters(tmp_path)


def test_killed_before_the_register_was_told_the_program_prints_no_second_letter(
    persons: Persons, tmp_path: Path
) -> None:
    register, folder, message = FakeRegister(), tmp_path / "letters", letter_message()
    register.message_channel = pb.CHANNEL_LETTER
    register.finish_refusal = (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    register.messages = [message]
    with serving(register) as port:
        with program(persons, folder, port, tmp_path) as killed:
            eventually(lambda: letters(folder), 30)
            second = subprocess.run(
                killed.args, env=environment(persons, folder, port, tmp_path), capture_output=True, text=True
            )
            killed.kill()
        assert (second.returncode, "another process" in second.stderr) == (2, True)
        assert not register.finished_messages

        register.finish_refusal = None
        register.messages = [message, letter_message()]
        with program(persons, folder, port, tmp_path) as ended:
            eventually(lambda: len(register.finished_messages) == 2, 30)
            ended.terminate()
            assert ended.wait(30) == 0
    places = {each.message_id: each.sent.gateway_message_id for each in register.finished_messages}
    assert places[message.message_id] == "000001/0001"
    assert sorted(places.values()) == ["000001/0001", "000002/0001"]
    assert len(letters(folder)) == 2


def environment(persons: Persons, folder: Path, port: int, traces: Path) -> dict[str, str]:
    settings = persons.settings(folder)
    return {
        **os.environ,
        "KRR_REGISTER": f"127.0.0.1:{port}",
        "KRR_TRACE_DIRECTORY": str(traces / "traces"),
        "KRR_LETTER_FOLDER": str(folder),
        "KRR_LETTER_GATEWAY_IS_SANDBOX": "true",
        "KRR_LETTER_POPULATION_REGISTER_URL": settings.population_register_url,
        "KRR_LETTER_POPULATION_REGISTER_TOKEN_FILE": str(persons.token_file),
    }


@contextmanager
def program(persons: Persons, folder: Path, port: int, traces: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m adapters letter`; killed at the end where it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "adapters", "letter"],
        env=environment(persons, folder, port, traces),
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
