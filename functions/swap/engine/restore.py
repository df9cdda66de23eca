"""The `gfpgan` and `restoreformer` contracts: a face drawn anew, sharper.

In: a face of 512 pixels a side, aligned as FFHQ's are, RGB from -1 to 1.  Out: the
same.  A restorer imagines what a small or blurred face does not show; it paints in
no identity, and it may change one a little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.swap.engine.placement import Unfit
from functions.swap.engine.planes import first, picture

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Bytes
    from functions.swap.engine.runtime import Network
    from models.manifest import Template

_TEMPLATE: Final = "ffhq_512"


class Restorer:
    """One restoring network.

    Raises:
        Unfit: the manifest gives no square crop of a known side and template.

    """

    def __init__(self, network: Network) -> None:
        if not network.side or network.model.template != _TEMPLATE:
            raise Unfit(f"{network.model.name}: not a crop of {_TEMPLATE}")
        self._network = network
        self.side = network.side
        self.template: Template = _TEMPLATE

    def __call__(self, crop: Bytes) -> Bytes:
        """Return the aligned face restored; both (side, side, 3) uint8 BGR.

        Raises:
            FloatingPointError: the network gave what is no number.

        """
        return picture(self._network, first(self._network, crop))
