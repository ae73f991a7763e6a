#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/mutex.h"
#include "store/outbox_store.h"

namespace outfall {

// Holds this worker's presence on a connection and thread of its own, and watches others'. While it
// has none, others may think this worker dead and take its leases: then `lost` was called last, and
// no delivery may begin until `held` is.
//
// Callbacks run on the watch's thread. watch() may be called from any thread.
class PresenceWatch {
 public:
  struct Observer {
    std::function<void()> held;
    // `connecting`: there was none, and no connection was to be had.
    std::function<void(const StoreError&, bool connecting)> lost;
    // A look has failed, and this worker is present as before: how many had been asked for when it
    // began. Nobody is known to be absent.
    std::function<void(std::uint64_t, const StoreError&)> failed;
    // A look has found this worker present: how many have been asked for when it began, and the
    // workers seen absent for long enough. Where there is no presence: once, with all looks to
    // come.
    std::function<void(std::uint64_t, std::vector<Uuid>)> looked;
  };

  // `open` returns null where there is no presence (a transaction pooler): then the watch ends at
  // once, `held` is called and expiry alone decides.
  PresenceWatch(std::function<std::unique_ptr<Presence>()> open, Observer observer);
  ~PresenceWatch();
  PresenceWatch(const PresenceWatch&) = delete;
  PresenceWatch& operator=(const PresenceWatch&) = delete;

  // The workers to look for from now on.
  void watch(std::vector<Uuid> workers);
  // Looks at once; the number that `looked` has to reach, or 0 where there is no presence.
  std::uint64_t look_now();
  void stop();

 private:
  void work();
  // False when the watch stops.
  bool pause(Milliseconds duration);

  const std::function<std::unique_ptr<Presence>()> open_;
  const Observer observer_;
  Mutex mutex_;
  Condition wake_;
  std::vector<Uuid> workers_ OUTFALL_GUARDED_BY(mutex_);
  std::uint64_t looks_asked_ OUTFALL_GUARDED_BY(mutex_) = 0;
  std::uint64_t looks_begun_ OUTFALL_GUARDED_BY(mutex_) = 0;
  bool none_ OUTFALL_GUARDED_BY(mutex_) = false;  // there is no presence to look after
  bool stopping_ OUTFALL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace outfall
