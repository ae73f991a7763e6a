#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/envelope.h"

namespace outfall::fuzz {

// Inputs are texts, so that a corpus can be read; "\x00" is a byte that no text shows, and every
// other byte stands for itself.
[[nodiscard]] std::string unescaped(std::string_view text);

// An entry as a text: lines of `name: value`, an empty line, the payload.
//
//   type: order.placed
//   key: 42
//   headers: {"traceparent":"00-1-2-01"}
//   payload: json                 or binary or none; binary where it is no JSON
//
//   {"order": 42}
//
// Names that are no attribute are kept as options of the target.
class EntryText {
 public:
  explicit EntryText(std::string_view input);
  EntryText(const EntryText&) = delete;
  EntryText& operator=(const EntryText&) = delete;

  [[nodiscard]] const Envelope& envelope() const { return envelope_; }
  [[nodiscard]] std::string_view option(std::string_view name) const;

 private:
  void fill();

  std::map<std::string, std::string, std::less<>> lines_;
  std::string payload_;
  Envelope envelope_;
};

}  // namespace outfall::fuzz
