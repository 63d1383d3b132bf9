"""Sweeps in the words of the contract: for the staff, and for the adapters that read at operators."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import structlog
from krr.v1 import delivery_service_pb2, sweep_pb2
from opentelemetry import metrics

from server import translate
from server.call import Call
from server.domain.caller import Caller, CallerKind
from server.domain.comparison import Account
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import PersonIdentifier, parse_mailbox_address
from server.domain.outcome import TryLater
from server.domain.rules import MAX_BATCH
from server.store import comparisons, sweeps
from server.store.account_lists import AccountsRead
from server.store.comparisons import Found
from server.store.store import Store
from server.store.sweeps import Difference, Sweep
from server.store.transaction import Answer, Transaction
from server.tokens import Tokens

_DEFAULT_PAGE = 100
_MOST_REPAIRS = 1_000_000

_log = structlog.get_logger()
_differences = metrics.get_meter("server").create_counter(
    "krr.sweep.differences", description="Differences found between the register and an operator"
)
_stops = metrics.get_meter("server").create_counter(
    "krr.sweep.stops_at_cap", description="Sweeps that found more to repair than they may"
)


def lease_comparisons(
    request: delivery_service_pb2.LeaseComparisonsRequest,
    store: Store,
    call: Call,
    now: datetime,
    *,
    limit: int,
    duration: timedelta,
    rolling: timedelta,
) -> delivery_service_pb2.LeaseComparisonsResponse:
    """Lease what a sweep of the caller's operator has to read.

    rolling: how long a sweep takes that begins by itself; zero where none does.

    Raises Refusal as Store.write does.
    """
    leased = store.write(
        call.caller,
        lambda transaction: comparisons.lease_comparisons(
            transaction,
            call.caller.subject,
            now,
            limit=limit,
            duration=duration,
            lists_accounts=request.lists_accounts,
            rolling=rolling,
        ),
        deadline=call.deadline,
    )
    response = delivery_service_pb2.LeaseComparisonsResponse()
    for each in leased:
        comparison = response.comparisons.add(
            comparison_id=each.id, lease_token=str(each.lease_token), failed_attempts=each.failed_attempts
        )
        if each.identifier is None:
            comparison.accounts_after.identifier = each.after_identifier or ""
        else:
            comparison.identifier = each.identifier
    return response


def finish_comparison(
    store: Store,
    call: Call,
    now: datetime,
    comparison_id: int,
    lease_token: str,
    outcome: Account | AccountsRead | TryLater,
) -> None:
    """Compare what was read, and repair what differs; a sweep that stops at its cap is an error in the log.

    Raises InvalidValue: INVALID_FIELD; Refusal: LEASE_LOST, or as Store.write does.
    """
    adapter, token = call.caller.subject, translate.uuid_from("lease_token", lease_token)
    found: Found = store.write(
        Caller(CallerKind.RECONCILIATION, adapter),
        lambda transaction: comparisons.finish_comparison(
            transaction, adapter, comparison_id, token, outcome, now
        ),
        deadline=call.deadline,
    )
    for kind in found.kinds:
        _differences.add(1, {"krr.adapter": adapter, "krr.difference": kind.value})
    if found.stopped:
        _stops.add(1, {"krr.adapter": adapter})
        _log.error(
            "sweep_stopped_at_cap",
            adapter=adapter,
            sweep_id=found.sweep.id,
            repaired=found.sweep.repaired_count,
            max_repairs=found.sweep.max_repairs,
        )


def account_from(field: str, read: delivery_service_pb2.AccountRead) -> Account:
    """What an operator says of an account.

    Raises InvalidValue: INVALID_MAILBOX_ADDRESS or INVALID_CERTIFICATE.
    """
    address = certificate = None
    if read.HasField("mailbox_address"):
        address = translate.named_field(
            f"{field}.mailbox_address", parse_mailbox_address, read.mailbox_address
        )
    if read.HasField("certificate"):
        certificate = translate.certificate_from(f"{field}.certificate", read.certificate) or b""
    return Account(
        receives_public_mail=read.receives_public_mail,
        exists=read.account_exists if read.HasField("account_exists") else None,
        address=address,
        certificate=certificate,
    )


def accounts_from(
    field: str, read: delivery_service_pb2.AccountsRead, parse_identifier: Callable[[str], PersonIdentifier]
) -> AccountsRead:
    """A part of an operator's list. Single accounts that make no sense do not hold up the others: one
    of nobody is passed over, one with an address that cannot be is to be read singly.

    Raises InvalidValue: BATCH_SIZE or INVALID_FIELD.
    """
    if len(read.accounts) > MAX_BATCH:
        raise InvalidValue(Reason.BATCH_SIZE, f"{field}.accounts", f"at most {MAX_BATCH} items")
    listed = [each.identifier for each in read.accounts]
    digits = all(re.fullmatch("[0-9]{11}", each, re.ASCII) for each in listed)
    if not digits or any(one >= next_one for one, next_one in pairwise(listed)):
        raise InvalidValue(Reason.INVALID_FIELD, f"{field}.accounts", "identifiers, rising")
    if not (listed or read.is_last):
        raise InvalidValue(Reason.INVALID_FIELD, f"{field}.accounts", "some, unless is_last")
    accounts: dict[PersonIdentifier, Account | None] = {}
    for i, each in enumerate(read.accounts):
        with suppress(InvalidValue):
            identifier = parse_identifier(each.identifier)
            accounts[identifier] = None
            # It stands in the list.
            accounts[identifier] = replace(account_from(f"{field}.accounts[{i}]", each.account), exists=True)
    return AccountsRead(accounts, None if read.is_last else listed[-1])


def start_sweep(
    request: sweep_pb2.StartSweepRequest, store: Store, call: Call, now: datetime
) -> sweep_pb2.StartSweepResponse:
    """Begin a sweep.

    Raises InvalidValue: INVALID_FIELD, UNKNOWN_OPERATOR, INVALID_REQUEST_ID; Refusal as Store.write does.
    """
    if not 0 <= request.max_repairs <= _MOST_REPAIRS:
        raise InvalidValue(Reason.INVALID_FIELD, "max_repairs", f"0 to {_MOST_REPAIRS}")
    adapter = translate.adapter_from(request.adapter)

    def do(transaction: Transaction) -> Answer:
        return sweeps.start_sweep(
            transaction, adapter, now, dry_run=request.dry_run, max_repairs=request.max_repairs
        )

    answer = store.write(
        call.caller,
        do,
        deadline=call.deadline,
        request=translate.write_request(request, request.request_id),
    )
    return sweep_pb2.StartSweepResponse(sweep_id=answer.change_number, duplicate=answer.duplicate)


def end_sweep(
    request: sweep_pb2.EndSweepRequest, store: Store, call: Call, now: datetime
) -> sweep_pb2.EndSweepResponse:
    """End a sweep. Raises Refusal: UNKNOWN_SWEEP, or as Store.write does."""
    ended = store.write(
        call.caller,
        lambda transaction: sweeps.end_sweep(transaction, request.sweep_id, now),
        deadline=call.deadline,
    )
    return sweep_pb2.EndSweepResponse(sweep=_sweep_to(ended))


def get_sweep(request: sweep_pb2.GetSweepRequest, store: Store, call: Call) -> sweep_pb2.GetSweepResponse:
    """Tell how far a sweep has come. Raises Refusal: UNKNOWN_SWEEP, or as Store.read does."""
    found = store.read(lambda reader: sweeps.find_sweep(reader, request.sweep_id), deadline=call.deadline)
    return sweep_pb2.GetSweepResponse(sweep=_sweep_to(found))


def list_sweeps(
    request: sweep_pb2.ListSweepsRequest, store: Store, tokens: Tokens, call: Call
) -> sweep_pb2.ListSweepsResponse:
    """List sweeps. Raises InvalidValue: INVALID_FIELD, INVALID_TOKEN; Refusal as Store.read does."""
    page_size = translate.count_from("page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE)
    adapter, before = translate.adapter_from(request.adapter), tokens.read_page(request.page_token)
    found = store.read(
        lambda reader: sweeps.list_sweeps(reader, adapter=adapter, before=before, limit=page_size),
        deadline=call.deadline,
    )
    return sweep_pb2.ListSweepsResponse(
        sweeps=map(_sweep_to, found),
        next_page_token=tokens.page(found[-1].id) if len(found) == page_size else "",
    )


def list_differences(
    request: sweep_pb2.ListDifferencesRequest, store: Store, tokens: Tokens, call: Call
) -> sweep_pb2.ListDifferencesResponse:
    """List what a sweep found.

    Raises InvalidValue: INVALID_FIELD, INVALID_TOKEN; Refusal: UNKNOWN_SWEEP, or as Store.read does.
    """
    page_size = translate.count_from("page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE)
    after = tokens.read_page(request.page_token) or 0
    found = store.read(
        lambda reader: sweeps.list_differences(reader, request.sweep_id, after=after, limit=page_size),
        deadline=call.deadline,
    )
    return sweep_pb2.ListDifferencesResponse(
        differences=map(_difference_to, found),
        next_page_token=tokens.page(found[-1].id) if len(found) == page_size else "",
    )


def _sweep_to(sweep: Sweep) -> sweep_pb2.Sweep:
    return sweep_pb2.Sweep(
        sweep_id=sweep.id,
        adapter=sweep.adapter,
        dry_run=sweep.dry_run,
        rolling=sweep.rolling,
        state=sweep_pb2.SweepState.Value(f"SWEEP_STATE_{sweep.state}"),
        person_count=sweep.person_count,
        compared_count=sweep.compared_count,
        unread_count=sweep.unread_count,
        difference_count=sweep.difference_count,
        repaired_count=sweep.repaired_count,
        max_repairs=sweep.max_repairs,
        started_time=translate.time_to(sweep.started_time),
        ended_time=translate.time_to(sweep.ended_time),
    )


def _difference_to(difference: Difference) -> sweep_pb2.Difference:
    reason = difference.not_repaired_reason
    return sweep_pb2.Difference(
        difference_id=difference.id,
        kind=sweep_pb2.DifferenceKind.Value(f"DIFFERENCE_KIND_{difference.kind}"),
        change_number=difference.change_number,
        repaired=reason is None,
        not_repaired_reason=sweep_pb2.NotRepairedReason.Value(
            f"NOT_REPAIRED_REASON_{reason or 'UNSPECIFIED'}"
        ),
        found_time=translate.time_to(difference.found_time),
    )
