"""Oko's numbers for the five functions of the thesis (section 3.3).

Update has no flags (table 3.2), the clock is the wall's, the hash is lookup3 with seed 0.
"""

from __future__ import annotations

from typing import Final

from pybpf.helpers import bodies
from pybpf.helpers.contract import Helper

UBPF_UPDATE: Final = Helper("map_update", "map key value -> err", bodies.map_update_any)
UBPF_TIME: Final = Helper("time_get_ns", "-> num", bodies.now)
UBPF_HASH: Final = Helper("hash", "mem size0 -> u32", bodies.hash)

OKO: Final[dict[int, Helper]] = {
    1: Helper("map_lookup", "map key -> value?", bodies.map_lookup),
    2: UBPF_UPDATE,
    3: Helper("map_delete", "map key -> err", bodies.map_delete),
    5: UBPF_TIME,
    6: UBPF_HASH,
}
"""Helpers by number."""
