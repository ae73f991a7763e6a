#include "tests/support/hanging_lookups.h"

#include <condition_variable>
#include <dlfcn.h>
#include <mutex>
#include <netdb.h>
#include <string_view>

#include "tests/support/wait_until.h"

namespace {

// Lookups of names below hang.test wait here.
struct Hanging {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t waiting = 0;
  bool may_hang = false;
};

// Never destroyed: threads of lookups may outlive main().
Hanging& hanging() {
  static auto& all = *new Hanging;
  return all;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int getaddrinfo(const char* name,
                                                                  const char* service,
                                                                  const addrinfo* hints,
                                                                  addrinfo** found) {
  using Function = decltype(&::getaddrinfo);
  static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  if (name == nullptr || !std::string_view(name).ends_with(".hang.test")) {
    return real(name, service, hints, found);
  }
  Hanging& all = hanging();
  std::unique_lock lock(all.mutex);
  ++all.waiting;
  all.changed.wait(lock, [&] { return !all.may_hang; });
  --all.waiting;
  return EAI_AGAIN;
}

namespace outfall::test {

HangingLookups::HangingLookups() {
  const std::lock_guard lock(hanging().mutex);
  hanging().may_hang = true;
}

HangingLookups::~HangingLookups() {
  end();
  wait_until([this] { return waiting() == 0; }, "the lookups to end");
}

std::size_t HangingLookups::waiting() const {
  const std::lock_guard lock(hanging().mutex);
  return hanging().waiting;
}

void HangingLookups::end() {
  const std::lock_guard lock(hanging().mutex);
  hanging().may_hang = false;
  hanging().changed.notify_all();
}

}  // namespace outfall::test
