"""Mutual TLS with a supplier, by configuration."""

import ssl
from pathlib import Path

import httpx
from pydantic import model_validator
from pydantic_settings import BaseSettings


class MutualTlsSettings(BaseSettings):
    """Settings of an adapter whose supplier may ask for a client certificate.

    …_CLIENT_CERTIFICATE_FILE: the certificate in PEM, with the chain up to what the supplier
        trusts. Unset where the supplier asks for none.
    …_CLIENT_KEY_FILE: its private key in PEM, unencrypted.
    …_AUTHORITIES_FILE: the authorities in PEM that may have signed the supplier's own
        certificate. Unset for those that browsers trust.

    The files are read once: a new certificate needs a restart.
    """

    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    authorities_file: Path | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> "MutualTlsSettings":
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            raise ValueError("…_CLIENT_CERTIFICATE_FILE and …_CLIENT_KEY_FILE belong together")
        return self

    def tls(self) -> ssl.SSLContext | None:
        """For exchange(); None where nothing is set. Raises OSError where a file is missing or wrong."""
        if self.authorities_file:
            context = ssl.create_default_context(cafile=self.authorities_file)
        elif self.client_certificate_file:
            context = httpx.create_ssl_context(trust_env=False)
        else:
            return None
        if self.client_certificate_file:
            # With a password, so that an encrypted key is an error and not a question at the terminal.
            context.load_cert_chain(self.client_certificate_file, self.client_key_file, password="")
        return context
