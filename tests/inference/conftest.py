"""One thread here too."""

from ..attacks.conftest import _one_thread  # noqa: F401
