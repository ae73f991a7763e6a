#pragma once

#include <functional>
#include <span>

#include "core/clock.h"
#include "core/ids.h"
#include "drain/database_pool.h"
#include "drain/options.h"
#include "emitter/emitter.h"
#include "telemetry/log.h"

namespace outfall {

class StreamDrain;

// What the streams of a worker share. Implemented by Drain; called on the loop thread only.
class DrainHost {
 public:
  virtual ~DrainHost() = default;
  [[nodiscard]] virtual const DrainOptions& options() const = 0;
  [[nodiscard]] virtual MonotonicTime now() const = 0;
  [[nodiscard]] virtual Random& random() = 0;
  [[nodiscard]] virtual Logger& log() = 0;
  // Runs `job` on the database pool and then `done` or `failed` on the loop thread.
  virtual void submit(DatabasePool::Job job) = 0;
  virtual void post(std::function<void()> handler) = 0;
  // Runs `handler` on the loop thread at about `when`.
  virtual void post_at(MonotonicTime when, std::function<void()> handler) = 0;

  // Entries, and the bytes of their payloads and headers.
  struct Amount {
    std::int32_t entries = 0;
    std::int64_t bytes = 0;
    friend Amount operator+(Amount a, Amount b) {
      return {a.entries + b.entries, a.bytes + b.bytes};
    }
    friend Amount operator-(Amount a, Amount b) {
      return {a.entries - b.entries, a.bytes - b.bytes};
    }
  };
  // How much more the stream's claim may take now.
  [[nodiscard]] virtual Amount allowance(const StreamDrain& stream) const = 0;
  // A claim begins that may bring `most`: until it has ended, that counts against everybody's
  // allowance, or the claims of several streams would each take the same room.
  virtual void claim_begins(const StreamDrain& stream, Amount most) = 0;
  // Gives back `most` of that: `came` of it is held from here on, and the rest will not come.
  virtual void claim_brings(const StreamDrain& stream, Amount most, Amount came) = 0;
  // An entry that was held has its outcome.
  virtual void let_go(const StreamDrain& stream, std::int64_t bytes) = 0;
  // Outcomes wait to be written, and count against the allowance until they are, or are given up:
  // a database that does not take them would else bring more and more into memory.
  virtual void unwritten(Amount more) = 0;
  virtual void written(Amount amount) = 0;
  // The stream had no room for a claim: it is looked at as soon as some entry has its outcome, or a
  // claim has brought less than it might.
  virtual void wants_room(StreamDrain& stream) = 0;
  // The stream wants to be looked at no later than `when`.
  virtual void look_at(StreamDrain& stream, MonotonicTime when) = 0;
  // A claim slot is free again, and the server may be found to have restarted.
  virtual void claim_ended() = 0;
  // Gives up all leases where the server is found to have restarted.
  virtual void recover_leases() = 0;
  // Changes each time that others see this worker alive again after a time in which they may not
  // have.
  [[nodiscard]] virtual std::uint64_t presence() const = 0;
  // False while others may think this worker dead, or it is stopping: nothing new is sent.
  [[nodiscard]] virtual bool may_send() const = 0;
  // Also false while it is not certain that others see this worker alive: nothing new is leased.
  [[nodiscard]] virtual bool may_claim() const = 0;
  [[nodiscard]] virtual std::vector<Uuid> dead_workers() const = 0;
  virtual void saw_workers(const StreamDrain& stream, const std::vector<Uuid>& workers) = 0;
};

}  // namespace outfall
