"""The fixture over both backends."""

from support.backends import backend

__all__ = ["backend"]
