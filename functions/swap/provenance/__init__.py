"""What an output says of itself: the AI label, then Content Credentials over it.

Read `credentials` first.  `aigc` is the implicit label of GB 45438-2025; `manifest`
says what is claimed; `redaction` keeps an anonymised face from surviving in an
earlier manifest; `chain` makes and judges certificates; `report` reads it all back
and says what holds.  This package alone imports `c2pa`, and only inside functions:
the library costs 35 to 80 ms, which no door pays.
"""

from functions.swap.provenance.credentials import Credentials, Signed
from functions.swap.provenance.manifest import Work

__all__ = ["Credentials", "Signed", "Work"]
