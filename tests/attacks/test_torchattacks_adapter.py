"""Other attacks of torchattacks on victims: the same contract as ours."""

from __future__ import annotations

import pytest
import torch

from advbench.attacks.fgsm import FGSM
from advbench.attacks.torchattacks_adapter import TorchAttack
from advbench.errors import AdvbenchError

from .toys import Toy, pictures, wavy_net

torchattacks = pytest.importorskip("torchattacks")


def test_its_fgsm_is_ours():
    batch, victim = pictures(3), Toy(wavy_net())
    theirs = batch.attacked(TorchAttack(method="FGSM"), victim)
    ours = batch.attacked(FGSM(), victim)
    for eps in (1, 2, 3):
        assert torch.equal(theirs[f"ta_fgsm-{eps}"].images, ours[f"fgsm-{eps}"].images)


@pytest.mark.parametrize("method", ["NIFGSM", "VMIFGSM", "EOTPGD"])
def test_budget_and_independence(method):
    """Within the budget, the same alone as in company, and the global stream is left alone."""
    batch, victim = pictures(3), Toy(wavy_net())
    attack = TorchAttack(method=method, eps=(2,), arguments={"steps": 3})
    torch.manual_seed(1)
    state = torch.get_rng_state()
    (result,) = batch.attacked(attack, victim).values()
    assert torch.equal(torch.get_rng_state(), state)
    change = (result.images.int() - batch.images.int()).abs()
    assert 0 < change.max() <= 2
    for i in range(3):
        alone = attack(
            victim, batch.images[i : i + 1], batch.masks[i : i + 1], batch.ids[i : i + 1]
        )
        assert torch.equal(next(iter(alone.values()))[0], result.images[i])


@pytest.mark.parametrize("method", ["CW", "NoSuch", "attack"])
def test_what_has_no_linf_budget_is_refused(method):
    with pytest.raises(AdvbenchError, match="no L∞ attack of the package"):
        TorchAttack(method=method).passes()
