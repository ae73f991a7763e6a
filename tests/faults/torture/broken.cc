#include "tests/faults/torture/broken.h"

#include <stdexcept>

namespace outfall::torture {

using test::history::Anomaly;

const std::vector<Broken>& broken_builds() {
  static const std::vector<Broken> kBuilds = {
      {.name = "fencing-off",
       .what = "a worker settles and renews leases that were taken over",
       .patches = {{"settle", "  IF NOT FOUND THEN\n    result := 'stale';\n    RETURN;\n  END IF;",
                    "  IF NOT FOUND THEN\n"
                    "    SELECT '{(,)}'::int8multirange, -1, min(e.stream) INTO v_lease.ids,"
                    " v_lease.remaining, v_lease.stream FROM entries e"
                    " WHERE e.id = ANY (p_delivered || p_ids || p_returned);\n  END IF;"},
                   {"renew", "    RETURNING l.lease_id;\nEND;",
                    "    RETURNING l.lease_id;\n  RETURN QUERY SELECT unnest(p_lease_ids);\nEND;"}},
       // A zombie comes back while the worker that took over still delivers.
       .anomaly = Anomaly::zombie_write,
       .runs = {"noop/F4-slow+F3-freeze/any"}},
      {.name = "order-off",
       .what = "a claim takes entries of keys that other workers hold or that wait",
       .patches = {{"claim", "  taken_over := 0; abandoned := '{}';",
                    "  p_by_key := false; taken_over := 0; abandoned := '{}';"}},
       .anomaly = Anomaly::reorder,
       .runs = {"webhook/F13-slow-sink.delay/any", "webhook/F15-http.503/any"},
       .shows_in_soak = true},
      {.name = "renewal-off",
       .what = "leases are not prolonged, and their worker is told that they were",
       .patches = {{"renew",
                    "SET expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'",
                    "SET expires_at = l.expires_at"}},
       .anomaly = Anomaly::dup_unexplained,
       .runs = {"noop/F4-slow/any", "exec/F4-slow/any"}},
      {.name = "settle-before-answer",
       .what = "an entry is settled as delivered when it is handed to the emitter",
       .anomaly = Anomaly::lost,
       .runs = {"webhook/F15-http.503/any", "webhook/F1-sigkill/any"}},
  };
  return kBuilds;
}

const Broken& broken_build(std::string_view name) {
  for (const Broken& each : broken_builds()) {
    if (each.name == name) return each;
  }
  throw std::invalid_argument("there is no broken build " + std::string(name));
}

void break_schema(test::PgClient& database, const Broken& broken) {
  for (const Broken::Patch& patch : broken.patches) {
    std::string text = database.value(
        "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = $1"
        " AND p.pronamespace = 'outbox'::regnamespace",
        {patch.function});
    const std::size_t at = text.find(patch.find);
    if (at == std::string::npos || text.find(patch.find, at + 1) != std::string::npos)
      throw std::runtime_error(broken.name + ": this text must occur exactly once in " +
                               patch.function + "(): " + patch.find);
    text.replace(at, patch.find.size(), patch.replace);
    database.exec(text);
  }
}

}  // namespace outfall::torture
