#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <librdkafka/rdkafka.h>

#include "core/outcome.h"

namespace outfall::kafka {

// Whose fault an error is, and so what becomes of the record.
enum class Fault : std::uint8_t {
  none,         // no error
  poison,       // the broker refuses this very record: it is isolated from its batch, then failed
  record,       // the same, but of this record alone, so that nothing needs to be isolated
  destination,  // topic, rights, quota or broker: nothing gets through, whatever the record
  unconfirmed,  // nobody says whether it is there; the destination takes others
  suspect,      // the turn failed, perhaps by the destination's fault
  fatal,        // the producer is beyond use: a new one sends what has no answer
  purged,       // we took it back ourselves
};

// Whether the broker may have written the record.
enum class Persisted : std::uint8_t { no, possibly, yes };

struct Verdict {
  Fault fault = Fault::none;
  std::string_view code = {};  // "kafka.msg_size_too_large": stable, in the reference
  std::string_view hint = {};  // what to do, as an ending of the message; may be empty
};

// Who chose the partition of a record: a missing one is the fault of an entry that named it, and
// otherwise means that the topic has changed.
enum class Choice : std::uint8_t { producer, entry };

// The table of docs/reference/emitters/kafka.md. Pure.
[[nodiscard]] Verdict classify(rd_kafka_resp_err_t error,
                               Choice of_partition = Choice::producer) noexcept;

// What to say beside the words about a connection that the broker has ended for the certificate of
// this client, or for want of one; else empty. librdkafka's code for it is that of a broker that
// has gone away.
[[nodiscard]] std::string_view certificate_note(std::string_view text) noexcept;

// The outcome of a record that will not be sent again in this attempt. `detail` is added to the
// message: librdkafka's last words about the connection.
[[nodiscard]] Outcome outcome_of(rd_kafka_resp_err_t error, Persisted persisted,
                                 std::string_view detail = {},
                                 Choice of_partition = Choice::producer);

}  // namespace outfall::kafka
