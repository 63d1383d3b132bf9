"""Where a private PostgreSQL of a test can keep its data."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that is removed afterwards. Not pytest's: where the tests run as root, the user
    who runs PostgreSQL cannot enter that, and the data would stay behind elsewhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
