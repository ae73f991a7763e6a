// JSON as it is written for people and their tools.

#include <gtest/gtest.h>

#include "daemon/json_text.h"

namespace outfall {
namespace {

TEST(JsonText, WritesNumbersAsPeopleDo) {
  const boost::json::value value = {
      {"time", 1795295422.130573}, {"none", 0.0}, {"small", 0.25}, {"count", 12}, {"big", 1e300}};
  EXPECT_EQ(json_text(value),
            R"({"time":1795295422.130573,"none":0,"small":0.25,"count":12,"big":1e+300})");
}

TEST(JsonText, IsTheSameDocument) {
  for (const char* text :
       {R"({})", R"([])", R"([{},[],{"a":[{}]}])", R"({"a\"\n{":"}\u0001","b":null})",
        R"([true,false,-1,18446744073709551615,1.5,"ä"])"}) {
    const boost::json::value value = boost::json::parse(text);
    EXPECT_EQ(boost::json::parse(json_text(value)), value) << json_text(value);
  }
}

}  // namespace
}  // namespace outfall
