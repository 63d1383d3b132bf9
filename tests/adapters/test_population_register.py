"""The population register's look-up: whose address is known and open, and the sandbox that plays it."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.adapter import TryLater
from adapters.letter.population_register import NoAddress, PopulationRegister, PostalAddress
from adapters.sandbox.control import running
from adapters.sandbox.population_register import make_app
from tests.adapters.letter_sandbox import ABROAD, AT_HOME, Persons
from tests.adapters.sandbox import NOBODY_LISTENS, trickling


def test_abroad_the_last_line_is_the_country_in_norwegian(persons: Persons, tmp_path: Path) -> None:
    address = PopulationRegister(persons.settings(tmp_path)).postal_address(ABROAD)
    assert isinstance(address, PostalAddress)
    assert address.lines[-1] in ("SVERIGE", "TYSKLAND")


_OPEN = {
    "navn": [{"fornavn": "Åse", "mellomnavn": "Á", "etternavn": "Ål"}],
    "bostedsadresse": [
        {
            "adressegradering": "ugradert",
            "vegadresse": {
                "adressenavn": "Huldreøyra",
                "adressenummer": {"husnummer": "3", "husbokstav": "B"},
                "coAdressenavn": "c/o Bjørk",
                "poststed": {"postnummer": "9999", "poststedsnavn": "EVENTYRØYA"},
            },
        }
    ],
}
_HISTORY = {"erGjeldende": False}


@pytest.mark.parametrize(
    ("also", "answer"),
    [
        ({}, PostalAddress(["Åse Á Ål", "c/o Bjørk", "Huldreøyra 3B", "9999 EVENTYRØYA"])),
        ({"adressebeskyttelse": [{"graderingsnivaa": "fortrolig"}]}, NoAddress("ADDRESS_PROTECTED")),
        ({"adressebeskyttelse": [{"graderingsnivaa": "somethingNew"}]}, NoAddress("ADDRESS_PROTECTED")),
        (
            {"postadresse": [{"adressegradering": "klientadresse"}]},
            NoAddress("ADDRESS_PROTECTED"),
        ),
        (
            {"adressebeskyttelse": [{"graderingsnivaa": "fortrolig", **_HISTORY}]},
            PostalAddress(["Åse Á Ål", "c/o Bjørk", "Huldreøyra 3B", "9999 EVENTYRØYA"]),
        ),
        ({"status": [{"status": "doed"}]}, NoAddress("NO_ADDRESS")),
        ({"bostedsadresse": [{"adressegradering": "ugradert", "ukjentBosted": {}}]}, NoAddress("NO_ADDRESS")),
        ({"navn": []}, NoAddress("NO_ADDRESS")),
        (
            {
                "postadresseIUtlandet": [
                    {
                        "adressegradering": "ugradert",
                        "utenlandskAdresse": {
                            "adressenavn": "Påhittad gata 1",
                            "postkode": "00000",
                            "byEllerStedsnavn": "PÅHITTSVIK",
                            "landkode": "SWE",
                        },
                    }
                ]
            },
            PostalAddress(["Åse Á Ål", "Påhittad gata 1", "00000 PÅHITTSVIK", "SVERIGE"]),
        ),
        (
            {
                "postadresse": [
                    {
                        "adressegradering": "ugradert",
                        "postboksadresse": {
                            "postbokseier": "Firma AS",
                            "postboks": "3",
                            "poststed": {"postnummer": "9998", "poststedsnavn": "TROLLVÅG"},
                        },
                    }
                ]
            },
            PostalAddress(["Åse Á Ål", "Firma AS", "Postboks 3", "9998 TROLLVÅG"]),
        ),
        ({"bostedsadresse": [{"vegadresse": {}}]}, TryLater("ANSWER_MALFORMED")),
        ({"adressebeskyttelse": [{}]}, TryLater("ANSWER_MALFORMED")),
        ({"adressebeskyttelse": "fortrolig"}, TryLater("ANSWER_MALFORMED")),
    ],
)
def test_only_an_address_that_is_surely_open_and_in_force_is_written_on(
    persons: Persons, tmp_path: Path, also: dict[str, Any], answer: object
) -> None:
    person = {"foedselsEllerDNummer": AT_HOME, "folkeregisterperson": {**_OPEN, **also}}
    assert answer_to(persons, tmp_path, {"oppslag": [person]}) == answer


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"oppslag": []},
        {"oppslag": [{"foedselsEllerDNummer": ABROAD, "folkeregisterperson": _OPEN}]},
        {"oppslag": [{"foedselsEllerDNummer": AT_HOME, "folkeregisterperson": _OPEN}] * 2},
        "<html>",
    ],
)
def test_an_answer_about_somebody_else_is_none(persons: Persons, tmp_path: Path, answer: object) -> None:
    assert answer_to(persons, tmp_path, answer) == TryLater("ANSWER_MALFORMED")


def test_whom_the_population_register_does_not_know_has_no_address(persons: Persons, tmp_path: Path) -> None:
    unknown = {"oppslag": [{"foedselsEllerDNummer": AT_HOME}]}
    assert answer_to(persons, tmp_path, unknown) == NoAddress("NO_ADDRESS")


def answer_to(persons: Persons, folder: Path, answer: object) -> object:
    """What the client makes of a register that answers so, whatever it is asked."""
    with trickling() as server:
        base = server.url + "/v1"
        asked = PopulationRegister(persons.settings(folder, population_register_url=base))
        server.sound[asked._url.removeprefix(server.url)] = json.dumps(answer).encode()
        return asked.postal_address(AT_HOME)


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [],
        {"foedselsEllerDNummer": AT_HOME},
        {"foedselsEllerDNummer": []},
        {"foedselsEllerDNummer": ["1188719715"]},
        {"foedselsEllerDNummer": [AT_HOME + "\n"]},
        {"foedselsEllerDNummer": [int(AT_HOME)]},
        {"foedselsEllerDNummer": [AT_HOME, AT_HOME]},
        {"foedselsEllerDNummer": [AT_HOME], "more": 1},
    ],
)
def test_the_sandbox_takes_no_body_that_the_population_register_would_not(
    persons: Persons, body: object
) -> None:
    assert persons.look_up(body).status_code == 400


def test_the_sandbox_asks_for_its_token_and_tells_the_parts_that_it_was_asked_for(persons: Persons) -> None:
    body = {"foedselsEllerDNummer": [AT_HOME]}
    assert persons.look_up(body, token="wrong").status_code == 401
    assert persons.look_up(body, parts="?part=everything").status_code == 400
    (found,) = persons.look_up(body, parts="?part=navn").json()["oppslag"]
    assert set(found["folkeregisterperson"]) == {"navn"}


def test_the_sandbox_invents_the_same_address_each_time_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    parts = "?part=bostedsadresse&part=postadresse"
    answers = []
    for told in (False, True):
        with running(make_app(tmp_path, NOBODY_LISTENS)) as url:
            sandbox = Persons(url, tmp_path)
            answers.append(sandbox.look_up({"foedselsEllerDNummer": [AT_HOME, ABROAD]}, parts=parts).json())
            if not told:
                sandbox.tell(identifier=ABROAD, name="Åse Ål", lines=["Huldreøyra 3"])
    assert answers[0]["oppslag"][0] == answers[1]["oppslag"][0]
    assert "Huldreøyra" in str(answers[1]["oppslag"][1])
