#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tests/faults/torture/database.h"
#include "tests/faults/torture/history.h"
#include "tests/faults/torture/load.h"
#include "tests/faults/torture/plan.h"
#include "tests/faults/torture/sink.h"

namespace outfall::torture {

// Who operates the stream while a fault strikes, in runs of a shape for which somebody does: pauses
// it and has it go on, or replays its dead letters. Like a person it tries again while the database
// is away. Used by the run's thread only.
class Operator {
 public:
  struct Options {
    const Plan& plan;
    History& history;
    Servers& servers;
    std::string database;
    std::string outfall;  // the binary under test
    Sink& sink;
    Load& load;
    std::function<void(const std::string&)> complain;
  };
  virtual ~Operator() = default;
  // Before the faults: what there must be to be operated. Blocks.
  virtual void prepare() {}
  // Every few milliseconds, with whether a fault has struck by now.
  virtual void tick(bool struck) = 0;
  // After the faults; returns when it is done.
  virtual void finish() = 0;
};
// Null where nobody operates.
[[nodiscard]] std::unique_ptr<Operator> make_operator(const Operator::Options& options);

// Lines of the table [streams.orders] that a shape adds.
[[nodiscard]] std::string stream_settings(const std::string& shape);
// The same for the history checker, which has other rules for such a stream.
void tell_stream(const std::string& shape, History& history);

}  // namespace outfall::torture
