"""Run it: `python -m tests.sim`; see `make sim`."""

import sys, faulthandler
faulthandler.dump_traceback_later(100)
from tests.sim.world import World
import time
t=time.time()
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    w=World(seed)
    v=w.run()
    print(seed, round(time.time()-t,1), len(w.checker.tables["runs"]), len(w.checker.tables["events"]), round(w.loop.time()-1000), v[:3], w.digest(), flush=True)
