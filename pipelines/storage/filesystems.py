"""Paths and URIs: the file system behind an address, and the addresses of other files in it.

`s3://` and `gs://` addresses are not percent-decoded: a key may hold spaces, `#` and `%`, as the
stores' own tools allow. Options of the file system (`?region=...`) may follow the key.
Knows nothing about what the files hold.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as arrow_fs

from fw_model.errors import StorageError
from pipelines.storage.retry import retry

BUCKETS = ("s3", "gs", "gcs")
_OPTIONS = re.compile(r"\?[a-z_]+=[^&?]*(&[a-z_]+=[^&?]*)*$")


def filesystem(uri: str) -> tuple[arrow_fs.FileSystem, str]:
    """Return the file system of `uri` (or of a local path), and the path in it."""
    scheme, is_uri, rest = uri.partition("://")
    try:
        if not is_uri:
            return arrow_fs.LocalFileSystem(), str(Path(uri).absolute())
        if scheme in BUCKETS:
            user, path, options = _bucket_parts(uri, rest)
            bucket = path.partition("/")[0]
            return _bucket(f"{scheme}://{user}{bucket}{options}"), path.rstrip("/")
        return _other(uri, scheme)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise StorageError(f"Cannot open {uri!r}: {error}.") from error


def is_local(found: arrow_fs.FileSystem) -> bool:
    """Return whether `found` is this machine's own file system."""
    return isinstance(found, arrow_fs.LocalFileSystem)


def neighbour(uri: str, path: str) -> str:
    """Return the address of `path` in the file system of `uri`."""
    scheme, is_uri, rest = uri.partition("://")
    if not is_uri or scheme == "file":
        return path
    if scheme in BUCKETS:
        user, _, options = _bucket_parts(uri, rest)
        return f"{scheme}://{user}{path}{options}"
    return f"{scheme}://{path}"


def _bucket_parts(uri: str, rest: str) -> tuple[str, str, str]:
    """Return the user with its `@`, the bucket with the key, and the options with their `?`."""
    found = _OPTIONS.search(rest)
    options = found.group() if found else ""
    path = rest.removesuffix(options)
    head, slash, key = path.partition("/")
    user, at, bucket = head.rpartition("@")
    if ":" in user:
        raise StorageError(
            f"The address of bucket {bucket!r} contains a secret; set the credentials in the "
            "environment instead (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        )
    if not bucket:
        raise StorageError(f"{uri!r} does not name a bucket; write scheme://BUCKET/KEY.")
    return user + at, bucket + slash + key, options


@lru_cache(maxsize=64)
def _bucket(uri: str) -> arrow_fs.FileSystem:
    """Open a bucket, once: finding its region and credentials takes requests."""
    found, _ = retry(lambda: arrow_fs.FileSystem.from_uri(uri))
    if not isinstance(found, arrow_fs.S3FileSystem):
        return found
    # Two options that an address cannot hold: one attempt per request, because `retry` counts
    # them, and one request for a small object, so that it appears whole or not at all.
    _, (options,) = found.__reduce__()
    once = arrow_fs.AwsStandardS3RetryStrategy(max_attempts=1)
    return arrow_fs.S3FileSystem(**{**options, "retry_strategy": once, "allow_delayed_open": True})


def _other(uri: str, scheme: str) -> tuple[arrow_fs.FileSystem, str]:
    """Open with pyarrow (file, hdfs, abfss), or else with fsspec."""
    try:
        found, path = arrow_fs.FileSystem.from_uri(uri)
        return found, path
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
    import fsspec

    found, path = fsspec.core.url_to_fs(uri)
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(found)), path.rstrip("/")
