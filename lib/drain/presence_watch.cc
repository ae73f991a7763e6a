#include "drain/presence_watch.h"

#include <utility>

namespace outfall {

namespace {

constexpr Milliseconds kLookEvery{250};

}  // namespace

PresenceWatch::PresenceWatch(std::function<std::unique_ptr<Presence>()> open, Observer observer)
    : open_(std::move(open)), observer_(std::move(observer)), thread_([this] { work(); }) {
}

PresenceWatch::~PresenceWatch() {
  stop();
}

void PresenceWatch::watch(std::vector<Uuid> workers) {
  const std::lock_guard lock(mutex_);
  workers_ = std::move(workers);
}

void PresenceWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool PresenceWatch::pause(Milliseconds duration) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, duration, [&] { return stopping_; });
}

void PresenceWatch::work() {
  std::unique_ptr<Presence> presence;
  do {
    try {
      if (presence == nullptr) {
        presence = open_();
        observer_.held();
        if (presence == nullptr) return;
      }
      std::vector<Uuid> workers;
      {
        const std::lock_guard lock(mutex_);
        workers = workers_;
      }
      observer_.dead(presence->absent(workers));
    } catch (const StoreError& error) {
      presence.reset();
      observer_.lost(error);
    }
  } while (pause(kLookEvery));
}

}  // namespace outfall
