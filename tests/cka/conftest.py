"""What the tests of several processes share."""

from tests.surrogate.conftest import in_two_processes

__all__ = ["in_two_processes"]
