"""Places orders; each is one transaction with its two outbox entries.

usage: producer.py DATABASE_URL CUSTOMER CENTS...
"""
import os
import sys

import psycopg
from psycopg.types.json import Json, Jsonb


class NotEnoughCredit(Exception):
    pass


def trace_context():
    """The W3C trace context of whoever caused the order. A service takes it from the request that it serves."""
    names = ("traceparent", "tracestate")
    return {name: os.environ[name.upper()] for name in names if name.upper() in os.environ}


def place_order(connection, customer, cents):
    headers = Jsonb(trace_context())
    with connection.transaction():
        # Locks the customer's row first, so that the orders of one customer commit one after the other.
        number, credit = connection.execute(
            "UPDATE customers SET orders = orders + 1, credit_cents = credit_cents - %s"
            " WHERE name = %s RETURNING orders, credit_cents", (cents, customer)).fetchone()
        connection.execute("INSERT INTO orders VALUES (%s, %s, %s)", (customer, number, cents))
        order = Json({"customer": customer, "number": number, "cents": cents})

        connection.execute(
            "INSERT INTO outbox.entries (stream, type, key, payload, headers)"
            " VALUES ('orders', 'order.placed', %s, %s, %s)", (customer, order, headers))
        envelope_id, = connection.execute(
            "SELECT outbox.enqueue('notifications', 'order.confirmed', %s, p_key => %s, p_headers => %s)",
            (order, customer, headers)).fetchone()

        if credit < 0:
            raise NotEnoughCredit  # rolls back the order and both entries
    return number, envelope_id


def main(url, customer, *all_cents):
    with psycopg.connect(url, autocommit=True) as connection:
        for cents in map(int, all_cents):
            try:
                number, envelope_id = place_order(connection, customer, cents)
                print(f"order {number} placed, notification {envelope_id}")
            except NotEnoughCredit:
                print(f"order of {cents} cents refused")


main(*sys.argv[1:])
