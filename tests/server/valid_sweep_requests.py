"""Valid requests about sweeps: see valid_requests.py."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from krr.v1 import delivery_service_pb2 as work
from krr.v1 import reminder_pb2
from krr.v1 import sweep_pb2 as pb

from tests.certificates import organisation_certificate
from tests.people import EBOKS, request_id
from tests.server.rpcs import Rpcs

_ADAPTER = "adapter/eboks"
_MINUTE = Duration(seconds=60)


def valid_sweep_requests(rpcs: Rpcs, administrator: str) -> dict[str, tuple[str, Any]]:
    """Begin a sweep of e-Boks whose first comparison is leased; a caller and a request for each RPC."""
    start = pb.StartSweepRequest(request_id=request_id(), adapter="eboks")
    sweep_id = rpcs.call("AdminService/StartSweep", start, administrator).response.sweep_id
    lease = work.LeaseComparisonsRequest(max_comparisons=1, lease_duration=_MINUTE)
    [leased] = rpcs.call("DeliveryService/LeaseComparisons", lease, _ADAPTER).response.comparisons
    account = work.AccountRead(
        receives_public_mail=False,
        account_exists=True,
        mailbox_address="another-address",
        certificate=organisation_certificate(EBOKS),
    )
    of_staff = {
        "RemindStaleContact": reminder_pb2.RemindStaleContactRequest(max_persons=10, dry_run=True),
        "StartSweep": pb.StartSweepRequest(
            request_id=request_id(), adapter="eboks", dry_run=True, max_repairs=20
        ),
        "EndSweep": pb.EndSweepRequest(sweep_id=sweep_id),
        "GetSweep": pb.GetSweepRequest(sweep_id=sweep_id),
        "ListSweeps": pb.ListSweepsRequest(adapter="eboks", page_size=10),
        "ListDifferences": pb.ListDifferencesRequest(sweep_id=sweep_id, page_size=10),
    }
    of_adapters = {
        "LeaseComparisons": lease,
        "FinishComparison": work.FinishComparisonRequest(
            comparison_id=leased.comparison_id, lease_token=leased.lease_token, account=account
        ),
    }
    return {
        **{f"AdminService/{name}": (administrator, request) for name, request in of_staff.items()},
        **{f"DeliveryService/{name}": (_ADAPTER, request) for name, request in of_adapters.items()},
    }
