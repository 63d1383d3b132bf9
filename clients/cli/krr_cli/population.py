"""`krr population`: a synthetic population with the real register's shares."""

import sys
from bisect import bisect
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import accumulate
from math import log
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2

from krr_cli.person_lines import AsCsv, AsJsonLines, layout_of, line_writer
from krr_cli.population_shares import kinds
from krr_cli.progress_bar import progress_bar
from krr_cli.register import REFUSED
from krr_cli.synthetic_contact import Values, emails, mobiles
from krr_cli.synthetic_identifiers import MOST_IDENTIFIERS, synthetic_identifiers
from krr_cli.whole_file import whole_file

app = typer.Typer()

# Ours. Languages as chosen at log-in; the rest chose none.
_LANGUAGES = (person_pb2.LANGUAGE_NB, person_pb2.LANGUAGE_NN, person_pb2.LANGUAGE_EN, person_pb2.LANGUAGE_SE)
_LANGUAGE_SHARES = (0.84, 0.07, 0.035, 0.0005)
_DAY = 86_400
# Persons are heard of by chance, so that what passed since is distributed exponentially: with
# this mean one in 17 was not heard of for 18 months, and all the person's contact info expired.
_MEAN_SINCE_HEARD = 193 * _DAY
_MOST_SINCE_SAID = 6 * 365 * _DAY
_CONFIRMED, _VALIDATED = 0.8, 0.55
_MOST_TO_VALIDATE = 900
_SHOWN_EACH = 1000

# A paragraph is one line: what shows it folds it to the terminal.
_HELP = "\n\n".join(
    (
        "Write a synthetic population to FILE or standard output: CSV or JSON lines for krr import.",
        "Its shares are those that the real register publishes: deleted persons, contact info, reservations, "
        "mailboxes at either operator and at both. One in 17 was not heard of for 18 months; some share "
        "an e-mail address or a mobile number with a partner, or were registered with that of a business.",
        "The same --persons, --seed and --now give the same file, and more persons begin with the same ones.",
        "Identifiers are synthetic (month + 80) and e-mail addresses nobody's. A mobile number may be "
        "somebody's: nothing is ever sent to synthetic persons.",
    )
)


@app.command("population", help=_HELP)
def write_population(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            dir_okay=False,
            help="Written as FILE.part until it is complete.",
            show_default="standard output",
        ),
    ] = None,
    persons: Annotated[int, typer.Option(min=1, max=MOST_IDENTIFIERS, help="How many.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other persons.")] = 1,
    now: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="The day at whose beginning (UTC) the population is as it is.",
            show_default="today",
        ),
    ] = None,
    as_csv: AsCsv = False,
    as_json_lines: AsJsonLines = False,
) -> None:
    layout = layout_of(file, as_csv, as_json_lines)
    day = (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    try:
        with (
            whole_file(file) if file else nullcontext(sys.stdout) as text,
            progress_bar(persons, to_standard_output=file is None) as show,
        ):
            write = line_writer(text, layout)
            for count, person in enumerate(population(persons, seed, day), start=1):
                write(person)
                if count % _SHOWN_EACH == 0:
                    show(count)
            text.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"cannot write: {error}", err=True)
        raise typer.Exit(REFUSED) from None


def population(persons: int, seed: int, now: datetime) -> Iterator[pb.PersonToLoad]:
    """Persons of nobody, the same ones for the same arguments.

    persons: how many, at most MOST_IDENTIFIERS. More of the same seed begin with these.
    now: a time with a zone, after which nothing has happened; whole seconds count.

    None is remembered. Their mobile numbers may be somebody's: nothing is ever sent to
    synthetic persons.
    """
    chance = Random(seed)
    random = chance.random
    identifiers = synthetic_identifiers(chance)
    email_values, mobile_values = emails(random), mobiles(random)
    held, counts = zip(*kinds(), strict=True)
    up_to = list(accumulate(counts))
    all_persons = up_to[-1]
    languages_up_to = list(accumulate(_LANGUAGE_SHARES))
    present = int(now.timestamp())

    def fill(point: person_pb2.ContactPoint, values: Values, number: int, said: int, confirmed: int) -> None:
        point.value = values.value(number)
        point.updated_time.seconds = said
        if confirmed:
            point.confirmed_time.seconds = confirmed
        if random() < _VALIDATED:
            point.validated_time.seconds = min(present, said + int(random() * _MOST_TO_VALIDATE))

    for number, identifier in zip(range(persons), identifiers, strict=False):
        kind = held[bisect(up_to, random() * all_persons)]
        if not kind.active:
            yield pb.PersonToLoad(identifier=identifier, status=person_pb2.PERSON_STATUS_DELETED)
            continue
        person = pb.PersonToLoad(
            identifier=identifier,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=person_pb2.RESERVATION_NOT_RESERVED,
        )
        heard = present - int(-log(1.0 - random()) * _MEAN_SINCE_HEARD)
        if kind.reserved:
            person.reservation = person_pb2.RESERVATION_RESERVED
            person.reservation_time.seconds = present - int(random() * _MOST_SINCE_SAID)
        language = bisect(languages_up_to, random())
        if language < len(_LANGUAGES):
            person.language = _LANGUAGES[language]
            person.language_updated_time.seconds = heard - int(random() * _MOST_SINCE_SAID)
        # Who confirms confirms both; who does not was heard of when one of them changed.
        confirmed = heard if random() < _CONFIRMED else 0
        said = heard - int(random() * _MOST_SINCE_SAID) if confirmed else heard
        if kind.has_email:
            fill(person.email, email_values, number, said, confirmed)
            said -= int(random() * _MOST_SINCE_SAID)
        if kind.has_mobile:
            fill(person.mobile, mobile_values, number, said, confirmed)
        for operator in kind.operators:
            person.mailboxes.add(
                operator_organisation_number=operator,
                address=f"citizen.{number:07}#{operator[-2:]}{int(random() * 0x100):02X}",
            )
        if kind.chosen:
            person.chosen_operator_organisation_number = kind.chosen
        yield person
