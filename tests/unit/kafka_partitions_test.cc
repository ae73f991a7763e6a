#include <gtest/gtest.h>

#include "emitters/kafka/partitions.h"

namespace outfall::kafka {
namespace {

constexpr std::int32_t kAny = RD_KAFKA_PARTITION_UA;

TEST(KafkaPartitionsTest, APartitionTakesOneUntilItIsKnown) {
  KnownPartitions partitions;
  EXPECT_TRUE(partitions.begin(3));
  EXPECT_FALSE(partitions.begin(3));
  EXPECT_TRUE(partitions.begin(4));
  partitions.end(3);
  EXPECT_TRUE(partitions.begin(3));
  partitions.end(3);
  partitions.acknowledged(3);
  EXPECT_TRUE(partitions.knows(3));
  EXPECT_FALSE(partitions.knows(4));
}

TEST(KafkaPartitionsTest, OneThatMayGoAnywhereGoesAlone) {
  KnownPartitions partitions;
  EXPECT_TRUE(partitions.begin(kAny));
  EXPECT_FALSE(partitions.begin(kAny));
  EXPECT_FALSE(partitions.begin(0));
  partitions.end(kAny);
  EXPECT_TRUE(partitions.begin(0));
  EXPECT_FALSE(partitions.begin(kAny));
}

TEST(KafkaPartitionsTest, OnceItIsPlacedTheOthersAreFree) {
  KnownPartitions partitions;
  EXPECT_TRUE(partitions.begin(kAny));
  partitions.place(2);
  EXPECT_FALSE(partitions.begin(2));
  EXPECT_TRUE(partitions.begin(1));
}

TEST(KafkaPartitionsTest, ItIsCompleteWithAllOfThemAndANewProducerKnowsNone) {
  KnownPartitions partitions;
  EXPECT_FALSE(partitions.complete(0));
  partitions.acknowledged(0);
  EXPECT_FALSE(partitions.complete(2));
  partitions.acknowledged(1);
  partitions.acknowledged(1);
  EXPECT_TRUE(partitions.complete(2));
  EXPECT_FALSE(partitions.complete(3));
  partitions.clear();
  EXPECT_FALSE(partitions.complete(2));
  EXPECT_FALSE(partitions.knows(1));
}

}  // namespace
}  // namespace outfall::kafka
