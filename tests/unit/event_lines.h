#pragma once

#include <string>
#include <vector>

#include "tests/support/emitter_conformance.h"

namespace outfall::test {

// The lines of a text, all of which must be whole.
[[nodiscard]] std::vector<std::string> lines_of(const std::string& text);

// What a consumer sees in lines of CloudEvents JSON; throws where one is none. The text of `data`
// is cut out of the line, since it has to be what the producer wrote, which a parser does not keep.
[[nodiscard]] ConformanceSubject::Received received_from(const std::string& line);
[[nodiscard]] std::vector<ConformanceSubject::Received> received_from_lines(
    const std::string& text);

}  // namespace outfall::test
