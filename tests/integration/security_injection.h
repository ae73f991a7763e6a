#pragma once

#include <string>
#include <vector>

#include "tests/integration/operate_fixture.h"

namespace outfall::test {

// Each would show in its own way that it was read as something else than a text.
extern const std::vector<std::string> kTexts;
// For what takes a process each.
extern const std::vector<std::string> kFewTexts;

class SecurityInjection : public OperateTest {
 protected:
  // The schema as it was made, and the roles of the server.
  std::string inventory();
  // An entry of the stream orders with the text in every place that takes one, and with two
  // headers: `ext`, and one whose name ends with it.
  EntryId add(const std::string& text);
  // A replay of what is dead-lettered in orders, which nobody runs yet; its number is also job_.
  const std::string& new_job();
  // Of another type a payload of JSON would be told in another way.
  static std::string json_type(const std::string& text) { return "application/json; x=" + text; }

  std::string job_;
};

}  // namespace outfall::test
