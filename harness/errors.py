"""The error that a user can act on, where the harness looks for it."""

from __future__ import annotations

from basis.errors import UserError

__all__ = ["UserError"]
