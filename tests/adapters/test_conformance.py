"""The conformance suite on every adapter; on one of them by `-k Digipost`, `-k EBoks`, `-k Template`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta, tzinfo

import pytest

from adapters.digipost import DigipostAdapter, DigipostSettings
from adapters.eboks import EBoksAdapter
from adapters.sandbox import digipost as digipost_sandbox
from adapters.sandbox.digipost import BROKER_ID
from tests.adapters.conformance import AdapterConformance, Operator
from tests.adapters.digipost_sandbox import Digipost
from tests.adapters.eboks_sandbox import EBoks, eboks_adapter
from tests.adapters.sandbox import Sandbox
from tests.adapters.template_operator import TemplateOperator, template_operator


@contextmanager
def _refusing(sandbox: Sandbox) -> Iterator[None]:
    sandbox.behave("refuse")
    try:
        yield
    finally:
        sandbox.behave("normal")


class _AnHourAhead(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_AnHourAhead":
        return super().now(tz) + timedelta(hours=1)


class ConformingDigipost(Digipost):
    identity_in_addresses = True  # get_tags asks for it
    signed_from: int | None = 1  # the entry point comes before, with the key to check by

    def refusing(self) -> AbstractContextManager[None]:
        return _refusing(self)

    def strangers_adapter(self, url: str) -> DigipostAdapter:
        # A sound key, but nobody's that Digipost knows.
        key_file = self.data / "server-key.pem"
        return DigipostAdapter(DigipostSettings(url=url, broker_id=BROKER_ID, key_file=key_file))

    @contextmanager
    def clock_off(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(digipost_sandbox, "datetime", _AnHourAhead)
            yield


class ConformingEBoks(EBoks):
    identity_in_addresses = False
    signed_from: int | None = None

    def refusing(self) -> AbstractContextManager[None]:
        return _refusing(self)

    def strangers_adapter(self, url: str) -> EBoksAdapter:
        token_file = self.token_file.with_name("strangers-token")
        token_file.write_text("of-somebody-else")
        return eboks_adapter(url, token_file)

    def clock_off(self) -> AbstractContextManager[None]:
        # Our contract has no times in it.
        return nullcontext()


class TestDigipost(AdapterConformance):
    @pytest.fixture
    def operator(self, digipost: Digipost) -> Operator:
        return ConformingDigipost(digipost.url, digipost.data)


class TestEBoks(AdapterConformance):
    @pytest.fixture
    def operator(self, eboks: EBoks) -> Operator:
        return ConformingEBoks(eboks.url, eboks.token_file.parent)


class TestTemplate(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemplateOperator]:
        with template_operator(tmp_path_factory.mktemp("template")) as operator:
            yield operator

    @pytest.fixture
    def operator(self, running: TemplateOperator) -> Operator:
        running.begin_anew()
        return running
