#include "emitters/kafka/client.h"

#include <array>
#include <chrono>
#include <future>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "emitters/kafka/partitions.h"

namespace outfall::kafka {
namespace {

constexpr std::chrono::milliseconds kLongestEnd{700};

}  // namespace

void end_producer(rd_kafka_t* handle) noexcept {
  std::future<void> ended;
  std::thread thread;
  try {
    std::packaged_task<void()> end([handle] { rd_kafka_destroy(handle); });
    ended = end.get_future();
    thread = std::thread(std::move(end));
  } catch (...) {  // No memory or no thread: what is left to do is to wait.
    rd_kafka_destroy(handle);
    return;
  }
  if (ended.wait_for(kLongestEnd) == std::future_status::ready) {
    thread.join();
  } else {
    thread.detach();
  }
}

Client::Client(const Settings& settings, std::int64_t batch_bytes, int wake_descriptor) {
  Conf conf = make_conf(settings, batch_bytes);
  std::array<char, 512> error{};
  // Otherwise librdkafka writes to standard error.
  rd_kafka_conf_set(conf.get(), "log.queue", "true", error.data(), error.size());
  rd_kafka_conf_set_events(conf.get(), RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR |
                                           RD_KAFKA_EVENT_STATS | RD_KAFKA_EVENT_LOG);
  Partitioner(settings.partitioner).apply(conf.get());
  handle_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), error.data(), error.size());
  if (handle_ == nullptr) {
    // librdkafka's threads could not be made, or did not begin in time.
    if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE) {
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                              error.data());
    }
    throw std::runtime_error(error.data());
  }
  static_cast<void>(conf.release());  // It belongs to the producer now.
  queue_ = rd_kafka_queue_get_main(handle_);
  static const std::uint64_t kOne = 1;
  rd_kafka_queue_io_event_enable(queue_, wake_descriptor, &kOne, sizeof kOne);
  rd_kafka_set_log_queue(handle_, queue_);
}

Client::~Client() {
  rd_kafka_queue_io_event_enable(queue_, -1, nullptr, 0);
  rd_kafka_queue_destroy(queue_);
  end_producer(handle_);
}

bool Client::connected() const {
  char* const id = rd_kafka_clusterid(handle_, 0);
  if (id == nullptr) return false;
  rd_kafka_mem_free(handle_, id);
  return true;
}

}  // namespace outfall::kafka
