#include "config/suggest.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/text.h"

namespace outfall {
namespace {

// Edits that turn one text into the other: insertion, deletion, substitution and the swap of
// neighbours, each once per place (optimal string alignment).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower_ascii(a[i - 1]) == lower_ascii(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower_ascii(a[i - 1]) == lower_ascii(b[j - 2]) &&
          lower_ascii(a[i - 2]) == lower_ascii(b[j - 1])) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string_view nearest(std::string_view given, std::span<const std::string_view> candidates) {
  // Longer names would cost quadratic time, and nobody mistypes a name of this length.
  constexpr std::size_t kLongest = 128;
  if (given.empty() || given.size() > kLongest) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, given.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t edits = distance(given, candidate);
    // A beginning, such as `warn` for `warning`.
    if (given.size() >= 3 && candidate.size() > given.size() && candidate.starts_with(given) &&
        best.empty()) {
      best = candidate;
    }
    // Replacing all of a short word is not a likely mistake.
    if (edits < best_distance && edits < candidate.size()) {
      best = candidate;
      best_distance = edits;
    }
  }
  return best;
}

std::string enumerate(std::span<const std::string_view> items) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += i + 1 == items.size() ? " and " : ", ";
    text += items[i];
  }
  return text;
}

}  // namespace outfall
