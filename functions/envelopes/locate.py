"""From `GUISE_ENVELOPES` to the keys of every tenant.

```
/srv/keys/envelopes                                     a folder, which is to be guarded
gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/guise-{tenant}?ring=/srv/rings
```
Of the second, the folder holds what Google's service made of the keys.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from functions.envelopes.ring import Envelopes
from functions.settings import SettingsError

if TYPE_CHECKING:
    from functions.tenant import Tenant

PLACE: Final = "{tenant}"
_RESOURCE: Final = re.compile(
    r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+"
)


def open_envelopes(url: str, *, pinned: Tenant | None = None) -> Envelopes:
    """Return the keys at a folder or a service, or raise `SettingsError`.

    A key of a service without `{tenant}` in its name is the pinned tenant's own.
    """
    if url.startswith("/"):
        return Envelopes(Path(url))
    if not url.startswith("gcpkms://"):
        raise SettingsError(
            f"GUISE_ENVELOPES: {url!r} is no absolute path or gcpkms://"
        )
    parts = urlsplit(url)
    resource = parts.netloc + parts.path
    options = dict(parse_qsl(parts.query))
    if not _RESOURCE.fullmatch(resource):
        raise SettingsError(
            "GUISE_ENVELOPES: gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K"
        )
    if PLACE not in resource and pinned is None:
        raise SettingsError(
            f"GUISE_ENVELOPES: {PLACE} in the name of the key: a key for each tenant"
        )
    ring = options.pop("ring", "")
    endpoint = options.pop("endpoint", "")
    if options or not ring.startswith("/"):
        raise SettingsError(
            "GUISE_ENVELOPES: gcpkms:// takes ring=/a/folder, and endpoint="
        )
    try:
        from functions.envelopes.gcpkms import GcpKms
    except ModuleNotFoundError as error:
        raise SettingsError(
            "GUISE_ENVELOPES: install guise[gcs] for gcpkms://"
        ) from error
    return Envelopes(Path(ring), GcpKms(resource, endpoint=endpoint))
