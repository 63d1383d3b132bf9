"""LookUpPersonsStream: as single look-ups, one after another, until one is refused."""

from grpc import StatusCode
from krr.v1 import register_service_pb2 as pb

from tests.conftest import Register
from tests.people import KARI, OLA, register_request
from tests.people import synthetic_identifiers as people
from tests.server.rpcs import Rpcs
from tests.server.test_changes import update
from tests.server.test_look_up import EMAIL, load
from tests.server.valid_requests import PUBLIC
from tests.server.watching import Talk


def test_each_request_of_a_stream_is_answered_in_order(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    talk = Talk(rpcs)

    for identifiers in ((OLA,), (KARI, OLA, "x", OLA), tuple(people())[:1000]):
        talk.ask(*identifiers)
        asked = [entry.requested_identifier for entry in talk.watch.page().entries]
        assert asked == list(identifiers)
    for identifier in list(people())[:50]:
        talk.ask(identifier)
    talk.close()

    for identifier in list(people())[:50]:
        [entry] = talk.watch.page().entries
        assert entry.requested_identifier == identifier
    assert talk.watch.outcome().code is StatusCode.OK


def test_a_stream_answers_as_a_single_look_up_does(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    identifiers = [OLA, KARI, "malformed"]
    talk = Talk(rpcs)

    talk.ask(*identifiers)

    single = pb.LookUpPersonsRequest(identifiers=identifiers, purpose=pb.PURPOSE_NOTICE)
    assert list(talk.watch.page().entries) == list(
        rpcs.call("RegisterService/LookUpPersons", single, PUBLIC).response.entries
    )


def test_a_bad_request_ends_the_stream_with_its_reason_after_the_answers_before_it(rpcs: Rpcs) -> None:
    for identifiers, reason, field in ((["1"] * 1001, "BATCH_SIZE", "identifiers"), ([], "BATCH_SIZE", "")):
        talk = Talk(rpcs)
        talk.ask(OLA)
        talk.ask(*identifiers)
        talk.ask(KARI)

        assert talk.watch.page().entries[0].requested_identifier == OLA
        ended = talk.watch.outcome()
        assert (ended.code, ended.reason) == (StatusCode.INVALID_ARGUMENT, reason)
        assert field in ended.fields or not field


def test_a_stream_is_as_fresh_as_it_is_asked_to_be(register: Register, rpcs: Rpcs) -> None:
    talk = Talk(rpcs)
    for number in range(20):
        email = f"ola{number}@example.com"
        if number:
            token = update(register, OLA, email).freshness_token
        else:
            token = (
                register.as_log_in_service()
                .RegisterPerson(register_request(OLA, email))
                .answer.freshness_token
            )
        talk.ask(OLA, fresh=token)
        assert talk.watch.page().entries[0].person.email.value == email
    talk.ask(OLA, fresh="x")
    assert talk.watch.outcome().fields == ("at_least_as_fresh",)
