"""`python -m tools.fuzz.guided NAME`: fuzzes one target with atheris, guided by what of the product is covered."""

from __future__ import annotations

import sys

import atheris

_OURS = ["wfe_language", "wfe_egress", "wfe_scheduler.callbacks", "wfe_servicekit.auth.keys"]

with atheris.instrument_imports(include=_OURS):
    from tools.fuzz.targets import TARGETS

if __name__ == "__main__":
    # The rest of the command line is libFuzzer's.
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]][0])
    atheris.Fuzz()
