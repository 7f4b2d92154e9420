"""What each of several processes does in test_processes.py; its argument is where to leave it."""

import sys
from pathlib import Path

import torch
from torch import nn
from toys import layered, pairs

from advbench.defenses.ansm.recipe import AnsmRecipe
from advbench.defenses.ansm.training import train
from advbench.engines.processes import Processes
from advbench.training.loop import TrainingRun

folder = Path(sys.argv[1])
torch.set_num_threads(1)
processes = Processes("cpu")

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Conv2d(2, 1, 3))
images = torch.rand(4, 3, 8, 8)
shared = processes.prepare(network)
shared(images[processes.rank :: processes.count]).square().mean().backward()
processes.average_gradients(network.parameters())
rank_sum = float(processes.total(torch.tensor(float(processes.rank))))

recipe = AnsmRecipe(crop=32, batch=4, epochs_first=1, epochs_mgr=1, seed=1)
lines = []
path = train(
    layered(),
    "small",
    pairs(8),
    pairs(3, 100),
    source={"id": "made", "content_sha256": "0" * 64},
    recipe=recipe,
    run=TrainingRun(folder / "run", lines.append, processes=processes),
)
assert path.is_file()
torch.save(
    {
        "processes": [processes.rank, processes.count, rank_sum],
        "gradients": [parameter.grad for parameter in network.parameters()],
        "curve": [[e.loss, *e.scores.values()] for e in lines],
    },
    folder / f"{processes.rank}.pt",
)
