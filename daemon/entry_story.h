#pragma once

#include <ostream>

#include <boost/json.hpp>

namespace outfall {

// The document of explain_entry() as people read it: one paragraph a stream, what was done to the
// entry by hand, and what to do next. Pure.
void write_story(std::ostream& out, const boost::json::object& explained);

}  // namespace outfall
