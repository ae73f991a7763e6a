#include "drain/presence_watch.h"

#include <limits>
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
  const MutexLock lock(mutex_);
  workers_ = std::move(workers);
}

std::uint64_t PresenceWatch::look_now() {
  std::uint64_t asked = 0;
  {
    const MutexLock lock(mutex_);
    if (none_) return 0;
    asked = ++looks_asked_;
  }
  wake_.notify_all();
  return asked;
}

void PresenceWatch::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool PresenceWatch::pause(Milliseconds duration) {
  MutexLock lock(mutex_);
  const MonotonicTime until = std::chrono::steady_clock::now() + duration;
  while (!stopping_ && looks_asked_ == looks_begun_ && wake_.wait_until(lock, until)) {
  }
  return !stopping_;
}

void PresenceWatch::work() {
  std::unique_ptr<Presence> presence;
  do {
    std::uint64_t looks = 0;
    {
      const MutexLock lock(mutex_);
      looks = looks_begun_ = looks_asked_;
    }
    try {
      if (presence == nullptr) {
        presence = open_();
        observer_.held();
        if (presence == nullptr) {
          {
            const MutexLock lock(mutex_);
            none_ = true;
          }
          observer_.looked(std::numeric_limits<std::uint64_t>::max(), {});
          return;
        }
      }
      std::vector<Uuid> workers;
      {
        const MutexLock lock(mutex_);
        workers = workers_;
      }
      observer_.looked(looks, presence->absent(workers));
    } catch (const StoreError& error) {
      // A look that only failed says nothing about the lock, which is the session's.
      if (presence != nullptr && presence->held() && !error.session_lost()) {
        observer_.failed(looks, error);
      } else {
        const bool connecting = presence == nullptr;
        presence.reset();
        observer_.lost(error, connecting);
      }
    }
  } while (pause(kLookEvery));
}

}  // namespace outfall
