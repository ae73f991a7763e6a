// Goal: a function on a stack of its own waits where it likes, ends, and lets go of what it holds
// when it is given up in the middle. Method: fibers resumed one after the other, nested waits,
// exceptions inside them.

#include "tests/faults/simulation_fiber.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace outfall::test::simulation {
namespace {

TEST(Fiber, GoesOnWhereItWaited) {
  std::vector<int> seen;
  Fiber* self = nullptr;
  Fiber fiber([&] {
    for (int i = 1; i <= 3; ++i) {
      seen.push_back(i);
      self->wait();
    }
  });
  self = &fiber;
  EXPECT_FALSE(fiber.resume());
  seen.push_back(10);
  EXPECT_FALSE(fiber.resume());
  seen.push_back(20);
  EXPECT_FALSE(fiber.resume());
  EXPECT_TRUE(fiber.resume());
  EXPECT_EQ(seen, (std::vector{1, 10, 2, 20, 3}));
}

// As many as there are calls under way, which are answered in any order.
TEST(Fiber, ManyWaitAtTheSameTime) {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::string ended;
  for (int i = 0; i < 5; ++i) {
    fibers.push_back(std::make_unique<Fiber>([&fibers, &ended, i] {
      const std::string name = std::to_string(i);
      fibers[static_cast<std::size_t>(i)]->wait();
      ended += name;
    }));
  }
  for (const auto& fiber : fibers) EXPECT_FALSE(fiber->resume());
  for (const std::size_t i : {3U, 0U, 4U, 2U, 1U}) EXPECT_TRUE(fibers[i]->resume());
  EXPECT_EQ(ended, "30421");
}

TEST(Fiber, OneThatIsGivenUpLetsGoOfWhatItHolds) {
  const auto held = std::make_shared<int>(1);
  bool went_on = false;
  {
    Fiber* self = nullptr;
    Fiber fiber([&self, &went_on, held] {
      const std::vector<std::shared_ptr<int>> more(3, held);
      self->wait();
      went_on = true;
    });
    self = &fiber;
    EXPECT_FALSE(fiber.resume());
    EXPECT_EQ(held.use_count(), 5);
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(went_on);
}

TEST(Fiber, OneThatNeverBeganLetsGoOfItToo) {
  const auto held = std::make_shared<int>(1);
  {
    const Fiber fiber([held] {});
  }
  EXPECT_EQ(held.use_count(), 1);
}

// What a call of the model throws is caught inside the fiber, before and after it has waited.
TEST(Fiber, CatchesWhatIsThrownInside) {
  std::string caught;
  Fiber* self = nullptr;
  Fiber fiber([&] {
    for (int i = 0; i < 2; ++i) {
      try {
        if (i == 1) self->wait();
        throw std::runtime_error("thrown " + std::to_string(i) + ";");
      } catch (const std::runtime_error& error) {
        caught += error.what();
      }
    }
  });
  self = &fiber;
  EXPECT_FALSE(fiber.resume());
  EXPECT_TRUE(fiber.resume());
  EXPECT_EQ(caught, "thrown 0;thrown 1;");
}

}  // namespace
}  // namespace outfall::test::simulation
