#pragma once

#include <cstdint>
#include <memory>

#include <librdkafka/rdkafka.h>

#include "core/clock.h"
#include "emitters/kafka/settings.h"

namespace outfall::kafka {

struct EventDeleter {
  void operator()(rd_kafka_event_t* event) const noexcept { rd_kafka_event_destroy(event); }
};
using Event = std::unique_ptr<rd_kafka_event_t, EventDeleter>;

// rd_kafka_destroy(), but it waits for at most 0.7 s. librdkafka waits for lookups of names that
// are under way, and a name server that hangs keeps those for half a minute and more; then a thread
// is left behind that ends the producer when they have ended, or with the process.
void end_producer(rd_kafka_t* handle) noexcept;

// A producer of librdkafka. Everything that it has to say (delivery reports, errors, statistics,
// log lines, answers to questions) comes out of poll(); when there is something new, the eventfd
// `wake_descriptor` becomes readable. librdkafka runs a few threads for it, which the destructor
// ends as end_producer() does.
//
// The opaque of every record must be a Placed* (partitions.h), or null where the record names its
// partition itself. One thread at a time. Throws std::runtime_error where librdkafka cannot be set
// up.
class Client {
 public:
  Client(const Settings& settings, std::int64_t batch_bytes, int wake_descriptor);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] rd_kafka_t* handle() const noexcept { return handle_; }
  [[nodiscard]] rd_kafka_queue_t* queue() const noexcept { return queue_; }

  // The next event, or null when none comes within `timeout`.
  [[nodiscard]] Event poll(Milliseconds timeout) noexcept {
    return Event(rd_kafka_queue_poll(queue_, static_cast<int>(timeout.count())));
  }
  // Whether it has heard of the cluster.
  [[nodiscard]] bool connected() const;
  // Takes back what was not acknowledged, by RD_KAFKA_PURGE_F_...; the reports say what was sent.
  // They come when the threads of the brokers get to it: waiting for those here would be waiting
  // for their lookups of names, too.
  void purge(int flags) noexcept { rd_kafka_purge(handle_, flags | RD_KAFKA_PURGE_F_NON_BLOCKING); }

 private:
  rd_kafka_t* handle_ = nullptr;
  rd_kafka_queue_t* queue_ = nullptr;
};

}  // namespace outfall::kafka
