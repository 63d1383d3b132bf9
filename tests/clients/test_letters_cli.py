"""`krr sandbox letters`: what lies ready for the print house."""

import json
from pathlib import Path

from krr_cli.__main__ import app
from typer.testing import CliRunner

MANIFEST = "number,message_id,file,pages,sha256\n{},{},{}.pdf,1,00\n"


def test_finished_batches_are_listed_in_their_order_and_unfinished_ones_are_not(tmp_path: Path) -> None:
    for folder, message in (("batch-000002", "b"), ("batch-000001", "a"), (".batch-000003", "c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "manifest.csv").write_text(MANIFEST.format(1, message, message))
    listed = CliRunner().invoke(app, ["sandbox", "letters", "--folder", str(tmp_path)])
    assert listed.output.splitlines() == [
        f"000001/0001  {tmp_path}/batch-000001/a.pdf",
        f"000002/0001  {tmp_path}/batch-000002/b.pdf",
    ]
    as_json = CliRunner().invoke(app, ["sandbox", "letters", "--folder", str(tmp_path), "--json"])
    assert [letter["message_id"] for letter in json.loads(as_json.output)] == ["a", "b"]


def test_where_no_letter_is_nothing_is_listed(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["sandbox", "letters", "--folder", str(tmp_path / "none")])
    assert (listed.exit_code, listed.output) == (0, "")
