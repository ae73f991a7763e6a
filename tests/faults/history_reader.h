#pragma once

#include <iosfwd>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/faults/history.h"

namespace outfall::test::history {

// A line that is no record, or says what cannot be.
class BadRecord : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Takes in one record. Throws BadRecord; the history must not be used after that.
void read_record(std::string_view line, History& history);

// Takes in all lines of a file; empty ones are skipped. `name` and the line's number are in what
// BadRecord says. Memory: one line at a time beside the history.
void read_records(std::istream& in, const std::string& name, History& history);

}  // namespace outfall::test::history
