// Places orders; each is one transaction with its two outbox entries.
//
// usage: node producer.js DATABASE_URL CUSTOMER CENTS...
"use strict";
const { Client } = require("pg");

class NotEnoughCredit extends Error {}

// The W3C trace context of whoever caused the order. A service takes it from the request that it serves.
function traceContext() {
  const headers = {};
  for (const name of ["traceparent", "tracestate"]) {
    const value = process.env[name.toUpperCase()];
    if (value !== undefined) headers[name] = value;
  }
  return headers;
}

async function addOrder(client, customer, cents) {
  // Locks the customer's row first, so that the orders of one customer commit one after the other.
  const charged = await client.query(
    `UPDATE customers SET orders = orders + 1, credit_cents = credit_cents - $1
      WHERE name = $2 RETURNING orders AS number, credit_cents AS credit`, [cents, customer]);
  const { number, credit } = charged.rows[0];
  await client.query("INSERT INTO orders VALUES ($1, $2, $3)", [customer, number, cents]);
  const order = { customer, number, cents };
  const headers = traceContext();

  await client.query(
    `INSERT INTO outbox.entries (stream, type, key, payload, headers)
     VALUES ('orders', 'order.placed', $1, $2, $3)`, [customer, order, headers]);
  const enqueued = await client.query(
    `SELECT outbox.enqueue('notifications', 'order.confirmed', $1, p_key => $2, p_headers => $3) AS id`,
    [order, customer, headers]);

  if (credit < 0) throw new NotEnoughCredit();
  return { number, envelopeId: enqueued.rows[0].id };
}

async function placeOrder(client, customer, cents) {
  await client.query("BEGIN");
  try {
    const placed = await addOrder(client, customer, cents);
    await client.query("COMMIT");
    return placed;
  } catch (failure) {
    await client.query("ROLLBACK"); // the order and both entries
    throw failure;
  }
}

async function main(url, customer, ...allCents) {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    for (const cents of allCents.map(Number)) {
      try {
        const { number, envelopeId } = await placeOrder(client, customer, cents);
        console.log(`order ${number} placed, notification ${envelopeId}`);
      } catch (failure) {
        if (!(failure instanceof NotEnoughCredit)) throw failure;
        console.log(`order of ${cents} cents refused`);
      }
    }
  } finally {
    await client.end();
  }
}

main(...process.argv.slice(2)).catch((failure) => {
  console.error(failure);
  process.exitCode = 1;
});
