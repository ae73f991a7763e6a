#pragma once

#include <string>
#include <string_view>

#include "emitter/registry.h"

namespace outfall {

// docs/reference/configuration.md, whole. Names no kind of emitter, so that adding one changes only
// that emitter's own page.
[[nodiscard]] std::string reference_markdown();

// The settings of one kind of emitter: the part of docs/reference/emitters/<kind>.md between the
// lines kSettingsBegin and kSettingsEnd.
[[nodiscard]] std::string emitter_markdown(const EmitterKind& kind);
inline constexpr std::string_view kSettingsBegin = "<!-- settings: generated -->\n";
inline constexpr std::string_view kSettingsEnd = "<!-- end of settings -->\n";

// ops/outfall.sample.toml: a configuration that works, with every other setting commented out at
// its default.
[[nodiscard]] std::string reference_sample();

// A text cut into lines of at most `width` bytes, each with `indent` in front.
[[nodiscard]] std::string wrapped(std::string_view text, std::string_view indent,
                                  std::size_t width = 100);

}  // namespace outfall
