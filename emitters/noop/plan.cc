#include "emitters/noop/plan.h"

#include <cstring>

#include "core/number.h"

namespace outfall {
namespace {

constexpr std::string_view kAnswersHint =
    "known answers: retryable_failure, possibly_delivered, connection_lost, failed, dead_lettered, "
    "deferred, destination_unavailable, pending, exception, blocked, shutdown";

std::optional<double> parse_share(std::string_view text) noexcept {
  const auto share = parse_number<double>(text);
  // The comparison is false for what is not a number, too.
  return share && *share >= 0 && *share <= 1 ? share : std::nullopt;
}

std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

}  // namespace

std::optional<NoopAnswer> noop_answer_from(std::string_view name) noexcept {
  if (name == "connection_lost") return NoopAnswer{OutcomeKind::possibly_delivered, true};
  const auto kind = outcome_kind_from(name);
  if (!kind || *kind == OutcomeKind::delivered) return std::nullopt;
  return NoopAnswer{*kind, false};
}

double noop_draw(const Uuid& envelope_id, std::int32_t attempts) noexcept {
  std::uint64_t halves[2];
  std::memcpy(halves, envelope_id.bytes.data(), sizeof halves);
  std::uint64_t value = mix(halves[0] + 0x9e3779b97f4a7c15U);
  value = mix(value ^ halves[1]);
  value = mix(value + static_cast<std::uint32_t>(attempts));
  return static_cast<double>(value >> 11) * 0x1p-53;
}

NoopPlan::NoopPlan(const SettingValues& settings) : crash_type_(settings.text("crash_type")) {
  double end = 0;
  for (const auto& [name, share] : settings.map("fail")) {
    end += parse_share(share).value_or(0);
    shares_.push_back({end, noop_answer_from(name).value_or(NoopAnswer{})});
  }
  for (const auto& [type, name] : settings.map("fail_types")) {
    types_.emplace(type, noop_answer_from(name).value_or(NoopAnswer{}));
  }
}

std::vector<SettingProblem> NoopPlan::problems(const SettingValues& settings) {
  std::vector<SettingProblem> problems;
  const auto report = [&](std::string_view table, const std::string& member, std::string message,
                          std::string_view hint) {
    problems.push_back({settings.origin(table),
                        std::string(table) + (member.empty() ? "" : '.' + member),
                        std::move(message), std::string(hint)});
  };
  double sum = 0;
  for (const auto& [name, share] : settings.map("fail")) {
    if (!noop_answer_from(name)) {
      report("fail", name, "\"" + name + "\" is not an answer", kAnswersHint);
    }
    const auto value = parse_share(share);
    if (!value) {
      report("fail", name, "\"" + share + "\" is not a share",
             "write a number from 0 to 1, as in \"0.1\"");
    }
    sum += value.value_or(0);
  }
  // Decimal fractions that add up to 1 may come to a little more in binary.
  if (sum > 1 + 1e-9) {
    report("fail", "", "the shares add up to more than 1", "lower them so that they fit into 1");
  }
  for (const auto& [type, name] : settings.map("fail_types")) {
    if (!noop_answer_from(name)) {
      report("fail_types", type, "\"" + name + "\" is not an answer", kAnswersHint);
    }
  }
  return problems;
}

bool NoopPlan::delivers_all() const noexcept {
  return shares_.empty() && types_.empty() && crash_type_.empty();
}

std::optional<NoopAnswer> NoopPlan::answer(const Envelope& envelope) const noexcept {
  if (!types_.empty()) {
    const auto found = types_.find(envelope.type);
    if (found != types_.end()) return found->second;
  }
  if (shares_.empty()) return std::nullopt;
  const double drawn = noop_draw(envelope.envelope_id, envelope.attempts);
  for (const Share& share : shares_) {
    if (drawn < share.end) return share.answer;
  }
  return std::nullopt;
}

bool NoopPlan::crashes_on(const Envelope& envelope) const noexcept {
  return !crash_type_.empty() && envelope.type == crash_type_;
}

}  // namespace outfall
