"""Fetches CMU's AN4 archive and unpacks it: `python -m hybrid.recipes.an4.download DIR`.

A broken transfer goes on where it stopped, nothing half unpacked ever stands under the name an4/, and what came
is compared with what CMU's archive held when this was written.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath
from typing import Callable, Optional

from hybrid.errors import DataError, HybridError
from hybrid.io import PathLike, disk_errors
from hybrid.recipes.an4.prepare import ARCHIVE, PAGE, find_an4

# Hash over the names and bytes of the transcripts, the dictionary and all 1,078 recordings (`fingerprint`).
FINGERPRINT = "423d892200ead01107eaffb55daffd5cb09a02ddee8f1b4a80d5a38b1997abc0"
MAX_BYTES = 1 << 30  # unpacked; AN4 takes 92 MB
_BLOCK = 1 << 18
BY_HAND = (
    f"fetch an4_sphere.tar.gz from {PAGE} on a machine that reaches it, put it into the folder above "
    "(or unpack it there) and run the same command again"
)


def download_an4(
    target_dir: PathLike,
    url: str = ARCHIVE,
    *,
    expected: Optional[str] = FINGERPRINT,
    timeout: float = 30.0,
    log: Callable[[str], None] = print,
) -> Path:
    """Leave AN4 in `target_dir`/an4 and return that folder; do nothing where it is whole already.

    `expected` is the fingerprint of the contents, None for an archive that is meant to differ. An
    an4_sphere.tar.gz that lies in `target_dir` is used as it is. Raises DataError: no network, a broken or
    unsafe archive, other contents; DiskError.
    """
    target = Path(target_dir)
    folder = target / "an4"
    if folder.exists():
        _verify(folder, expected)
        return folder
    archive = target / "an4_sphere.tar.gz"
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            _fetch(url, archive, timeout, log)
        unpacking = target / ".an4.unpacking"
        shutil.rmtree(unpacking, ignore_errors=True)
        log(f"unpacking {archive}")
        try:
            _unpack(archive, unpacking)
            _verify(find_an4(unpacking), expected)
            find_an4(unpacking).rename(folder)
        finally:
            shutil.rmtree(unpacking, ignore_errors=True)
    return folder


def fingerprint(folder: PathLike) -> str:
    """Return the SHA-256 over the sorted names and hashes of etc/*.transcription, etc/an4.dic and all recordings."""
    root = Path(folder)
    files = [*root.glob("etc/*.transcription"), root / "etc" / "an4.dic", *root.glob("wav/*/*/*.sph")]
    total = hashlib.sha256()
    for name in sorted(file.relative_to(root).as_posix() for file in files if file.is_file()):
        total.update(f"{name} {hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _verify(folder: Path, expected: Optional[str]) -> None:
    find_an4(folder)
    if expected is not None and fingerprint(folder) != expected:
        count = sum(1 for _ in folder.glob("wav/*/*/*.sph"))
        raise DataError(
            f"this is not AN4 as CMU publishes it ({count} recordings; 1078 are expected), or a part is damaged",
            file=folder,
            remedy="delete it and an4_sphere.tar.gz and download again; or give another copy with --data",
        )


def _fetch(url: str, archive: Path, timeout: float, log: Callable[[str], None]) -> None:
    """Download to NAME.part, from where an earlier attempt stopped, and rename it."""
    part = archive.with_name(archive.name + ".part")
    received = part.stat().st_size if part.exists() else 0
    log(f"downloading {url}" + (f" from byte {received}" if received else ""))
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={received}-"} if received else {})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            # Only 206 means that the server goes on from there; anything else sends the file from its start.
            resumed = received > 0 and getattr(response, "status", None) == 206
            length = response.headers.get("Content-Length")
            total = int(length) + (received if resumed else 0) if length else None
            with open(part, "ab" if resumed else "wb") as stream:
                while block := response.read(_BLOCK):
                    stream.write(block)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after byte `received`: the part is whole, or longer than the archive
            part.unlink(missing_ok=True)
            _fetch(url, archive, timeout, log)
            return
        answer = f"{error.code} {error.reason}"
        raise DataError(f"{url}: the server answers {answer}", file=archive, remedy=BY_HAND) from None
    except ValueError as error:
        raise DataError(f"not an address: {error}", file=archive, remedy="give one that begins with http") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url} cannot be reached or broke off: {reason}", file=archive, remedy=BY_HAND) from error
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            part.unlink()
        raise DataError(
            f"{url} broke off: {size} of {total} bytes came",
            file=part,
            remedy="run the same command again: it goes on from there",
        )
    part.replace(archive)


def _unpack(archive: Path, folder: Path) -> None:
    """Write the archive's plain files and folders below `folder`; refuse everything else.

    The bytes are copied by us rather than by tarfile's extract, whose filter against hostile paths is missing
    in early releases of Python 3.10 and 3.11.
    """
    remedy = f"delete it; get the archive from {PAGE}"
    num_bytes = 0
    try:
        with tarfile.open(archive, mode="r:*") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
                    message = f"the archive would write outside its folder: {member.name}"
                    raise DataError(message, file=archive, remedy=remedy)
                if member.isdir():
                    continue
                source = tar.extractfile(member) if member.isreg() else None
                if source is None:
                    raise DataError(f"the archive holds a link or device: {member.name}", file=archive, remedy=remedy)
                num_bytes += member.size
                if num_bytes > MAX_BYTES:
                    raise DataError(f"the archive unpacks to more than {MAX_BYTES} bytes", file=archive, remedy=remedy)
                destination = folder.joinpath(*path.parts)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with open(destination, "xb") as stream:
                    shutil.copyfileobj(source, stream, _BLOCK)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"the archive is broken: {error}", file=archive, remedy="delete it and run again") from error


def main(arguments: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hybrid.recipes.an4.download", description=__doc__)
    parser.add_argument("folder", help="where an4/ will lie; give the same folder to the recipe as --data")
    parser.add_argument("--url", default=ARCHIVE, help="another copy of the archive (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        print(download_an4(options.folder, options.url))
    except HybridError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
