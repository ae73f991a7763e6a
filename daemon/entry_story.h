#pragma once

#include <boost/json.hpp>

#include "daemon/commands.h"

namespace outfall {

// The document of explain_entry() as people read it: one paragraph a stream, what was done to the
// entry by hand, and what to do next. `worker` is where a worker can be asked for what the database
// does not know, "" where that is not known either.
void write_story(const Context& context, const boost::json::object& explained,
                 const std::string& worker);

}  // namespace outfall
