"""Scripts of web pages, as npm has them: fetched once, and only those that were tried."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from course_lib import paths
from course_lib.cli.errors import NotebookError


class Package(NamedTuple):
    """A package of npm: its name with the version, what needs it, and the checksum of its archive."""

    name: str
    need: str
    sha256: str


# 4 would need a package of fonts of 50 MB; of this one, one file holds all, its fonts included
MATHJAX = Package(
    "mathjax@3.2.2", "formulas need MathJax", "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"
)
MATHJAX_FILE = "es5/tex-svg-full.js"
REVEAL = Package(
    "reveal.js@5.2.1", "slides need reveal.js", "359b575dd51bbda32f89b2fd4c7dc46ad7389a805572158916c29252f7a27333"
)


def read(package: Package, *names: str) -> list[bytes]:
    """Files of a package, named by their paths inside it. npm fetches it at the first call; `build/npm` keeps it.

    Raises:
        NotebookError: it cannot be had, or is another than was tried.
    """
    target = paths.build_dir() / "npm" / f"{package.name.replace('@', '-')}.tgz"
    content = target.read_bytes() if target.is_file() else _pack(package, target)
    if (digest := hashlib.sha256(content).hexdigest()) != package.sha256:
        raise NotebookError(f"what should be {target.name} has the sha256 {digest}", f"delete {target}, and try again")
    if not target.is_file():
        paths.write_atomically(target, lambda fresh: fresh.write_bytes(content))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [archive.extractfile(f"package/{name}") for name in names]
        return [member.read() for member in members if member]


def _pack(package: Package, target: Path) -> bytes:
    """What `npm pack` fetches."""
    hint = f"install Node.js, or put what `npm pack {package.name}` leaves on another machine at {target}"
    npm = shutil.which("npm")
    if not npm:
        raise NotebookError(f"{package.need}, which npm fetches once; there is no npm", hint)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--prefer-offline", package.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise NotebookError(f"npm could not fetch {package.name}: {done.stderr.strip()[-500:]}", hint)
        return archives[0].read_bytes()
