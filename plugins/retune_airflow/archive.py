"""The package as one archive, which travels to Spark's executors with each job."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from retune import settings

_PACKAGE = Path(settings.__file__).parent
_TIME = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive


def build_archive() -> Path:
    """Return the path of `retune-<hash of its content>.zip`, built if it is not there."""
    files = sorted(_PACKAGE.rglob("*.py"))
    contents = {str(file.relative_to(_PACKAGE.parent)): file.read_bytes() for file in files}
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:12]
    archive = settings.home() / "dist" / f"retune-{digest}.zip"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(f".{os.getpid()}.partial")
        with zipfile.ZipFile(partial, "w") as target:
            for name, content in contents.items():
                target.writestr(zipfile.ZipInfo(name, _TIME), content)
        partial.replace(archive)
    return archive
