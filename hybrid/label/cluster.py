"""Manifests labelled by the workers of a Dask cluster, which see the same folders as we do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

from hybrid.errors import ConfigError, HybridError
from hybrid.label.manifest import Done, name_of

_INSTALL = "install what is installed here on every machine of the cluster"


def over_dask(scheduler: str, work: Callable[[Path], Done], manifests: Sequence[Path]) -> Iterator[Done]:
    """Yield what became of each manifest, in their order; all are handed in at once, so that no worker of however
    large a cluster waits for us.

    scheduler: its address, or the file that it has written. A worker that dies is replaced by another. Dask blames all
    manifests that a dead worker had or was to have next, so one over which several have died is tried once more when no
    other is left; where workers die again it has failed. Raises ConfigError where no scheduler answers or its workers
    lack this program, HybridError where it is lost.
    """
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ConfigError("Dask is not installed", remedy="pip install distributed") from error
    connection: Dict[str, Any] = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
    try:
        client = Client(**connection, set_as_default=False)
    except (OSError, ValueError, AssertionError) as error:  # the last: its thread did not start within 10 s
        raise ConfigError(
            f"no Dask scheduler at {scheduler}: {error}",
            remedy="give the address that dask scheduler prints, or the file that it writes",
        ) from error
    with client:
        if not client.ncores():
            print("the cluster has no workers yet: waiting for them", flush=True)
        futures = client.map(work, list(manifests), pure=False)
        try:
            for path, future in zip(manifests, futures):
                done = _done(future)
                if done is None:
                    client.gather(futures, errors="skip")  # until none is left
                    future = client.submit(work, path, pure=False)
                    done = _done(future) or Done(name_of(path), 0, 0, 0, "workers died over it, time and again")
                yield done
        finally:
            client.cancel(futures)


def _done(future: Any) -> Optional[Done]:
    """What became of a manifest; None where workers died."""
    from dask.distributed import CancelledError, KilledWorker

    try:
        return future.result()  # type: ignore[no-any-return]
    except KilledWorker:
        return None
    except (ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "deserialization" not in str(error):
            raise
        cause = error.__cause__ or error
        raise ConfigError(f"the cluster cannot run this program: {cause}", remedy=_INSTALL) from error
    except (CancelledError, OSError) as error:
        raise HybridError(
            f"the Dask cluster was lost: {error}", remedy="run the same command again: what is done stays"
        ) from error
