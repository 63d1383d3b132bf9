"""Where a person gets post, as the population register has it.

Folkeregisteret's look-up of several persons (https://skatteetaten.github.io/folkeregisteret-api-dokumentasjon/),
of which the identity number stands in the body. Its field names are kept. Nothing is stored or logged.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from babel import Locale
from babel.core import get_global
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.adapter import Misconfigured, TryLater
from adapters.exchange import NotDone, exchange
from adapters.letter.settings import LetterSettings

_PARTS = (
    "navn",
    "status",
    "adressebeskyttelse",
    "postadresse",
    "postadresseIUtlandet",
    "bostedsadresse",
    "oppholdsadresse",
)

# Whatever else it is called, it is somebody whose address is kept from view.
_OPEN = "ugradert"
_DEAD = "doed"

_COUNTRIES = Locale("nb").territories


@dataclass(frozen=True)
class PostalAddress:
    """What stands in the window of the envelope, line by line, the name first."""

    lines: Sequence[str]


@dataclass(frozen=True)
class NoAddress:
    """Nothing can be sent to the person on paper.

    error_code: ADDRESS_PROTECTED where the address is kept from view; else NO_ADDRESS: who is dead or
        unknown, or has none.
    """

    error_code: Literal["ADDRESS_PROTECTED", "NO_ADDRESS"]


class PopulationRegister:
    """Asks for one person at a time."""

    def __init__(self, settings: LetterSettings) -> None:
        self._settings = settings
        parts = "&".join(f"part={part}" for part in _PARTS)
        self._url = f"{settings.population_register_url}/personer/bulkoppslag?{parts}"

    def postal_address(self, identifier: str) -> PostalAddress | NoAddress | TryLater:
        """The person's address now. TryLater, which may be a Misconfigured, wherever that is not known:
        an address that is kept from view must not be taken for an open one."""
        try:
            body = self._ask(identifier)
            found = _Answer.model_validate_json(body).oppslag
        except NotDone as not_done:
            return not_done.of_read
        except ValidationError:
            return TryLater("ANSWER_MALFORMED")
        if len(found) != 1 or found[0].foedselsEllerDNummer != identifier:
            return TryLater("ANSWER_MALFORMED")
        person = found[0].folkeregisterperson
        return _address(person) if person else NoAddress("NO_ADDRESS")

    def _ask(self, identifier: str) -> bytes:
        try:
            token = self._settings.population_register_token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise NotDone(Misconfigured("NO_TOKEN")) from None
        answer = exchange(
            "population register",
            "POST",
            self._url,
            ends=time.monotonic() + self._settings.deadline_seconds,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            body=_Question(foedselsEllerDNummer=[identifier]).model_dump_json().encode(),
        )
        if answer.status in (401, 403):
            raise NotDone(Misconfigured(answer.error_code))
        if answer.status != 200:
            raise NotDone(TryLater(answer.error_code))
        return answer.body


class _Wire(BaseModel):
    # What a newer register says besides is not looked at.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Question(_Wire):
    foedselsEllerDNummer: list[str]


class _Element(_Wire):
    """Histories come beside what is in force."""

    erGjeldende: bool = True


class _Name(_Element):
    fornavn: str = ""
    mellomnavn: str | None = None
    etternavn: str = ""


class _Status(_Element):
    status: str


class _Protection(_Element):
    graderingsnivaa: str


class _Poststed(_Wire):
    postnummer: str | None = None
    poststedsnavn: str | None = None

    @property
    def line(self) -> str:
        return f"{self.postnummer or ''} {self.poststedsnavn or ''}"


class _Number(_Wire):
    husnummer: str | None = None
    husbokstav: str | None = None


class _Domestic(_Wire):
    """A vegadresse, matrikkeladresse, postboksadresse or postadresseIFrittFormat."""

    coAdressenavn: str | None = None
    postbokseier: str | None = None
    adressetilleggsnavn: str | None = None
    adressenavn: str | None = None
    adressenummer: _Number | None = None
    postboks: str | None = None
    adresselinje: list[str] = []
    poststed: _Poststed

    def lines(self) -> Iterator[str]:
        number = self.adressenummer or _Number()
        yield from (self.coAdressenavn or "", self.postbokseier or "", self.adressetilleggsnavn or "")
        yield f"{self.adressenavn or ''} {number.husnummer or ''}{number.husbokstav or ''}"
        # Some have the number only.
        box = self.postboks or ""
        yield f"Postboks {box}" if box.isdigit() else box
        yield from self.adresselinje
        yield self.poststed.line


class _Foreign(_Wire):
    """An utenlandskAdresse or utenlandskAdresseIFrittFormat."""

    coAdressenavn: str | None = None
    adressenavn: str | None = None
    bygning: str | None = None
    etasjenummer: str | None = None
    boenhet: str | None = None
    postboks: str | None = None
    adresselinje: list[str] = []
    postkode: str | None = None
    byEllerStedsnavn: str | None = None
    distriktsnavn: str | None = None
    region: str | None = None
    landkode: str

    def lines(self) -> Iterator[str]:
        yield from (self.coAdressenavn or "", self.adressenavn or "")
        yield f"{self.bygning or ''} {self.etasjenummer or ''} {self.boenhet or ''}"
        yield self.postboks or ""
        yield from self.adresselinje
        yield f"{self.postkode or ''} {self.byEllerStedsnavn or ''}"
        yield f"{self.distriktsnavn or ''} {self.region or ''}"


class _Address(_Element):
    adressegradering: str
    vegadresse: _Domestic | None = None
    matrikkeladresse: _Domestic | None = None
    postboksadresse: _Domestic | None = None
    postadresseIFrittFormat: _Domestic | None = None
    utenlandskAdresse: _Foreign | None = None
    utenlandskAdresseIFrittFormat: _Foreign | None = None

    def lines(self) -> list[str]:
        """Where to send post; empty where that is not known, as with an ukjentBosted."""
        domestic = (
            self.vegadresse or self.matrikkeladresse or self.postboksadresse or self.postadresseIFrittFormat
        )
        if domestic:
            return _filled(domestic.lines()) if domestic.poststed.line.strip() else []
        foreign = self.utenlandskAdresse or self.utenlandskAdresseIFrittFormat
        country = _country(foreign.landkode) if foreign else ""
        where = _filled(foreign.lines()) if foreign and country else []
        return [*where, country] if where else []


class _Person(_Wire):
    navn: list[_Name] = []
    status: list[_Status] = []
    adressebeskyttelse: list[_Protection] = []
    postadresse: list[_Address] = []
    postadresseIUtlandet: list[_Address] = []
    bostedsadresse: list[_Address] = []
    oppholdsadresse: list[_Address] = []


class _Found(_Wire):
    foedselsEllerDNummer: str
    folkeregisterperson: _Person | None = None


class _Answer(_Wire):
    oppslag: list[_Found] = Field(max_length=1)


_AnElement = TypeVar("_AnElement", bound=_Element)


def _in_force(elements: Sequence[_AnElement]) -> list[_AnElement]:
    return [element for element in elements if element.erGjeldende]


def _address(person: _Person) -> PostalAddress | NoAddress:
    # Where the person asked for post comes before where the person lives.
    addresses = _in_force(
        [
            *person.postadresse,
            *person.postadresseIUtlandet,
            *person.bostedsadresse,
            *person.oppholdsadresse,
        ]
    )
    grades = [protection.graderingsnivaa for protection in _in_force(person.adressebeskyttelse)]
    grades += [address.adressegradering for address in addresses]
    # One alone is enough: an open address beside it may tell what the other keeps.
    if any(grade != _OPEN for grade in grades):
        return NoAddress("ADDRESS_PROTECTED")
    names = _in_force(person.navn)
    lines = next((lines for address in addresses if (lines := address.lines())), None)
    if lines is None or not names or any(each.status == _DEAD for each in _in_force(person.status)):
        return NoAddress("NO_ADDRESS")
    name = names[0]
    return PostalAddress(_filled([f"{name.fornavn} {name.mellomnavn or ''} {name.etternavn}", *lines]))


def _filled(lines: Sequence[str] | Iterator[str]) -> list[str]:
    return [line for line in (" ".join(each.split()) for each in lines) if line]


def _country(code: str) -> str:
    """The country in Norwegian capitals, for the post office here; empty where the code is unknown."""
    replaced = get_global("territory_aliases").get(code, [code])[0]
    return str(_COUNTRIES.get(replaced, "")).upper()
