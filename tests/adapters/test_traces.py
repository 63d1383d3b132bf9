"""Work in its own trace, linked to the call that caused it."""

import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapters.adapter import Done
from adapters.runner import Runner
from adapters.work import mailbox_work, message_work
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving
from tests.adapters.link_sandbox import Link, message

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACE_PARENT = f"00-{TRACE}-{SPAN}-01"


class Supplier:
    """Takes everything."""

    def deliver(self, _delivery: pb.Delivery) -> Done:
        return Done()


def deliver(trace_parent: str) -> None:
    register = FakeRegister()
    register.deliveries = [pb.Delivery(delivery_id=1, lease_token="lease", trace_parent=trace_parent)]
    with (
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/test") as channel,
        in_thread(Runner(mailbox_work("test", Supplier(), channel, 30)).run),
    ):
        eventually(lambda: register.finished)


def test_a_delivery_is_a_new_trace_that_links_to_the_call_that_made_it_due(
    spans: InMemorySpanExporter,
) -> None:
    deliver(TRACE_PARENT)

    [span] = spans.get_finished_spans()
    [link] = span.links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE, SPAN)
    assert span.parent is None
    assert span.context.trace_id != link.context.trace_id


@pytest.mark.parametrize("trace_parent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", "x" * 4000])
def test_work_whose_cause_is_unknown_is_done_without_a_link(
    spans: InMemorySpanExporter, trace_parent: str
) -> None:
    deliver(trace_parent)

    [span] = spans.get_finished_spans()
    assert not span.links
    assert dict(span.attributes or {})["krr.outcome"] == "done"


def test_the_request_to_the_gateway_is_in_the_trace_that_links_to_the_messages_cause(
    link: Link, spans: InMemorySpanExporter
) -> None:
    register = FakeRegister()
    register.messages = [message(trace_parent=TRACE_PARENT)]
    with serving(register) as port, connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel:
        work = message_work("sms", link.gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
        with in_thread(Runner(work).run):
            eventually(lambda: register.finished_messages)

    by_name = {span.name: span for span in spans.get_finished_spans()}
    sent = by_name["deliver sms"]
    [cause] = sent.links
    assert f"{cause.context.trace_id:032x}" == TRACE
    assert by_name["link send"].parent == sent.context
    assert not by_name["link send"].links
