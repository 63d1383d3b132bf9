"""Which part may import which: the architecture, as a page that cannot go stale."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = {
    "server": ROOT / "server",
    "adapters": ROOT / "adapters",
    "krr_client": ROOT / "clients/python/krr_client",
    "krr_cli": ROOT / "clients/cli/krr_cli",
    "tests": ROOT / "tests",
}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base"}
LONGEST_FILE = 400
DATABASE = {"sqlalchemy", "psycopg", "alembic", "tenacity", "opentelemetry"}


def imported(source: str) -> Iterator[str]:
    """Full names of what the source imports, wherever in it; a relative import begins with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = [node.module] if node.module else []
            yield from ("." * node.level + ".".join([*package, alias.name]) for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def imports_other_than(source: str, *allowed: str) -> list[str]:
    """What the source imports, less the standard library and the allowed packages."""
    return [
        name
        for name in imported(source)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(is_within(name, package) for package in allowed)
    ]


def imports_of(source: str, *refused: str) -> list[str]:
    """What the source imports from the refused packages, and what it imports relatively."""
    return [
        name
        for name in imported(source)
        if name.startswith(".") or any(is_within(name, package) for package in refused)
    ]


def sources(folder: Path) -> dict[str, str]:
    """Python files below the folder, by path from the root."""
    found = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(folder.rglob("*.py"))}
    assert found, f"no source in {folder}"
    return found


def test_the_domain_imports_only_the_standard_library_and_two_parsers() -> None:
    for path, source in sources(ROOT / "server/domain").items():
        allowed = ("server.domain", "phonenumbers", "email_validator")
        assert not imports_other_than(source, *allowed), path


def test_the_store_imports_the_domain_and_what_speaks_to_the_database() -> None:
    for path, source in sources(ROOT / "server/store").items():
        allowed = ("server.domain", "server.store", *DATABASE)
        assert not imports_other_than(source, *allowed), path


def test_the_server_takes_nothing_from_adapters_and_of_the_clients_only_contract_and_telemetry() -> None:
    for path, source in sources(PARTS["server"]).items():
        clients = imports_of(source, "adapters", "krr", "krr_client", "krr_cli")
        allowed = ("krr.v1", "krr_client.telemetry")
        assert not [each for each in clients if not any(is_within(each, name) for name in allowed)], path


def test_messages_of_the_contract_stop_at_the_services_and_translate() -> None:
    for path, source in sources(PARTS["server"]).items():
        knows_both = tuple(
            f"server/{name}.py"
            for name in (
                "translate",
                "encoded_person",
                "loaded_person",
                "mailbox_events",
                "person_import",
                "certificates",
                "campaigns",
                "message_record",
                "reminders",
                "sweeps",
                "__main__",
            )
        )
        if path not in knows_both and not path.endswith("_service.py"):
            assert not imports_of(source, "krr"), path


def test_the_client_stands_alone_on_the_contract() -> None:
    for path, source in sources(PARTS["krr_client"]).items():
        assert not imports_of(source, "server", "adapters", "krr_cli"), path


def test_adapters_know_the_register_by_its_contract_only() -> None:
    for path, source in sources(PARTS["adapters"]).items():
        assert not imports_of(source, "server", "krr_cli", "sqlalchemy", "psycopg"), path


def test_the_command_line_starts_the_other_parts_as_processes() -> None:
    for path, source in sources(PARTS["krr_cli"]).items():
        assert not imports_of(source, "server", "adapters"), path


def test_every_module_is_named_by_what_it_holds() -> None:
    for folder in PARTS.values():
        for path in sources(folder):
            assert not FORBIDDEN_NAMES & set(Path(path).with_suffix("").parts), path


def test_no_written_file_is_too_long_to_read() -> None:
    written = {path: text for folder in PARTS.values() for path, text in sources(folder).items()}
    written |= {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "protos").rglob("*.proto")}
    too_long = {path: lines for path, text in written.items() if (lines := text.count("\n")) > LONGEST_FILE}
    assert not too_long


def test_a_forbidden_import_is_found_however_it_is_written() -> None:
    source = """
import server.store.tables as t
from server import store
from . import person
if TYPE_CHECKING:
    from krr.v1 import person_pb2
def f():
    import grpc, phonenumbers, krr_client
"""
    from_server = {"server.store.tables", "server.store", ".person"}
    assert set(imports_other_than(source, "phonenumbers", "server.domain")) == {
        *from_server,
        "krr.v1.person_pb2",
        "grpc",
        "krr_client",
    }
    assert set(imports_of(source, "krr", "server")) == {*from_server, "krr.v1.person_pb2"}
