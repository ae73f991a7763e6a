#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

// Names for clang's thread-safety analysis, which checks at compile time, as an error, that what is
// guarded by a mutex is used with it only. Other compilers see nothing of them.
#if defined(__clang__)
#define OUTFALL_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define OUTFALL_THREAD_SAFETY(attribute)
#endif
// Of a member: it is read and written with the mutex only.
#define OUTFALL_GUARDED_BY(mutex) OUTFALL_THREAD_SAFETY(guarded_by(mutex))
// Of a function: its caller has the mutex.
#define OUTFALL_REQUIRES(mutex) OUTFALL_THREAD_SAFETY(requires_capability(mutex))

namespace outfall {

// std::mutex, whose locks the analysis sees; that of the standard library is not annotated. Taken
// by a MutexLock only.
class OUTFALL_THREAD_SAFETY(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Has the mutex as long as it lives, but for what lies between unlock() and lock().
class OUTFALL_THREAD_SAFETY(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) OUTFALL_THREAD_SAFETY(acquire_capability(mutex))
      : lock_(mutex.mutex_) {}
  ~MutexLock() OUTFALL_THREAD_SAFETY(release_capability()) = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() OUTFALL_THREAD_SAFETY(release_capability()) { lock_.unlock(); }
  void lock() OUTFALL_THREAD_SAFETY(acquire_capability()) { lock_.lock(); }

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// std::condition_variable over a MutexLock. Waits end for no reason as well, so they stand in a
// loop that asks for what is waited for: the analysis sees that question under the mutex, and would
// not in a predicate.
class Condition {
 public:
  void wait(MutexLock& lock) { condition_.wait(lock.lock_); }
  // False once the time has come.
  template <typename Clock, typename Duration>
  bool wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> until) {
    return condition_.wait_until(lock.lock_, until) == std::cv_status::no_timeout;
  }
  template <typename Rep, typename Period>
  void wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> at_most) {
    condition_.wait_for(lock.lock_, at_most);
  }
  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace outfall
