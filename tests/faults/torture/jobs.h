#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/faults/torture/plan.h"
#include "tests/faults/torture/report.h"

namespace outfall::torture {

// Several runs at a time, since most of a run is waiting: each in one of several processes of the
// same program. A process has servers, a broker and folders of its own, and ports that no other
// test process gets (free_port()). It gets its next run when it has played one, so that all of them
// end at about the same time, and a run is the same whoever plays it.
struct Jobs {
  int count = 2;
  // Plays what it reads from standard input, the name of a run on each line, and writes to_line()
  // of its result to standard output; ends with 0 where its input ends.
  std::vector<std::string> command;
  std::map<std::string, std::string> environment = {};  // on top of this process's
};

// Blocks until all are played. The report gets each result as it comes, and has them in the order
// of `cases` in the end. A process that ends by itself fails the run that it was at and is
// replaced; one that ends otherwise than with 0 after its last run is a problem of the report. Its
// standard error is passed on by whole lines. Where this process ends, however it does, the reaper
// ends the others, and theirs what they have started.
//
// From now on this process ignores SIGPIPE. One thread. Throws std::system_error where no process
// can be started.
void play_in_jobs(const Jobs& jobs, const std::vector<Case>& cases, Report& report);

}  // namespace outfall::torture
