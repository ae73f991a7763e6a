#include "emitters/kafka/partitions.h"

#include <algorithm>
#include <array>
#include <new>
#include <utility>

namespace outfall::kafka {
namespace {

// librdkafka's own `choose`, and a note about what it is told.
template <auto choose>
std::int32_t noting(const rd_kafka_topic_t* topic, const void* key, std::size_t size,
                    std::int32_t count, void* topic_opaque, void* opaque) {
  static_cast<const Placed*>(opaque)->partitions->store(count, std::memory_order_relaxed);
  return choose(topic, key, size, count, topic_opaque, opaque);
}

}  // namespace

// `of_key` gives what `noting` does for every key that is there, and needs no topic for it.
struct Partitioner::Row {
  std::string_view name;
  Function* of_key;
  Function* noting;
};

const Partitioner::Row& Partitioner::row_of(std::string_view name) noexcept {
  static constexpr std::array kRows{
      Row{"murmur2_random", rd_kafka_msg_partitioner_murmur2,
          noting<rd_kafka_msg_partitioner_murmur2_random>},
      Row{"murmur2", rd_kafka_msg_partitioner_murmur2, noting<rd_kafka_msg_partitioner_murmur2>},
      Row{"consistent_random", rd_kafka_msg_partitioner_consistent,
          noting<rd_kafka_msg_partitioner_consistent_random>},
      Row{"consistent", rd_kafka_msg_partitioner_consistent,
          noting<rd_kafka_msg_partitioner_consistent>},
      Row{"fnv1a_random", rd_kafka_msg_partitioner_fnv1a,
          noting<rd_kafka_msg_partitioner_fnv1a_random>},
      Row{"fnv1a", rd_kafka_msg_partitioner_fnv1a, noting<rd_kafka_msg_partitioner_fnv1a>}};
  const auto* const found = std::ranges::find(kRows, name, &Row::name);
  // Other names do not get through the checks of the configuration.
  return found == kRows.end() ? kRows.front() : *found;
}

Partitioner::Partitioner(std::string_view name) noexcept : Partitioner(row_of(name)) {
}

Partitioner::Partitioner(const Row& row) noexcept
    : of_key_(row.of_key), noting_(row.noting), places_keyless_(!row.name.ends_with("_random")) {
}

void Partitioner::apply(rd_kafka_conf_t* conf) const {
  rd_kafka_topic_conf_set_partitioner_cb(rd_kafka_conf_get_default_topic_conf(conf), noting_);
  if (!places_keyless_) return;
  // Otherwise librdkafka, which does not know ours, places records without a key itself.
  std::array<char, 256> error{};
  rd_kafka_conf_set(conf, "sticky.partitioning.linger.ms", "0", error.data(), error.size());
}

std::int32_t Partitioner::of_key(std::string_view key, std::int32_t count) const noexcept {
  return of_key_(nullptr, key.data(), key.size(), count, nullptr, nullptr);
}

bool KnownPartitions::begin(std::int32_t partition) {
  if (begun_.contains(RD_KAFKA_PARTITION_UA)) return false;
  if (partition == RD_KAFKA_PARTITION_UA && !begun_.empty()) return false;
  return begun_.insert(partition).second;
}

void KnownPartitions::place(std::int32_t partition) noexcept {
  auto begun = begun_.extract(RD_KAFKA_PARTITION_UA);
  if (begun.empty()) return;
  begun.value() = partition;
  begun_.insert(std::move(begun));
}

void KnownPartitions::acknowledged(std::int32_t partition) noexcept {
  try {
    known_.insert(partition);
  } catch (const std::bad_alloc&) {
    // The next record goes alone as well.
  }
}

void KnownPartitions::clear() noexcept {
  known_.clear();
  begun_.clear();
}

}  // namespace outfall::kafka
