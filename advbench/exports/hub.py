"""Put an exported folder on the Hugging Face Hub, where the user is logged in."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from advbench.errors import AdvbenchError, first_line

ADDRESS = "https://huggingface.co/datasets/"


def check_login(repository: str) -> None:
    """Complain, before anything is exported, where nothing could be pushed.

    Raises:
        AdvbenchError: huggingface_hub is not installed, nobody is logged in, or the name is none.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise AdvbenchError("--push needs huggingface_hub: pip install huggingface_hub")
    hub = importlib.import_module("huggingface_hub")
    try:
        hub.utils.validate_repo_id(repository)
    except ValueError as error:
        raise AdvbenchError(f"--push {repository}: {first_line(error)}") from error
    if not hub.get_token():
        raise AdvbenchError("--push: nobody is logged in to Hugging Face; run: hf auth login")


def upload(folder: Path, repository: str) -> str:
    """Upload a folder as a dataset; a repository that is there gets a commit, a new one is made.

    Args:
        repository: NAME, or OWNER/NAME.

    Returns:
        the address of the dataset.

    Raises:
        AdvbenchError: the Hub cannot be reached or refuses; the folder stays.
    """
    hub: Any = importlib.import_module("huggingface_hub")
    api = hub.HfApi()
    try:
        made = api.create_repo(repository, repo_type="dataset", exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=made.repo_id,
            repo_type="dataset",
            commit_message="Export of advbench",
        )
    except _faults(hub) as error:
        raise AdvbenchError(
            f"--push {repository}: {first_line(error)}; the export is whole in {folder}: "
            f"hf upload {repository} {folder} . --repo-type dataset"
        ) from error
    return f"{ADDRESS}{made.repo_id}"


def _faults(hub: Any) -> tuple[type[Exception], ...]:
    """List what the Hub and the way there can raise."""
    of_network = [
        importlib.import_module(name).HTTPError
        for name in ("httpx", "requests")
        if importlib.util.find_spec(name)
    ]
    return (hub.errors.HfHubHTTPError, OSError, ValueError, *of_network)
