"""Attribution maps, what is in them, and how good they are.

Six rooms, imports go down only: ``show``, ``study``, ``evaluate``, ``analyse``,
``attribute``, ``assets``. A map is a plain tensor everywhere.
"""

__version__ = "0.1.0"
