// Which addresses webhooks connect to, in every form in which one can be written.
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>

#include <gtest/gtest.h>

#include "emitters/webhook/address_policy.h"

namespace outfall::webhook {
namespace {

using Mode = AddressPolicy::Mode;

bool allowed(const AddressPolicy& policy, const std::string& text) {
  const auto address = Address::parse(text);
  EXPECT_TRUE(address) << text;
  return policy.refusal(*address).empty();
}

struct Row {
  const char* address;
  bool by_default;
  bool public_only;
};

class AddressTable : public testing::TestWithParam<Row> {};

TEST_P(AddressTable, IsKept) {
  const auto& [address, by_default, public_only] = GetParam();
  EXPECT_EQ(allowed(AddressPolicy(Mode::any_but_link_local), address), by_default) << address;
  EXPECT_EQ(allowed(AddressPolicy(Mode::public_only), address), public_only) << address;
}

INSTANTIATE_TEST_SUITE_P(
    All, AddressTable,
    testing::Values(
        Row{"8.8.8.8", true, true}, Row{"1.1.1.1", true, true}, Row{"9.255.255.255", true, true},
        Row{"11.0.0.0", true, true}, Row{"172.15.255.255", true, true},
        Row{"172.32.0.0", true, true}, Row{"223.255.255.255", true, true},
        Row{"2606:4700::1111", true, true}, Row{"2a00:1450::1", true, true},
        Row{"2001:4860:4860::8888", true, true},
        // Internal: fine unless only public ones are wanted.
        Row{"127.0.0.1", true, false}, Row{"10.1.2.3", true, false}, Row{"172.16.0.1", true, false},
        Row{"172.31.255.255", true, false}, Row{"192.168.1.1", true, false},
        Row{"100.64.0.1", true, false}, Row{"0.0.0.0", true, false}, Row{"192.0.0.8", true, false},
        Row{"192.0.2.1", true, false}, Row{"192.88.99.1", true, false},
        Row{"198.18.0.1", true, false}, Row{"198.51.100.1", true, false},
        Row{"203.0.113.1", true, false}, Row{"224.0.0.1", true, false},
        Row{"240.0.0.1", true, false}, Row{"255.255.255.255", true, false}, Row{"::", true, false},
        Row{"::1", true, false}, Row{"fc00::1", true, false}, Row{"fd12:3456::1", true, false},
        Row{"ff02::1", true, false}, Row{"100::1", true, false}, Row{"2001:db8::1", true, false},
        Row{"3fff::1", true, false}, Row{"5f00::1", true, false}, Row{"fec0::1", true, false},
        // Link-local and metadata: never.
        Row{"169.254.169.254", false, false}, Row{"169.254.0.1", false, false},
        Row{"fe80::1", false, false}, Row{"febf::1", false, false},
        Row{"fd00:ec2::254", false, false}, Row{"fd20:ce::254", false, false},
        Row{"100.100.100.200", false, false}, Row{"168.63.129.16", false, false},
        // The same behind IPv6: mapped, compatible, NAT64, 6to4, Teredo.
        Row{"::ffff:169.254.169.254", false, false}, Row{"::169.254.169.254", false, false},
        Row{"64:ff9b::169.254.169.254", false, false}, Row{"64:ff9b::a9fe:a9fe", false, false},
        Row{"64:ff9b:1::169.254.169.254", false, false}, Row{"2002:a9fe:a9fe::1", false, false},
        Row{"2001:0:1234::5601:5601", false, false}, Row{"::ffff:127.0.0.1", true, false},
        Row{"64:ff9b::10.0.0.1", true, false}, Row{"2002:7f00:1::", true, false},
        Row{"::ffff:8.8.8.8", true, true}, Row{"64:ff9b::8.8.8.8", true, true},
        Row{"2002:808:808::1", true, true}));

INSTANTIATE_TEST_SUITE_P(ANat64PrefixOfANetworksOwnHidesNoMetadataService, AddressTable,
                         testing::Values(
                             // Of 48, 56 and 64 bits.
                             Row{"64:ff9b:1:a9fe:a9:fe00::", false, false},
                             Row{"64:ff9b:1:a9fe:00a9:fe00:1234:5678", false, false},
                             Row{"64:ff9b:1:12a9:fe:a9fe::", false, false},
                             Row{"64:ff9b:1:1234:a9:fea9:fe00:0", false, false},
                             Row{"64:ff9b:1:0808:0008:0800::", true, false},
                             Row{"64:ff9b:1:1234:a:1:200:0", true, false}));

TEST(AddressPolicy, DeniedRangesGoBeforeAllowedOnesAndTheseBeforeTheMode) {
  AddressPolicy policy(Mode::public_only);
  ASSERT_TRUE(policy.allow("10.0.0.0/8"));
  ASSERT_TRUE(policy.allow("169.254.7.0/24"));
  ASSERT_TRUE(policy.deny("10.9.0.0/16"));
  ASSERT_TRUE(policy.deny("8.8.8.8"));
  EXPECT_TRUE(allowed(policy, "10.1.2.3"));
  EXPECT_TRUE(allowed(policy, "::ffff:10.1.2.3"));
  EXPECT_FALSE(allowed(policy, "10.9.2.3"));
  EXPECT_TRUE(allowed(policy, "169.254.7.1"));
  EXPECT_FALSE(allowed(policy, "169.254.8.1"));
  EXPECT_FALSE(allowed(policy, "192.168.0.1"));
  EXPECT_FALSE(allowed(policy, "8.8.8.8"));
  EXPECT_FALSE(allowed(policy, "64:ff9b::8.8.8.8")) << "what is denied is denied in every form";
  EXPECT_FALSE(allowed(policy, "64:ff9b:1:0808:0008:0800::"));
  EXPECT_FALSE(allowed(policy, "64:ff9b::10.1.2.3")) << "what is allowed is so in its own form";
}

TEST(AddressPolicy, ARangeOfIpv6OpensNoAddressOfIpv4) {
  AddressPolicy policy(Mode::public_only);
  ASSERT_TRUE(policy.allow("::/0"));
  EXPECT_TRUE(allowed(policy, "::1"));
  for (const char* address : {"127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"})
    EXPECT_FALSE(allowed(policy, address)) << address;
  EXPECT_FALSE(AddressRange::parse("::/0")->contains(*Address::parse("1.2.3.4")));
  EXPECT_FALSE(AddressRange::parse("::/0")->contains(*Address::parse("::ffff:1.2.3.4")));
}

TEST(AddressPolicy, RangesEndWhereTheirBitsDo) {
  const auto range = AddressRange::parse("10.1.0.0/15");
  ASSERT_TRUE(range);
  EXPECT_TRUE(range->contains(*Address::parse("10.0.255.255")));
  EXPECT_TRUE(range->contains(*Address::parse("10.1.0.0")));
  EXPECT_FALSE(range->contains(*Address::parse("10.2.0.0")));
  EXPECT_TRUE(AddressRange::parse("::/0")->contains(*Address::parse("2606::1")));
  EXPECT_TRUE(AddressRange::parse("::/0")->contains(*Address::parse("::1")));
  EXPECT_TRUE(AddressRange::parse("0.0.0.0/0")->contains(*Address::parse("1.2.3.4")));
  EXPECT_FALSE(AddressRange::parse("0.0.0.0/0")->contains(*Address::parse("2606::1")));
  for (const char* wrong : {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8", "::/129",
                            "host/8", "10.0.0.0/8x", "10.0.0.0 /8"}) {
    EXPECT_FALSE(AddressRange::parse(wrong)) << wrong;
  }
}

TEST(AddressPolicy, ReadsTheKernelsForm) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  ::inet_pton(AF_INET, "192.168.7.9", &v4.sin_addr);
  EXPECT_EQ(Address::from(reinterpret_cast<const sockaddr*>(&v4))->to_string(), "192.168.7.9");
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  ::inet_pton(AF_INET6, "fe80::1", &v6.sin6_addr);
  EXPECT_EQ(Address::from(reinterpret_cast<const sockaddr*>(&v6))->to_string(), "fe80::1");
  v6.sin6_family = AF_UNIX;
  EXPECT_FALSE(Address::from(reinterpret_cast<const sockaddr*>(&v6)));
}

}  // namespace
}  // namespace outfall::webhook
