#include "core/status.h"

#include <array>

namespace outfall {
namespace {

struct Name {
  EntryStatus status;
  std::string_view text;
};

constexpr auto kStatusNames = std::to_array<Name>({
    {EntryStatus::pending, "pending"},
    {EntryStatus::held, "held"},
    {EntryStatus::delivered, "delivered"},
    {EntryStatus::deferred, "deferred"},
    {EntryStatus::failed, "failed"},
    {EntryStatus::retryable_failure, "retryable_failure"},
    {EntryStatus::dead_lettered, "dead_lettered"},
});

}  // namespace

std::string_view to_string(EntryStatus status) noexcept {
  for (const Name& name : kStatusNames) {
    if (name.status == status) return name.text;
  }
  return "unknown";
}

std::optional<EntryStatus> entry_status_from(std::string_view name) noexcept {
  for (const Name& known : kStatusNames) {
    if (known.text == name) return known.status;
  }
  return std::nullopt;
}

std::optional<EntryStatus> entry_status_from_code(std::int64_t code) noexcept {
  for (const Name& known : kStatusNames) {
    if (outfall::code(known.status) == code) return known.status;
  }
  return std::nullopt;
}

bool is_terminal(EntryStatus status) noexcept {
  switch (status) {
    case EntryStatus::delivered:
    case EntryStatus::failed:
    case EntryStatus::dead_lettered:
      return true;
    case EntryStatus::pending:
    case EntryStatus::held:
    case EntryStatus::deferred:
    case EntryStatus::retryable_failure:
      return false;
  }
  return false;
}

bool is_legal(EntryStatus from, EntryStatus to) noexcept {
  if (from == to) return true;
  if (is_terminal(from)) return false;
  // A failed outcome is stored as a dead letter, so no live entry ever shows `failed`.
  return to != EntryStatus::failed;
}

}  // namespace outfall
