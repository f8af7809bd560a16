/*
 * pems/address_test.c
 *		Unit tests of src/pems/address.c.
 */
#include "unit.h"

#include <netinet/in.h>
#include <string.h>

#include "pems/address.h"

/* The kind of a numeric address; -1: it is a name. */
static int
kind_of(const char *host)
{
	PemsAddressKind kind;

	return pems_address_read(host, &kind) ? (int) kind : -1;
}

static void
check_kinds(const char *const *hosts, size_t count, int kind)
{
	for (size_t i = 0; i < count; i++)
	{
		if (!CHECK_INT(kind_of(hosts[i]), kind))
			unit_note("host: %s", hosts[i]);
	}
}
#define CHECK_KINDS(hosts, kind) check_kinds((hosts), sizeof(hosts) / sizeof((hosts)[0]), (kind))

UNIT_TEST(addresses_of_this_machine)
{
	static const char *const hosts[] = {"127.0.0.1", "127.255.255.254",  "::1",
										"[::1]",     "::ffff:127.0.0.1", "::127.0.0.1"};

	CHECK_KINDS(hosts, PEMS_ADDRESS_LOOPBACK);
}

UNIT_TEST(addresses_that_must_not_be_called)
{
	static const char *const hosts[] = {
		"0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1",
		/* IPv6: unspecified, low ones, link-local, multicast */
		"::", "::2", "::ff", "::1:0", "fe80::1", "febf::1", "ff02::1",
		/* IPv4 in them: mapped, compatible, behind a translator, 6to4 */
		"::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe",
		"2002:7f00:1::", "2002:a9fe:a9fe::1"};

	CHECK_KINDS(hosts, PEMS_ADDRESS_FORBIDDEN);
}

UNIT_TEST(addresses_of_other_machines)
{
	static const char *const hosts[] = {
		"10.1.2.3",   "198.51.100.7",        "2001:db8::1", "[2001:db8::1]",
		"fec0::1",    "::ffff:198.51.100.7", "fc00::1",     "64:ff9b::198.51.100.7",
		"::10.1.2.3", "2002:c633:6407::1",   "fe00::1",     "64:ff9b:1::127.0.0.1"};

	CHECK_KINDS(hosts, PEMS_ADDRESS_ORDINARY);
}

UNIT_TEST(names_are_no_addresses)
{
	static const char *const hosts[] = {"",
										"localhost",
										"pems.example.com",
										"127.1",
										"2130706433",
										"[127.0.0.1",
										"1:2:3:4:5:6:7:8:9:1111:2222:3333:4444:5555"};

	CHECK_KINDS(hosts, -1);
}

UNIT_TEST(a_socket_address_is_classified_alike)
{
	struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr other = {.sa_family = AF_UNIX};

	CHECK_INT(pems_address_classify((struct sockaddr *) &ipv4), PEMS_ADDRESS_LOOPBACK);
	CHECK_INT(pems_address_classify((struct sockaddr *) &ipv6), PEMS_ADDRESS_LOOPBACK);
	CHECK_INT(pems_address_classify(&other), PEMS_ADDRESS_FORBIDDEN);
}

UNIT_TEST(names_of_this_machine)
{
	CHECK(pems_address_is_loopback("localhost"));
	CHECK(pems_address_is_loopback("LOCALHOST."));
	CHECK(pems_address_is_loopback("a.localhost"));
	CHECK(pems_address_is_loopback("127.0.0.2"));
	CHECK(!pems_address_is_loopback("notlocalhost"));
	CHECK(!pems_address_is_loopback("localhost.example.com"));
	CHECK(!pems_address_is_loopback(""));
	CHECK(!pems_address_is_loopback("10.0.0.1"));
}
