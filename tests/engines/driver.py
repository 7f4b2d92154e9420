"""A run in processes of its own: FOLDER UNITS WORKERS SECONDS, and the units that die once."""

import sys
from pathlib import Path

from work import Log, units

from advbench.engines.local import Local

if __name__ == "__main__":
    count, workers, seconds, *dies = map(int, sys.argv[2:])
    log = Log(Path(sys.argv[1]), dict.fromkeys(dies, 1), seconds)
    print(sorted(Local(workers).run(log, units(count), lambda *what: None)))
