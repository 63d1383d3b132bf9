"""Digipost's entry point: its certificate, and where each relation is today."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from adapters.digipost.xml_body import NAMESPACE, MalformedBody, parse, text

# As Digipost's own client caches it.
IDLE_SECONDS = 5 * 60
MAX_AGE_SECONDS = 60 * 60


@dataclass
class EntryPoint:
    """What `GET /` answered.

    links: address of each relation, by the last segment of its name in lower case.
    fetched_at, used_at: seconds of the monotonic clock.
    """

    key: RSAPublicKey
    links: dict[str, str]
    fetched_at: float
    used_at: float

    def is_fresh(self, now: float) -> bool:
        """True while the links may be used without asking again."""
        return now - self.used_at <= IDLE_SECONDS and now - self.fetched_at <= MAX_AGE_SECONDS


def read_entry_point(body: bytes, url: str, now: float) -> EntryPoint:
    """The entry point in `body`, fetched from `url`. Raises MalformedBody."""
    element = parse(body, "entrypoint")
    links: dict[str, str] = {}
    try:
        key = x509.load_pem_x509_certificate(text(element, "certificate").encode()).public_key()
        for link in element.findall(f"{{{NAMESPACE}}}link"):
            relation, address = str(link.get("rel", "")), str(link.get("uri", ""))
            # An identity number must not follow a link out of TLS.
            if urlsplit(address).scheme == urlsplit(url).scheme:
                links[relation.rstrip("/").rsplit("/", 1)[-1].lower()] = address
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedBody from None
    if not isinstance(key, RSAPublicKey):
        raise MalformedBody
    return EntryPoint(key, links, fetched_at=now, used_at=now)
