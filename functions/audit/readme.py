"""The README in a bundle, for an auditor who has never heard of us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from functions.audit.manifest import Logged, Manifest

_TEXT: Final = """\
# An audit log, to be checked without its keeper

This file holds entries of the audit log of the tenant `{tenant}`: who had which face
swap done, when, on what basis, and how it ended. {what}

{logs}

Every entry is in a Merkle tree (RFC 6962), and the root of the tree is signed with the
log's Ed25519 key. Whoever changes, drops, adds or reorders one entry changes the root.

## Before anything else: the key

`keys.txt` shows which keys there are. **Do not trust it**: whoever made a false bundle
would have put in their own. Get the log's verifier keys from somewhere else, such as
the operator's published page, a contract, or an earlier audit, and keep them in a file,
one a line. They look like `{origin}+xxxxxxxx+…`.

## With Guise's own command

    guise audit verify BUNDLE --key FILE

It needs no network and no database. It reads the whole file, checks every signature,
every hash and every entry, and names the first entry that does not hold. Exit code 0
means that everything holds.

## With other tools

Unpack this file into an empty folder. `checkpoint` and `tile/` are as
<https://c2sp.org/tlog-tiles> and <https://c2sp.org/tlog-checkpoint> say, so any program
for such logs can read them; so are `epochs/<n>/`, if there are any. Of a whole log, for
example, the `fsck` command of <https://github.com/transparency-dev/tessera> recomputes
every hash:

    fsck --ui=false --storage_url=file:///path/to/folder/ --public_key=KEY_FILE

`KEY_FILE` holds one line there: the key that signed `checkpoint`. Of a part of a log
`fsck` says that the entries before are missing, which is so.

Or with a program of your own:

1. `checkpoint` is a signed note (<https://c2sp.org/signed-note>). Check its signature.
   Its second line is the number of entries, its third the root hash.
2. `tile/entries/<N>` holds entries 256 N and following, each after its length (two
   bytes, the larger first). SHA-256 of a zero byte and the entry is in `tile/0/<N>`.
3. The hashes in `tile/<L>/<N>`, folded pairwise as RFC 6962 says, are in the tile above
   it, up to the root.
4. Files under `proofs/`, if there are any, are <https://c2sp.org/tlog-proof>; their
   `extra` line is the entry itself, in base64.
5. Notes under `checkpoints/` were signed earlier; each root must be that of the same
   entries, as far as they went then.
6. A database that was restored from a backup goes on with a new log, the next epoch.
   Its first entry holds the last checkpoint that was known of each earlier one, and how
   many of its entries were left. Earlier logs are under `epochs/`.

## What an entry is

A JSON text (RFC 8785) with the event's `source`, `id`, `type`, `time`, `tenant`, `data`
and the tenant's own signature. It holds salted commitments to pictures, never a picture
or a digest of one, so that a person's traces can be erased without breaking the log.

## What this proves, and what it does not

It proves that these entries, in this order, are what the holder of the key signed, and
that the log only ever grew between the checkpoints in here.

It does not prove

* that what an entry says is true, or that everything that happened was recorded;
* that there is no second, different log signed with the same key. Compare the
  checkpoint with those that others have kept: receipts, second stores, earlier bundles;
* when something happened: times are those that the entries state;
* of a period: that no entry outside of the range here states a time within it;
* this README and `keys.txt`, which nobody signed.
"""


def readme(manifest: Manifest) -> str:
    """Return the text, filled in from what the manifest says."""
    return _TEXT.format(
        tenant=manifest.tenant,
        what=_what(manifest),
        logs="\n".join(f"* {_log(each, manifest)}" for each in manifest.logs),
        origin=manifest.logs[-1].origin,
    )


def _what(manifest: Manifest) -> str:
    if manifest.job is not None:
        return f"It has the entries of one job, `{manifest.job}`, each with a proof."
    if manifest.after is None and manifest.before is None:
        return "It has all that the log holds."
    since = f"from {manifest.after}" if manifest.after else "from its beginning"
    until = f"to before {manifest.before}" if manifest.before else "to its end"
    return (
        f"It has the entries of a period, {since} {until}: the smallest range of the "
        "log with every entry that states such a time, in whole bundles of 256."
    )


def _log(logged: Logged, manifest: Manifest) -> str:
    where = f", under `{logged.folder}`" if logged.folder else ""
    text = f"`{logged.origin}`{where}: {logged.size} entries in all"
    start, stop = logged.covered.start, logged.covered.stop
    if stop:
        text += f"; here are {start} to {stop - 1}"
    elif manifest.job is None:
        text += "; none of them is of the period"
    if logged.single:
        text += f"; {len(logged.single)} stand alone under `{logged.folder}proofs/`"
    if start < logged.minimum and stop:
        text += (
            f"; those before {logged.minimum} are pruned, as the retention period "
            "says, and are here as hashes alone"
        )
    return f"{text}."
