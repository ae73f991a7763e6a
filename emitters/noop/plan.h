#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/envelope.h"
#include "core/outcome.h"
#include "core/setting.h"

namespace outfall {

// How an entry is answered that is not delivered.
struct NoopAnswer {
  OutcomeKind kind = OutcomeKind::failed;
  bool connection_lost = false;
};

// By its name in the settings: an outcome's name except "delivered", or "connection_lost".
[[nodiscard]] std::optional<NoopAnswer> noop_answer_from(std::string_view name) noexcept;

// A number in [0, 1) that depends on the envelope and the attempt alone. The shares of `fail` are
// laid end to end from 0 on in the order of their names; an attempt gets the answer its number
// falls into.
[[nodiscard]] double noop_draw(const Uuid& envelope_id, std::int32_t attempts) noexcept;

// The settings `fail`, `fail_types` and `crash_type`, resolved. Immutable; safe from any thread.
class NoopPlan {
 public:
  // The settings must have no problems().
  explicit NoopPlan(const SettingValues& settings);

  // What is wrong with them by the rules that rows cannot say: names of answers, sums of shares.
  [[nodiscard]] static std::vector<SettingProblem> problems(const SettingValues& settings);

  // True when every entry is delivered, so that none needs a look.
  [[nodiscard]] bool delivers_all() const noexcept;

  // nullopt: delivered.
  [[nodiscard]] std::optional<NoopAnswer> answer(const Envelope& envelope) const noexcept;
  // Whether this entry kills the worker, as `crash_type` asks.
  [[nodiscard]] bool crashes_on(const Envelope& envelope) const noexcept;

 private:
  struct Share {
    double end = 0;  // where it ends on [0, 1)
    NoopAnswer answer;
  };
  std::vector<Share> shares_;
  std::map<std::string, NoopAnswer, std::less<>> types_;
  std::string crash_type_;
};

}  // namespace outfall
