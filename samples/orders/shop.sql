-- The tables of the sample application; nothing of outfall's.
CREATE TABLE customers (
  name   text PRIMARY KEY,
  orders int NOT NULL DEFAULT 0
);

CREATE TABLE orders (
  customer text NOT NULL REFERENCES customers,
  number   int NOT NULL,            -- 1, 2, 3, … for each customer
  cents    int NOT NULL,
  PRIMARY KEY (customer, number)
);
