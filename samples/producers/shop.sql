-- The tables of the sample producers; nothing of outfall's.
CREATE TABLE customers (
  name         text PRIMARY KEY,
  orders       int NOT NULL DEFAULT 0,
  credit_cents int NOT NULL DEFAULT 100000
);

CREATE TABLE orders (
  customer text NOT NULL REFERENCES customers,
  number   int NOT NULL,            -- 1, 2, 3, … for each customer
  cents    int NOT NULL,
  PRIMARY KEY (customer, number)
);
