"""What can go wrong with the local stack."""


class StackError(Exception):
    """One line for a person: what, where, and what to do."""
