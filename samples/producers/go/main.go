// Places orders; each is one transaction with its two outbox entries.
//
// usage: producer DATABASE_URL CUSTOMER CENTS...
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
)

var errNotEnoughCredit = errors.New("not enough credit")

type order struct {
	Customer string `json:"customer"`
	Number   int    `json:"number"`
	Cents    int    `json:"cents"`
}

// traceContext is the W3C trace context of whoever caused the order. A service takes it from the
// request that it serves.
func traceContext() map[string]string {
	headers := map[string]string{}
	for name, variable := range map[string]string{"traceparent": "TRACEPARENT", "tracestate": "TRACESTATE"} {
		if value, found := os.LookupEnv(variable); found {
			headers[name] = value
		}
	}
	return headers
}

func placeOrder(ctx context.Context, connection *pgx.Conn, customer string, cents int) (int, string, error) {
	placed := order{Customer: customer, Cents: cents}
	headers := traceContext()
	var envelopeID string
	// Commits where the function returns nil; an error rolls back the order and both entries.
	err := pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
		var credit int
		// Locks the customer's row first, so that the orders of one customer commit one after the other.
		err := tx.QueryRow(ctx, `UPDATE customers SET orders = orders + 1, credit_cents = credit_cents - $1
			WHERE name = $2 RETURNING orders, credit_cents`, cents, customer).Scan(&placed.Number, &credit)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO orders VALUES ($1, $2, $3)`, customer, placed.Number, cents)
		if err != nil {
			return err
		}

		_, err = tx.Exec(ctx, `INSERT INTO outbox.entries (stream, type, key, payload, headers)
			VALUES ('orders', 'order.placed', $1, $2, $3)`, customer, placed, headers)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT outbox.enqueue('notifications', 'order.confirmed', $1,
			p_key => $2, p_headers => $3)`, placed, customer, headers).Scan(&envelopeID)
		if err != nil {
			return err
		}

		if credit < 0 {
			return errNotEnoughCredit
		}
		return nil
	})
	return placed.Number, envelopeID, err
}

func main() {
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close(ctx)
	for _, argument := range os.Args[3:] {
		cents, err := strconv.Atoi(argument)
		if err != nil {
			log.Fatal(err)
		}
		number, envelopeID, err := placeOrder(ctx, connection, os.Args[2], cents)
		if errors.Is(err, errNotEnoughCredit) {
			fmt.Printf("order of %d cents refused\n", cents)
		} else if err != nil {
			log.Fatal(err)
		} else {
			fmt.Printf("order %d placed, notification %s\n", number, envelopeID)
		}
	}
}
