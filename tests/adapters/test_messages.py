"""The way of a message: leased, sent, finished, its receipt recorded."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from adapters.adapter import Sent, TryLater, Unsure
from adapters.receipts import receipts_listener
from adapters.runner import Runner
from adapters.sandbox.link import CLIENT_ID, TOKEN_PATH
from adapters.work import message_work
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving
from tests.adapters.link_sandbox import MOBILE, TOKEN, Link, gateway_for, message
from tests.adapters.sandbox import NOBODY_LISTENS, http

BARRED = "1d7d3f0a-55c4-4f27-8a34-6f0d7f3b9a02"


def test_a_message_is_sent_finished_and_its_receipt_recorded(
    link: Link,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    register = FakeRegister()
    register.receipt_tokens = {TOKEN, BARRED}
    with (
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel,
        receipts_listener("127.0.0.1:0", channel) as receipts_url,
        capture_logs() as logs,
    ):
        gateway = gateway_for(link.url, link.secret_file, receipts_url=receipts_url)
        work = message_work("sms", gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
        with in_thread(Runner(work).run):
            register.messages = [message()]
            eventually(lambda: register.receipts)
            link.report(4003)
            register.messages = [message(receipt_token=BARRED)]
            eventually(lambda: len(register.receipts) == 2)
    assert register.receipts == [
        pb.RecordReceiptRequest(receipt_token=TOKEN, delivered=pb.MessageDelivered()),
        pb.RecordReceiptRequest(receipt_token=BARRED, failed=pb.MessageFailed(error_code="LINK_4003")),
    ]
    assert [kept["message_id"] for kept in link.messages()] == [
        finished.sent.gateway_message_id for finished in register.finished_messages
    ]
    ended = spans.get_finished_spans()
    assert {span.name for span in ended} == {"link token", "link send", "deliver sms"}
    written = caplog.text + repr(logs) + "".join(capfd.readouterr()) + "".join(s.to_json() for s in ended)
    assert MOBILE not in written
    assert TOKEN not in written
    assert link.secret_file.read_text() not in written


def test_no_message_to_a_synthetic_person_leaves_through_a_real_gateway(link: Link) -> None:
    register = FakeRegister()
    register.messages = [message(), message(synthetic_person=False)]
    synthetic, real = (wanted.message_id for wanted in register.messages)
    with serving(register) as port, connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel:
        work = message_work(
            "sms", link.gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=False
        )
        with in_thread(Runner(work).run):
            eventually(lambda: len(register.finished_messages) == 2)
    outcomes = {finished.message_id: finished for finished in register.finished_messages}
    assert outcomes[synthetic].failed.error_code == "SYNTHETIC_PERSON"
    assert outcomes[real].HasField("sent")
    assert [kept["reference_id"] for kept in link.messages()] == [real]


def test_a_message_that_may_have_been_taken_waits_for_its_receipt(link: Link) -> None:
    link.behave("lose_answer")
    register = FakeRegister()
    register.messages = [message()]
    with serving(register) as port, connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel:
        work = message_work("sms", link.gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
        with in_thread(Runner(work).run):
            eventually(lambda: register.finished_messages)
    assert register.finished_messages[0].unsure.error_code == "ANSWER_LOST"
    assert register.finished_messages[0].unsure.delay.seconds == 10


class Faulty:
    """A gateway with a mistake in it, which fails after who knows what."""

    def send(self, _message: pb.Message) -> Sent:
        raise RuntimeError


def test_a_message_whose_gateway_fails_may_have_been_taken() -> None:
    register = FakeRegister()
    register.messages = [message()]
    with serving(register) as port, connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel:
        work = message_work("sms", Faulty(), channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
        with in_thread(Runner(work).run):
            eventually(lambda: register.finished_messages)
    assert register.finished_messages[0].unsure.error_code == "ADAPTER_FAULT"
    assert register.finished_messages[0].unsure.delay.seconds == 10


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (Unsure("TIMEOUT"), 10),
        (TryLater("HTTP_502", wait_seconds=10), 10),
        (TryLater("HTTP_429"), 0),
    ],
)
def test_only_what_says_that_a_message_was_not_taken_lets_it_go_out_again_at_once(
    link: Link, outcome: TryLater, seconds: float
) -> None:
    with grpc.insecure_channel(NOBODY_LISTENS) as channel:
        work = message_work("sms", link.gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
    assert work.shortest_delay(outcome) == seconds


def test_the_program_sends_and_hears_receipts(link: Link, tmp_path: Path) -> None:
    register = FakeRegister()
    register.receipt_tokens = {TOKEN}
    register.messages = [message()]
    with serving(register) as port:
        receipts = f"127.0.0.1:{_free_port()}"
        program = subprocess.Popen(
            [sys.executable, "-m", "adapters", "sms"],
            env={
                **os.environ,
                "KRR_REGISTER": f"127.0.0.1:{port}",
                "KRR_TRACE_DIRECTORY": str(tmp_path / "traces"),
                "KRR_SMS_URL": link.url,
                "KRR_SMS_TOKEN_URL": link.url + TOKEN_PATH,
                "KRR_SMS_CLIENT_ID": CLIENT_ID,
                "KRR_SMS_CLIENT_SECRET_FILE": str(link.secret_file),
                "KRR_SMS_GATEWAY_IS_SANDBOX": "true",
                "KRR_SMS_RECEIPTS_LISTEN": receipts,
                "KRR_SMS_RECEIPTS_URL": f"http://{receipts}",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        with program:
            eventually(lambda: register.receipts, 15)
            assert http.post(f"http://{receipts}/receipts/{TOKEN}", content=b"{").status_code == 400
            program.send_signal(signal.SIGTERM)
            _, errors = program.communicate(timeout=15)
    assert program.returncode == 0, errors
    traces = (tmp_path / "traces" / "adapter-sms.jsonl").read_text()
    assert "RecordReceipt" in traces
    assert MOBILE not in traces + errors
    assert TOKEN not in traces + errors


def _free_port() -> int:
    with serving(FakeRegister()) as port:
        return port
