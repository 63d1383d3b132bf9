"""The digests by which contact info is compared: those that stand in the database already."""

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain.contact import ContactKind, comparable
from server.store.shared_contact import digest_with


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (ContactKind.EMAIL, "ola@example.com", "ef9a6a8562f8310cc79a0df87e8eb7ab"),
        (ContactKind.EMAIL, "OLA@example.com", "ef9a6a8562f8310cc79a0df87e8eb7ab"),
        (ContactKind.MOBILE, "+4791234567", "e40ea3bd51ffdb84e387d295f3f0b580"),
    ],
)
def test_a_digest_is_the_one_that_was_stored_before(kind: ContactKind, value: str, stored: str) -> None:
    # As printf 'mobile\0+4791234567' | openssl dgst -sha256 -hmac key says, in its first half.
    assert digest_with(b"key")(kind, value).hex() == stored


@settings(deadline=None)
@given(st.binary(max_size=100), st.lists(st.tuples(st.sampled_from(ContactKind), st.text()), min_size=2))
def test_a_digest_is_the_same_whatever_was_digested_before(
    key: bytes, values: list[tuple[ContactKind, str]]
) -> None:
    digest = digest_with(key)
    for kind, value in values:
        assert (
            digest(kind, value)
            == hmac.digest(key, f"{kind}\0{comparable(kind, value)}".encode(), "sha256")[:16]
        )
