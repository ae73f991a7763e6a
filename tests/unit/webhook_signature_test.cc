// Standard Webhooks signatures against the published test vectors.
#include <gtest/gtest.h>

#include "emitters/webhook/signature.h"

namespace outfall::webhook {
namespace {

// From the specification's own tests, and Svix's for the asymmetric one.
constexpr std::string_view kId = "msg_p5jXN8AQM9LWM0D4loKWxJek";
constexpr std::int64_t kTimestamp = 1'614'265'330;
constexpr std::string_view kBody = "{\"test\": 2432232314}";
constexpr std::string_view kSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
constexpr std::string_view kV1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
constexpr std::string_view kPair =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    "";
constexpr std::string_view kPublic = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
constexpr std::string_view kV1a =
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

std::string sign(const std::vector<std::string_view>& keys, std::string_view body = kBody) {
  Signer signer;
  for (const std::string_view key : keys) EXPECT_EQ(signer.add_key(key), std::nullopt);
  std::string first;
  signer.append_signatures(first, kId, kTimestamp, body);
  std::string again = "before ";
  signer.append_signatures(again, kId, kTimestamp, body);
  EXPECT_EQ(again, "before " + first) << "a signer is used again and again";
  return first;
}

TEST(WebhookSignature, MatchesTheVectors) {
  EXPECT_EQ(sign({kSecret}), kV1);
  EXPECT_EQ(sign({kPair}), kV1a);
}

TEST(WebhookSignature, TakesTheSeedAlone) {
  EXPECT_EQ(sign({"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="}), kV1a);
}

TEST(WebhookSignature, SignsWithEveryKeyTheNewestFirst) {
  constexpr std::string_view kOther = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
  const std::string other = sign({kOther});
  EXPECT_NE(other, kV1);
  EXPECT_EQ(sign({kOther, kPair, kSecret}),
            other + " " + std::string(kV1a) + " " + std::string(kV1));
}

TEST(WebhookSignature, SignsNothingAndMuch) {
  EXPECT_NE(sign({kSecret}, ""), sign({kSecret}, std::string(1, '\0')));
  EXPECT_EQ(sign({kSecret, kPair}, std::string(2 << 20, 'x')).size(), kV1.size() + 1 + kV1a.size());
}

TEST(WebhookSignature, TellsThePublicKeys) {
  Signer signer;
  ASSERT_EQ(signer.add_key(kSecret), std::nullopt);
  ASSERT_EQ(signer.add_key(kPair), std::nullopt);
  EXPECT_EQ(signer.public_keys(), std::vector<std::string>{std::string(kPublic)});
}

TEST(WebhookSignature, RefusesWhatIsNoKeyWithoutQuotingIt) {
  for (const char* key :
       {"", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "whsec_", "whsec_MfKQ9r8GKYqrTwjUPD8ILA==", "whsec_####################################",
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}) {
    Signer signer;
    const auto problem = signer.add_key(key);
    ASSERT_TRUE(problem) << key;
    EXPECT_TRUE(signer.empty());
    EXPECT_EQ(problem->find("MfKQ"), std::string::npos);
  }
}

}  // namespace
}  // namespace outfall::webhook
