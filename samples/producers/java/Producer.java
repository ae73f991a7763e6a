import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.UUID;

/**
 * Places orders; each is one transaction with its two outbox entries.
 *
 * <p>usage: java -cp postgresql.jar Producer.java JDBC_URL CUSTOMER CENTS...
 */
public final class Producer {
  static final class NotEnoughCredit extends Exception {}

  record Placed(int number, UUID envelopeId) {}

  /** The W3C trace context of whoever caused the order. A service takes it from the request that it serves. */
  record TraceContext(String traceparent, String tracestate) {
    static TraceContext current() {
      return new TraceContext(System.getenv("TRACEPARENT"), System.getenv("TRACESTATE"));
    }
  }

  static Placed placeOrder(Connection connection, String customer, int cents)
      throws SQLException, NotEnoughCredit {
    connection.setAutoCommit(false);
    try {
      Placed placed = addOrder(connection, customer, cents);
      connection.commit();
      return placed;
    } catch (SQLException | NotEnoughCredit | RuntimeException failure) {
      connection.rollback(); // the order and both entries
      throw failure;
    }
  }

  private static Placed addOrder(Connection connection, String customer, int cents)
      throws SQLException, NotEnoughCredit {
    TraceContext trace = TraceContext.current();
    try (PreparedStatement charge = connection.prepareStatement(
            "UPDATE customers SET orders = orders + 1, credit_cents = credit_cents - ?"
                + " WHERE name = ? RETURNING orders, credit_cents");
        PreparedStatement insert = connection.prepareStatement(
            "INSERT INTO orders VALUES (?, ?, ?) RETURNING row_to_json(orders)::text");
        PreparedStatement entry = connection.prepareStatement(
            "INSERT INTO outbox.entries (stream, type, key, payload, headers)"
                + " VALUES ('orders', 'order.placed', ?, ?::json,"
                + " jsonb_strip_nulls(jsonb_build_object('traceparent', ?::text, 'tracestate', ?::text)))");
        PreparedStatement enqueue = connection.prepareStatement(
            "SELECT outbox.enqueue('notifications', 'order.confirmed', ?::json, p_key => ?, p_headers =>"
                + " jsonb_strip_nulls(jsonb_build_object('traceparent', ?::text, 'tracestate', ?::text)))")) {
      // Locks the customer's row first, so that the orders of one customer commit one after the other.
      charge.setInt(1, cents);
      charge.setString(2, customer);
      ResultSet charged = onlyRow(charge);
      int number = charged.getInt(1);
      int credit = charged.getInt(2);

      insert.setString(1, customer);
      insert.setInt(2, number);
      insert.setInt(3, cents);
      String order = onlyRow(insert).getString(1);

      entry.setString(1, customer);
      entry.setString(2, order);
      entry.setString(3, trace.traceparent());
      entry.setString(4, trace.tracestate());
      entry.executeUpdate();

      enqueue.setString(1, order);
      enqueue.setString(2, customer);
      enqueue.setString(3, trace.traceparent());
      enqueue.setString(4, trace.tracestate());
      UUID envelopeId = onlyRow(enqueue).getObject(1, UUID.class);

      if (credit < 0) throw new NotEnoughCredit();
      return new Placed(number, envelopeId);
    }
  }

  private static ResultSet onlyRow(PreparedStatement statement) throws SQLException {
    ResultSet rows = statement.executeQuery();
    if (!rows.next()) throw new SQLException("no row: " + statement);
    return rows;
  }

  public static void main(String[] arguments) throws SQLException {
    try (Connection connection = DriverManager.getConnection(arguments[0])) {
      for (int i = 2; i < arguments.length; ++i) {
        int cents = Integer.parseInt(arguments[i]);
        try {
          Placed placed = placeOrder(connection, arguments[1], cents);
          System.out.printf("order %d placed, notification %s%n", placed.number(), placed.envelopeId());
        } catch (NotEnoughCredit refused) {
          System.out.printf("order of %d cents refused%n", cents);
        }
      }
    }
  }
}
