"""Plays the population register's look-up by identity number, for persons that nobody is.

Names and addresses are made from the identifier: the same ones each time, with streets, places and
postal codes that do not exist. The last two digits say what kind of person it is:

    00-02   address strictly confidential (strengtFortrolig)
    03-05   address confidential (fortrolig)
    06-07   dead
    08-09   no address
    10-19   lives abroad
    20-99   lives in Norway, each fifth with post to a box

PUT /sandbox/addresses says otherwise for single persons.
"""

import hmac
import json
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.sandbox import keys
from adapters.sandbox.control import Behaviour, Switch, sandbox_app

PATH = "/folkeregisteret/offentlig-med-hjemmel/api/v1/personer/bulkoppslag"

_BODY = Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "foedselsEllerDNummer": {
                "type": "array",
                "items": {"type": "string", "pattern": r"^[0-9]{11}\Z"},
                "minItems": 1,
                "maxItems": 1000,
                "uniqueItems": True,
            }
        },
        "required": ["foedselsEllerDNummer"],
        "additionalProperties": False,
    }
)

_PARTS = frozenset(
    {
        "navn",
        "status",
        "adressebeskyttelse",
        "postadresse",
        "postadresseIUtlandet",
        "bostedsadresse",
        "oppholdsadresse",
    }
)

_FIRST_NAMES = ("Rask", "Blå", "Stødig", "Ærlig", "Gåtefull", "Høflig", "Lystig", "Djerv", "Nøysom", "Våken")
_LAST_NAMES = ("Ørn", "Måke", "Bjørk", "Åkerrikse", "Snøugle", "Gås", "Hæg", "Čáhppesloddi", "Røyskatt", "Ål")
_STREETS = ("Trollsteinåsvingen", "Månelyskleiva", "Snøfnuggkroken", "Huldreøyra", "Fabelfjæra")
# No place in Norway has these postal codes.
_PLACES = (("9999", "EVENTYRØYA"), ("9998", "TROLLVÅG"), ("9997", "ASKELADDNES"))
_ABROAD = (("SE", "Påhittad gata", "PÅHITTSVIK"), ("DE", "Erfundene Straße", "MÄRCHENBURG"))


class Resident(BaseModel):
    """One person as PUT /sandbox/addresses says.

    lines: of the address, without postal code and place; none for a person without address.
    country: two letters.
    """

    model_config = ConfigDict(extra="forbid")

    identifier: str = Field(pattern="^[0-9]{11}$")
    name: str
    lines: list[str] = []
    postal_code: str = "9999"
    place: str = "EVENTYRØYA"
    country: str = Field(default="NO", pattern="^[A-Z]{2}$")
    protection: Literal["ugradert", "fortrolig", "strengtFortrolig"] = "ugradert"
    dead: bool = False


_RESIDENTS = TypeAdapter(list[Resident])


def make_app(data_directory: Path, _register: str) -> Starlette:
    """The population register with its `token` file, and what it was told, in data_directory."""
    token = keys.secret(data_directory / "token")
    file = data_directory / "addresses.json"
    told = (
        {each.identifier: each for each in _RESIDENTS.validate_json(file.read_bytes())}
        if file.exists()
        else {}
    )
    switch = Switch()

    async def look_up(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return _problem(401, "Ugyldig token")
        if switch.behaviour is Behaviour.REFUSE:
            return _problem(403, "Mangler rettighet")
        parts = set(request.query_params.getlist("part"))
        body = _json(await request.body())
        if not _BODY.is_valid(body) or not parts <= _PARTS:
            return _problem(400, "Ugyldig forespørsel")
        found = [
            _found(told.get(identifier) or resident(identifier), parts)
            for identifier in body["foedselsEllerDNummer"]
        ]
        return JSONResponse({"oppslag": found})

    async def put_addresses(request: Request) -> Response:
        try:
            residents = _RESIDENTS.validate_json(await request.body())
        except ValidationError as error:
            where = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
            return JSONResponse({"error": f"malformed: {', '.join(where)}"}, 400)
        told.update({each.identifier: each for each in residents})
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_bytes(_RESIDENTS.dump_json(list(told.values())))
        unfinished.replace(file)
        return Response(status_code=204)

    return sandbox_app(
        [Route(PATH, look_up, methods=["POST"])],
        switch,
        [Route("/sandbox/addresses", put_addresses, methods=["PUT"])],
        reading_posts=[PATH],
    )


def resident(identifier: str) -> Resident:
    """Who the identifier's person is until told otherwise."""
    drawn = iter(sha256(identifier.encode()).digest())

    def one_of(values: Any) -> Any:
        return values[next(drawn) % len(values)]

    kind = int(identifier[-2:])
    person = partial(Resident, identifier=identifier, name=f"{one_of(_FIRST_NAMES)} {one_of(_LAST_NAMES)}")
    number = 1 + next(drawn) % 99
    if 8 <= kind <= 9:
        return person()
    if 10 <= kind <= 19:
        country, street, place = one_of(_ABROAD)
        return person(lines=[f"{street} {number}"], postal_code="00000", place=place, country=country)
    postal_code, place = one_of(_PLACES)
    line = f"Postboks {number}" if kind >= 20 and kind % 5 == 0 else f"{one_of(_STREETS)} {number}"
    return person(
        lines=[line],
        postal_code=postal_code,
        place=place,
        protection="strengtFortrolig" if kind <= 2 else "fortrolig" if kind <= 5 else "ugradert",
        dead=6 <= kind <= 7,
    )


def _found(person: Resident, parts: set[str]) -> dict[str, Any]:
    first_name, _, last_name = person.name.rpartition(" ")
    told: dict[str, Any] = {
        "navn": [{"fornavn": first_name, "etternavn": last_name, "erGjeldende": True}],
        "status": [{"status": "doed" if person.dead else "bosatt", "erGjeldende": True}],
    }
    if person.protection != "ugradert":
        told["adressebeskyttelse"] = [{"graderingsnivaa": person.protection, "erGjeldende": True}]
    if person.lines:
        kind, address = _address(person)
        told[kind] = [{"adressegradering": person.protection, "erGjeldende": True, **address}]
    return {
        "foedselsEllerDNummer": person.identifier,
        "folkeregisterperson": {part: value for part, value in told.items() if part in parts},
    }


def _address(person: Resident) -> tuple[str, dict[str, Any]]:
    if person.country != "NO":
        abroad = {
            "adresselinje": person.lines,
            "postkode": person.postal_code,
            "byEllerStedsnavn": person.place,
            "landkode": person.country,
        }
        return "postadresseIUtlandet", {"utenlandskAdresseIFrittFormat": abroad}
    poststed = {"postnummer": person.postal_code, "poststedsnavn": person.place}
    if person.lines[0].startswith("Postboks"):
        return "postadresse", {"postboksadresse": {"postboks": person.lines[0], "poststed": poststed}}
    if len(person.lines) == 1:
        street, _, number = person.lines[0].rpartition(" ")
        numbered = {"adressenavn": street, "adressenummer": {"husnummer": number}, "poststed": poststed}
        return "bostedsadresse", {"vegadresse": numbered}
    return "postadresse", {"postadresseIFrittFormat": {"adresselinje": person.lines, "poststed": poststed}}


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"melding": message}, status)


def _json(body: bytes) -> Any:
    """The body's value; None, which no schema takes, where it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None
