#include "tests/support/refused_producers.h"

#include <atomic>
#include <cstdio>
#include <dlfcn.h>

#include <librdkafka/rdkafka.h>

namespace {

std::atomic<bool> refusing = false;
std::atomic<int> refused = 0;

}  // namespace

extern "C" __attribute__((visibility("default"))) rd_kafka_t* rd_kafka_new(rd_kafka_type_t type,
                                                                           rd_kafka_conf_t* conf,
                                                                           char* error,
                                                                           std::size_t size) {
  using Function = decltype(&::rd_kafka_new);
  static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "rd_kafka_new"));
  if (!refusing) return real(type, conf, error, size);
  ++refused;
  std::snprintf(error, size, "%s", outfall::test::RefusedProducers::kReason);
  return nullptr;
}

namespace outfall::test {

RefusedProducers::RefusedProducers() {
  refused = 0;
  refusing = true;
}

RefusedProducers::~RefusedProducers() {
  refusing = false;
}

int RefusedProducers::count() const {
  return refused;
}

}  // namespace outfall::test
