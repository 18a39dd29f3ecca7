"""Migration files: their names, their order, their checksums."""

from pathlib import Path

import pytest

from ferryman.ledger import migrate


def test_files_come_in_order_before_then_after(tmp_path: Path) -> None:
    for name in ("0002_b.after", "0002_b.before", "0001_a.before", "0010_c.before"):
        (tmp_path / f"{name}.sql").write_text("SELECT 1;")
    (tmp_path / "README.md").write_text("")
    keys = [one.key for one in migrate.migrations(tmp_path)]
    assert keys == ["0001_a.before", "0002_b.before", "0002_b.after", "0010_c.before"]


@pytest.mark.parametrize("name", ["1_a.before.sql", "0001_a.sql", "0001_A.before.sql", "0001_a.during.sql"])
def test_a_misnamed_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(ValueError, match="NNNN_name"):
        migrate.migrations(tmp_path)


def test_a_checksum_is_of_the_text_not_of_line_ends() -> None:
    unix = migrate.Migration("0001_a", "before", "SELECT 1;\nSELECT 2;\n")
    windows = migrate.Migration("0001_a", "before", "SELECT 1;\r\nSELECT 2;")
    other = migrate.Migration("0001_a", "before", "SELECT 1;\nSELECT 3;\n")
    assert unix.checksum == windows.checksum != other.checksum


def test_readiness_asks_for_before_files_only() -> None:
    def state(*pending: str) -> migrate.SchemaState:
        return migrate.SchemaState(applied=[], pending=list(pending), changed=[], unknown=["0099_z.before"])

    assert state().is_ready
    assert state("0001_a.after").is_ready
    assert not state("0001_a.before").is_ready
