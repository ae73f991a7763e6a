#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <unordered_set>

#include <librdkafka/rdkafka.h>

namespace outfall::kafka {

// What librdkafka gets as the opaque of every record: where to note how many partitions its topic
// has. It tells that to its partitioner only, on the thread that hands the record over or on one of
// its own.
struct Placed {
  std::atomic<std::int32_t>* partitions = nullptr;
};

// One of librdkafka's partitioners by its name in the property `partitioner`. An immutable value.
class Partitioner {
 public:
  explicit Partitioner(std::string_view name) noexcept;

  // Makes the topics of `conf` use it, and note in each record's Placed how many partitions there
  // are.
  void apply(rd_kafka_conf_t* conf) const;
  // The partition of a record with this key, of `count`, which is above 0.
  [[nodiscard]] std::int32_t of_key(std::string_view key, std::int32_t count) const noexcept;

 private:
  using Function = std::int32_t(const rd_kafka_topic_t*, const void*, std::size_t, std::int32_t,
                                void*, void*);
  struct Row;
  explicit Partitioner(const Row& row) noexcept;
  [[nodiscard]] static const Row& row_of(std::string_view name) noexcept;

  Function* of_key_;
  Function* noting_;
  bool places_keyless_;  // where the same place is meant for all of them
};

// Which partitions of a topic the present producer has an acknowledgement from. A broker that knows
// nothing of a producer takes whatever sequence number comes first: when it refuses the first of
// two requests, the second gets in and the order is lost. So until a partition has said where it
// put a record, one ordered record at a time goes there.
//
// RD_KAFKA_PARTITION_UA stands for a partition that librdkafka will choose among an unknown number:
// it may be any, so nothing goes to one without an acknowledgement beside it. A plain value.
class KnownPartitions {
 public:
  // Whether all are known, so that nothing needs to be asked or said.
  [[nodiscard]] bool complete(std::int32_t count) const noexcept {
    return count > 0 && known_.size() == static_cast<std::size_t>(count);
  }
  [[nodiscard]] bool knows(std::int32_t partition) const { return known_.contains(partition); }

  // Takes the one place of a partition that is not known; false where it is taken. May throw
  // std::bad_alloc.
  [[nodiscard]] bool begin(std::int32_t partition);
  // What began as RD_KAFKA_PARTITION_UA went to this partition.
  void place(std::int32_t partition) noexcept;
  // The record that began there has its report.
  void end(std::int32_t partition) noexcept { begun_.erase(partition); }
  // A record has been put there.
  void acknowledged(std::int32_t partition) noexcept;
  // The producer is replaced.
  void clear() noexcept;

 private:
  std::unordered_set<std::int32_t> known_;
  std::unordered_set<std::int32_t> begun_;
};

}  // namespace outfall::kafka
