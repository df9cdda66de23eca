"""What can go wrong with a model, as one tree.

    ModelError
    ├── UnknownPack         the catalogue has no pack of that name
    ├── UnknownModel        the catalogue has no model of that name
    ├── FetchFailed         the published package could not be had
    ├── DigestMismatch      what was fetched is not what the catalogue names
    ├── WeightsRefused      what the operator brought is not what a pack is made of
    ├── UnsupportedNetwork  a network asks for something we do not translate
    ├── PackRefused         a folder is not the pack its manifest describes
    ├── KeyRefused          a key that signs or vouches for packs is not fit for it
    ├── SignFailed          a pack could not be signed
    └── ChannelRefused      a channel, a pin or a share cannot be as asked

The text of each names the file or the operator; none holds a secret.
"""

from __future__ import annotations


class ModelError(Exception):
    """A model is missing, is not the one it should be, or cannot be prepared."""


class UnknownPack(ModelError):
    """The catalogue has no pack of that name."""


class UnknownModel(ModelError):
    """The catalogue has no model of that name."""


class FetchFailed(ModelError):
    """The published package could not be had, or lacks a file."""

    def __init__(self, message: str, *, diagnostics: str = "") -> None:
        super().__init__(message)
        self.diagnostics = diagnostics
        """What the installer said, for whoever debugs it; not part of the message."""


class DigestMismatch(ModelError):
    """What was fetched is not, byte for byte, what the catalogue names."""


class WeightsRefused(ModelError):
    """What the operator brought is not, or not all of, what a pack is made of."""


class UnsupportedNetwork(ModelError):
    """A network asks for an operator, an option or a type we do not translate."""


class PackRefused(ModelError):
    """A folder is not the pack its manifest describes."""


class KeyRefused(ModelError):
    """A key that signs packs, or vouches for them, is missing or not fit for it."""


class SignFailed(ModelError):
    """A pack could not be signed."""


class ChannelRefused(ModelError):
    """A channel, a pin or a share cannot be as asked, or cannot be read."""
