"""Errors that a user can act on."""

from __future__ import annotations


class UserError(Exception):
    """A one-line message that names the cause and the way out; the command line prints it and exits with code 2."""
