"""The parts of the pipeline that a process can be made of."""

from enum import StrEnum


class Role(StrEnum):
    """The parts of the pipeline that can run in a process of their own."""

    ORDERS = "order-processed"
    INVOICES = "invoice-generated"
    CUSTOMERS = "customer-updated"
    NOTIFICATIONS = "notifications"
    PUBLIC = "public"
    API = "api"
